"""The platform under measurement: started for the run, or named by the environment.

BENCH_URL and BENCH_KEY name a running platform and an administrator's key. BENCH_DATA_DIR, its
data directory, is needed by the rows that look at processes or the database.
"""

import asyncio
import contextlib
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.harness.http import Server
from benchmarks.harness.processes import Platform
from sinas.settings import environment

ROOT = Path(__file__).parents[2]
PATIENCE_SECONDS = 180.0
# Of a shell that belongs to some other installation; the platform must choose its own.
_FOREIGN = ("SINAS_ENV", "SECRET_KEY", "ENCRYPTION_KEY", "DATABASE_URL", "REDIS_URL")

ECHO_CODE = "def handler(input_data, context):\n    return input_data\n"
SLEEP_CODE = (
    "import time\n\n\ndef handler(input_data, context):\n"
    "    time.sleep(input_data['seconds'])\n    return input_data\n"
)
_SCHEMA = {"type": "object"}
_FUNCTIONS: dict[str, dict[str, Any]] = {
    "echo": {"code": ECHO_CODE},
    "shared_echo": {"code": ECHO_CODE, "shared_pool": True},
    "sleep": {"code": SLEEP_CODE},
}
_AGENTS: dict[str, dict[str, Any]] = {
    "words": {"model": "words-50"},
    "slow": {"model": "words-50-slow"},
    "tool": {"model": "tool-echo", "enabled_functions": ["bench/echo"]},
}


@dataclass(frozen=True, slots=True)
class Stack:
    """What scripts measure. `platform` is None where the data directory is not known."""

    server: Server
    upstream: Server
    platform: Platform | None

    @property
    def processes(self) -> Platform:
        """The platform's processes.

        Raises:
            RuntimeError: They are not known.
        """
        if self.platform is None:
            raise RuntimeError("this row looks at processes; set BENCH_DATA_DIR")
        return self.platform


class Up:
    """One `sinas up` of ours on a data directory."""

    def __init__(self, data_dir: Path, **variables: str) -> None:
        self.data_dir = data_dir
        self.port = free_port()
        env = {name: value for name, value in environment().items() if name not in _FOREIGN}
        self.log = (data_dir.parent / f"{data_dir.name}.log").open("ab")
        self.began = time.monotonic()
        self.process = subprocess.Popen(
            (
                *(sys.executable, "-m", "sinas", "up", "--no-local-model"),
                *("--port", str(self.port), "--data-dir", str(data_dir)),
            ),
            stdout=self.log,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            cwd=ROOT,
            env=env | variables,
        )

    async def wait_ready(self) -> float:
        """Wait for the end of the start; seconds since the process began.

        Raises:
            RuntimeError: It ended, or was not ready in time.
        """
        runtime = self.data_dir / "runtime.json"
        while not runtime.exists():
            if self.process.poll() is not None or time.monotonic() - self.began > PATIENCE_SECONDS:
                raise RuntimeError(f"the platform did not start; see {self.log.name}")
            await asyncio.sleep(0.005)
        return time.monotonic() - self.began

    def key(self) -> str:
        """A new administrator's key."""
        made = subprocess.run(
            (
                *(sys.executable, "-m", "sinas", "api-key", "create", "--name", "bench"),
                *("--email", "admin@example.com", "--data-dir", str(self.data_dir)),
            ),
            capture_output=True,
            text=True,
            check=True,
            cwd=ROOT,
        )
        return made.stdout.strip()

    def end(self) -> None:
        """Stop it in order and wait."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.log.close()


@asynccontextmanager
async def open_stack() -> AsyncIterator[Stack]:
    """The stack with everything the rows use: provider, agents, functions, scripted upstream."""
    env = environment()
    with contextlib.ExitStack() as stack:
        if url := env.get("BENCH_URL"):
            server = Server.of(url, env["BENCH_KEY"])
            data_dir = env.get("BENCH_DATA_DIR")
            platform = Platform(Path(data_dir)) if data_dir else None
        else:
            data = stack.enter_context(data_directory())
            # Connectors of rows go to servers on this machine.
            up = Up(data, EGRESS_ALLOW_HOSTS="127.0.0.1")
            stack.callback(up.end)
            await up.wait_ready()
            server = Server.of(f"http://127.0.0.1:{up.port}", up.key())
            platform = Platform(data)
        upstream = stack.enter_context(scripted_upstream(env.get("BENCH_UPSTREAM")))
        await prepare(server, upstream)
        yield Stack(server, Server.of(upstream), platform)


@contextlib.contextmanager
def data_directory() -> Any:
    """A new data directory in a place that other users may enter (PostgreSQL is one)."""
    root = Path(tempfile.mkdtemp(prefix="sinas-bench-"))
    root.chmod(0o755)
    try:
        yield root / "data"
    finally:
        shutil.rmtree(root, ignore_errors=True)


@contextlib.contextmanager
def scripted_upstream(running: str | None = None) -> Any:
    """Base URL of a scripted LLM server, in a process of its own unless one is `running`."""
    if running:
        yield running
        return
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.support.llm_upstream"],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    try:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
    finally:
        process.terminate()
        process.wait()


async def prepare(server: Server, upstream: str) -> None:
    """Create what the rows use, or change what an earlier run left so that it fits this one."""
    body = {
        "provider_type": "openai",
        "api_endpoint": f"{upstream}/v1",
        "api_key": "sk-bench",
        "default_model": "words-50",
    }
    providers = await server.call("GET", "/api/v1/llm-providers")
    known = next((each for each in providers if each["name"] == "bench"), None)
    if known is None:
        made = await server.call("POST", "/api/v1/llm-providers", {"name": "bench", **body})
    else:
        made = await server.call("PATCH", f"/api/v1/llm-providers/{known['id']}", body)
    for name, function in _FUNCTIONS.items():
        schemas = {"input_schema": _SCHEMA, "output_schema": _SCHEMA}
        await _ensure(server, "functions", name, {**function, **schemas})
    for name, fields in _AGENTS.items():
        await _ensure(server, "agents", name, {"llm_provider_id": made["id"], **fields})


async def _ensure(server: Server, kind: str, name: str, fields: dict[str, Any]) -> None:
    rows = await server.call("GET", f"/api/v1/{kind}")
    if any((row["namespace"], row["name"]) == ("bench", name) for row in rows):
        await server.call("PUT", f"/api/v1/{kind}/bench/{name}", fields)
    else:
        await server.call("POST", f"/api/v1/{kind}", {"namespace": "bench", "name": name, **fields})


def free_port() -> int:
    """A loopback port nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
