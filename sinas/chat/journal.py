"""The journal: every database write and read of a running turn, under its fence.

Each write is one statement or one short transaction. It names the fence the worker claimed the turn with; when
the row has another one by now, nothing changes and `LeaseLostError` is raised.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Executable, Row, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from sinas.auth.authenticate import deferred_principal
from sinas.auth.principal import Principal
from sinas.chat.accounting import Spent, rows_of
from sinas.chat.carrying import carry_over, newest_messages
from sinas.chat.pictures import with_pictures
from sinas.chat.prompt import Line
from sinas.chat.statements import (
    CLAIM,
    FINISH,
    FINISH_CALL,
    HISTORY,
    LAST_CALLS,
    QUESTION,
    SUBJECT,
)
from sinas.chat.suspending import Suspensions
from sinas.context import AppContext
from sinas.db.unit import Unit
from sinas.errors import LeaseLostError, UnauthenticatedError
from sinas.kit.ids import uuid7
from sinas.kit.json_text import storable
from sinas.kit.json_types import JsonObject, JsonValue
from sinas.kit.time import utcnow
from sinas.models import (
    Agent,
    Chat,
    LlmProvider,
    Message,
    ModelCall,
    ToolCall,
    ToolCallStatus,
    Turn,
    TurnStatus,
)
from sinas.tools.base import Waits

# Rows read beyond the window, so that a round that begins before it is whole.
_SLACK = 20
_LINE = Line.__slots__[:-1]  # in the order of HISTORY's columns; pictures come later
_BEFORE_LINE = 2  # columns of HISTORY that are not the line's


@dataclass(frozen=True, slots=True)
class Subject:
    """What a turn is about, and who asks.

    Attributes:
        agent: None when it was deleted since.
        has_paused: Whether an execution of the chat waits for input.
        has_budgets: Whether anybody's spending is limited.
    """

    principal: Principal
    chat: Chat
    agent: Agent | None
    provider: LlmProvider | None
    has_paused: bool
    has_budgets: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedCall:
    """A tool call about to be journalled."""

    call_id: str
    name: str
    arguments: str
    description: str
    resource: tuple[str, str] | None
    needs_approval: bool


class StopRequestedError(Exception):
    """The turn was about to wait, and somebody has asked to stop it: nobody would end it then."""


class Journal:
    """Of one claimed turn."""

    def __init__(self, app: AppContext, turn: Turn) -> None:
        self._app = app
        self.turn = turn
        # Messages sent into this turn that its history has shown.
        self.seen_injected = 0

    @classmethod
    async def claim(cls, app: AppContext, turn_id: UUID, worker_id: UUID) -> "Journal | None":
        """Take the turn, or None when it is not to be taken now.

        Turns of one chat run in order: one that waits behind another is pushed again when
        that one ends.
        """
        async with app.autocommit.connect() as connection:
            found = await connection.execute(CLAIM, {"turn_id": turn_id, "worker_id": worker_id})
            row = found.mappings().first()
        return None if row is None else cls(app, Turn(**row))

    async def subject(self, session: AsyncSession) -> Subject:
        """Chat, agent, provider and user in one query: the agent's provider, else the default.

        Raises:
            UnauthenticatedError: The user was deactivated meanwhile.
        """
        keys = {
            "user_id": self.turn.user_id,
            "chat_id": self.turn.chat_id,
            "parent_execution_id": self.turn.parent_execution_id,
        }
        row = (await session.execute(SUBJECT, keys)).mappings().one()
        if row["id"] is None:
            raise UnauthenticatedError("The user this turn acts for is no longer active.")
        principal = deferred_principal(
            {**row}, self.turn.access, self.turn.parent_execution_id, row["parent_depth"] or 0
        )
        chat, agent, provider = row["Chat"], row["Agent"], row["LlmProvider"]
        return Subject(principal, chat, agent, provider, row["has_paused"], row["has_budgets"])

    async def history(self, session: AsyncSession, window: int) -> list[Line]:
        """The newest messages, oldest first; enough rows for `window` messages with all results.

        What the user said last is among them, however long the rounds since.

        Messages of later turns are left out: they were sent while this one ran. Those of one
        turn stay together, as if each had been sent when the one before had ended.
        """
        keys = {"chat_id": self.turn.chat_id, "turn_id": self.turn.id, "seq": self.turn.seq}
        most = window + _SLACK
        rows = list((await session.execute(HISTORY, {**keys, "rows": most})).all())
        if len(rows) == most and _results_without_call(rows) > _SLACK:
            most += self._app.settings.chat.max_tool_calls
            rows = list((await session.execute(HISTORY, {**keys, "rows": most})).all())
        if len(rows) == most and all(row.role != "user" for row in rows):
            rows += (await session.execute(QUESTION, keys)).all()
        rows.reverse()
        rows.sort(key=lambda row: row[0] or 0)
        if rows:
            self.seen_injected = rows[0].injected
        lines = [Line(**dict(zip(_LINE, row[_BEFORE_LINE:], strict=True))) for row in rows]
        return await with_pictures(session, self.turn.chat_id, lines)

    async def last_calls(self, session: AsyncSession) -> list[ToolCall]:
        """The calls of this turn's newest round in order, finished ones too."""
        rows = await session.scalars(LAST_CALLS, {"turn_id": self.turn.id})
        return list(rows.all())

    async def taken_ids(self, session: AsyncSession, call_ids: Sequence[str]) -> set[str]:
        """Which of these call ids the chat has already."""
        statement = select(ToolCall.call_id).where(
            ToolCall.chat_id == self.turn.chat_id, ToolCall.call_id.in_(call_ids)
        )
        return set((await session.scalars(statement)).all())

    async def plan_round(
        self, content: str, calls: Sequence[PlannedCall], spent: Spent
    ) -> list[ToolCall]:
        """Store the model's message and its calls, before any of them starts.

        If one of them needs approval, nothing runs and the turn begins to wait.

        Raises:
            StopRequestedError: It would wait. Nothing is stored.
        """
        waits = any(call.needs_approval for call in calls)
        async with self._app.unit() as unit:
            await self._hold(
                unit,
                unless_stopped=waits,
                rounds=Turn.rounds + 1,
                usage=spent.usage,
                status=TurnStatus.WAITING if waits else TurnStatus.RUNNING,
                lease_owner=None if waits else self.turn.lease_owner,
                channel_done=waits,
            )
            await self._record(unit, spent)
            message_id = await self._add_message(unit, content, calls)
            rows = [self._row(call, message_id, n, waits=waits) for n, call in enumerate(calls)]
            unit.session.add_all(rows)
            return rows

    async def add_answer(self, message_id: UUID, content: str, spent: Spent) -> None:
        """Store an answer after which the turn goes on: messages came in meanwhile."""
        async with self._app.unit() as unit:
            await self._hold(unit, rounds=Turn.rounds + 1, usage=spent.usage)
            await self._record(unit, spent)
            await self._add_message(unit, content, (), message_id)

    async def _record(self, unit: Unit, spent: Spent) -> None:
        """Store the model calls made since the last write."""
        if spent.calls:
            whose = {
                "turn_id": self.turn.id,
                "chat_id": self.turn.chat_id,
                "user_id": self.turn.user_id,
                "agent_namespace": spent.agent[0],
                "agent_name": spent.agent[1],
            }
            await unit.session.execute(insert(ModelCall), rows_of(spent.calls, **whose))

    async def wait_for(self, row: ToolCall, waits: Waits) -> ToolCall:
        """Record that a call ends elsewhere, together with what makes it end there."""
        async with self._app.unit() as unit:
            await self._hold(unit)
            if waits.begin is not None:
                await waits.begin(unit)
            changed = await unit.session.scalar(
                update(ToolCall)
                .where(ToolCall.id == row.id)
                .values(
                    status=waits.status,
                    question=waits.question,
                    expires_at=waits.expires_in and func.clock_timestamp() + waits.expires_in,
                )
                .returning(ToolCall)
                .execution_options(populate_existing=True)
            )
        return changed or row

    async def suspend(self) -> tuple[TurnStatus | None, list[ToolCall]]:
        """Give the turn up until its open calls are settled: what it waits for, and its round.

        None when all of them have been settled meanwhile: the turn goes on.

        Raises:
            StopRequestedError: It would wait. It is still this worker's.
        """
        async with self._app.unit() as unit:
            await self._hold(unit, unless_stopped=True)
            state = await Suspensions(self._app, unit).state_of(self.turn.id)
            rows = await self.last_calls(unit.session)
            if state is not None:
                for_people = state is TurnStatus.WAITING
                await self._hold(unit, status=state, lease_owner=None, channel_done=for_people)
            return state, rows

    async def tell_parent(self) -> None:
        """Nothing but people can bring this turn on: maybe the one above waits for them too.

        After what this turn asks was said: the stream above ends with it. A sweep repeats this
        for a worker that died in between.
        """
        if self.turn.parent_call_id is not None:
            async with self._app.unit() as unit:
                await Suspensions(self._app, unit).advance_parent(self.turn)

    async def start_calls(self, rows: Sequence[ToolCall]) -> None:
        """Mark decided calls as running."""
        async with self._app.unit() as unit:
            await self._hold(unit)
            await unit.session.execute(
                update(ToolCall)
                .where(
                    ToolCall.id.in_([row.id for row in rows]),
                    ToolCall.status == ToolCallStatus.PENDING,
                )
                .values(status=ToolCallStatus.RUNNING)
            )

    async def finish_call(
        self,
        row: ToolCall,
        status: ToolCallStatus,
        *,
        value: JsonValue,
        text: str,
        duration_ms: int,
    ) -> None:
        """Store the one result of a call: in full, and as the model gets it."""
        await self._write(
            FINISH_CALL,
            call_row_id=row.id,
            status=status.value,
            result=value,
            duration_ms=duration_ms,
            message_id=uuid7(),
            content=storable(text),
        )

    async def finish(
        self,
        status: TurnStatus,
        *,
        content: str | None,
        spent: Spent,
        error: str | None = None,
        error_code: str | None = None,
        message_id: UUID | None = None,
    ) -> Sequence[str] | None:
        """End the turn with its last message, if there is one; the keys of calls still open.

        `message_id` is the last message's, where it was told to somebody. None, and nothing is
        written, when it would complete without an answer to a message that was injected
        meanwhile. When it fails, such messages become the next turn's.
        """
        answers_all = status is TurnStatus.COMPLETED
        values = {
            "injected": self.seen_injected if answers_all else None,
            "status": status.value,
            "usage": spent.usage,
            "model_calls": list(spent.calls),
            "agent_namespace": spent.agent[0],
            "agent_name": spent.agent[1],
            "error": None if error is None else storable(error),
            "error_code": error_code,
            "message_id": None if content is None else message_id or uuid7(),
            "content": None if content is None else storable(content),
        }
        is_failure = status is TurnStatus.FAILED
        ended = await (self._fail(values) if is_failure else self._try(FINISH, **values))
        if ended is not None:
            return [str(key) for key in ended.open_calls]
        if answers_all and await self._is_held():
            return None
        raise _lost()

    async def _fail(self, values: dict[str, Any]) -> Row[Any] | None:
        keys = {"turn_id": self.turn.id, "fence": self.turn.fence}
        async with self._app.unit() as unit:
            ended = (await unit.session.execute(FINISH, {**keys, **values})).first()
            if ended is not None and (unseen := ended.injected - self.seen_injected) > 0:
                await carry_over(unit, self.turn, newest_messages(self.turn, unseen))
            return ended

    async def _is_held(self) -> bool:
        async with self._app.statement_sessions() as session:
            return await session.scalar(select(Turn.id).where(*self._held())) is not None

    async def abandon(self) -> None:
        """Leave the turn without an owner: a sweep queues it anew and counts the attempt."""
        async with self._app.unit() as unit:
            await unit.session.execute(update(Turn).where(*self._held()).values(lease_owner=None))

    async def is_stop_requested(self) -> bool:
        """Whether somebody asked to stop the turn."""
        async with self._app.statement_sessions() as session:
            statement = select(Turn.stop_requested).where(Turn.id == self.turn.id)
            return bool(await session.scalar(statement))

    async def release(self, unit: Unit) -> int | None:
        """Put the turn back to be taken by anyone: its new generation, None if it is not ours."""
        statement = (
            update(Turn)
            .where(*self._held())
            .values(
                status=TurnStatus.QUEUED,
                lease_owner=None,
                generation=Turn.generation + 1,
                queued_at=func.clock_timestamp(),
            )
            .returning(Turn.generation)
            .execution_options(synchronize_session=False)
        )
        return await unit.session.scalar(statement)

    async def _write(self, statement: Executable, **values: Any) -> Row[Any]:
        """Run a statement that writes under the fence and answers with a row when it did."""
        row = await self._try(statement, **values)
        if row is None:
            raise _lost()
        return row

    async def _try(self, statement: Executable, **values: Any) -> Row[Any] | None:
        keys = {"turn_id": self.turn.id, "fence": self.turn.fence, **values}
        async with self._app.autocommit.connect() as connection:
            return (await connection.execute(statement, keys)).first()

    def _held(self) -> tuple[ColumnElement[bool], ...]:
        """SQL: the turn is still this worker's."""
        return (
            Turn.id == self.turn.id,
            Turn.fence == self.turn.fence,
            Turn.status == TurnStatus.RUNNING,
        )

    async def _hold(self, unit: Unit, *, unless_stopped: bool = False, **values: Any) -> None:
        """Lock the turn's row and check the fence."""
        statement: Any = select(Turn.stop_requested).where(*self._held()).with_for_update()
        if values:
            statement = (
                update(Turn)
                .where(*self._held())
                .values(**values)
                .returning(Turn.stop_requested)
                .execution_options(synchronize_session=False)
            )
        is_stopped = await unit.session.scalar(statement)
        if is_stopped is None:
            raise _lost()
        if unless_stopped and is_stopped:
            raise StopRequestedError

    async def _add_message(
        self,
        unit: Unit,
        content: str,
        calls: Sequence[PlannedCall],
        message_id: UUID | None = None,
    ) -> UUID:
        """The model's message with its calls."""
        message_id = message_id or uuid7()
        await unit.session.execute(
            insert(Message).values(
                id=message_id,
                chat_id=self.turn.chat_id,
                turn_id=self.turn.id,
                role="assistant",
                content=storable(content) or None,
                tool_calls=[_wire(call) for call in calls] or None,
            )
        )
        await unit.session.execute(
            update(Chat)
            .where(Chat.id == self.turn.chat_id)
            .values(last_message_at=func.clock_timestamp())
            .execution_options(synchronize_session=False)
        )
        return message_id

    def _row(self, call: PlannedCall, message_id: UUID, position: int, *, waits: bool) -> ToolCall:
        status = ToolCallStatus.RUNNING
        if call.needs_approval:
            status = ToolCallStatus.AWAITING_APPROVAL
        elif waits:
            status = ToolCallStatus.PENDING
        return ToolCall(
            id=uuid7(),
            turn_id=self.turn.id,
            chat_id=self.turn.chat_id,
            user_id=self.turn.user_id,
            message_id=message_id,
            position=position,
            call_id=call.call_id,
            name=call.name,
            arguments=call.arguments,
            description=call.description,
            resource_namespace=call.resource[0] if call.resource else None,
            resource_name=call.resource[1] if call.resource else None,
            status=status,
            expires_at=self._decided_by() if call.needs_approval else None,
        )

    def _decided_by(self) -> datetime | None:
        seconds = self._app.settings.chat.tool_approval_timeout_seconds
        return utcnow() + timedelta(seconds=seconds) if seconds else None


def _lost() -> LeaseLostError:
    return LeaseLostError("Another worker has taken this turn over.")


def _results_without_call(rows: Sequence[Row[Any]]) -> int:
    """How many results at the old end belong to a round that was cut off."""
    made = {call["id"] for row in rows for call in row.tool_calls or ()}
    return sum(row.role == "tool" and row.tool_call_id not in made for row in rows)


def _wire(call: PlannedCall) -> JsonObject:
    """A call as it is stored with its message; `description` is for display only."""
    return {
        "id": call.call_id,
        "type": "function",
        "function": {"name": call.name, "arguments": call.arguments},
        "description": call.description,
    }
