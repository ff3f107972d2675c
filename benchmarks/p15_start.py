"""P15: how long the API, and the whole platform on existing data, take to start."""

import asyncio
import json
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.harness.http import Server
from benchmarks.harness.row import Goal, Round, Row, main
from benchmarks.harness.stack import ROOT, Stack, Up, data_directory, free_port
from sinas.settings import environment


async def api_seconds(stack: Stack) -> float:
    """`sinas serve` beside the running platform, from its start to a 200 of /health."""
    port = free_port()
    env = environment() | _variables(stack.processes.data_dir) | {"SINAS_PORT": str(port)}
    env.pop("PYTHONDONTWRITEBYTECODE", None)
    began = time.perf_counter()
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "sinas", "serve"),
        env=env,
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        await _healthy(Server("127.0.0.1", port), process)
        return time.perf_counter() - began
    finally:
        process.terminate()
        await process.wait()


def _variables(data_dir: Path) -> dict[str, str]:
    """What lets another process join the platform on a data directory."""
    runtime = json.loads((data_dir / "runtime.json").read_text())
    keys = json.loads(Path(runtime["keys_file"]).read_text())
    return {
        "DATABASE_URL": runtime["database_url"],
        "REDIS_URL": runtime["redis_url"],
        "SINAS_INSTANCE_ID": runtime["instance_id"],
        "SECRET_KEY": keys["secret_key"],
        "ENCRYPTION_KEY": keys["encryption_key"],
    }


async def _healthy(server: Server, process: asyncio.subprocess.Process) -> None:
    while True:
        if process.returncode is not None:
            raise RuntimeError("`sinas serve` ended")
        try:
            connection = await server.connect()
        except OSError:
            await asyncio.sleep(0.01)
            continue
        answer = await connection.request("GET", "/health")
        connection.close()
        if answer.status == 200:
            return
        await asyncio.sleep(0.01)


async def whole_seconds(rounds: int) -> list[float]:
    """`sinas up` on data of an earlier run, until it says that it is ready."""
    found: list[float] = []
    with data_directory() as data:
        for number in range(rounds + 1):
            up = Up(data)
            try:
                seconds = await up.wait_ready()
            finally:
                up.end()
            if number:  # the first one made the data
                found.append(seconds)
    return found


async def measure(stack: Stack) -> Round:
    api = sorted([await api_seconds(stack) for _ in range(3)])
    whole = sorted(await whole_seconds(3))
    figures = {"api s": api[1], "whole s": whole[1]}
    return Round(figures, notes={"api": api, "whole": whole})


ROW = Row(
    id="P15",
    what="process start → `/health` 200; whole `sinas up` on existing data",
    how="`sinas serve` beside a running platform's workers, and `sinas up` on a data directory "
    "used before until it is ready; medians of three starts each.",
    goals=(Goal("api s", "<=", 2.5, "s"), Goal("whole s", "<=", 6, "s")),
    measure=measure,
    rounds=1,
)

if __name__ == "__main__":
    main(ROW)
