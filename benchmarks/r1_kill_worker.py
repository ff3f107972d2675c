"""R1: the agent worker is killed at random moments, again and again.

`python -m benchmarks.r1_kill_worker [--times 20] [--seed 1]` starts everything and, `times` times,
begins nine turns at once and kills the worker they run on: three that only stream, three that call
a function, three whose sub-agent calls one. It prints what was counted. The exit status is 1 when
a turn did not end, told something else than it stored, ran a function twice for one call, or when
the chat's next message failed.
"""

import argparse
import asyncio
import random
import sys
import tempfile
from pathlib import Path

from tests.e2e.killing import Kind, Outcome, platform
from tests.fixtures.servers import Run, obtain

LONGEST_SECONDS = 2.6
SIDE_BY_SIDE: tuple[Kind, ...] = ("words", "tools", "asks") * 3


async def measure(times: int, seed: int, run: Run) -> list[Outcome]:
    """One outcome for each turn."""
    servers = await asyncio.to_thread(obtain, run)
    moments = random.Random(seed)
    outcomes = []
    with tempfile.TemporaryDirectory(prefix="sinas-r1-") as folder:
        async with platform(servers, Path(folder)) as running:
            for _ in range(times):
                after = moments.uniform(0.0, LONGEST_SECONDS)
                found = await running.killed_turns(SIDE_BY_SIDE, after)
                print("\n".join(map(_line, found)), flush=True)
                outcomes += found
    return outcomes


def _line(outcome: Outcome) -> str:
    faults = "; ".join(outcome.faults) or "whole"
    return (
        f"{outcome.kind:6} killed after {outcome.after_seconds:.2f} s, "
        f"{outcome.takeovers} takeovers: {faults}"
    )


def main() -> None:
    """Kill, count, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    run = Run.begin()
    try:
        outcomes = asyncio.run(measure(arguments.times, arguments.seed, run))
    finally:
        run.end()
    faulty = [o for o in outcomes if o.faults]
    taken = sum(1 for o in outcomes if o.takeovers)
    print(
        f"{arguments.times} kills, {len(outcomes)} turns, {taken} taken over, {len(faulty)} faulty"
    )
    sys.exit(1 if faulty else 0)


if __name__ == "__main__":
    main()
