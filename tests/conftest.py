"""What every test can count on; the fixtures are in tests/fixtures/."""

import os
import socket
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures.configuration import forget_environment
from tests.fixtures.servers import RUN, Run, drop_template

pytest_plugins = [
    "tests.fixtures.state",
    "tests.fixtures.database",
    "tests.fixtures.client",
    "tests.fixtures.clickhouse",
    "tests.fixtures.snowflake",
    "tests.fixtures.work",
]


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    # Before pytest-socket reads them: a test reaches nothing but this machine.
    config.option.allow_hosts = "127.0.0.1,127.0.0.2,::1"
    config.option.allow_unix_socket = True
    worker = getattr(config, "workerinput", None)
    config.stash[RUN] = Run.begin() if worker is None else Run(Path(worker["run"]))
    forget_environment()


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell an xdist worker which run it belongs to."""
    node.workerinput["run"] = str(node.config.stash[RUN].root)


def pytest_unconfigure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):
        drop_template(config.stash[RUN])
        config.stash[RUN].end()


def _docker_answers() -> bool:
    host = os.getenv("DOCKER_HOST", "unix:///var/run/docker.sock")
    try:
        if host.startswith("unix://"):
            with socket.socket(socket.AF_UNIX) as probe:
                probe.settimeout(2)
                probe.connect(host.removeprefix("unix://"))
        else:
            name, _, port = host.rpartition("//")[2].rpartition(":")
            socket.create_connection((name, int(port)), timeout=2).close()
    except OSError:
        return False
    return True


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Tests marked `docker` need an engine; with SINAS_REQUIRE_DOCKER=1 its absence fails them."""
    if item.get_closest_marker("docker") is None or _docker_answers():
        return
    reason = "no Docker engine answers (set DOCKER_HOST, or start one)"
    if os.getenv("SINAS_REQUIRE_DOCKER") == "1":
        pytest.fail(f"SINAS_REQUIRE_DOCKER=1, but {reason}", pytrace=False)
    pytest.skip(reason)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    skipped = [
        report
        for report in terminalreporter.stats.get("skipped", [])
        if "no Docker engine" in str(report.longrepr)
    ]
    if skipped:
        terminalreporter.section("NOT TESTED: containers", red=True, bold=True)
        terminalreporter.line(
            f"{len(skipped)} tests need a Docker engine and were skipped. "
            "SINAS_REQUIRE_DOCKER=1 makes them fail instead.",
            red=True,
        )
