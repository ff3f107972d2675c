"""Running one turn: claim, rounds of model and tools, one end.

The row and the journal are the truth; this object can die at any await and its successor goes
on from what is committed. Every end, good or bad, is written once, then said on the channel.
"""

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Literal, TypeAlias
from uuid import UUID

import structlog
from sqlalchemy.exc import SQLAlchemyError

from sinas.chat import events, structured
from sinas.chat.announcing import announce_turn, waiting_ids, wake_next
from sinas.chat.answer import Replay, difference, stream_answer
from sinas.chat.approving import ApprovalRules
from sinas.chat.asking import unasked
from sinas.chat.delegating import settle_delegated
from sinas.chat.hooks import MessageHooks, Verdict
from sinas.chat.journal import Journal, StopRequestedError
from sinas.chat.metering import Meter
from sinas.chat.opening import Opening, open_turn
from sinas.chat.prompt import Line
from sinas.chat.pushing import TURN_JOB_NAME, push_turn_row
from sinas.chat.rounds import Round
from sinas.chat.saying import Saying
from sinas.chat.telling import Telling
from sinas.chat.traces import say_answer, say_opening, turn_span
from sinas.context import TURN_STOP_PREFIX, WorkerContext
from sinas.errors import (
    DeadlineError,
    LeaseLostError,
    OutputInvalidError,
    SinasError,
    UpstreamError,
)
from sinas.kit.ids import uuid7
from sinas.llm.base import ModelRequest
from sinas.models import ToolCall, ToolCallStatus, Turn, TurnStatus
from sinas.queue.job import Queue, job
from sinas.queue.signals import RESYNC, Listener
from sinas.tracing.names import CANCELLED
from sinas.tracing.spans import current_span

log = structlog.get_logger(__name__)

_UNSAID = "The turn failed for a reason that was logged."
_ABANDON_RETRY_SECONDS = 1.0
# What servers answer when a model cannot see: they do not agree on it.
_NO_PICTURES = frozenset({400, 404, 413, 415, 422, 500, 501})
_NO_FORMAT = frozenset({400, 422})
# `suspended`: only people can bring it on. `delegated`: sub-agents work for it.
Ending: TypeAlias = Literal["completed", "suspended", "delegated"]


async def run_turn(context: WorkerContext, turn_id: UUID) -> None:
    """Run a turn to its end, or until it waits for people. Returns at once if it is not free."""
    # Before the claim: a stop that comes right after it is told by a signal only.
    async with context.app.signals.listen(f"{TURN_STOP_PREFIX}{turn_id}") as stops:
        journal = await Journal.claim(context.app, turn_id, context.worker_id)
        if journal is not None:
            await _run(context, journal, stops)


async def _run(context: WorkerContext, journal: Journal, stops: Listener) -> None:
    with (
        structlog.contextvars.bound_contextvars(turn_id=str(journal.turn.id)),
        turn_span(context.app.tracer, journal.turn) as span,
    ):
        try:
            await _Run(context, journal).to_its_end(stops)
        except Exception as error:
            span.fail(type(error).__qualname__)
            # Its end could not be written, or Redis is away. This worker is alive, so nobody
            # would take the turn over as long as it carries this worker's name.
            log.exception("turn.abandoned")
            await _abandon(context, journal)


async def _abandon(context: WorkerContext, journal: Journal) -> None:
    while not context.lease_lost.is_set():
        try:
            await journal.abandon()
        except (SQLAlchemyError, OSError) as error:
            log.warning("turn.not_abandoned_yet", error=type(error).__name__)
            await asyncio.sleep(_ABANDON_RETRY_SECONDS)
        else:
            return


