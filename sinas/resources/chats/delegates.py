"""Other agents as tools: a call becomes a turn of theirs, which the caller's turn waits for."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from sinas.context import AppContext
from sinas.db.unit import Unit
from sinas.kit.json_types import JsonObject, JsonValue
from sinas.models import Agent, ToolCallStatus
from sinas.resources.agents.service import AgentService
from sinas.resources.chats.service import ChatService, Delegation
from sinas.tools.base import Call, Failed, Retry, Tool, ToolContext, ToolResult, Waits
from sinas.tools.names import fitting

_OWN_ARGUMENTS = ("prompt", "_chat_id")


async def delegate_tools(
    app: AppContext, agent: Agent, context: ToolContext, session: AsyncSession
) -> Sequence[Tool]:
    """One tool for each active agent that `enabled_agents` names and the caller may chat with."""
    if not agent.enabled_agents:
        return ()
    agents = AgentService(Unit(session), context.principal)
    tools: dict[str, Tool] = {}
    for other in await agents.usable([str(one) for one in agent.enabled_agents]):
        if other.id == agent.id:
            continue
        reference = f"{other.namespace}/{other.name}"
        plain = re.sub(r"[^a-z0-9_]", "_", f"call_agent_{other.namespace}__{other.name}".lower())
        name = fitting(plain, reference, taken=tools)
        tools[name] = _tool(name, other, _Run(app, other, context))
    return tuple(tools.values())


def _tool(name: str, other: Agent, run: "_Run") -> Tool:
    reference = f"{other.namespace}/{other.name}"
    return Tool(
        name=name,
        description=other.description or f"Asks the agent {reference}.",
        parameters=_parameters(other.input_schema),
        run=run,
        status_key=f"agent:{reference}",
        status=f"Calling {other.name}",
        resource=(other.namespace, other.name),
        resumable=True,
    )


def _parameters(input_schema: JsonObject) -> JsonObject:
    """The sub-agent's input besides the prompt; none of it is needed to go on with a chat."""
    known = input_schema.get("properties")
    properties: dict[str, JsonValue] = dict(known) if isinstance(known, dict) else {}
    properties["prompt"] = {"type": "string", "description": "What the agent is to do."}
    properties["_chat_id"] = {
        "type": "string",
        "description": "To go on with an earlier chat with this agent: the chat_id it answered.",
    }
    return {"type": "object", "properties": properties, "required": ["prompt"]}


@dataclass(frozen=True, slots=True)
class _Run:
    app: AppContext
    agent: Agent
    context: ToolContext

    async def __call__(self, call: Call) -> ToolResult:
        limit = self.app.settings.chat.max_delegation_depth
        if limit and self.context.depth >= limit:
            return Failed(
                "Too many nested agents",
                f"Agents call each other in a chain of more than {limit}; answer without "
                "another agent. The limit is AGENT_MAX_DELEGATION_DEPTH.",
            )
        prompt = call.arguments.get("prompt")
        if not isinstance(prompt, str) or not prompt.strip():
            return Retry("`prompt` must be a text.")
        chat_id = _chat_id(call.arguments)
        if isinstance(chat_id, Retry):
            return chat_id
        given = {k: v for k, v in call.arguments.items() if k not in _OWN_ARGUMENTS}
        return Waits(
            status=ToolCallStatus.DELEGATED,
            begin=lambda unit: self._begin(unit, given, prompt, chat_id, call),
        )

    async def _begin(
        self, unit: Unit, given: JsonObject, prompt: str, chat_id: UUID | None, call: Call
    ) -> None:
        delegation = Delegation(
            call_key=UUID(call.key),
            chat_id=self.context.chat_id,
            root_chat_id=self.context.root_chat_id or self.context.chat_id,
            depth=self.context.depth + 1,
        )
        await ChatService(unit, self.context.principal).delegate(
            self.agent, given, prompt, delegation, self.app.settings, chat_id=chat_id
        )


def _chat_id(arguments: JsonObject) -> UUID | Retry | None:
    given = arguments.get("_chat_id")
    if not given:
        return None
    try:
        return UUID(str(given))
    except ValueError:
        return Retry("`_chat_id` must be the chat_id of an earlier answer of this agent.")
