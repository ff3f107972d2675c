"""One round of tool calls: plan, approve, run in parallel, one result each."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import orjson
import structlog
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from sinas.chat import events
from sinas.chat.channel import ChannelWriter, Emitted
from sinas.chat.journal import Journal, PlannedCall
from sinas.chat.prompt import INTERRUPTED, Line, result_text
from sinas.context import AppContext
from sinas.errors import InvalidInputError, SinasError
from sinas.kit.json_text import storable
from sinas.kit.json_types import JsonObject, JsonValue
from sinas.kit.templates import render
from sinas.llm.assemble import ToolCall as ModelCall
from sinas.models import TERMINAL_TOOL_CALL, ToolCall, ToolCallStatus, ToolGrant
from sinas.tools.base import Call, Failed, Ok, Retry, Tool, ToolResult, ToolSet

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """Everything running calls needs.

    Attributes:
        status_templates: The agent's texts by status key, Jinja over the call's arguments.
        emitted: What a dead worker already told the clients.
    """

    app: AppContext
    journal: Journal
    writer: ChannelWriter
    tools: ToolSet
    status_templates: JsonObject
    emitted: Emitted

    async def plan(
        self, content: str, calls: Sequence[ModelCall], usage: JsonObject
    ) -> Sequence[ToolCall]:
        """Journal the model's calls. Returns those to run: none when people decide first."""
        async with self.app.statement_sessions() as session:
            taken = await self.journal.taken_ids(session, [storable(call.id) for call in calls])
            granted = await self._granted(session, calls)
        planned = [self._planned(call, taken, granted) for call in calls]
        rows = await self.journal.plan_round(content, planned, usage)
        if not any(call.needs_approval for call in planned):
            return rows
        for row in rows:
            if row.status == ToolCallStatus.AWAITING_APPROVAL:
                self.writer.put(question(row))
        return ()

    async def resume(self, rows: Sequence[ToolCall], results: Mapping[str | None, Line]) -> bool:
        """Bring a round to its end: True if there was anything left of it.

        Says what is settled and was not said yet, runs what is decided and not run, waits for
        or reports what a dead worker had begun. `results` are the stored ones by call id.
        """
        for row in rows:
            self._say_settled(row, results.get(row.call_id))
        left = [row for row in rows if row.status not in TERMINAL_TOOL_CALL]
        pending = [row for row in left if row.status == ToolCallStatus.PENDING]
        if pending:
            await self.journal.start_calls(pending)
        fresh = {row.id for row in pending}
        await self.run(left, begun=[row for row in left if row.id not in fresh])
        return bool(left)

    def _say_settled(self, row: ToolCall, result: Line | None) -> None:
        if row.status == ToolCallStatus.REJECTED:
            if row.call_id not in self.emitted.rejected:
                resource = row.resource_namespace or "", row.resource_name or ""
                self.writer.put(events.tool_rejected(row.call_id, *resource))
        elif row.status in TERMINAL_TOOL_CALL and row.call_id not in self.emitted.ended:
            self._say_start(row)
            text = (result.content if result else None) or INTERRUPTED
            self.writer.put(events.tool_end(row.call_id, row.name, text))

    async def run(self, rows: Sequence[ToolCall], begun: Sequence[ToolCall] = ()) -> None:
        """Run journalled calls, side by side unless they must not."""
        one_by_one = [row for row in rows if self._is_sequential(row)]
        async with asyncio.TaskGroup() as group:
            for row in rows:
                if row not in one_by_one:
                    group.create_task(self._run(row, is_begun=row in begun))
            for row in one_by_one:
                await self._run(row, is_begun=row in begun)

    async def _run(self, row: ToolCall, *, is_begun: bool) -> None:
        """Run one call to its one result."""
        self._say_start(row)
        started = time.monotonic()
        status, value = await self._result(row, is_begun=is_begun)
        text = (
            INTERRUPTED
            if status == ToolCallStatus.INTERRUPTED
            else result_text(value, self.app.settings.chat.tool_result_context_max_size)
        )
        duration_ms = int((time.monotonic() - started) * 1000)
        await self.journal.finish_call(row, status, value=value, text=text, duration_ms=duration_ms)
        if row.call_id not in self.emitted.ended:
            self.writer.put(events.tool_end(row.call_id, row.name, text))

    def _say_start(self, row: ToolCall) -> None:
        if row.call_id not in self.emitted.started:
            self.writer.put(
                events.tool_start(row.call_id, row.name, row.arguments, row.description)
            )

    async def _result(self, row: ToolCall, *, is_begun: bool) -> tuple[ToolCallStatus, JsonValue]:
        tool = self.tools.tools.get(row.name)
        if tool is None:
            return ToolCallStatus.FAILED, {
                "error": "Unauthorized tool call",
                "message": f"There is no tool '{row.name}'. Use only the tools you were given.",
            }
        if is_begun and not tool.resumable:
            # It may have had its effect before the worker died; running it again could repeat it.
            return ToolCallStatus.INTERRUPTED, None
        arguments = parse_arguments(row.arguments)
        if arguments is None:
            return ToolCallStatus.FAILED, {
                "error": "Invalid arguments",
                "message": "The arguments must be one JSON object.",
                "raw_arguments": row.arguments[:200],
            }
        call = Call(key=str(row.id), call_id=row.call_id, arguments=arguments)
        return _outcome(await _guarded(tool, call))

    def _is_sequential(self, row: ToolCall) -> bool:
        tool = self.tools.tools.get(row.name)
        return tool is not None and tool.sequential

    def _planned(self, call: ModelCall, taken: set[str], granted: set[str]) -> PlannedCall:
        tool = self.tools.tools.get(call.name)
        call_id = _fresh_id(storable(call.id), taken)
        taken.add(call_id)
        return PlannedCall(
            call_id=call_id,
            name=storable(call.name),
            arguments=storable(call.arguments),
            description=storable(self._status(tool, call)),
            resource=tool.resource if tool else None,
            needs_approval=tool is not None and tool.requires_approval and call.name not in granted,
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
        asked = [
            call.name
            for call in calls
            if (tool := self.tools.tools.get(call.name)) and tool.requires_approval
        ]
        if not asked:
            return set()
        statement = select(ToolGrant.tool_name).where(
            ToolGrant.chat_id == self.journal.turn.chat_id,
            ToolGrant.tool_name.in_(asked),
            ToolGrant.expires_at > func.now(),
        )
        return set((await session.scalars(statement)).all())


def question(row: ToolCall) -> events.Event:
    """What asks people for their decision on a call."""
    return events.approval_required(
        row.call_id,
        row.resource_namespace or "",
        row.resource_name or "",
        parse_arguments(row.arguments) or {},
    )


def parse_arguments(text: str) -> JsonObject | None:
    """The arguments as an object, or None when the model wrote something else."""
    try:
        value = orjson.loads(text or "{}")
    except orjson.JSONDecodeError:
        return None
    return value if isinstance(value, dict) else None


async def _guarded(tool: Tool, call: Call) -> ToolResult:
    """Run a tool. Its own faults become a generic failure: one bad tool must not end a turn."""
    try:
        return await tool.run(call)
    except SinasError as error:
        return Failed(error.code, error.message)
    except Exception:
        log.exception("tool.failed", tool=tool.name)
        return Failed("internal_error", "The tool failed for a reason that was logged.")


def _outcome(result: ToolResult) -> tuple[ToolCallStatus, JsonValue]:
    match result:
        case Ok(value):
            return ToolCallStatus.DONE, value
        case Retry(message):
            return ToolCallStatus.FAILED, {"error": "Invalid arguments", "message": message}
        case Failed(error, message):
            return ToolCallStatus.FAILED, {"error": error, "message": message}


def _fresh_id(wanted: str, taken: set[str]) -> str:
    """`wanted`, or a variant of it where the chat has had that id before."""
    if wanted not in taken:
        return wanted
    return f"{wanted[:40]}_{time.time_ns():x}"
