import json
import os
import subprocess
import sys
from pathlib import Path

import psutil

from sinas.embedded.datadir import DataDir
from sinas.embedded.leftovers import end_leftovers, record
from sinas.embedded.processes import ChildSpec

SLEEP = "import time; print('up', flush=True); time.sleep(60)"
IGNORE = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + SLEEP


def start(code: str) -> "subprocess.Popen[bytes]":
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, process_group=0
    )
    assert process.stdout is not None
    with process.stdout:
        assert process.stdout.readline() == b"up\n"
    return process


def spec(name: str) -> ChildSpec:
    return ChildSpec(name=name, argv=(), env={})


def test_after_an_orderly_end_there_is_nothing_to_do(tmp_path: Path) -> None:
    assert end_leftovers(DataDir.open(tmp_path)) is None


def test_what_a_killed_supervisor_left_is_ended(tmp_path: Path) -> None:
    data = DataDir.open(tmp_path)
    gentle, stubborn = start(SLEEP), start(IGNORE)
    record(data, {gentle.pid: spec("gentle"), stubborn.pid: spec("stubborn")})

    assert end_leftovers(data) == ["gentle", "stubborn"]
    for process in (gentle, stubborn):
        assert not psutil.pid_exists(process.pid)
        process.wait()


def test_a_process_that_only_has_the_number_is_spared(tmp_path: Path) -> None:
    data = DataDir.open(tmp_path)
    stranger = start(SLEEP)
    record(data, {stranger.pid: spec("agents")})
    entries = json.loads(data.state_file.read_text())
    entries[0]["started"] -= 1000
    data.state_file.write_text(json.dumps(entries))
    try:
        assert end_leftovers(data) == []
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_a_stale_postmaster_file_that_names_a_stranger_harms_nobody(tmp_path: Path) -> None:
    data = DataDir.open(tmp_path)
    data.postgres.mkdir()
    (data.postgres / "postmaster.pid").write_text(f"{os.getpid()}\n{data.postgres}\n")

    assert end_leftovers(data) is None
    assert psutil.pid_exists(os.getpid())
