"""The account PostgreSQL runs under when Sinas runs as root, and what that account may reach.

PostgreSQL refuses to run as root. A machine where one types `make run` as root (a container, a
fresh server) has its files below directories closed to everybody else, such as /root. Opening
those to all would be a bad bargain, so the one account gets the right to pass through (`x`) by
an access control list, and only where the file system has no such lists by the mode.
"""

import os
import pwd
import shutil
import stat
import struct
import subprocess
from dataclasses import dataclass
from pathlib import Path

from sinas.embedded.errors import StartupError

_ACCOUNT = "sinas-postgres"
_ACL = "system.posix_acl_access"
# linux/posix_acl_xattr.h: a version, then entries of tag, permissions, id.
_HEADER = struct.Struct("<I")
_ENTRY = struct.Struct("<HHI")
_VERSION = 2
_USER_OBJ, _USER, _GROUP_OBJ, _MASK, _OTHER = 0x01, 0x02, 0x04, 0x10, 0x20
_NO_ID = 0xFFFFFFFF
_EXECUTE = 0x01


@dataclass(frozen=True, slots=True)
class Account:
    """User and group a process is started under."""

    uid: int
    gid: int


def postgres_account() -> Account | None:
    """The account for PostgreSQL: None means the current user will do.

    Raises:
        StartupError: We are root and the account neither exists nor can be made.
    """
    if os.geteuid() != 0:
        return None
    try:
        entry = pwd.getpwnam(_ACCOUNT)
    except KeyError:
        _create_account()
        entry = pwd.getpwnam(_ACCOUNT)
    return Account(entry.pw_uid, entry.pw_gid)


def _create_account() -> None:
    useradd = shutil.which("useradd", path="/usr/sbin:/sbin:/usr/bin:/bin")
    fix = "Run Sinas as an ordinary user, or set DATABASE_URL to a PostgreSQL of your own."
    if useradd is None:
        raise StartupError(
            "PostgreSQL", "it does not run as root and useradd is missing to make an account.", fix
        )
    options = "--system --user-group --no-create-home --home-dir /nonexistent"
    made = subprocess.run(  # noqa: S603 - fixed words
        [useradd, *options.split(), "--shell", "/usr/sbin/nologin", _ACCOUNT],
        capture_output=True,
        text=True,
        check=False,
    )
    # 9: the name is taken, by another start that was quicker.
    if made.returncode not in {0, 9}:
        raise StartupError(
            "PostgreSQL",
            f"it does not run as root and the account {_ACCOUNT} could not be made "
            f"({made.stderr.strip()}).",
            fix,
        )


def let_through(path: Path, account: Account) -> None:
    """Let the account pass through every directory above `path`, and `path` itself.

    Raises:
        StartupError: A directory is closed and cannot be opened.
    """
    for directory in [path, *path.parents]:
        status = directory.stat()
        if status.st_mode & stat.S_IXOTH or status.st_uid == account.uid:
            continue
        try:
            _grant_by_list(directory, status.st_mode, account.uid)
        except OSError:
            try:
                directory.chmod(stat.S_IMODE(status.st_mode) | stat.S_IXOTH)
            except OSError as error:
                raise StartupError(
                    "PostgreSQL",
                    f"its account {_ACCOUNT} cannot pass through {directory} ({error.strerror}).",
                    "Choose a --data-dir elsewhere, or run Sinas as an ordinary user.",
                ) from error


def _grant_by_list(directory: Path, mode: int, uid: int) -> None:
    entries = _read_list(directory) or {
        (_USER_OBJ, _NO_ID): mode >> 6 & 7,
        (_GROUP_OBJ, _NO_ID): mode >> 3 & 7,
        (_OTHER, _NO_ID): mode & 7,
    }
    if entries.get((_USER, uid), 0) & entries.get((_MASK, _NO_ID), 7) & _EXECUTE:
        return
    entries[_USER, uid] = entries.get((_USER, uid), 0) | _EXECUTE
    mask = entries.get((_MASK, _NO_ID), entries[_GROUP_OBJ, _NO_ID])
    entries[_MASK, _NO_ID] = mask | _EXECUTE
    packed = [_ENTRY.pack(tag, permissions, who) for (tag, who), permissions in _sorted(entries)]
    os.setxattr(directory, _ACL, _HEADER.pack(_VERSION) + b"".join(packed))


def _sorted(entries: dict[tuple[int, int], int]) -> list[tuple[tuple[int, int], int]]:
    # The kernel refuses a list that is not ordered by tag and id.
    return sorted(entries.items())


def _read_list(directory: Path) -> dict[tuple[int, int], int]:
    try:
        raw = os.getxattr(directory, _ACL)
    except OSError:
        return {}
    return {
        (tag, who): permissions for tag, permissions, who in _ENTRY.iter_unpack(raw[_HEADER.size :])
    }
