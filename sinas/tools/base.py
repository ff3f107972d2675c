"""What a model can call, and what comes of a call."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Protocol, TypeAlias
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from sinas.auth.principal import Principal
from sinas.db.unit import Unit
from sinas.kit.json_types import JsonObject, JsonValue
from sinas.models import Agent, ToolCallStatus


@dataclass(frozen=True, slots=True)
class Ok:
    """The call's value."""

    value: JsonValue


@dataclass(frozen=True, slots=True)
class Retry:
    """The model called it wrongly and may correct itself; `message` says how.

    `raw` are the arguments, where they could not be read.
    """

    message: str
    raw: str | None = None


@dataclass(frozen=True, slots=True)
class Failed:
    """The call ran and failed, or was not allowed; trying again will not help.

    `error` is a short stable label, `message` one sentence for the model.
    """

    error: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Waits:
    """The call ends elsewhere: a person answers it, or the turn of another agent does.

    Attributes:
        status: `awaiting_answer` or `delegated`.
        begin: Run in the transaction that records that the call waits; both happen or none.
        question: What people are asked, for `awaiting_answer`.
        expires_in: When it is settled without anybody; None for never.
    """

    status: ToolCallStatus
    begin: Callable[[Unit], Awaitable[None]] | None = None
    question: JsonObject | None = None
    expires_in: timedelta | None = None


ToolResult: TypeAlias = Ok | Retry | Failed | Waits


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolContext:
    """Whose turn it is.

    Attributes:
        principal: The caller, with the rights they hold now; tools gain none through the model.
        turn_id: None where only the tools are looked at.
        root_chat_id: The chat at the top, when this one is a sub-agent's.
        depth: How many agents above this one wait for it.
        agent_input: Validated input of the chat, for parameter templates.
        has_paused: Whether an execution of the chat waits for input.
    """

    principal: Principal
    chat_id: UUID
    agent_input: JsonObject
    turn_id: UUID | None = None
    root_chat_id: UUID | None = None
    depth: int = 0
    has_paused: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One call to run.

    Attributes:
        key: Names the call for ever: a second attempt with the same key must find the first
            one's effect, not repeat it.
        call_id: What the model and clients call it.
    """

    key: str
    call_id: str
    arguments: JsonObject


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """One callable, as offered to the model in one turn.

    Attributes:
        name: Unique in the turn, `[a-zA-Z0-9_-]{1,64}` as OpenAI demands.
        parameters: JSON Schema of the arguments the model gives.
        status_key: Key of the agent's `status_templates`.
        status: Default status text.
        resource: Namespace and name of what stands behind it, for approvals.
        follows_approval_rules: Whether the agent's `tool_approvals` count for it. Not for what
            only asks people or reads back what the model has seen.
        serves_others: Whether it is of no use in a turn that has no other tools.
        resumable: Whether `run` with the same key, after a crash, is safe: it finds or waits
            for the first attempt. Others are reported as interrupted.
    """

    name: str
    description: str
    parameters: JsonObject
    run: Callable[[Call], Awaitable[ToolResult]]
    status_key: str
    status: str
    resource: tuple[str, str]
    requires_approval: bool = False
    follows_approval_rules: bool = True
    serves_others: bool = False
    resumable: bool = False
    sequential: bool = False

    def schema(self) -> JsonObject:
        """The tool in OpenAI's function format."""
        return {
            "type": "function",
            "function": {
                "name": self.name,
                "description": self.description,
                "parameters": self.parameters,
            },
        }


class ToolProvider(Protocol):
    """One kind of tools."""

    kind: str

    async def offer(
        self, agent: Agent, context: ToolContext, session: AsyncSession
    ) -> Sequence[Tool]:
        """The tools this agent may use for this caller, with at most one query on `session`."""
        ...


class InstructionsProvider(Protocol):
    """One kind of text in the system message besides the agent's own prompt."""

    async def instructions(
        self, agent: Agent, context: ToolContext, session: AsyncSession
    ) -> str | None:
        """The section for this agent and caller, None for none; at most one query on `session`."""
        ...


@dataclass(frozen=True, slots=True)
class ToolSet:
    """The tools of one turn by exact name."""

    tools: dict[str, Tool] = field(default_factory=dict)

    def schemas(self) -> list[JsonObject]:
        """All of them for the model."""
        return [tool.schema() for tool in self.tools.values()]