class _Run:
    def __init__(self, context: WorkerContext, journal: Journal) -> None:
        self.app = context.app
        self.context = context
        self.journal = journal
        self.turn: Turn = journal.turn
        self.said = Saying(self.app, self.turn)
        self.writer = self.said.writer
        self.meter = Meter(self.app, self.turn)
        self.limit = asyncio.timeout(self.turn.timeout_seconds)
        self.stopped = self.turn.stop_requested
        self.is_open = False
        self.blind = False
        self.formless = False

    async def to_its_end(self, stops: Listener) -> None:
        """Work with the writer and the stop watch beside it."""
        try:
            async with asyncio.TaskGroup() as group:
                beside = [
                    group.create_task(self.writer.run()),
                    group.create_task(self._watch(stops)),
                ]
                try:
                    await self._work()
                finally:
                    for task in beside:
                        task.cancel()
        except* LeaseLostError:
            log.warning("turn.lease_lost", fence=self.turn.fence)
            current_span().fail(LeaseLostError.code)

    async def _work(self) -> None:
        try:
            async with self.limit:
                ending = await self._rounds()
        except asyncio.CancelledError:
            await asyncio.shield(self._hand_back())
            raise
        except LeaseLostError:
            raise
        except StopRequestedError:
            await self._end(TurnStatus.CANCELLED, await self._shown())
        except SinasError as error:
            await self._fail(error.message, error.code)
        except Exception as error:  # noqa: BLE001 - a turn always ends with an event
            await self._unexpected(error)
        else:
            if ending == "suspended":
                await self._say(events.done("suspended"), TurnStatus.WAITING)
                await self.journal.tell_parent()
                await wake_next(self.app, self.turn.chat_id)
            elif ending == "delegated":
                await self.writer.flush()

    async def _rounds(self) -> Ending:
        opening = await open_turn(self.context, self.journal, self.writer)
        say_opening(opening)
        self.meter.open(opening.subject)
        agent = opening.subject.agent
        self.said.replay = Replay(opening.emitted)
        self.is_open = True
        calls = Round(
            app=self.app,
            journal=self.journal,
            chat=opening.subject.chat,
            tools=opening.tools,
            status_templates=agent.status_templates if agent else {},
            approval_rules=ApprovalRules.of(agent.tool_approvals if agent else {}),
            is_nested=self.turn.depth > 0,
            telling=Telling(self.writer, opening.emitted),
        )
        history = opening.history
        left = await calls.resume(opening.last_calls, _results(history))
        if left.any_waits and (state := await self._suspend(calls)):
            return state
        if left.any_run or left.any_waits:
            history = await self._history()
        hooks = MessageHooks(self.app, self.context.hooks, self.journal, opening.subject)
        while True:
            self._check_rounds()
            self.writer.round_number = self.turn.rounds
            if ending := await self._round(opening, calls, hooks, history):
                return ending
            self.turn.rounds += 1
            history = await self._history()

    async def _round(
        self, opening: Opening, calls: Round, hooks: MessageHooks, history: list[Line]
    ) -> Ending | None:
        """Ask the model and do what it says; None when the turn goes on with another round."""
        blocked, is_changed = await hooks.user()
        while blocked is None and is_changed:
            history = await self._history()
            # In it may be what came in meanwhile, which no hook has seen.
            blocked, is_changed = await hooks.user()
        if blocked is not None:
            return "completed" if await self._block(blocked) else None
        if hooks.holds_back:
            self.writer.hold()
        await self._ask(opening, history)
        made = self.said.answer.tool_calls()
        if made:
            self.writer.release()
        # Before the journal has the answer, so that whoever finds it there finds the text on
        # the channel too, even when this worker dies between the two.
        await self.writer.flush()
        if not made:
            await self._hold_to_schema(opening, history)
            return "completed" if await self._completed(hooks) else None
        rows = await calls.plan(self.said.answer.content, made, self.meter.spent())
        self.meter.written()
        # Journalled with its calls: should the turn end now, it is not its last message.
        self.said.begin()
        if not rows:
            return "suspended"
        return await self._suspend(calls) if await calls.run(rows) else None

    async def _completed(self, hooks: MessageHooks) -> bool:
        """End the turn with the model's answer. False when more was said to it meanwhile."""
        message_id = uuid7()
        text = await hooks.assistant(self.said.answer.content, message_id)
        if self.writer.holds:
            self.writer.drop()
            await self.said.instead(text)
        else:
            self.said.keep(text)
        return await self._end_or_go_on(text, message_id)

    async def _block(self, blocked: Verdict) -> bool:
        """End the turn with what a hook says instead of an answer; False as `_completed` does."""
        await self.said.instead(blocked.text, events.blocked(blocked.text))
        return await self._end_or_go_on(blocked.text, blocked.reply_id, events.done("blocked"))

    async def _end_or_go_on(
        self, text: str, message_id: UUID | None, last: events.Event | None = None
    ) -> bool:
        message_id = message_id or uuid7()
        if await self._end(TurnStatus.COMPLETED, text, message_id=message_id, last=last):
            return True
        await self.journal.add_answer(message_id, text, self.meter.spent())
        self.meter.written()
        self.said.begin()
        return False

    async def _suspend(self, calls: Round) -> Ending | None:
        """Give the turn up while calls of its round end elsewhere; None when none is left."""
        state, rows = await self.journal.suspend()
        # Settled while this worker ran the others: nobody else says so.
        if any(map(calls.telling.owes, rows)):
            calls.say_settled(rows, _results(await self._history()))
        if state is None:
            return None
        if state is TurnStatus.WAITING:
            await self._ask_for_sub_agents(rows)
        usage = None
        if self.turn.past_channels:
            usage = difference(self.meter.spent().usage, self.turn.usage)
        self.writer.put(events.round_suspended(waiting_ids(rows), self.turn.channel_id, usage))
        return "suspended" if state is TurnStatus.WAITING else "delegated"

    async def _ask_for_sub_agents(self, rows: Sequence[ToolCall]) -> None:
        """What they wait for may not be on this stream yet, which ends now."""
        if all(row.status != ToolCallStatus.DELEGATED for row in rows):
            return
        async with self.app.statement_sessions() as session:
            channel_id = self.turn.channel_id
            for event in await unasked(session, self.app.redis, self.turn.id, channel_id):
                self.writer.put(event)

    async def _ask(self, opening: Opening, history: list[Line], *, with_tools: bool = True) -> None:
        if self.blind:
            history = [replace(line, pictures=()) for line in history]
        put = partial(
            opening.request, self.app, history, with_tools=with_tools, with_format=not self.formless
        )
        request = await asyncio.to_thread(put) if opening.has_long_prompt else put()
        try:
            await self._answer_to(request)
        except UpstreamError as error:
            if self.said.answer.content or not self._can_do_without(request, history, error):
                raise
            await self._ask(opening, history, with_tools=with_tools)

    def _can_do_without(
        self, request: ModelRequest, history: list[Line], error: UpstreamError
    ) -> bool:
        """Whether the provider may answer when it is asked for less; notes what to leave out."""
        if error.status in _NO_PICTURES and any(line.pictures for line in history):
            # Many models take no pictures. What the tool says of them is enough to go on.
            log.info("turn.pictures_refused", status=error.status)
            self.blind = True
            return True
        names_form = "response_format" in error.message or "json_schema" in error.message
        if error.status in _NO_FORMAT and request.response_format is not None and names_form:
            # The system message says it too, and the answer is checked.
            log.info("turn.response_format_refused", status=error.status)
            self.formless = True
            return True
        return False

    async def _hold_to_schema(self, opening: Opening, history: list[Line]) -> None:
        """Make the final answer match the schema, by asking once more if it does not.

        Raises:
            OutputInvalidError: It does not match then either.
        """
        if not (schema := opening.output_schema):
            return
        if found := await structured.faults(self.said.answer.content, schema):
            log.info("turn.output_repaired", faults=len(found))
            told = [*history, *structured.repair(self.said.answer.content, found)]
            await self.said.take_back()
            await self._ask(opening, told, with_tools=False)
            if found := await structured.faults(self.said.answer.content, schema):
                await self.said.take_back()
                raise OutputInvalidError(
                    f"The model's answer does not match the agent's output_schema: {found[0]}"
                )
        text = self.said.answer.content
        if (clean := structured.content_of(text)) != text:
            await self.said.instead(clean)

    async def _answer_to(self, request: ModelRequest) -> None:
        for warning in await self.meter.allow():
            self.writer.put(warning)
        began = time.monotonic()
        try:
            await stream_answer(
                self.app.llm,
                request,
                self.writer,
                self.said.replay,
                self.said.answer,
                self.app.settings.chat,
            )
        except SinasError as error:
            self._count(request, began, error.code)
            raise
        self._count(request, began)

    def _count(self, request: ModelRequest, began: float, error_code: str | None = None) -> None:
        duration_ms = int((time.monotonic() - began) * 1000)
        usage = self.said.answer.usage
        self.meter.count(request, usage, duration_ms=duration_ms, error_code=error_code)

    async def _history(self) -> list[Line]:
        async with self.app.statement_sessions() as session:
            return await self.journal.history(session, self.app.settings.chat.max_history_messages)

    def _check_rounds(self) -> None:
        limit = self.app.settings.chat.max_tool_iterations
        if self.turn.rounds >= limit:
            raise DeadlineError(
                f"Tool iteration limit ({limit}) reached. Stopping to prevent runaway loops."
            )

    async def _watch(self, stops: Listener) -> None:
        """Interrupt the work when somebody stops the turn or this worker loses its lease."""
        loop = asyncio.get_running_loop()
        if not self.stopped:
            async with asyncio.TaskGroup() as group:
                waits = [
                    group.create_task(self._stop_of(stops)),
                    group.create_task(_set(self.context.lease_lost)),
                ]
                done, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
                for task in waits:
                    task.cancel()
            if waits[0] not in done:
                raise LeaseLostError("This worker's lease has run out.")
            self.stopped = True
        with suppress(RuntimeError):  # the work has ended in the same moment
            self.limit.reschedule(loop.time())

    async def _stop_of(self, stops: Listener) -> None:
        """Return when somebody stops the turn, also if Redis was away when they did."""
        while await stops.get() == RESYNC:
            if await self.journal.is_stop_requested():
                return

    async def _unexpected(self, error: Exception) -> None:
        """An interruption of the work, or a fault of ours."""
        if isinstance(error, ExceptionGroup) and error.subgroup(LeaseLostError) is not None:
            raise LeaseLostError("Another worker has taken this turn over.") from error
        if not (isinstance(error, TimeoutError) and self.limit.expired()):
            log.error("turn.failed", exc_info=error)
            await self._fail(_UNSAID, "internal")
        elif self.stopped:
            await self._end(TurnStatus.CANCELLED, await self._shown())
        else:
            seconds = self.turn.timeout_seconds
            await self._fail(
                f"Agent execution timed out after {seconds} seconds.", DeadlineError.code
            )

    async def _fail(self, message: str, code: str) -> None:
        await self._end(TurnStatus.FAILED, await self._shown(), message, code)

    async def _shown(self) -> str | None:
        """The text of this round that clients have, also what an earlier worker showed them."""
        if not self.is_open and self.turn.fence > 1:
            await self.said.recall()
        return self.said.shown

    async def _end(
        self,
        status: TurnStatus,
        content: str | None,
        error: str | None = None,
        code: str | None = None,
        *,
        message_id: UUID | None = None,
        last: events.Event | None = None,
    ) -> bool:
        """Write the end and say it. False when messages came in that it would not answer."""
        await self.writer.flush()  # before the row says that the turn has ended; see `_rounds`
        left = await self.journal.finish(
            status,
            content=content,
            spent=self.meter.spent(),
            error=error,
            error_code=code,
            message_id=message_id,
        )
        if left is None:
            return False
        self.meter.written()
        if left:
            await self._abandon_calls(left)
        match status:
            case TurnStatus.FAILED:
                last = events.error(error or _UNSAID)
                current_span().fail(code or status, error)
            case TurnStatus.CANCELLED:
                last = events.done("cancelled")
                current_span().set({CANCELLED: True})
            case _:
                last = last or events.done()
                say_answer(self.said.answer)
        await self._say(last, status)
        if self.turn.parent_call_id is not None:
            async with self.app.unit() as unit:
                await settle_delegated(self.app, unit, self.turn.id)
        await wake_next(self.app, self.turn.chat_id)
        return True

    async def _abandon_calls(self, keys: Sequence[str]) -> None:
        """End what calls without a result started: nobody will read it."""
        for abandon in self.context.abandon:
            try:
                await abandon(self.app, keys)
            except Exception:
                log.exception("turn.calls_not_abandoned", calls=len(keys))

    async def _say(self, last: events.Event, status: TurnStatus) -> None:
        """Close the channel and tell whoever waits for the turn."""
        self.writer.put(last)
        await self.writer.flush()
        await announce_turn(self.app, self.turn.id, status)

    async def _hand_back(self) -> None:
        """The worker stops: give the turn to another one at once."""
        async with self.app.unit() as unit:
            generation = await self.journal.release(unit)
            if generation is not None:
                push_turn_row(unit, self.turn.id, generation, self.turn.lane)


def _results(history: list[Line]) -> dict[str | None, Line]:
    """Stored results by call id."""
    return {line.tool_call_id: line for line in history if line.role == "tool"}


async def _set(event: asyncio.Event) -> None:
    await event.wait()


@job(TURN_JOB_NAME, queue=Queue.AGENTS, timeout=timedelta(hours=25))
async def _job(context: WorkerContext, turn_id: str) -> None:
    await run_turn(context, UUID(turn_id))


TURN_JOB = _job
