"""R1: the agent worker is killed at random moments, again and again.

`python -m benchmarks.r1_kill_worker [--times 10] [--seed 1]` starts everything, kills the worker
`times` times while it streams and `times` times around a tool call, and prints what was counted.
The exit status is 1 when a turn did not end, told something else than it stored, ran a function
twice for one call, or when the chat's next message failed.
"""

import argparse
import asyncio
import random
import sys
import tempfile
from pathlib import Path

from tests.e2e.killing import Kind, Outcome, platform
from tests.fixtures.servers import Run, obtain

LONGEST: dict[Kind, float] = {"words": 0.9, "tools": 1.6}


async def measure(times: int, seed: int, run: Run) -> list[Outcome]:
    """One outcome for each kill."""
    servers = await asyncio.to_thread(obtain, run)
    moments = random.Random(seed)
    outcomes = []
    with tempfile.TemporaryDirectory(prefix="sinas-r1-") as folder:
        async with platform(servers, Path(folder)) as running:
            for kind, longest in LONGEST.items():
                for _ in range(times):
                    outcome = await running.killed_turn(kind, moments.uniform(0.0, longest))
                    print(_line(outcome), flush=True)
                    outcomes.append(outcome)
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
    parser.add_argument("--times", type=int, default=10)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    run = Run.begin()
    try:
        outcomes = asyncio.run(measure(arguments.times, arguments.seed, run))
    finally:
        run.end()
    faulty = [o for o in outcomes if o.faults]
    taken = sum(1 for o in outcomes if o.takeovers)
    print(f"{len(outcomes)} kills, {taken} turns taken over, {len(faulty)} faulty")
    sys.exit(1 if faulty else 0)


if __name__ == "__main__":
    main()
