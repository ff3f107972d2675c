"""What a template may use up: steps, characters, seconds. Counted while it renders.

Whatever makes or walks through something pays for it before or right after: so no chain of cheap
operations builds a value whose printing or comparing would take the process down.
"""

import time
from collections.abc import Iterator, Mapping, Set
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from sinas.errors import InvalidInputError

MAX_WORK = 5_000_000
MAX_SECONDS = 1.0
_MAX_BITS = 4096
# How much work goes by between two looks at the clock, which is a system call.
_LOOK = 2000


class TemplateError(InvalidInputError):
    """A template that cannot be parsed or rendered; the message says why and where."""

    code = "template_error"


class Meter:
    """What one rendering has left. Work is about one unit per character, item or step.

    Seconds are the thread's own, so that a busy machine fails no template.
    """

    __slots__ = ("_deadline", "_left", "_next_look")

    def __init__(self) -> None:
        self._left = MAX_WORK
        self._next_look = MAX_WORK - _LOOK
        self._deadline = time.thread_time() + MAX_SECONDS

    def spend(self, work: int) -> None:
        """Pay for `work` units.

        Raises:
            TemplateError: There is not that much left, or the time is up.
        """
        self._left -= work
        if self._left > self._next_look:
            return
        if self._left < 0:
            raise TemplateError("The template does too much: it loops too often, or grows too far.")
        if time.thread_time() > self._deadline:
            raise TemplateError(f"The template computes for longer than {MAX_SECONDS:g} s.")
        self._next_look = self._left - _LOOK

    def weigh(self, value: object) -> int:
        """Characters and items in `value`, shared parts counted each time; paid for as it goes.

        So it ends soon, whatever is nested in what.
        """
        total = 0
        unpaid = 0
        stack: list[Any] = [value]
        while stack:
            item = stack.pop()
            unpaid += 1
            if isinstance(item, str | bytes):
                unpaid += len(item)
            elif isinstance(item, int):
                unpaid += item.bit_length() // 4
            elif isinstance(item, Mapping):
                stack.extend(item.keys())
                stack.extend(item.values())
            elif is_collection(item):
                stack.extend(item)
            if unpaid > _LOOK:
                self.spend(unpaid)
                total, unpaid = total + unpaid, 0
        self.spend(unpaid)
        return total + unpaid


_meter: ContextVar[Meter | None] = ContextVar("template_meter", default=None)


@contextmanager
def metered() -> Iterator[None]:
    """A block in which one template renders."""
    token = _meter.set(Meter())
    try:
        yield
    finally:
        _meter.reset(token)


def meter() -> Meter:
    """The meter of what renders now; outside of any, one that counts for this call alone."""
    return _meter.get() or Meter()


def is_collection(value: object) -> Any:
    """Whether printing or comparing `value` walks through its items."""
    return isinstance(value, list | tuple | Set | Mapping) or type(value).__name__ in (
        "dict_values",
        "dict_items",
    )


def pay_for(value: object) -> None:
    """Charge what it costs to print, compare or copy `value` once."""
    if isinstance(value, str):
        meter().spend(len(value) + 1)
    elif is_collection(value):
        meter().weigh(value)


def check_number(value: object) -> None:
    """Refuse whole numbers whose digits would fill the memory.

    Raises:
        TemplateError: It is one.
    """
    if isinstance(value, int) and value.bit_length() > _MAX_BITS:
        raise TemplateError("The template makes a number that is too large.")
