"""What `sinas up` prints: numbered steps, and the children's lines under their names."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, TextIO

_SLOW_SECONDS: Final = 1.5
_COLOURS: Final = {
    "api": 36,
    "functions": 33,
    "agents": 35,
    "scheduler": 34,
    "cdc": 34,
    "model": 32,
    "postgres": 90,
    "redis": 90,
}
_NAME_WIDTH: Final = 9


class Console:
    """Lines on one stream, coloured where a person is looking."""

    def __init__(self, stream: TextIO) -> None:
        """Write to `stream`."""
        self._stream = stream
        self._coloured = stream.isatty()

    def say(self, text: str = "") -> None:
        """Print one line."""
        # A closed terminal must not keep the supervisor from ending its children.
        try:
            self._stream.write(f"{text}\n")
            self._stream.flush()
        except (BrokenPipeError, OSError):
            return

    def child(self, name: str, text: str) -> None:
        """Print one line of a child's output."""
        label = f"{name:<{_NAME_WIDTH}} |"
        if self._coloured:
            label = f"\x1b[{_COLOURS.get(name, 37)}m{label}\x1b[0m"
        self.say(f"{label} {text}")

    def strong(self, text: str) -> None:
        """Print one line that should be seen."""
        self.say(f"\x1b[1m{text}\x1b[0m" if self._coloured else text)


@dataclass
class Step:
    """One numbered step while it runs."""

    console: Console
    label: str
    outcome: str = "ready"
    """What the closing line says."""

    def note(self, text: str) -> None:
        """Say what the step is doing."""
        self.console.say(f"{self.label}: {text}")


@dataclass
class Steps:
    """The steps of one start. They may run at the same time."""

    console: Console
    total: int

    @contextmanager
    def step(self, number: int, title: str) -> Iterator[Step]:
        """Print how a step went, and, if it takes long, that it has begun."""
        label = f"[{number}/{self.total}] {title}"
        step = Step(self.console, label)
        began = time.monotonic()
        slow = asyncio.get_running_loop().call_later(_SLOW_SECONDS, step.note, "still working …")
        try:
            yield step
        finally:
            slow.cancel()
        self.console.say(f"{label} … {step.outcome} in {time.monotonic() - began:.1f} s")
