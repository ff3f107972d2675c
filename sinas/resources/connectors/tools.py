"""Operations of connectors as tools of agents."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from sinas.auth.principal import Principal
from sinas.context import AppContext
from sinas.errors import (
    BadRequestError,
    ForbiddenError,
    SinasError,
    UnauthenticatedError,
    UpstreamError,
)
from sinas.kit.json_types import JsonObject
from sinas.models import Agent
from sinas.resources.connectors.calls import ConnectorCalls
from sinas.resources.connectors.enabled import EnabledConnectors
from sinas.resources.connectors.retries import is_repeatable
from sinas.resources.connectors.targets import (
    Offered,
    Target,
    offered,
    operation_of,
    target_by_id,
)
from sinas.resources.connectors.tokens import NotConnectedError
from sinas.tools.base import Call, Failed, Ok, Retry, Tool, ToolContext, ToolResult
from sinas.tools.names import fitting
from sinas.tools.parameters import ConfiguredParameters, configured

FAILED: Final = "Connector call failed"


class ConnectorTools:
    """Offers the operations an agent enables. Every call runs with the caller's rights."""

    kind = "connector"

    def __init__(self, context: AppContext) -> None:
        self._context = context

    async def offer(
        self, agent: Agent, context: ToolContext, session: AsyncSession
    ) -> Sequence[Tool]:
        """One tool for each operation, by one query where the agent has any."""
        enabled = EnabledConnectors.of(agent)
        if not enabled.entries:
            return ()
        tools: dict[str, Tool] = {}
        for each in await offered(session, agent, context.principal, enabled):
            operation = str(each.operation["name"])
            told = enabled.parameters(each.namespace, each.name, operation)
            if told is None:
                continue
            parameters = configured(told, context.agent_input)
            name = fitting(
                f"connector__{each.namespace}__{each.name}__{operation}",
                f"{each.reference}/{operation}",
                taken=tools,
            )
            run = _Run(self._context, context.principal, agent.user_id, each, parameters)
            tools[name] = _tool(name, each, parameters, run)
        return tuple(tools.values())


def _tool(name: str, each: Offered, parameters: ConfiguredParameters, run: "_Run") -> Tool:
    operation = str(each.operation["name"])
    schema = each.operation["parameters"]
    assert isinstance(schema, dict)
    said = str(each.operation.get("description") or f"Calls {operation}.")
    return Tool(
        name=name,
        description=f"[{each.reference}] {said}",
        parameters=parameters.schema({**schema, "type": "object"}),
        run=run,
        status_key=f"connector:{each.reference}/{operation}",
        status=f"Calling {operation.replace('_', ' ').strip()}",
        resource=(each.namespace, each.name),
        resumable=is_repeatable(each.operation),
    )


@dataclass(frozen=True, slots=True)
class _Run:
    context: AppContext
    principal: Principal
    agent_owner: UUID | None
    each: Offered
    parameters: ConfiguredParameters

    async def __call__(self, call: Call) -> ToolResult:
        if self.parameters.failure is not None:
            return Failed(FAILED, self.parameters.failure)
        name = str(self.each.operation["name"])
        # As it is now: a call may have waited for a person's approval.
        async with self.context.statement_sessions() as session:
            target = await target_by_id(session, self.each.connector_id)
            operation = await operation_of(session, self.each.connector_id, name)
        if target is None or operation is None or not target.is_active:
            return Failed("Operation not found", f"{self.each.reference} has no '{name}' any more.")
        if not await self._may_use(target):
            return Failed("Permission denied", f"You may not use '{self.each.reference}'.")
        return await self._result(target, operation, call)

    async def _result(self, target: Target, operation: JsonObject, call: Call) -> ToolResult:
        arguments = self.parameters.arguments(call.arguments)
        calls = ConnectorCalls(self.context, self.principal)
        try:
            result = await calls.call(target, operation, arguments, self.parameters.hidden)
        except (BadRequestError, ForbiddenError, UpstreamError) as error:
            return _refused(error)
        return Ok(result.as_json())

    async def _may_use(self, target: Target) -> bool:
        if target.is_readable_by(self.principal):
            return True
        if self.agent_owner is None:
            return False
        try:
            owner = await self.context.authenticator.by_user(self.agent_owner)
        except UnauthenticatedError:
            return False
        return target.is_readable_by(owner)


def _refused(error: SinasError) -> ToolResult:
    match error:
        case NotConnectedError():
            return Failed("Not connected", error.message)
        case BadRequestError():
            return Retry(error.message)
        case ForbiddenError():
            return Failed("Permission denied", error.message)
        case _:
            return Failed(FAILED, error.message)
