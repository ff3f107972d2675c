"""Callbacks of executions, turns and batches that have ended.

A round locks the rows it tells about until it knows how that went, so that of several schedulers
one sends. One that dies meanwhile leaves them due: a receiver may then be told twice, never not
at all. Otherwise a callback is one POST, whatever its answer.
"""

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Row, and_, func, literal, select
from sqlalchemy.orm import InstrumentedAttribute, defer

from sinas.context import AppContext
from sinas.db.direct import any_row
from sinas.egress.callbacks import Callback, CallbackSender
from sinas.kit.json_types import JsonObject
from sinas.models import Batch, CallbackStatus, Execution, ExecutionStatus, Turn, User
from sinas.queue.job import Sweep
from sinas.resources.batches.repository import ENDED, counts_of, finish_ended
from sinas.resources.batches.service import describe
from sinas.resources.batches.told import turn_bodies
from sinas.resources.executions.events import ExecutionEnd

# Of one user in one round: who is called back slowly delays the others by no more than a round.
_SHARE = 10
_MOST = 50


_Subject = Execution | Turn | Batch


def _is_due(
    model: type[Execution] | type[Turn] | type[Batch],
    ended: InstrumentedAttribute[datetime | None],
) -> ColumnElement[bool]:
    # Literal: with a parameter, PostgreSQL could not use the index of what is due.
    pending = literal(CallbackStatus.PENDING, model.callback_status.type, literal_execute=True)
    return and_(model.callback_status == pending, ended.is_not(None))


def _due(
    model: type[Execution] | type[Turn] | type[Batch],
    ended: InstrumentedAttribute[datetime | None],
) -> Any:
    is_due = _is_due(model, ended)
    place = func.row_number().over(partition_by=model.user_id, order_by=ended)
    ranked = select(model.id, place.label("place")).where(is_due).subquery()
    return (
        select(model, User.email, User.is_active)
        .join(User, User.id == model.user_id)
        .where(is_due, model.id.in_(select(ranked.c.id).where(ranked.c.place <= _SHARE)))
        .order_by(ended)
        .limit(_MOST)
        # Not against other rows that point at these.
        .with_for_update(of=model, skip_locked=True, key_share=True)
    )


# Made once: they are asked every second.
_DUE_EXECUTIONS = _due(Execution, Execution.completed_at).options(
    *(
        defer(column, raiseload=True)
        for column in (
            Execution.input_data,
            Execution.trigger_data,
            Execution.traceback,
            Execution.stdout,
            Execution.stderr,
        )
    )
)
_DUE_TURNS = _due(Turn, Turn.finished_at)
_DUE_BATCHES = _due(Batch, Batch.finished_at)


async def _tell_of_executions(context: AppContext) -> None:
    """Send what is due about executions."""
    async with context.unit() as unit:
        rows = (await unit.session.execute(_DUE_EXECUTIONS)).all()
        await _send(context, [(row, _execution_body(row[0])) for row in rows])


async def _tell_of_turns(context: AppContext) -> None:
    """Send what is due about turns."""
    async with context.unit() as unit:
        rows = (await unit.session.execute(_DUE_TURNS)).all()
        bodies = await turn_bodies(unit.session, [row[0] for row in rows])
        await _send(context, [(row, bodies[row[0].id]) for row in rows])


async def _tell_of_batches(context: AppContext) -> None:
    """Note which batches have ended, and send what is due about them."""
    async with context.statement_unit() as unit:
        await finish_ended(unit.session)
    async with context.unit() as unit:
        rows = (await unit.session.execute(_DUE_BATCHES)).all()
        told = []
        for row in rows:
            counts = await counts_of(unit.session, row[0])
            told.append((row, describe(row[0], counts).model_dump(mode="json")))
        await _send(context, told)


async def _send(context: AppContext, told: Sequence[tuple[Row[Any], JsonObject]]) -> None:
    """Send all at once, and note on the rows what became of it."""
    sender = CallbackSender(context.http, context.signer, context.settings)
    async with asyncio.TaskGroup() as group:
        for row, body in told:
            group.create_task(_send_one(sender, row, body))


async def _send_one(sender: CallbackSender, row: Row[Any], body: JsonObject) -> None:
    subject: _Subject = row[0]
    status = None
    # A user who was deactivated has no token that could be sent.
    if row.is_active:
        status = await sender.send(
            Callback(
                url=str(subject.callback_url),
                user_id=subject.user_id,
                email=row.email,
                access=subject.access,
                body=body,
            )
        )
    was_taken = status is not None and 200 <= status < 300
    subject.callback_status = CallbackStatus.SENT if was_taken else CallbackStatus.FAILED
    subject.callback_response_code = status


def _execution_body(row: Execution) -> JsonObject:
    end = ExecutionEnd(execution_id=row.id, status=row.status, error=row.error)
    status = "timeout" if end.timed_out else "failure"
    has_result = row.status is ExecutionStatus.COMPLETED
    return {
        "execution_id": str(row.id),
        "trigger_id": row.trigger_id,
        "function": {"namespace": row.function_namespace, "name": row.function_name},
        "status": "success" if has_result else status,
        "started_at": row.started_at.isoformat(),
        "finished_at": None if row.completed_at is None else row.completed_at.isoformat(),
        "duration_ms": row.duration_ms,
        "result": row.output_data,
        "error": None if has_result else row.error or row.status.lower(),
    }


SWEEPS = (
    Sweep(
        name="executions.call_back",
        every=timedelta(seconds=1),
        work=_tell_of_executions,
        due=any_row(select(Execution.id).where(_is_due(Execution, Execution.completed_at))),
    ),
    Sweep(
        name="turns.call_back",
        every=timedelta(seconds=1),
        work=_tell_of_turns,
        due=any_row(select(Turn.id).where(_is_due(Turn, Turn.finished_at))),
    ),
    Sweep(
        name="batches.call_back",
        every=timedelta(seconds=1),
        work=_tell_of_batches,
        due=any_row(ENDED, select(Batch.id).where(_is_due(Batch, Batch.finished_at))),
    ),
)
