"""`sinas up` for real: ready, ended without a trace, killed and started again."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from sinas.embedded.datadir import DataDir, free_port
from sinas.settings import environment

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

ROOT = Path(__file__).parents[2]
PATIENCE_SECONDS = 120


class Up:
    """One `sinas up` and what it printed."""

    def __init__(self, data_dir: Path, *options: str) -> None:
        self.data_dir = data_dir
        self.port = free_port()
        self.lines: list[str] = []
        arguments = ["up", "--port", str(self.port), "--data-dir", str(data_dir), *options]
        variables = ("SINAS_ENV", "SECRET_KEY", "ENCRYPTION_KEY", "DATABASE_URL", "REDIS_URL")
        env = {name: value for name, value in environment().items() if name not in variables}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "sinas", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=ROOT,
            env=env,
        )
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as stream:
            self.lines.extend(iter(stream.readline, ""))

    @property
    def output(self) -> str:
        return "".join(self.lines)

    def wait_for(self, text: str) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while text not in self.output:
            assert self.process.poll() is None, self.output
            assert time.monotonic() < deadline, self.output
            time.sleep(0.05)

    def get(self, path: str) -> Any:
        url = f"http://127.0.0.1:{self.port}{path}"
        with urllib.request.urlopen(url, timeout=10) as answer:
            return json.load(answer)

    def processes(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def cli(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", "sinas", *arguments, "--data-dir", str(self.data_dir)],
            capture_output=True,
            text=True,
            cwd=ROOT,
            timeout=60,
            check=False,
        )

    def end(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        code = self.process.wait(60)
        self.reader.join(10)
        return code


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def running(data_dir: Path) -> Iterator[Up]:
    up = Up(data_dir, "--no-local-model")
    try:
        up.wait_for("Sinas is ready")
        yield up
    finally:
        if up.process.poll() is None:
            up.end(signal.SIGTERM)


def leftovers(processes: list[psutil.Process]) -> list[str]:
    """What still runs of them after a while; the dead whom nobody has buried do not count."""
    deadline = time.monotonic() + 20
    while True:
        alive = []
        for process in processes:
            try:
                if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                    alive.append(" ".join(process.cmdline()))
            except psutil.NoSuchProcess:
                continue
        if not alive or time.monotonic() > deadline:
            return alive
        time.sleep(0.1)


def containers(data_dir: Path) -> list[str]:
    instance = DataDir.open(data_dir).instance_id()
    listed = subprocess.run(
        ["docker", "ps", "-a", "--format", "{{.Names}} {{.Labels}}"],
        capture_output=True,
        text=True,
        check=False,
    )
    return [line for line in listed.stdout.splitlines() if instance in line]


def test_it_is_ready_when_every_part_is_and_ends_without_a_trace(running: Up) -> None:
    health = running.get("/health")
    assert health["status"] == "healthy"
    assert health["database"] == health["redis"] == "healthy"
    assert health["function_workers"] >= 1
    assert health["agent_workers"] >= 1
    assert health["sandbox"]["status"] == "healthy"
    assert "admin@example.com" in running.output
    assert re.search(r"\[3/6\] Database schema … current", running.output)
    data = DataDir.open(running.data_dir)
    for file in (data.keys_file, data.runtime_file):
        assert file.stat().st_mode & 0o777 == 0o600
    processes = running.processes()
    assert len(processes) >= 6

    second = running.cli("up", "--port", str(free_port()))
    assert second.returncode == 1
    assert "already running" in second.stdout

    assert running.end(signal.SIGTERM) == 0
    assert leftovers(processes) == []
    assert containers(running.data_dir) == []
    for path in (data.runtime_file, data.state_file, data.sockets):
        assert not path.exists()
    assert "Traceback" not in running.output


def test_after_a_kill_the_next_start_goes_on_with_the_data(running: Up) -> None:
    made = running.cli("users", "create", "--email", "somebody@example.com")
    assert made.returncode == 0, made.stderr
    processes = running.processes()
    running.process.kill()
    running.process.wait()
    assert leftovers(processes) == []

    again = Up(running.data_dir, "--no-local-model")
    try:
        again.wait_for("Sinas is ready")
        assert "The last run was killed" in again.output
        taken = again.cli("users", "create", "--email", "somebody@example.com")
        assert taken.returncode == 1
        assert "already exists" in taken.stderr
        assert "Traceback" not in taken.stderr
        key = again.cli("api-key", "create", "--email", "somebody@example.com", "--name", "first")
        assert key.returncode == 0, key.stderr
        assert len(key.stdout.split()) == 1
        processes = again.processes()
        assert again.end(signal.SIGINT) == 0
        assert leftovers(processes) == []
        assert containers(running.data_dir) == []
    finally:
        if again.process.poll() is None:
            again.end(signal.SIGTERM)


def test_a_killed_worker_is_replaced(running: Up) -> None:
    def agents() -> psutil.Process | None:
        wanted = ["worker", "agents"]
        return next((p for p in running.processes() if p.cmdline()[3:5] == wanted), None)

    first = agents()
    assert first is not None
    first.kill()
    running.wait_for("was ended by SIGKILL; starting it again")
    deadline = time.monotonic() + PATIENCE_SECONDS
    second = None
    while second is None or second.pid == first.pid:
        assert time.monotonic() < deadline
        time.sleep(0.1)
        second = agents()


def refused(data_dir: Path, *arguments: str, **variables: str) -> str:
    """What a command that must fail says; no traceback, exit code 1."""
    done = subprocess.run(
        [sys.executable, "-m", "sinas", *arguments, "--data-dir", str(data_dir)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={"PATH": os.defpath, **variables},
        timeout=60,
        check=False,
    )
    said = done.stdout + done.stderr
    assert done.returncode == 1, said
    assert "Traceback" not in said
    return said


def test_production_without_keys_refuses_in_one_sentence(data_dir: Path) -> None:
    said = refused(data_dir, "up", "--port", str(free_port()), SINAS_ENV="production")

    assert "SECRET_KEY is not set" in said
    assert not (data_dir / "keys.json").exists()


def test_commands_say_to_start_first(data_dir: Path) -> None:
    said = refused(data_dir, "users", "create", "--email", "a@example.com")

    assert "Start `sinas up` first" in said
