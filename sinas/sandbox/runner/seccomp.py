"""Closes the system calls that give an unprivileged process more of the kernel than code needs.

Above all it keeps calls from making user namespaces, in which they would have every capability to
attack the kernel with. What the rights of users forbid anyway is not listed. Engines have such a
filter for containers, if they were not told otherwise; plain processes have only this one.
"""

import ctypes
import errno
import os
import platform
import struct
import sys
from typing import Any

_PR_SET_SECCOMP, _MODE_FILTER = 22, 2
_PR_SET_NO_NEW_PRIVS = 38
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _FAIL = 0x7FFF0000, 0x00050000
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT = 0, 4, 16  # offsets in struct seccomp_data
_X32 = 0x40000000
# All CLONE_NEW flags that clone takes.
_NEW_NAMESPACES = 0x7E020000

# AUDIT_ARCH, and numbers by name.
_MACHINES = {
    "x86_64": (
        0xC000003E,
        {
            "clone": 56,
            "add_key": 248,
            "request_key": 249,
            "keyctl": 250,
            "unshare": 272,
            "perf_event_open": 298,
            "setns": 308,
            "bpf": 321,
            "userfaultfd": 323,
        },
    ),
    "aarch64": (
        0xC00000B7,
        {
            "clone": 220,
            "add_key": 217,
            "request_key": 218,
            "keyctl": 219,
            "unshare": 97,
            "perf_event_open": 241,
            "setns": 268,
            "bpf": 280,
            "userfaultfd": 282,
        },
    ),
}
# These are the same on every machine.
_IO_URING = (425, 426, 427)
_CLONE3 = 435


def is_known() -> bool:
    """Whether there is a filter for this processor."""
    return platform.machine() in _MACHINES and sys.maxsize > 1 << 32


def restrict() -> None:
    """Apply the filter to this process and what it forks; on an unknown processor do nothing.

    Raises:
        OSError: The kernel has no such filters.
    """
    if not is_known():
        return
    code = _program(*_MACHINES[platform.machine()])
    instructions = ctypes.create_string_buffer(code, len(code))
    # struct sock_fprog: a count, padding, and a pointer.
    program: Any = ctypes.create_string_buffer(
        struct.pack("@HP", len(code) // 8, ctypes.addressof(instructions))
    )
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.prctl(
        _PR_SET_SECCOMP, _MODE_FILTER, program
    ):
        number = ctypes.get_errno()
        raise OSError(number, f"seccomp: {os.strerror(number)}")


def _program(architecture: int, numbers: dict[str, int]) -> bytes:
    """The filter in BPF: jumps count the instructions that they skip."""
    clone = numbers["clone"]
    denied = [number for name, number in numbers.items() if name != "clone"] + [*_IO_URING]
    code = [
        _instruction(_LOAD, _ARCHITECTURE),
        # Numbers of other architectures mean other calls.
        _instruction(_EQUAL, architecture, 1, 0),
        _fail(errno.ENOSYS),
        _instruction(_LOAD, _NUMBER),
        _instruction(_AT_LEAST, _X32, 0, 1),
        _fail(errno.ENOSYS),
        # Its flags are behind a pointer, which no filter can follow; libraries fall back to clone.
        _instruction(_EQUAL, _CLONE3, 0, 1),
        _fail(errno.ENOSYS),
    ]
    for number in denied:
        code += [_instruction(_EQUAL, number, 0, 1), _fail(errno.EPERM)]
    code += [
        _instruction(_EQUAL, clone, 0, 3),
        _instruction(_LOAD, _FIRST_ARGUMENT),
        _instruction(_ANY_BIT, _NEW_NAMESPACES, 0, 1),
        _fail(errno.EPERM),
        _instruction(_RETURN, _ALLOW),
    ]
    return b"".join(code)


def _instruction(operation: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", operation, if_true, if_false, value)


def _fail(number: int) -> bytes:
    return _instruction(_RETURN, _FAIL | number)
