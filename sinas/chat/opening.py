"""What a claimed turn starts with: who asks whom, with which tools, in what words."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncSession

from sinas.chat.announcing import audience
from sinas.chat.channel import NO_ROUND, ChannelWriter, Emitted, read_emitted
from sinas.chat.journal import Journal, Subject
from sinas.chat.overrides import Overrides
from sinas.chat.prompt import Instructions, Line, build
from sinas.chat.structured import is_wanted, response_format, takes_format
from sinas.context import AppContext, WorkerContext
from sinas.errors import InvalidInputError
from sinas.kit.json_types import JsonObject
from sinas.kit.templates import MAX_KEPT_CHARS
from sinas.llm.base import ModelRequest, Provider
from sinas.llm.convert import convert_messages, dialect_of
from sinas.models import ToolCall, Turn
from sinas.tools.base import Tool, ToolContext, ToolSet


@dataclass(frozen=True, slots=True)
class Opening:
    """What a claimed turn starts with.

    Attributes:
        sections: What the system message says besides the agent's own prompt.
        overrides: What the turn's request asks for beyond the agent's settings.
        last_calls: The calls of the round an earlier worker was in; empty for a new turn.
        emitted: What earlier workers told the clients.
    """

    subject: Subject
    tools: ToolSet
    sections: tuple[str, ...]
    overrides: Overrides
    history: list[Line]
    last_calls: list[ToolCall]
    emitted: Emitted

    @property
    def output_schema(self) -> JsonObject:
        """What the final answer must match; empty for anything."""
        if self.overrides.output_schema:
            return self.overrides.output_schema
        agent = self.subject.agent
        return agent.output_schema if agent and is_wanted(agent.output_schema) else {}

    @property
    def has_long_prompt(self) -> bool:
        """Whether `request` may take seconds, as its template is compiled anew each time."""
        agent = self.subject.agent
        return agent is not None and len(agent.system_prompt or "") > MAX_KEPT_CHARS

    def request(
        self,
        app: AppContext,
        history: list[Line],
        *,
        with_tools: bool = True,
        with_format: bool = True,
    ) -> ModelRequest:
        """The question to the model, for any round.

        Args:
            app: For the limits and the provider's key.
            history: What was said so far.
            with_tools: Whether the agent's tools are offered.
            with_format: Whether the provider is told the form of the answer; the system message
                says it in any case.

        Raises:
            InvalidInputError: The agent's template, provider or model does not work.
        """
        subject, asked = self.subject, self.overrides
        provider, model = _model(app, subject)
        agent, chat = subject.agent, subject.chat
        name = f"{chat.agent_namespace}/{chat.agent_name}"
        form = response_format(chat.agent_name or "", self.output_schema, provider.type)
        if asked.response_format and takes_format(provider.type):
            form = asked.response_format
        instructions = Instructions(
            agent=name,
            system_prompt=agent.system_prompt if agent else None,
            output_schema=self.output_schema,
            agent_input=chat.agent_input,
            user={
                "id": str(subject.principal.user_id),
                "email": subject.principal.email,
                "custom_fields": {},  # users have none here; prompts may ask for them
            },
            sections=(*self.sections, *asked.instructions),
        )
        limits = app.settings.chat
        messages = build(
            instructions, history, limits.max_history_messages, limits.tool_result_max_inline
        )
        return ModelRequest(
            provider=provider,
            model=model,
            messages=convert_messages(messages, dialect_of(provider.type, model)),
            tools=self.tools.schemas() if with_tools else [],
            temperature=asked.temperature
            if asked.temperature is not None
            else (agent.temperature if agent else None),
            max_tokens=asked.limit(agent.max_tokens if agent else None),
            response_format=form if with_format else None,
            extra={**(agent.provider_overrides if agent else {}), **asked.extra},
            timeout_seconds=limits.llm_timeout_seconds,
            max_retries=limits.llm_max_retries,
            retry_seconds=limits.llm_retry_seconds,
        )


async def open_turn(context: WorkerContext, journal: Journal, writer: ChannelWriter) -> Opening:
    """Read what the turn needs, in as few queries as that takes."""
    app, turn = context.app, journal.turn
    async with app.statement_sessions() as session:
        subject = await journal.subject(session)
        tool_context = _tool_context(journal, subject)
        tools = await _offer(context, subject, tool_context, session)
        sections = await _sections(context, subject, tool_context, session)
        history = await journal.history(session, app.settings.chat.max_history_messages)
        continues = turn.fence > 1
        last_calls = await journal.last_calls(session) if continues else []
        name = f"{subject.chat.agent_namespace}/{subject.chat.agent_name}"
        writer.mirrors = await audience(session, turn, name)
    emitted = Emitted()
    if continues:
        await writer.take()
        emitted = await read_emitted(app.redis, turn.channel_id, turn.rounds)
        emitted = await _with_earlier_channels(app.redis, turn, last_calls, emitted)
    return Opening(
        subject, tools, sections, Overrides.read(turn.overrides), history, last_calls, emitted
    )


async def _with_earlier_channels(
    redis: Redis, turn: Turn, calls: Sequence[ToolCall], emitted: Emitted
) -> Emitted:
    """Also what the channels the round had before told of its results: not to be told again."""
    ids = {call.call_id for call in calls}
    for channel_id in reversed(turn.past_channels):
        earlier = await read_emitted(redis, channel_id, NO_ROUND)
        if ids.isdisjoint(earlier.started | earlier.asked):
            break
        emitted = replace(
            emitted,
            ended=emitted.ended | earlier.ended,
            rejected=emitted.rejected | earlier.rejected,
        )
    return emitted


def _tool_context(journal: Journal, subject: Subject) -> ToolContext:
    chat = subject.chat
    return ToolContext(
        principal=subject.principal,
        chat_id=chat.id,
        turn_id=journal.turn.id,
        root_chat_id=chat.root_chat_id,
        depth=journal.turn.depth,
        agent_input=chat.agent_input,
        has_paused=subject.has_paused,
    )


async def _offer(
    context: WorkerContext, subject: Subject, tool_context: ToolContext, session: AsyncSession
) -> ToolSet:
    found: dict[str, Tool] = {}
    if subject.agent is None:
        return ToolSet()
    for provider in context.tools:
        for tool in await provider.offer(subject.agent, tool_context, session):
            if tool.name in found:
                raise InvalidInputError(
                    f"Two tools of this agent share the name '{tool.name}' "
                    f"({'/'.join(found[tool.name].resource)} and {'/'.join(tool.resource)}); "
                    "rename one of them."
                )
            found[tool.name] = tool
    # Tools that only serve others come last, and are none without them.
    serving = {name: tool for name, tool in found.items() if tool.serves_others}
    others = {name: tool for name, tool in found.items() if name not in serving}
    return ToolSet(others | serving if others else {})


async def _sections(
    context: WorkerContext, subject: Subject, tool_context: ToolContext, session: AsyncSession
) -> tuple[str, ...]:
    if subject.agent is None:
        return ()
    found = [
        await provider.instructions(subject.agent, tool_context, session)
        for provider in context.instructions
    ]
    return tuple(section for section in found if section)


def _model(app: AppContext, subject: Subject) -> tuple[Provider, str]:
    agent, row = subject.agent, subject.provider
    name = f"{subject.chat.agent_namespace}/{subject.chat.agent_name}"
    if row is None:
        raise InvalidInputError(
            f"Agent '{name}' has no LLM provider: set its llm_provider_id, or make an "
            "active provider the default."
        )
    if not row.is_active or row.deleted_at is not None:
        raise InvalidInputError(
            f"LLM provider '{row.name}' of agent '{name}' is not active; activate it or "
            "choose another one."
        )
    model = (agent.model if agent else None) or row.default_model
    if not model:
        raise InvalidInputError(
            f"Agent '{name}' has no model: set its model, or the default_model of LLM "
            f"provider '{row.name}'."
        )
    key = row.api_key_encrypted
    return Provider(
        name=row.name,
        type=dialect_of(row.provider_type, model),
        endpoint=row.api_endpoint,
        api_key=app.cipher.decrypt(key) if key else None,
    ), model
