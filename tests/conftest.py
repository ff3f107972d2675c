"""What every test can count on; the fixtures are in tests/fixtures/."""

import os
import socket
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures.configuration import forget_environment
from tests.fixtures.servers import RUN, Run, drop_template
from tests.support import mariadb

pytest_plugins = [
    "tests.fixtures.state",
    "tests.fixtures.database",
    "tests.fixtures.client",
    "tests.fixtures.clickhouse",
    "tests.fixtures.snowflake",
    "tests.fixtures.work",
    "tests.fixtures.mariadb",
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


# What tests of a mark need of the machine: whether it is there, what is missing if not, and the
# variable that makes that a failure.
_NEEDS = {
    "docker": (
        _docker_answers,
        "no Docker engine answers (set DOCKER_HOST, or start one)",
        "SINAS_REQUIRE_DOCKER",
    ),
    "mariadb": (
        lambda: mariadb.program() is not None,
        "no mariadbd is installed (mariadb-server-core in Debian)",
        "SINAS_REQUIRE_MARIADB",
    ),
}


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what the machine has not got; with SINAS_REQUIRE_… set to 1, fail it."""
    for mark, (is_there, reason, variable) in _NEEDS.items():
        if item.get_closest_marker(mark) is None or is_there():
            continue
        if os.getenv(variable) == "1":
            pytest.fail(f"{variable}=1, but {reason}", pytrace=False)
        pytest.skip(reason)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    skipped = [str(report.longrepr) for report in terminalreporter.stats.get("skipped", [])]
    for mark, (_, reason, variable) in _NEEDS.items():
        if count := sum(reason in each for each in skipped):
            terminalreporter.section(f"NOT TESTED: {mark}", red=True, bold=True)
            terminalreporter.line(
                f"{count} tests were skipped: {reason}. {variable}=1 makes them fail instead.",
                red=True,
            )
