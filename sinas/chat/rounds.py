"""One round of tool calls: plan, approve, run in parallel, one result each."""

import asyncio
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import structlog
from sqlalchemy import func, select, tuple_
from sqlalchemy.ext.asyncio import AsyncSession

from sinas.chat.accounting import Spent
from sinas.chat.approving import ApprovalRules, grant_key
from sinas.chat.asking import parse_arguments
from sinas.chat.journal import Journal, PlannedCall
from sinas.chat.prompt import INTERRUPTED, Line, kept_result, result_text
from sinas.chat.telling import Telling
from sinas.chat.traces import call_span, say_result
from sinas.chat.unattended import require_attended
from sinas.context import AppContext
from sinas.errors import InvalidInputError, LeaseLostError, SinasError
from sinas.kit.json_text import storable
from sinas.kit.json_types import JsonObject, JsonValue
from sinas.kit.templates import render
from sinas.llm.assemble import ToolCall as ModelCall
from sinas.models import Chat, ToolCall, ToolCallStatus, ToolGrant
from sinas.tools.base import Call, Failed, Ok, Retry, Tool, ToolResult, ToolSet, Waits

log = structlog.get_logger(__name__)

_TO_RUN = (ToolCallStatus.PENDING, ToolCallStatus.RUNNING)
_ELSEWHERE = (ToolCallStatus.AWAITING_ANSWER, ToolCallStatus.DELEGATED)


@dataclass(frozen=True, slots=True)
class Interrupted:
    """A call that a dead worker began, and that must not run twice."""


