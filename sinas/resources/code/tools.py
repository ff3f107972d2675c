"""The tool `execute_code`: agents that have it run Python as an execution of their user."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from sinas.context import AppContext
from sinas.errors import InvalidInputError, PayloadTooLargeError
from sinas.kit.ids import uuid7
from sinas.kit.json_types import JsonObject
from sinas.models import Agent, TriggerType
from sinas.resources.dependencies.service import approved_packages
from sinas.resources.executions.events import ExecutionEnd, channel, tool_result, wait_for_end
from sinas.resources.executions.service import ExecutionService, Trigger
from sinas.tools.base import Call, Ok, Retry, Tool, ToolContext, ToolResult

CAPABILITY: Final = "codeExecution"
NAME: Final = ("sinas", "execute_code")
_DESCRIPTION = (
    "Runs Python code in a sandbox of its own. If the last statement is an expression, its value "
    "is `result`; what is printed is `stdout` and `stderr`. Files it writes to the working "
    "directory are kept for the user. Nothing is kept for the next run."
)


class CodeTools:
    """Offers `execute_code` to agents whose `system_tools` name it."""

    kind = "code"

    def __init__(self, context: AppContext) -> None:
        self._context = context

    async def offer(
        self, agent: Agent, context: ToolContext, session: AsyncSession
    ) -> Sequence[Tool]:
        """The tool, or none; one query where the agent has it."""
        enabled = self._context.settings.function.code_execution_enabled
        if not enabled or not _has(agent, CAPABILITY):
            return ()
        packages = await approved_packages(session)
        return (_tool(packages, _Run(self._context, context)),)


def _has(agent: Agent, capability: str) -> bool:
    """Whether `system_tools` name it, as a text or as an object with a `name`."""
    return any(
        (one.get("name") if isinstance(one, dict) else one) == capability
        for one in agent.system_tools
    )


def _tool(packages: Sequence[str], run: "_Run") -> Tool:
    available = (
        f"Besides the standard library there are: {', '.join(packages)}."
        if packages
        else "There is only the standard library."
    )
    return Tool(
        name=NAME[1],
        description=f"{_DESCRIPTION} {available}",
        parameters={
            "type": "object",
            "properties": {
                "code": {"type": "string", "description": "Python source."},
                "description": {
                    "type": "string",
                    "description": "What the code is for, in a few words for the user.",
                },
            },
            "required": ["code"],
        },
        run=run,
        status_key=NAME[1],
        status="Running code",
        resource=NAME,
        resumable=True,
        sequential=True,
    )


@dataclass(frozen=True, slots=True)
class _Run:
    app: AppContext
    context: ToolContext

    async def __call__(self, call: Call) -> ToolResult:
        code = call.arguments.get("code")
        if not isinstance(code, str):
            return Retry("Give the Python source as text in `code`.")
        given: JsonObject = {"code": code, "description": call.arguments.get("description")}
        try:
            execution_id, end = await self._end(call, given)
        except (InvalidInputError, PayloadTooLargeError) as error:
            return Retry(error.message)
        if end is None:
            return tool_result(None)
        return Ok(await self._told(execution_id))

    async def _end(self, call: Call, given: JsonObject) -> tuple[UUID, ExecutionEnd | None]:
        """Start the code, or find what an earlier attempt at this call started, and wait."""
        limits = self.app.settings.function
        trigger = Trigger(
            type=TriggerType.AGENT,
            id=str(self.context.chat_id),
            chat_id=self.context.chat_id,
            tool_call_id=call.call_id,
            idempotency_key=call.key,
        )
        execution_id = uuid7()
        seconds = limits.code_execution_timeout + limits.timeout
        # Listening begins before the commit, so that no end can be missed.
        async with self.app.signals.listen(channel(execution_id)) as listener:
            async with self.app.statement_unit() as unit:
                service = ExecutionService(unit, self.context.principal)
                started = await service.start_code(NAME, given, trigger, limits, execution_id)
            if started.is_new:
                return execution_id, await wait_for_end(self.app, listener, execution_id, seconds)
        known = started.execution_id
        async with self.app.signals.listen(channel(known)) as listener:
            return known, await wait_for_end(self.app, listener, known, seconds, look_first=True)

    async def _told(self, execution_id: UUID) -> JsonObject:
        """What the model gets of an execution that ended."""
        async with self.app.statement_unit() as unit:
            row = await ExecutionService(unit, self.context.principal).get(execution_id)
        told: JsonObject = {
            "stdout": row.stdout or "",
            "stderr": row.stderr or "",
            "result": None,
            "duration_ms": row.duration_ms,
        }
        if isinstance(row.output_data, dict):
            told |= row.output_data
        if row.error is not None:
            told["error"] = row.error
        if row.traceback is not None:
            told["traceback"] = row.traceback
        return told
