"""Namespaces for a sandbox that is a plain process: own root, processes, IPC and /tmp."""

import ctypes
import fcntl
import os
import platform
import socket
import struct
import sys
import sysconfig
from dataclasses import dataclass, field

_NEW_NS, _NEW_UTS, _NEW_IPC, _NEW_USER, _NEW_PID, _NEW_NET = (
    0x00020000,
    0x04000000,
    0x08000000,
    0x10000000,
    0x20000000,
    0x40000000,
)
_MS_RDONLY, _MS_NOSUID, _MS_NODEV, _MS_NOEXEC = 1, 2, 4, 8
_MS_REMOUNT, _MS_BIND, _MS_REC, _MS_PRIVATE = 32, 4096, 16384, 1 << 18
_MNT_DETACH = 2
_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}.get(platform.machine(), 155)
_MOUNT_SETATTR = 442
_AT_FDCWD, _AT_RECURSIVE = -100, 0x8000
_ATTR_RDONLY, _ATTR_NOSUID = 1, 2
_SYSTEM_FOLDERS = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/etc")
_DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
# The same doors that are closed in containers: what would outlive a call.
_SYSCTLS = {
    "kernel/shmmni": "0",
    "kernel/msgmni": "0",
    "kernel/sem": "0 0 0 0",
    "fs/mqueue/queues_max": "0",
}
_USER_SYSCTLS = {"user/max_user_namespaces": "0"}
_TMP_INODES = 32_768
_SET_INTERFACE_FLAGS, _UP = 0x8914, 1  # SIOCSIFFLAGS, IFF_UP of netdevice(7)
_HOSTS = "127.0.0.1 localhost host.docker.internal\n"

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Isolation:
    """What to build.

    Attributes:
        root: An empty directory; the new root is mounted there.
        tmp_mb: Size of /tmp.
        read_only: More directories to show, and where inside.
        own_network: Whether it has no network but a loopback of its own.
    """

    root: str
    tmp_mb: int
    read_only: dict[str, str] = field(default_factory=dict)
    own_network: bool = False


def enter(isolation: Isolation) -> None:
    """Move this process into namespaces of its own. Returns in a child, which is their first.

    The process that called stays outside, waits for the child and ends as it does.

    Raises:
        OSError: The kernel or the rights of this process do not allow it.
    """
    uid, gid = os.getuid(), os.getgid()
    flags = _NEW_NS | _NEW_UTS | _NEW_IPC | _NEW_PID
    flags |= _NEW_NET if isolation.own_network else 0
    _check(_libc.unshare(flags | (_NEW_USER if uid else 0)), "unshare")
    if uid:
        _write("/proc/self/setgroups", "deny")
        _write("/proc/self/uid_map", f"0 {uid} 1")
        _write("/proc/self/gid_map", f"0 {gid} 1")
    first = os.fork()
    if first:
        _, status = os.waitpid(first, 0)
        os._exit(abs(os.waitstatus_to_exitcode(status)))
    _build_root(isolation)
    if isolation.own_network:
        _start_loopback()
    # Those of users are for all of their namespace, which is the machine's where none was made.
    for name, value in (_SYSCTLS | (_USER_SYSCTLS if uid else {})).items():
        try:
            _write(f"/proc/sys/{name}", value)
        except OSError:
            continue  # an older kernel lacks it; the namespace still ends with the sandbox
    # The only user of a user namespace may write there what its first process may.
    _mount("/proc/sys", "/proc/sys", None, _MS_BIND | _MS_REC)
    _make_read_only("/proc/sys")


