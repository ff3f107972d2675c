"""A MariaDB server of its own: `mariadbd` of the machine, over a directory."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sinas.databases.base import DatabaseTarget
from tests.fixtures.configuration import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

DATABASE = "shop"
# Sent as UTF-8, as the server was told it.
PASSWORD = "pässwörd-€-hunter2"
_START_SECONDS = 30
_SHARES = ("/usr/share/mysql", "/usr/share/mariadb")
_TABLES = (
    "mysql_system_tables.sql",
    "mysql_performance_tables.sql",
    "mysql_system_tables_data.sql",
)
# One statement a line. The tables of the routines are made by the tests.
_BEGIN = "SQL SECURITY INVOKER BEGIN"
_FIRST = f"""
CREATE DATABASE {DATABASE} CHARACTER SET latin1;
CREATE PROCEDURE {DATABASE}.writes() {_BEGIN} COMMIT; INSERT INTO probe VALUES (1, 'x'); END;
CREATE PROCEDURE {DATABASE}.tells() {_BEGIN} SELECT 1 AS one; SELECT 2; UPDATE probe SET a = 7; END;
CREATE FUNCTION {DATABASE}.changes() RETURNS int {_BEGIN} INSERT INTO probe VALUES (1, 'x'); RETURN 1; END;
CREATE FUNCTION {DATABASE}.changes_plain() RETURNS int {_BEGIN} INSERT INTO plain VALUES (1); RETURN 1; END;
CREATE USER app@'127.0.0.1' IDENTIFIED BY '{PASSWORD}';
GRANT ALL ON {DATABASE}.* TO app@'127.0.0.1';
CREATE USER mighty@'127.0.0.1' IDENTIFIED BY '{PASSWORD}';
GRANT ALL ON *.* TO mighty@'127.0.0.1';
CREATE USER encrypted@'127.0.0.1' IDENTIFIED BY '{PASSWORD}' REQUIRE SSL;
GRANT ALL ON {DATABASE}.* TO encrypted@'127.0.0.1';
"""
_SMALL = (
    *("--innodb-buffer-pool-size=16M", "--innodb-log-file-size=4M", "--key-buffer-size=1M"),
    *("--innodb-temp-data-file-path=ibtmp1:4M:autoextend", "--innodb-flush-log-at-trx-commit=0"),
    *("--innodb-flush-method=nosync", "--performance-schema=OFF", "--skip-log-bin"),
)
# What a server may be set to that a driver must not rely on.
_ODD = (
    "--sql-mode=ANSI_QUOTES,NO_BACKSLASH_ESCAPES,PIPES_AS_CONCAT",
    "--character-set-server=latin1",
    "--default-time-zone=+05:00",
    "--group-concat-max-len=1024",
)


@dataclass(frozen=True, slots=True)
class MariaDB:
    """Where it is, and the certificate it shows, which is its own authority."""

    port: int
    authority: str

    def target(self, **changes: object) -> DatabaseTarget:
        """What a driver connects with; the role owns `DATABASE` and nothing else."""
        given = {
            "connection_id": None,
            "name": "shop",
            "connection_type": "mysql",
            "host": "127.0.0.1",
            "port": self.port,
            "database": DATABASE,
            "username": "app",
            "password": PASSWORD,
            "min_pool_size": 0,
            "max_pool_size": 3,
            "ssl_mode": "disable",
        }
        return DatabaseTarget(**(given | changes))  # type: ignore[arg-type]


def program() -> str | None:
    """The server's program, where the machine has one and the tables it begins with."""
    path = os.pathsep.join((os.getenv("PATH", ""), "/usr/sbin", "/usr/local/sbin"))
    found = shutil.which("mariadbd", path=path)
    return found if found and _share() else None


@contextmanager
def running(root: Path) -> Iterator[MariaDB]:
    """A server until the end of the block."""
    # Imported where it is used: who only asks for the program needs no cryptography.
    from tests.support.certificates import certificate

    name = program()
    assert name is not None
    data = root / "data"
    data.mkdir()
    first = root / "first.sql"
    first.write_text(_FIRST.strip() + "\n")
    authority, _ = certificate(root)
    account = ("--user=root",) if os.geteuid() == 0 else ()
    common = (name, "--no-defaults", f"--datadir={data}", *account, *_SMALL)
    _make_tables(common)
    port = free_port()
    log = root / "log"
    with log.open("wb") as output:
        server = subprocess.Popen(
            [
                *common,
                *_ODD,
                *(f"--port={port}", "--bind-address=127.0.0.1", "--skip-networking=0"),
                *(f"--socket={root / 's'}", f"--pid-file={root / 'pid'}", "--skip-name-resolve"),
                *(f"--ssl-cert={authority}", f"--ssl-key={root / 'key.pem'}"),
                *(f"--init-file={first}", "--character-set-client-handshake=ON"),
            ],
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        _wait(server, log)
        yield MariaDB(port, authority.read_text())
    finally:
        server.kill()
        server.wait()


def _share() -> Path | None:
    folders = map(Path, _SHARES)
    return next((each for each in folders if (each / _TABLES[0]).exists()), None)


def _make_tables(common: tuple[str, ...]) -> None:
    share = _share()
    assert share is not None
    statements = "CREATE DATABASE mysql;\nUSE mysql;\n"
    statements += "".join((share / name).read_text() for name in _TABLES)
    made = subprocess.run(
        [*common, "--bootstrap"],
        input=statements,
        text=True,
        capture_output=True,
        check=False,
        timeout=_START_SECONDS,
    )
    assert made.returncode == 0, made.stderr


def _wait(server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while "ready for connections" not in (said := log.read_text(errors="replace")):
        assert server.poll() is None, said
        assert time.monotonic() < deadline, said
        time.sleep(0.02)
