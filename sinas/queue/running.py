"""Running tasks: which of a worker's tasks works on which row, so that a row can be cancelled."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from uuid import UUID


@dataclass(eq=False, slots=True)
class RunningTask:
    """One task's work on one row. `cancelled` is set when the row's cancellation ended it."""

    key: UUID
    task: asyncio.Task[object]
    cancelled: bool = False


class RunningTasks:
    """Of one worker. A row may have several tasks for a moment; at most one has claimed it."""

    def __init__(self) -> None:
        self._tasks: set[RunningTask] = set()

    @contextmanager
    def hold(self, key: UUID) -> Iterator[RunningTask]:
        """Let the current task be cancelled with the row `key` until the block ends."""
        task = asyncio.current_task()
        assert task is not None
        held = RunningTask(key, task)
        self._tasks.add(held)
        try:
            yield held
        finally:
            self._tasks.discard(held)

    def is_alone(self, held: RunningTask) -> bool:
        """Whether no other task works on the same row."""
        return not any(other.key == held.key for other in self._tasks if other is not held)

    def keys(self) -> set[UUID]:
        """The rows that are worked on now."""
        return {held.key for held in self._tasks}

    def cancel(self, key: UUID) -> None:
        """Cancel whatever works on the row."""
        for held in self._tasks:
            if held.key == key and not held.cancelled:
                held.cancelled = True
                held.task.cancel()
