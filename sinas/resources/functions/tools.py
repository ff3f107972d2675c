"""Functions as tools of agents."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncSession

from sinas.context import AppContext
from sinas.errors import (
    ForbiddenError,
    InvalidInputError,
    NotFoundError,
    PayloadTooLargeError,
    SinasError,
)
from sinas.models import Agent, Function, TriggerType
from sinas.resources.executions.events import FAILED, tool_result
from sinas.resources.executions.service import TooDeepError, Trigger
from sinas.resources.functions.calls import FunctionCalls
from sinas.resources.functions.repository import FunctionRepository
from sinas.tools.base import Call, Failed, Retry, Tool, ToolContext, ToolResult
from sinas.tools.names import fitting
from sinas.tools.parameters import ConfiguredParameters, configured


class FunctionTools:
    """Offers an agent's enabled functions. One execution per call, whatever happens between."""

    kind = "function"

    def __init__(self, context: AppContext) -> None:
        self._context = context

    async def offer(
        self, agent: Agent, context: ToolContext, session: AsyncSession
    ) -> Sequence[Tool]:
        """One tool for each active function the agent enables, by one query."""
        references = [str(reference) for reference in agent.enabled_functions]
        repository = FunctionRepository(session, context.principal)
        calls = FunctionCalls(self._context, context.principal)
        tools: dict[str, Tool] = {}
        for function in await repository.active_matching(references):
            key = f"{function.namespace}/{function.name}"
            parameters = configured(agent.function_parameters.get(key), context.agent_input)
            name = tool_name(function.namespace, function.name, taken=tools)
            tools[name] = _tool(name, function, parameters, context, calls)
        return tuple(tools.values())


def tool_name(namespace: str, name: str, *, taken: Collection[str] = ()) -> str:
    """`namespace__name`, cut and told apart by a hash where it is too long or taken.

    `a__b/c` and `a/b__c` would have the same name.
    """
    return fitting(f"{namespace}__{name}", f"{namespace}/{name}", taken=taken)


def _tool(
    name: str,
    function: Function,
    parameters: ConfiguredParameters,
    context: ToolContext,
    calls: FunctionCalls,
) -> Tool:
    resource = (function.namespace, function.name)
    return Tool(
        name=name,
        description=function.description or f"Runs the function {'/'.join(resource)}.",
        parameters=parameters.schema(function.input_schema),
        run=_Run(resource, parameters, context, calls),
        status_key=f"function:{'/'.join(resource)}",
        status=f"Running {function.name.replace('_', ' ').strip()}",
        resource=resource,
        requires_approval=function.requires_approval,
        resumable=True,
    )


@dataclass(frozen=True, slots=True)
class _Run:
    resource: tuple[str, str]
    parameters: ConfiguredParameters
    context: ToolContext
    calls: FunctionCalls

    async def __call__(self, call: Call) -> ToolResult:
        if self.parameters.failure is not None:
            return Failed(FAILED, self.parameters.failure)
        trigger = Trigger(
            type=TriggerType.AGENT,
            id=str(self.context.chat_id),
            chat_id=self.context.chat_id,
            tool_call_id=call.call_id,
            idempotency_key=call.key,
        )
        arguments = self.parameters.arguments(call.arguments)
        try:
            _, end = await self.calls.run(*self.resource, arguments, trigger, must_own=True)
        except (ForbiddenError, InvalidInputError, NotFoundError, PayloadTooLargeError) as error:
            return _refused(error)
        return tool_result(end)


def _refused(error: SinasError) -> ToolResult:
    match error:
        case ForbiddenError():
            return Failed("Permission denied", error.message)
        case NotFoundError():
            return Failed("Function not found", error.message)
        case TooDeepError():
            return Failed("Too many nested calls", error.message)
        case _:
            return Retry(error.message)
