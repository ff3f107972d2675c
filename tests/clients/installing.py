"""The published SDK in a folder of its own: its package has the name of ours.

`python -m tests.clients.installing` does it ahead of the tests, as `scripts/setup dev` does; a test
that finds nothing does it too. The folder is named by its lock, so a new lock is a new folder.
"""

import fcntl
import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

_LOCK = Path(__file__).parents[2] / "requirements" / "sdk.txt"


def install() -> Path:
    """The folder to put on the path of a Python that has no other packages. Blocks."""
    digest = hashlib.sha256(_LOCK.read_bytes()).hexdigest()[:12]
    folder = Path(sys.prefix) / "clients" / f"sdk-{digest}"
    folder.parent.mkdir(exist_ok=True)
    with (folder.parent / ".lock").open("a") as lock:
        # Whoever comes second finds it done; whoever was killed left nothing under the name.
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            scratch = folder.with_suffix(".new")
            shutil.rmtree(scratch, ignore_errors=True)
            _pip("--target", str(scratch), "--require-hashes", "-r", str(_LOCK))
            scratch.rename(folder)
    return folder


def _pip(*arguments: str) -> None:
    quiet = ("--quiet", "--disable-pip-version-check", "--no-input", "--no-deps")
    command = [sys.executable, "-m", "pip", "install", *quiet, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"the SDK could not be installed: {done.stderr.strip()}")


if __name__ == "__main__":
    install()
