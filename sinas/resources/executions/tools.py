"""The tool that answers what paused executions of a chat ask."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from sinas.context import AppContext
from sinas.errors import BadRequestError, ForbiddenError, InvalidInputError, NotFoundError
from sinas.models import Agent
from sinas.resources.executions.events import tool_result
from sinas.resources.executions.pausing import Continuations, Waiting, waiting_in_chat
from sinas.tools.base import Call, Failed, Retry, Tool, ToolContext, ToolResult

NAME = "continue_execution"
_MAX_PROMPT_CHARS = 500


class ExecutionTools:
    """Offers `continue_execution` in chats where an execution of the caller waits for input."""

    kind = "execution"

    def __init__(self, context: AppContext) -> None:
        self._context = context

    async def offer(
        self,
        agent: Agent,  # noqa: ARG002 - whatever the agent: the executions are the chat's
        context: ToolContext,
        session: AsyncSession,
    ) -> Sequence[Tool]:
        """The tool with the ids it takes, or none; by one query where something waits."""
        principal = context.principal
        if not context.has_paused or not principal.can("sinas.executions.update:own"):
            return ()
        waiting = await waiting_in_chat(session, context.chat_id, principal.user_id)
        if not waiting:
            return ()
        return (_tool(waiting, _Run(Continuations(self._context, principal))),)


def _tool(waiting: Sequence[Waiting], run: "_Run") -> Tool:
    asked = "\n".join(
        f"- {one.id} ({one.function_namespace}/{one.function_name}) asks: "
        f"{one.prompt[:_MAX_PROMPT_CHARS]}"
        for one in waiting
    )
    return Tool(
        name=NAME,
        description="Continues a function that waits for input, with the answer to what it "
        f"asks. Waiting now:\n{asked}",
        parameters={
            "type": "object",
            "properties": {
                "execution_id": {
                    "type": "string",
                    "enum": [str(one.id) for one in waiting],
                    "description": "The execution to continue.",
                },
                "input": {
                    "type": "object",
                    "description": 'The answer, as {"value": answer}.',
                },
            },
            "required": ["execution_id", "input"],
        },
        run=run,
        status_key=NAME,
        status="Continuing a function",
        resource=("sinas", NAME),
        sequential=True,
    )


@dataclass(frozen=True, slots=True)
class _Run:
    continuations: Continuations

    async def __call__(self, call: Call) -> ToolResult:
        execution_id, given = call.arguments["execution_id"], call.arguments["input"]
        assert isinstance(given, dict)  # the turn has checked both against the schema
        try:
            end = await self.continuations.answer(UUID(str(execution_id)), given)
        except (ForbiddenError, NotFoundError) as error:
            return Failed("Permission denied", error.message)
        except BadRequestError as error:
            return Failed("Execution not waiting", error.message)
        except InvalidInputError as error:
            return Retry(error.message)
        return tool_result(end)
