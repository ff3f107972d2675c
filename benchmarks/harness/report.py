"""results.md: the machine, the commit, one table, one command per row."""

import platform
import re
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

from benchmarks.harness.row import Result

_HEAD = """# Benchmark results

{machine}

Commit {commit}, {date}; the whole run took {seconds:.0f} s. Load generator, scripted model,
PostgreSQL and Redis share the machine's cores with the platform. Three rounds; the median one is
shown, and failures of all three are counted. p50, p95 and p99 are milliseconds; the rate is per
second. Run it with `make bench`, or one row with its command.

| id | what | p50 | p95 | p99 | rate | other figures | goal | reached |
|---|---|---|---|---|---|---|---|---|
{lines}

## How each row is measured

{details}
"""


def write_report(
    path: Path, measured: Sequence[tuple[str, dict[str, Any]]], seconds: float
) -> None:
    """Write the table of all rows, in the order of their numbers."""
    good = [(command, Result(**found)) for command, found in measured if "error" not in found]
    good.sort(key=lambda each: _place(each[1].id))
    lines = [result.line() for _, result in good]
    lines += [
        f"| | `{name}` | | | | | {r['error']} | | no |" for name, r in measured if "error" in r
    ]
    text = _HEAD.format(
        machine=machine(),
        commit=commit(),
        date=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        seconds=seconds,
        lines="\n".join(lines),
        details="\n".join(_detail(command, result) for command, result in good),
    )
    path.write_text(text)


def _place(row_id: str) -> tuple[bool, int, str]:
    """Rows of the goals by number, `P6, P22` by its first one; those without one behind them."""
    number = re.match(r"P(\d+)", row_id)
    return number is None, int(number[1]) if number else 0, row_id


def _detail(command: str, result: Result) -> str:
    found = [f"- **{result.id}** `{command}`: {result.how}"]
    if len(result.rounds) > 1:
        found.append(f"  Rounds: {', '.join(f'{each:.3g}' for each in result.rounds)}.")
    if result.notes and not any(isinstance(note, list) for note in result.notes.values()):
        found.append(f"  {_notes(result.notes)}")
    found += [f"  Failed: {each}" for each in sorted(set(result.failures))[:3]]
    return "\n".join(found)


def _notes(notes: dict[str, Any]) -> str:
    cpu = notes.get("cpu_ms")
    if cpu is None:
        return ", ".join(f"{name} {value}" for name, value in notes.items()) + "."
    parts = ", ".join(f"{name} {value:g}" for name, value in cpu.items() if value >= 0.05)
    return f"CPU per request in ms: {parts}."


def machine() -> str:
    """Cores, CPU, memory, kernel and Python in one sentence."""
    model = "unknown CPU"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    memory = psutil.virtual_memory().total / 2**30
    return (
        f"{psutil.cpu_count()} cores ({model}), {memory:.0f} GiB, Linux {platform.release()}, "
        f"Python {platform.python_version()}."
    )


def commit() -> str:
    """Short id of the commit, and whether the tree differs from it."""
    root = Path(__file__).parents[2]

    def git(*arguments: str) -> str:
        done = subprocess.run(
            ["git", *arguments], cwd=root, capture_output=True, text=True, check=False
        )
        return done.stdout.strip()

    changed = git("status", "--porcelain", "--", "sinas", "migrations")
    return git("rev-parse", "--short", "HEAD") + (" with changes" if changed else "")