def _build_root(isolation: Isolation) -> None:
    root = isolation.root
    _mount("none", "/", None, _MS_REC | _MS_PRIVATE)
    _mount("tmpfs", root, "tmpfs", _MS_NOSUID, "size=8m,mode=755")
    for path in _SYSTEM_FOLDERS:
        if os.path.islink(path):
            os.symlink(os.readlink(path), root + path)
        elif os.path.isdir(path):
            _bind(path, root)
    more = [sys.base_prefix, sys.base_exec_prefix]
    if not isolation.own_network:
        more.append(os.path.realpath("/etc/resolv.conf"))
    for path in more:
        if not os.path.exists(root + path) and os.path.exists(path):
            _bind(path, root)
    if isolation.own_network:
        _name_loopback(root)
    for path, inside in isolation.read_only.items():
        _bind(path, root, inside)
    _hide_packages(root)
    _make_dev(root)
    os.makedirs(root + "/proc")
    _mount("proc", root + "/proc", "proc", _MS_NOSUID | _MS_NODEV | _MS_NOEXEC)
    os.makedirs(root + "/tmp")
    options = f"size={isolation.tmp_mb}m,nr_inodes={_TMP_INODES},mode=1777"
    _mount("tmpfs", root + "/tmp", "tmpfs", _MS_NOSUID | _MS_NODEV, options)
    os.makedirs(root + "/var")
    os.symlink("/tmp", root + "/var/tmp")
    os.chdir(root)
    _check(_libc.syscall(_PIVOT_ROOT, b".", b"."), "pivot_root")
    _check(_libc.umount2(b".", _MNT_DETACH), "umount of the old root")
    os.chdir("/")
    _mount("none", "/", None, _MS_REMOUNT | _MS_BIND | _MS_RDONLY | _MS_NOSUID)


def _start_loopback() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = struct.pack("16sh22x", b"lo", _UP)
        fcntl.ioctl(any_socket, _SET_INTERFACE_FLAGS, request)


def _name_loopback(root: str) -> None:
    """Have the names by which functions know the API lead to the relay."""
    _write(root + "/hosts", _HOSTS)
    if os.path.isfile(root + "/etc/hosts"):
        _mount(root + "/hosts", root + "/etc/hosts", None, _MS_BIND)
        _make_read_only(root + "/etc/hosts")


def _hide_packages(root: str) -> None:
    """Cover what is installed into the base interpreter, which may be the platform itself."""
    for path in {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}:
        if os.path.isdir(root + path):
            _mount("tmpfs", root + path, "tmpfs", _MS_RDONLY | _MS_NOSUID, "size=4k,mode=755")


def _make_dev(root: str) -> None:
    os.makedirs(root + "/dev/shm")
    for name in _DEVICES:
        _bind(f"/dev/{name}", root, read_only=False)
    _mount("tmpfs", root + "/dev/shm", "tmpfs", _MS_NOSUID | _MS_NODEV, "size=16m,mode=1777")
    for name, target in (
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
    ):
        os.symlink(target, f"{root}/dev/{name}")


def _bind(path: str, root: str, inside: str = "", *, read_only: bool = True) -> None:
    target = root + (inside or path)
    if os.path.isdir(path):
        os.makedirs(target, exist_ok=True)
    else:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        os.close(os.open(target, os.O_CREAT | os.O_WRONLY))
    _mount(path, target, None, _MS_BIND | _MS_REC)
    if read_only:
        _make_read_only(target)


def _make_read_only(target: str) -> None:
    """The whole subtree of mounts, which a plain remount would not reach."""
    # struct mount_attr: attr_set, attr_clr, propagation, userns_fd.
    attributes = (ctypes.c_uint64 * 4)(_ATTR_RDONLY | _ATTR_NOSUID, 0, 0, 0)
    _check(
        _libc.syscall(
            _MOUNT_SETATTR,
            _AT_FDCWD,
            target.encode(),
            _AT_RECURSIVE,
            attributes,
            ctypes.sizeof(attributes),
        ),
        f"mount_setattr of {target}",
    )


def _mount(source: str, target: str, kind: str | None, flags: int, options: str = "") -> None:
    _check(
        _libc.mount(
            source.encode(),
            target.encode(),
            kind.encode() if kind else None,
            ctypes.c_ulong(flags),
            options.encode() or None,
        ),
        f"mount of {target}",
    )


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def _write(path: str, text: str) -> None:
    with open(path, "w") as file:
        file.write(text)
