"""A row of the results: three rounds, the median one counts, one line and JSON."""

import argparse
import asyncio
import json
import math
import operator
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass, field

import structlog
import uvloop
from typing_extensions import override

from benchmarks.harness.load import Sample
from benchmarks.harness.stack import Stack, open_stack

ROUNDS = 3
_COMPARE = {"<=": operator.le, ">=": operator.ge, "=": operator.eq}


@dataclass(frozen=True, slots=True)
class Goal:
    """A bound of one named figure."""

    figure: str
    compare: str
    bound: float
    unit: str

    def reached(self, value: float) -> bool:
        return bool(_COMPARE[self.compare](value, self.bound))

    @override
    def __str__(self) -> str:
        return f"{self.figure} {self.compare} {self.bound:g} {self.unit}".rstrip()


@dataclass(slots=True)
class Round:
    """What one round measured. Times in `figures` are milliseconds unless the name says more."""

    figures: dict[str, float]
    failures: list[str] = field(default_factory=list)
    notes: dict[str, object] = field(default_factory=dict)


def figures_of(sample: Sample) -> dict[str, float]:
    """Percentiles in milliseconds, and the rate per second."""
    found = {f"p{share}": sample.at(share / 100) * 1000 for share in (50, 95, 99)}
    return found | {"rate": sample.rate}


def round_of(sample: Sample, **notes: object) -> Round:
    """The round a load sample amounts to."""
    return Round(figures_of(sample), sample.failures, notes)


@dataclass(frozen=True, slots=True)
class Row:
    """One row: what is measured, and how.

    Attributes:
        measure: Runs one round against a prepared stack.
        goals: The first one's figure decides which round is the median.
        how: One sentence that says what exactly was measured.
        rounds: How many rounds are measured.
    """

    id: str
    what: str
    how: str
    goals: tuple[Goal, ...]
    measure: Callable[[Stack], Awaitable[Round]]
    rounds: int = ROUNDS


@dataclass(slots=True)
class Result:
    """A row's median round."""

    id: str
    what: str
    how: str
    goal: str
    reached: bool
    figures: dict[str, float]
    rounds: list[float]
    failures: list[str]
    notes: dict[str, object]

    def line(self) -> str:
        """One line of the table."""
        cells = [self.id, self.what, *(show(self.figures.get(n)) for n in ("p50", "p95", "p99"))]
        others = {k: v for k, v in self.figures.items() if k not in ("p50", "p95", "p99", "rate")}
        rest = ", ".join(f"{name} {show(value)}" for name, value in others.items())
        failed = len(self.failures)
        cells += [show(self.figures.get("rate")), rest, self.goal, "yes" if self.reached else "no"]
        cells[5] += f" ({failed} failed)" if failed else ""
        return f"| {' | '.join(cells)} |"


def show(value: float | None) -> str:
    """Three digits that count."""
    if value is None or math.isnan(value):
        return ""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def summarise(row: Row, rounds: Sequence[Round]) -> Result:
    """Pick the median round by the first goal's figure; failures of all rounds count."""
    figure = row.goals[0].figure
    ordered = sorted(rounds, key=lambda each: each.figures[figure])
    median = ordered[len(ordered) // 2]
    failures = [failure for each in rounds for failure in each.failures]
    return Result(
        id=row.id,
        what=row.what,
        how=row.how,
        goal=", ".join(map(str, row.goals)),
        reached=all(goal.reached(median.figures[goal.figure]) for goal in row.goals)
        and not failures,
        figures=median.figures,
        rounds=[round(each.figures[figure], 3) for each in rounds],
        failures=failures,
        notes=median.notes,
    )


async def run_row(row: Row, rounds: int | None = None) -> Result:
    """Measure a row on the stack of the environment, or on one started for it."""
    async with open_stack() as stack:
        return summarise(row, [await row.measure(stack) for _ in range(rounds or row.rounds)])


def main(row: Row) -> None:
    """Command line of a script."""
    parser = argparse.ArgumentParser(description=f"{row.id}: {row.what}. {row.how}")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table row")
    parser.add_argument("--rounds", type=int, help=f"rounds to measure (default {row.rounds})")
    arguments = parser.parse_args()
    # What is printed is the result.
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    result = uvloop.run(_run(row, arguments.rounds))
    if arguments.json:
        print(json.dumps(asdict(result), indent=2, default=str))
        return
    print(result.line())
    print(f"  rounds {result.rounds}; {result.notes}")
    for failure in sorted(set(result.failures))[:5]:
        print(f"  failed {result.failures.count(failure)} x {failure}")


async def _run(row: Row, rounds: int | None) -> Result:
    async with asyncio.timeout(600):
        return await run_row(row, rounds)
