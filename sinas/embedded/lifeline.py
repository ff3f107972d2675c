"""The child's end of the pipe to its supervisor, on standard input.

The supervisor holds the other end and writes nothing but the line `go`. When it dies, however it
dies, the pipe closes: the child ends itself, and is ended if that takes too long. This is the
portable half of what PR_SET_PDEATHSIG does on Linux, and the half that also ends a child whose
own clean-up hangs.
"""

import os
import signal
import sys
import threading
import time
from typing import Final

_GRACE_SECONDS: Final = 8.0


def wait_for_go() -> None:
    """Block until the supervisor says so, then watch the pipe from a thread.

    Raises:
        SystemExit: The supervisor is gone.
    """
    if os.read(sys.stdin.fileno(), 16) == b"":
        raise SystemExit(1)
    threading.Thread(target=_watch, name="lifeline", daemon=True).start()


def _watch() -> None:
    while os.read(sys.stdin.fileno(), 16):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_GRACE_SECONDS)
    # The group of its own that the supervisor made: what this process started goes with it.
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(1)
