"""What a model can call, and what comes of a call."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from sinas.auth.principal import Principal
from sinas.kit.json_types import JsonObject, JsonValue
from sinas.models import Agent


@dataclass(frozen=True, slots=True)
class Ok:
    """The call's value."""

    value: JsonValue


@dataclass(frozen=True, slots=True)
class Retry:
    """The model called it wrongly and may correct itself; `message` says how."""

    message: str


@dataclass(frozen=True, slots=True)
class Failed:
    """The call ran and failed, or was not allowed; trying again will not help.

    `error` is a short stable label, `message` one sentence for the model.
    """

    error: str
    message: str


ToolResult: TypeAlias = Ok | Retry | Failed


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolContext:
    """Whose turn it is.

    Attributes:
        principal: The caller, with the rights they hold now; tools gain none through the model.
        agent_input: Validated input of the chat, for parameter templates.
        has_paused: Whether an execution of the chat waits for input.
    """

    principal: Principal
    chat_id: UUID
    agent_input: JsonObject
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
