"""Which process a sandbox belongs to, so that what a dead one left can be told apart."""

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Owner:
    """A process of one machine. Its start time (clock ticks since boot) outlives pid reuse."""

    host: str
    pid: int
    start: str

    @classmethod
    def current(cls) -> "Owner":
        """This process."""
        pid = os.getpid()
        return cls(socket.gethostname(), pid, _start_time(pid))

    @classmethod
    def of_labels(cls, labels: Mapping[str, str]) -> "Owner | None":
        """The owner written on a container, None where there is none."""
        pid = labels.get("sinas.pid", "")
        if not pid.isdecimal():
            return None
        return cls(labels.get("sinas.host", ""), int(pid), labels.get("sinas.pid_start", ""))

    def labels(self) -> dict[str, str]:
        """As container labels."""
        return {
            "sinas.host": self.host,
            "sinas.pid": str(self.pid),
            "sinas.pid_start": self.start,
        }

    @property
    def is_known_dead(self) -> bool:
        """Whether it ran on this machine and is gone. Processes of others count as alive."""
        return self.host == socket.gethostname() and _start_time(self.pid) != self.start


def _start_time(pid: int) -> str:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    return stat.rpartition(")")[2].split()[19]  # field 22 of proc(5), counted after the name
