"""Putting a turn on the agents queue, once the unit commits."""

from datetime import timedelta
from typing import Final
from uuid import UUID

from sinas.db.unit import QueuedJob, Unit
from sinas.models import Turn
from sinas.queue.job import Queue

# The job is declared where its body is, in `sinas.chat.turn`.
TURN_JOB_NAME: Final = "turns.run"


def push_turn(unit: Unit, turn: Turn) -> None:
    """Queue a turn after `unit` commits. Its generation tells a resumed turn from its first run."""
    push_turn_row(unit, turn.id, turn.generation, turn.lane)


def push_turn_row(
    unit: Unit, turn_id: UUID, generation: int, lane: str, delay: timedelta = timedelta(0)
) -> None:
    """As `push_turn`, for who has not read the row; it is not run before `delay` is over."""
    unit.queue_job(
        QueuedJob(
            queue=f"{Queue.AGENTS}{lane}",
            name=TURN_JOB_NAME,
            job_id=f"{TURN_JOB_NAME}:{turn_id}:{generation}",
            args=(str(turn_id),),
            delay=delay,
        )
    )
