"""Leaves nothing of a finished call: no process, no file, no shared memory."""

import os
import signal
import time
from collections.abc import Callable, Collection
from pathlib import Path

_PATIENCE_SECONDS = 2.0


def kill_user(uid: int) -> None:
    """Kill every process of `uid` in this process namespace, of which this is the first.

    kill(-1) is atomic against fork, so a fork bomb cannot outrun it, and it needs no fork that a
    full process table would refuse. It reaches whoever the effective *or the real* user may
    signal, so both change: a real user who is root would also hit processes forked for the next
    call that have not given up their rights yet. That `uid` can signal back meanwhile does no
    harm: the kernel drops what the first process of a namespace has no handler for.
    """
    _require_own_namespace()
    os.setresuid(uid, uid, 0)
    try:
        os.kill(-1, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return
    finally:
        os.setresuid(0, 0, 0)


def kill_namespace() -> None:
    """Kill every process but this one, which is the first of its process namespace."""
    _require_own_namespace()
    try:
        os.kill(-1, signal.SIGKILL)
    except ProcessLookupError:
        return


def _require_own_namespace() -> None:
    if os.getpid() != 1:
        raise RuntimeError("kill(-1) outside a process namespace of our own")


def kill_descendants(keep: set[int]) -> None:
    """Kill what descends from this process (a child subreaper), less `keep`. Not atomic."""
    kill_each(descendants() - keep)


def kill_each(pids: set[int]) -> None:
    """Kill these processes, as far as they are there."""
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            continue


def of_user(uid: int) -> set[int]:
    """Every process whose effective user is `uid`, zombies included."""
    found = set()
    for pid in processes():
        try:
            if os.stat(f"/proc/{pid}").st_uid == uid:
                found.add(pid)
        except OSError:
            continue  # gone meanwhile
    return found


def descendants(spare: Collection[int] = ()) -> set[int]:
    """Every process below this one, zombies included, but not those of `spare` or below them."""
    children: dict[int, list[int]] = {}
    for pid in processes():
        try:
            stat = Path(f"/proc/{pid}/stat").read_text()
        except OSError:
            continue  # gone meanwhile
        parent = int(stat.rpartition(")")[2].split()[1])
        children.setdefault(parent, []).append(pid)
    found: set[int] = set()
    todo = [os.getpid()]
    while todo:
        fresh = set(children.get(todo.pop(), ())) - found - set(spare)
        found |= fresh
        todo.extend(fresh)
    return found


def processes() -> set[int]:
    """Every process this one sees."""
    return {int(name) for name in os.listdir("/proc") if name.isdecimal()}


def kill_until_gone(
    kill: Callable[[], None], left: Callable[[], set[int]], reap: Callable[[], None]
) -> bool:
    """Kill and reap until `left()` is empty; False if it is not within two seconds."""
    end = time.monotonic() + _PATIENCE_SECONDS
    while True:
        kill()
        reap()
        if not left():
            return True
        if time.monotonic() > end:
            return False
        time.sleep(0.001)


def wipe(directories: tuple[str, ...], uid: int) -> bool:
    """Empty the directories as the user who wrote there; False if that fails or takes long.

    Runs after the call's last process is gone, so that nothing can swap a path under it.
    """
    end = time.monotonic() + _PATIENCE_SECONDS
    if uid:
        os.seteuid(uid)
    try:
        for directory in directories:
            _empty(directory, end)
        return True
    except (OSError, RecursionError):
        return False
    finally:
        if uid:
            os.seteuid(0)


def wipe_user(directories: tuple[str, ...], uid: int) -> bool:
    """Remove what `uid` owns in these directories, where others have theirs; see `wipe`."""
    end = time.monotonic() + _PATIENCE_SECONDS
    os.seteuid(uid)
    try:
        for directory in directories:
            with os.scandir(directory) as entries:
                mine = [entry for entry in entries if _owner(entry) == uid]
            for entry in mine:
                _remove(entry, end)
        return True
    except (OSError, RecursionError):
        return False
    finally:
        os.seteuid(0)


def remove(directory: str) -> bool:
    """Remove a directory with all in it; see `wipe`."""
    try:
        _empty(directory, time.monotonic() + _PATIENCE_SECONDS)
        os.rmdir(directory)
    except FileNotFoundError:
        return True
    except (OSError, RecursionError):
        return False
    return True


def _owner(entry: "os.DirEntry[str]") -> int:
    try:
        return entry.stat(follow_symlinks=False).st_uid
    except FileNotFoundError:
        return -1


def _remove(entry: "os.DirEntry[str]", end: float) -> None:
    if entry.is_dir(follow_symlinks=False):
        os.chmod(entry.path, 0o700)
        _empty(entry.path, end)
        os.rmdir(entry.path)
    else:
        os.unlink(entry.path)


def _empty(top: str, end: float) -> None:
    todo, directories = [top], []
    while todo:
        with os.scandir(todo.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    os.chmod(entry.path, 0o700)
                    todo.append(entry.path)
                    directories.append(entry.path)
                else:
                    os.unlink(entry.path)
        if time.monotonic() > end:
            raise TimeoutError(top)
    for directory in reversed(directories):
        os.rmdir(directory)


_OOM_COUNTERS = (
    "/sys/fs/cgroup/memory.events",
    "/sys/fs/cgroup/memory/memory.oom_control",
)


def oom_kills() -> int:
    """How often the kernel killed for memory in this control group (v2, else v1)."""
    for path in _OOM_COUNTERS:
        try:
            text = Path(path).read_text()
        except OSError:
            continue
        for row in text.splitlines():
            key, _, value = row.partition(" ")
            if key == "oom_kill":
                return int(value)
    return 0