@dataclass(frozen=True, slots=True)
class Left:
    """What there was left of a round.

    Attributes:
        any_run: Whether calls were run: the history has grown.
        any_waits: Whether calls of it may still end elsewhere.
    """

    any_run: bool
    any_waits: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """Everything running calls needs.

    Attributes:
        chat: What it is part of.
        status_templates: The agent's texts by status key, Jinja over the call's arguments.
        approval_rules: When a call needs somebody's approval.
        is_nested: Whether this is a sub-agent's turn. Its call ids are then made unique beyond
            its chat: people answer them in the chat at the top.
        telling: What clients are told of calls.
    """

    app: AppContext
    journal: Journal
    chat: Chat
    tools: ToolSet
    status_templates: JsonObject
    approval_rules: ApprovalRules
    is_nested: bool
    telling: Telling

    async def plan(
        self, content: str, calls: Sequence[ModelCall], spent: Spent
    ) -> Sequence[ToolCall]:
        """Journal the model's calls. Returns those to run: none when people decide first.

        Raises:
            ConflictError: People would have to decide, and there are none.
        """
        async with self.app.statement_sessions() as session:
            taken = await self.journal.taken_ids(session, [storable(call.id) for call in calls])
            granted = await self._granted(session, calls)
            planned = [self._planned(call, taken, granted) for call in calls]
            if undecided := [call.name for call in planned if call.needs_approval]:
                await require_attended(session, self.journal.turn, undecided)
        rows = await self.journal.plan_round(content, planned, spent)
        if not undecided:
            return rows
        for row in rows:
            if row.status == ToolCallStatus.AWAITING_APPROVAL:
                self.telling.asks(row)
        return ()

    async def resume(self, rows: Sequence[ToolCall], results: Mapping[str | None, Line]) -> Left:
        """Bring a round as far as this worker can.

        Says what is settled and was not said yet, runs what is decided and not run, waits for
        or reports what a dead worker had begun. `results` are the stored ones by call id.
        """
        self.say_settled(rows, results)
        left = [row for row in rows if row.status in (*_ELSEWHERE, *_TO_RUN)]
        pending = [row for row in left if row.status == ToolCallStatus.PENDING]
        if pending:
            await self.journal.start_calls(pending)
        fresh = {row.id for row in pending}
        here = [row for row in left if row.status in _TO_RUN]
        waits = await self.run(here, begun=[row for row in here if row.id not in fresh])
        return Left(any_run=bool(here), any_waits=waits or len(here) < len(left))

    def say_settled(self, rows: Sequence[ToolCall], results: Mapping[str | None, Line]) -> None:
        """Say what of a round is settled, or asked, and was not said yet."""
        for row in rows:
            result = results.get(row.call_id)
            self.telling.settled(row, (result.content if result else None) or INTERRUPTED)

    async def run(self, rows: Sequence[ToolCall], begun: Sequence[ToolCall] = ()) -> bool:
        """Run journalled calls, side by side unless they must not. True when one ends elsewhere."""
        one_by_one = [row for row in rows if self._is_sequential(row)]
        begun_keys = {row.id for row in begun}
        slots = asyncio.Semaphore(self.app.settings.chat.max_parallel_tool_calls)

        async def in_slot(row: ToolCall) -> bool:
            async with slots:
                return await self._run(row, is_begun=row.id in begun_keys)

        async with asyncio.TaskGroup() as group:
            beside = [
                group.create_task(in_slot(row)) for row in rows if not self._is_sequential(row)
            ]
            waits = [await self._run(row, is_begun=row.id in begun_keys) for row in one_by_one]
        return any(waits) or any(task.result() for task in beside)

    async def _run(self, row: ToolCall, *, is_begun: bool) -> bool:
        """Run one call to its one result, or to where it waits for others: True then."""
        with call_span(self.app.tracer, self.tools.tools.get(row.name), row):
            return await self._run_in_span(row, is_begun=is_begun)

    async def _run_in_span(self, row: ToolCall, *, is_begun: bool) -> bool:
        self.telling.start(row)
        started = time.monotonic()
        found = await self._result(row, is_begun=is_begun)
        if isinstance(found, Waits):
            refused = await self._hand_over(row, found)
            if refused is None:
                say_result(found, None)
                return True
            found = refused
        status, value = _outcome(found)
        text = (
            INTERRUPTED
            if status == ToolCallStatus.INTERRUPTED
            else result_text(value, self.app.settings.chat.tool_result_context_max_size)
        )
        duration_ms = int((time.monotonic() - started) * 1000)
        kept = kept_result(value, self.app.settings.chat.tool_result_max_size)
        await self.journal.finish_call(row, status, value=kept, text=text, duration_ms=duration_ms)
        say_result(None if isinstance(found, Interrupted) else found, text)
        self.telling.end(row, text)
        return False

    async def _hand_over(self, row: ToolCall, waits: Waits) -> Retry | Failed | None:
        """Let a call end elsewhere; why it cannot."""
        try:
            waiting = await self.journal.wait_for(row, waits)
        except LeaseLostError:
            raise
        except InvalidInputError as error:
            return Retry(error.message)
        except SinasError as error:
            return Failed(error.code, error.message)
        if waiting.status == ToolCallStatus.AWAITING_ANSWER:
            self.telling.asks(waiting)
        return None

    async def _result(self, row: ToolCall, *, is_begun: bool) -> ToolResult | Interrupted:
        tool = self.tools.tools.get(row.name)
        if tool is None:
            return Failed(
                "Unauthorized tool call",
                f"There is no tool '{row.name}'. Use only the tools you were given.",
            )
        if is_begun and not tool.resumable:
            # It may have had its effect before the worker died; running it again could repeat it.
            return Interrupted()
        arguments = parse_arguments(row.arguments)
        if arguments is None:
            return Retry("The arguments must be one JSON object.", raw=row.arguments[:200])
        call = Call(key=str(row.id), call_id=row.call_id, arguments=arguments)
        return await _guarded(tool, call)

    def _is_sequential(self, row: ToolCall) -> bool:
        tool = self.tools.tools.get(row.name)
        return tool is not None and tool.sequential

    def _planned(self, call: ModelCall, taken: set[str], granted: set[str]) -> PlannedCall:
        tool = self.tools.tools.get(call.name)
        call_id = _fresh_id(storable(call.id), taken, is_nested=self.is_nested)
        taken.add(call_id)
        return PlannedCall(
            call_id=call_id,
            name=storable(call.name),
            arguments=storable(call.arguments),
            description=storable(self._status(tool, call)),
            resource=tool.resource if tool else None,
            needs_approval=tool is not None
            and call.name not in granted
            and self.approval_rules.asks_for(tool),
        )

    def _status(self, tool: Tool | None, call: ModelCall) -> str:
        if tool is None:
            return f"Calling {call.name}"
        template = self.status_templates.get(tool.status_key)
        if not isinstance(template, str):
            return tool.status
        try:
            return render(template, parse_arguments(call.arguments) or {})
        except InvalidInputError:
            # The model left an argument out: the plain text is right for that call.
            return tool.status

    async def _granted(self, session: AsyncSession, calls: Sequence[ModelCall]) -> set[str]:
        """Names of tools that somebody allowed for the rest of this chat."""
        keys = {
            grant_key(self.chat, call.name): call.name
            for call in calls
            if (tool := self.tools.tools.get(call.name)) and self.approval_rules.asks_for(tool)
        }
        if not keys:
            return set()
        statement = select(ToolGrant.chat_id, ToolGrant.tool_name).where(
            tuple_(ToolGrant.chat_id, ToolGrant.tool_name).in_(keys),
            ToolGrant.expires_at > func.now(),
        )
        return {keys[key, name] for key, name in await session.execute(statement)}


async def _guarded(tool: Tool, call: Call) -> ToolResult:
    """Run a tool. Its own faults become a generic failure: one bad tool must not end a turn."""
    try:
        return await tool.run(call)
    except SinasError as error:
        return Failed(error.code, error.message)
    except Exception:
        log.exception("tool.failed", tool=tool.name)
        return Failed("internal_error", "The tool failed for a reason that was logged.")


def _outcome(result: Ok | Retry | Failed | Interrupted) -> tuple[ToolCallStatus, JsonValue]:
    match result:
        case Interrupted():
            return ToolCallStatus.INTERRUPTED, None
        case Ok(value):
            return ToolCallStatus.DONE, value
        case Retry(message, raw):
            told: JsonObject = {"error": "Invalid arguments", "message": message}
            return ToolCallStatus.FAILED, told if raw is None else {**told, "raw_arguments": raw}
        case Failed(error, message):
            return ToolCallStatus.FAILED, {"error": error, "message": message}


def _fresh_id(wanted: str, taken: set[str], *, is_nested: bool) -> str:
    """`wanted`, or a variant of it where the chat has had that id before or others may have."""
    if wanted not in taken and not is_nested:
        return wanted
    return f"{wanted[:40]}_{time.time_ns():x}{secrets.token_hex(2)}"
