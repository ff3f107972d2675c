"""The directory of one worker's sandbox sockets."""

import re
import secrets
import shutil
import tempfile
from pathlib import Path

from sinas.sandbox.owner import Owner

_MAX_SOCKET_PATH = 107  # sun_path of unix(7), less its final zero
_LONGEST_SUFFIX = len("/4194304.18446744073709551615.ffffff/999999/control.sock")


class RunDirectory:
    """`<data_dir>/run/sandbox/<pid>.<start>.<random>`, or below the system's temp directory.

    The latter where the former would make socket paths longer than the kernel takes.
    """

    def __init__(self, data_dir: Path, owner: Owner) -> None:
        self._parent = (data_dir / "run" / "sandbox").resolve()
        self._owner = owner
        self._temporary = len(str(self._parent)) + _LONGEST_SUFFIX > _MAX_SOCKET_PATH
        self.path = self._parent / f"{owner.pid}.{owner.start}.{secrets.token_hex(3)}"

    def open(self) -> None:
        """Create it, and remove those of processes that are gone."""
        self._parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._remove_leftovers()
        if self._temporary:
            self.path = Path(tempfile.mkdtemp(prefix="sinas-"))
        self.path.mkdir(exist_ok=True, mode=0o700)
        # A container's first process is root of few rights: it may pass through, not look.
        self.path.chmod(0o711)

    def member(self, number: int) -> Path:
        """A fresh directory for one sandbox; other users may pass through but not list."""
        path = self.path / str(number)
        path.mkdir(mode=0o711)
        path.chmod(0o711)
        return path

    @property
    def lock_file(self) -> Path:
        """A file all workers of this data directory may lock."""
        return self._parent / "lock"

    def close(self) -> None:
        """Remove it."""
        shutil.rmtree(self.path, ignore_errors=True)

    def _remove_leftovers(self) -> None:
        for path in self._parent.iterdir():
            match = re.fullmatch(r"(\d+)\.(\d+)\.[0-9a-f]+", path.name)
            if match and Owner(self._owner.host, int(match[1]), match[2]).is_known_dead:
                shutil.rmtree(path, ignore_errors=True)
