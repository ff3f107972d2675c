"""Run every row on one platform and write results.md."""

import argparse
import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import uvloop

from benchmarks.harness.report import write_report
from benchmarks.harness.stack import ROOT, Stack, open_stack
from sinas.settings import environment

# Idle rows first: memory and idle CPU are those of a platform that has just started.
ROWS = (
    "p16_idle_memory",
    "p17_idle_cpu",
    "p12_auth_me",
    "p13_list_agents",
    "p14_states",
    "p01_function_warm",
    "p02_function_rate",
    "p03_function_p99",
    "shared_call",
    "r6_ssrf",
    "connector_call",
    "query_execution",
    "files_list",
    "files_transfer",
    "semantic_search",
    "p04_queue_start",
    "p05_pool_miss",
    "p07_first_content",
    "p08_turns_16",
    "p09_streams_64",
    "streams_500",
    "p10_tool_turn",
    "p11_adapter",
    "p21_round_trips",
    "queue_drain",
    "trigger_lag",
    "p06_p22_endurance",
    "p18_agent_worker_killed",
    "p19_function_worker_killed",
    "p20_redis_restart",
    "p15_start",
)
_LONGEST_SECONDS = 600


def command(row: str) -> list[str]:
    """The command that measures one row."""
    return ["python", "-m", f"benchmarks.{row}"]


def run_row(row: str, env: dict[str, str]) -> dict[str, Any]:
    """One row's result, or what went wrong, as its script printed it."""
    try:
        done = subprocess.run(
            [sys.executable, *command(row)[1:], "--json"],
            cwd=ROOT,
            env=env,
            capture_output=True,
            text=True,
            timeout=_LONGEST_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return {"error": f"not done after {_LONGEST_SECONDS} s"}
    if done.returncode:
        return {"error": done.stderr.strip().split("\n")[-1]}
    found: dict[str, Any] = json.loads(done.stdout)
    return found


async def run_all(rows: Sequence[str], results: Path) -> None:
    began = time.monotonic()
    async with open_stack() as stack:
        env = environment() | variables(stack)
        measured = []
        for row in rows:
            print(f"{time.monotonic() - began:5.0f} s  {row}", flush=True)
            measured.append((" ".join(command(row)), await asyncio.to_thread(run_row, row, env)))
            # Minutes of measuring must not be lost to what comes after them.
            write_report(results, measured, time.monotonic() - began)
    print(f"{time.monotonic() - began:5.0f} s  written to {results}")


def variables(stack: Stack) -> dict[str, str]:
    """The environment by which a row's script finds the running stack."""
    found = {
        "BENCH_URL": f"http://{stack.server.host}:{stack.server.port}",
        "BENCH_KEY": stack.server.key,
        "BENCH_UPSTREAM": f"http://{stack.upstream.host}:{stack.upstream.port}",
    }
    if stack.platform is not None:
        found["BENCH_DATA_DIR"] = str(stack.platform.data_dir)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("rows", nargs="*", metavar="row", help="only these, such as p12_auth_me")
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks" / "results.md")
    arguments = parser.parse_args()
    if unknown := set(arguments.rows) - set(ROWS):
        parser.error(f"no such row: {', '.join(sorted(unknown))}; there are {', '.join(ROWS)}")
    uvloop.run(run_all(arguments.rows or ROWS, arguments.results))


if __name__ == "__main__":
    main()
