"""The data directory: its layout, its lock, and what is generated once and kept."""

import base64
import errno
import fcntl
import json
import os
import secrets
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

import psutil

from sinas.embedded.errors import StartupError
from sinas.settings import read_settings, use_defaults

# sockaddr_un holds 108 bytes with the closing NUL (unix(7)); PostgreSQL adds this name.
_LONGEST_SOCKET_PATH = 107
_LONGEST_SOCKET_NAME = "/postgres/.s.PGSQL.5432"


class Runtime(TypedDict):
    """What `runtime.json` says about the running instance, for other commands."""

    pid: int
    api_url: str
    database_url: str
    redis_url: str
    keys_file: str
    instance_id: str
    superadmin_email: str


@dataclass(frozen=True, slots=True)
class Keys:
    """The two keys of an installation."""

    secret_key: str
    encryption_key: str


@dataclass(frozen=True, slots=True)
class DataDir:
    """Paths below one data directory. `root` is absolute and has no symbolic links."""

    root: Path

    @classmethod
    def open(cls, path: Path) -> "DataDir":
        """Create the directory (mode 0700) where it is missing.

        Raises:
            StartupError: It cannot be created or written.
        """
        try:
            root = path.expanduser().resolve()
            root.mkdir(mode=0o700, parents=True, exist_ok=True)
            (root / "logs").mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise StartupError(
                "Data directory",
                f"{path} cannot be used: {error.strerror}.",
                "Give a directory you may write to with --data-dir.",
            ) from error
        return cls(root)

    @property
    def postgres(self) -> Path:
        """PostgreSQL's cluster; moves with the major version."""
        return self.root / "postgres18"

    @property
    def redis(self) -> Path:
        """Redis's append-only file."""
        return self.root / "redis"

    @property
    def logs(self) -> Path:
        """Logs of PostgreSQL and Redis."""
        return self.root / "logs"

    @property
    def keys_file(self) -> Path:
        """SECRET_KEY and ENCRYPTION_KEY of this installation."""
        return self.root / "keys.json"

    @property
    def runtime_file(self) -> Path:
        """Present while an instance runs."""
        return self.root / "runtime.json"

    @property
    def state_file(self) -> Path:
        """Processes of the running instance; left behind only when it was killed."""
        return self.root / "processes.json"

    @property
    def instance_file(self) -> Path:
        """Instance id and the port of the offline model."""
        return self.root / "instance.json"

    @property
    def sockets(self) -> Path:
        """Directory of the Unix sockets: below the root, or in /tmp where that is too long."""
        inside = self.root / "run"
        if len(os.fsencode(f"{inside}{_LONGEST_SOCKET_NAME}")) <= _LONGEST_SOCKET_PATH:
            return inside
        return Path(tempfile.gettempdir()) / f"sinas-{self.instance_id()}"

    def instance_id(self) -> str:
        """The installation's random name, made at first use."""
        return str(self._instance()["instance_id"])

    def local_model_port(self) -> int:
        """A free loopback port, the same as last time where nobody else took it."""
        instance = self._instance()
        port = int(instance.get("local_model_port", 0))
        if port and is_port_free("127.0.0.1", port):
            return port
        port = free_port()
        write_private(self.instance_file, {**instance, "local_model_port": port})
        return port

    def keys(self) -> Keys:
        """The keys of this installation, generated at first use (file mode 0600).

        Raises:
            StartupError: The file is there but unreadable; new keys would make every stored
                credential useless, so none are made.
        """
        if not self.keys_file.exists():
            write_private(
                self.keys_file,
                {
                    "secret_key": secrets.token_urlsafe(48),
                    "encryption_key": base64.urlsafe_b64encode(os.urandom(32)).decode(),
                },
            )
        return read_keys(self.keys_file)

    def make_sockets(self) -> Path:
        """Create an empty socket directory. Only for the holder of the lock."""
        path = self.sockets
        self.remove_sockets()
        path.mkdir(mode=0o700)
        return path

    def remove_sockets(self) -> None:
        """Remove the socket directory and what is in it."""
        path = self.sockets
        if path.is_symlink():  # in /tmp anybody may have put one there
            path.unlink()
        shutil.rmtree(path, ignore_errors=True)
        # The sandboxes' sockets, which have a place of their own where this one is elsewhere.
        shutil.rmtree(self.root / "run", ignore_errors=True)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the directory for this process.

        Raises:
            StartupError: Another instance holds it.
        """
        with (self.root / "lock").open("a+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.seek(0)
                holder = file.read().strip() or "unknown"
                raise StartupError(
                    "Data directory",
                    f"Sinas is already running on {self.root} (process {holder}).",
                    "Stop it first, or start this one with another --data-dir.",
                ) from None
            file.truncate(0)
            file.write(str(os.getpid()))
            file.flush()
            yield

    def _instance(self) -> dict[str, str | int]:
        if self.instance_file.exists():
            loaded: dict[str, str | int] = json.loads(self.instance_file.read_text())
            return loaded
        made: dict[str, str | int] = {"instance_id": secrets.token_hex(4)}
        write_private(self.instance_file, made)
        return made


def read_keys(path: Path) -> Keys:
    """Read a keys file, closing it to others if somebody opened it up.

    Raises:
        StartupError: It is missing, unreadable or lacks a key.
    """
    try:
        path.chmod(0o600)
        loaded = json.loads(path.read_text())
        return Keys(str(loaded["secret_key"]), str(loaded["encryption_key"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StartupError(
            "Keys",
            f"{path} cannot be read ({error}).",
            "Restore it from a backup, or set SECRET_KEY and ENCRYPTION_KEY; without the old keys "
            "stored credentials cannot be decrypted.",
        ) from error


def write_private(path: Path, content: object) -> None:
    """Write JSON that only this user may read, whole or not at all."""
    scratch = path.with_name(f"{path.name}.new")
    scratch.unlink(missing_ok=True)
    descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump(content, file, indent=2)
        file.flush()
        os.fsync(file.fileno())
    scratch.replace(path)


def read_runtime(root: Path) -> Runtime | None:
    """What the instance on this data directory says about itself; None if none runs."""
    try:
        loaded: Runtime = json.loads((root.expanduser().resolve() / "runtime.json").read_text())
    except FileNotFoundError:
        return None
    # A killed instance could not remove the file.
    return loaded if psutil.pid_exists(loaded["pid"]) else None


def connect(root: Path) -> Runtime | None:
    """Let this process use the databases and keys of the instance running on a data directory.

    What the environment says goes first; with DATABASE_URL set no instance is looked for.

    Raises:
        StartupError: No instance runs there.
    """
    if read_settings().database.url:
        return None
    runtime = read_runtime(root)
    if runtime is None:
        raise StartupError(
            "Sinas",
            f"no instance runs on {root}.",
            "Start `sinas up` first, name its --data-dir, or set DATABASE_URL.",
        )
    values = {
        "DATABASE_URL": runtime["database_url"],
        "REDIS_URL": runtime["redis_url"],
        "SINAS_INSTANCE_ID": runtime["instance_id"],
        "SINAS_DATA_DIR": str(root),
        "SUPERADMIN_EMAIL": runtime["superadmin_email"],
    }
    if Path(runtime["keys_file"]).exists():
        keys = read_keys(Path(runtime["keys_file"]))
        values |= {"SECRET_KEY": keys.secret_key, "ENCRYPTION_KEY": keys.encryption_key}
    use_defaults(values)
    return runtime


def free_port() -> int:
    """A loopback port nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def is_port_free(host: str, port: int) -> bool:
    """Whether a server could listen there now.

    Raises:
        OSError: The address is not this machine's, or the port needs privileges.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen(1)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return False
            raise
        return True
