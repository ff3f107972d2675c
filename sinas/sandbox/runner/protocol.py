"""What crosses the border between the platform and a sandbox. Both sides import this file.

Control: one stream socket per sandbox, JSON lines, each with `op`.

| direction | line |
|---|---|
| to the platform | `ready` once: `v`, `api` (base URL for calls back) |
| to the sandbox | `call`: `id`, `timeout` (seconds), and three descriptors (SCM_RIGHTS) |
| to the sandbox | `pause`, `resume`: `id`; in between its time limit stands still |
| to the sandbox | `kill`: `id`; `ping` |
| to the platform | `ended`: `id`, `cause`, `code`, `oom`, `clean`; `pong` |

The descriptors are the call's data socket, stdout and stderr. The warm parent hands them on
unread, so that no call's code, input, token or result is ever in the memory the next call is
forked from. Over the data socket go frames (kind, length, content): the request (JSON), then the
answer (JSON; to code that is no function also a newline and the files it wrote). Before its
answer a shared call may ask (the prompt), one question at a time, and is told a reply (JSON:
`value` and the `access_token` to go on with, or `late` with the message of a TimeoutError).
The answer comes from the process that runs user code, so the platform believes it about
nothing but that one call's own value or error; how a call ended is the parent's to say.
"""

import json
import struct
from typing import Any, Final

VERSION: Final = 2
HEADER: Final = struct.Struct("!BI")
CALL_DESCRIPTORS: Final = 3
MAX_LINE_BYTES: Final = 65_536
MAX_PROMPT_BYTES: Final = 16_384
# Files that come with an answer: how many and how large they may be; names of more are told.
MAX_FILES: Final = 20
MAX_FILE_BYTES: Final = 10 * 1024 * 1024
MAX_FILES_BYTES: Final = 25 * 1024 * 1024
MAX_FILE_NAMES: Final = 100

# Kinds of frames.
MESSAGE: Final = 0
ASK: Final = 1

# Exit code of a call that ran out of address space too badly to answer.
EXIT_NO_MEMORY: Final = 71

# Values of `cause` in an `ended` line.
EXITED: Final = "exited"
SIGNALLED: Final = "signalled"
TIMED_OUT: Final = "timed_out"
KILLED: Final = "killed"
NO_PROCESS: Final = "no_process"


def line(op: str, **fields: Any) -> bytes:
    """One control message, with its newline."""
    return json.dumps({"op": op, **fields}).encode() + b"\n"


def frame(payload: bytes, kind: int = MESSAGE) -> bytes:
    """One data frame."""
    return HEADER.pack(kind, len(payload)) + payload


class Lines:
    """Cuts a byte stream into control messages."""

    def __init__(self) -> None:
        self._buffer = b""

    def feed(self, data: bytes) -> list[dict[str, Any]]:
        """Messages completed by `data`.

        Raises:
            ValueError: A line is not a JSON object or longer than MAX_LINE_BYTES.
        """
        *complete, self._buffer = (self._buffer + data).split(b"\n")
        if len(self._buffer) > MAX_LINE_BYTES:
            raise ValueError("control line too long")
        messages = [json.loads(one) for one in complete]
        if not all(isinstance(message, dict) for message in messages):
            raise ValueError("control line is not an object")
        return messages
