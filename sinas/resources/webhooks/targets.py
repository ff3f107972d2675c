"""What a webhook starts: an execution of a function, or a turn of an agent."""

from collections.abc import Mapping
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from sinas.auth.principal import Principal
from sinas.context import JOB_DONE_PREFIX, AppContext
from sinas.db.unit import Unit
from sinas.errors import ForbiddenError, NotFoundError
from sinas.kit.crypto import sha256_hex
from sinas.kit.ids import uuid7
from sinas.kit.json_types import JsonObject, JsonValue
from sinas.kit.templates import render_lenient
from sinas.models import DeliveryStatus, TargetType, TriggerType, Webhook
from sinas.queue.signals import Listener
from sinas.resources.chats.schemas import InvokeRequest
from sinas.resources.chats.service import ChatService, StartedTurn
from sinas.resources.executions.events import channel
from sinas.resources.executions.service import Started, Trigger
from sinas.resources.functions.service import FunctionService
from sinas.resources.webhooks.payload import Incoming, input_of, query_of, text_of

_MAX_SESSION_KEY_CHARS = 128


@dataclass(slots=True, kw_only=True)
class Call:
    """One call on its way.

    Attributes:
        caller: Whom it runs as, once that is known.
        payload: What it says, once that was read.
        waits: Whether the caller waits for the end of what is started.
        replay_of: The delivery it repeats because somebody asked for that.
    """

    webhook: Webhook
    incoming: Incoming
    delivery_id: UUID = field(default_factory=uuid7)
    caller: Principal | None = None
    payload: JsonValue = None
    waits: bool = False
    dedup_key: str | None = None
    replay_of: UUID | None = None

    @property
    def is_for_agent(self) -> bool:
        """Whether an agent is started, not a function."""
        return self.webhook.target_type is TargetType.AGENT

    def record(
        self, status: DeliveryStatus, max_bytes: int, more: Mapping[str, Any]
    ) -> dict[str, Any]:
        """The delivery's columns; the body only if it has at most `max_bytes`."""
        incoming, caller = self.incoming, self.caller
        return {
            "id": self.delivery_id,
            "webhook_id": self.webhook.id,
            "user_id": caller and caller.user_id,
            "access": caller and caller.limit_map,
            "method": incoming.method,
            "query": incoming.query,
            "headers": incoming.shown_headers(),
            "content_type": incoming.content_type,
            "body": incoming.body if len(incoming.body) <= max_bytes else None,
            "body_bytes": len(incoming.body),
            "client_address": incoming.client_address,
            "dedup_key": self.dedup_key,
            "status": status,
            "replay_of": self.replay_of,
            **more,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class StartedTarget:
    """What was started, one of both, and who listens for its end if somebody waits."""

    execution: Started | None = None
    turn: StartedTurn | None = None
    listener: Listener | None = None

    def columns(self) -> dict[str, Any]:
        """What the delivery's row keeps of it."""
        return {
            "execution_id": self.execution and self.execution.execution_id,
            "chat_id": self.turn and self.turn.chat_id,
            "turn_id": self.turn and self.turn.turn_id,
        }


async def start_target(
    context: AppContext, unit: Unit, call: Call, stack: AsyncExitStack
) -> StartedTarget:
    """Start it as the caller; what `stack` gets listens since before the start was committed.

    Raises:
        ForbiddenError: The caller may not use the target.
        NotFoundError: The target is gone, or X-Chat-ID names no chat of the caller.
        InvalidInputError: The input cannot be stored.
        PayloadTooLargeError: It is too large.
    """
    assert call.caller is not None
    chat_id = await _chat_of(unit, call.caller, call)
    try:
        if call.is_for_agent:
            return await _start_agent(context, unit, call, call.caller, stack)
        return await _start_function(context, unit, call, call.caller, stack, chat_id)
    except (ForbiddenError, NotFoundError) as error:
        if call.webhook.requires_auth or call.replay_of is not None:
            raise
        # Nothing about what is behind it to callers who have no account here.
        hidden = NotFoundError(
            "This webhook's target cannot be used; its owner sees why in its deliveries."
        )
        hidden.add_note(error.message)
        raise hidden from error


async def _chat_of(unit: Unit, caller: Principal, call: Call) -> UUID | None:
    """The chat that X-Chat-ID names: one of the caller's, never one of an owner who is away."""
    given = call.incoming.headers.get("x-chat-id")
    if given is None:
        return None
    if call.webhook.requires_auth:
        with suppress(ValueError, NotFoundError, ForbiddenError):
            return (await ChatService(unit, caller).get(UUID(given.strip()))).id
    raise NotFoundError("X-Chat-ID names no chat of yours.")


async def _start_function(
    context: AppContext,
    unit: Unit,
    call: Call,
    caller: Principal,
    stack: AsyncExitStack,
    chat_id: UUID | None,
) -> StartedTarget:
    webhook = call.webhook
    namespace, name = str(webhook.function_namespace), str(webhook.function_name)
    if caller.user_id != webhook.user_id:
        caller.require(f"sinas.functions/{namespace}/{name}.execute:all")
    execution_id = uuid7()
    listener = None
    if call.waits:
        listener = await stack.enter_async_context(context.signals.listen(channel(execution_id)))
    trigger = Trigger(
        type=TriggerType.WEBHOOK,
        id=str(webhook.id),
        chat_id=chat_id,
        background=not call.waits,
        data={"webhook": _described(call)},
    )
    given = input_of(call.payload, webhook.default_values)
    functions = FunctionService(unit, caller, context.settings.function)
    started = await functions.start(namespace, name, given, trigger, execution_id)
    return StartedTarget(execution=started, listener=listener)


async def _start_agent(
    context: AppContext, unit: Unit, call: Call, caller: Principal, stack: AsyncExitStack
) -> StartedTarget:
    webhook = call.webhook
    given = input_of(call.payload, webhook.default_values)
    request = InvokeRequest(
        message=_message(webhook, call.payload, given), session_key=_session(webhook, caller, given)
    )
    started = await ChatService(unit, caller).invoke(
        str(webhook.agent_namespace), str(webhook.agent_name), request, context.settings
    )
    listener = None
    if call.waits:
        topic = f"{JOB_DONE_PREFIX}{started.turn_id}"
        listener = await stack.enter_async_context(context.signals.listen(topic))
    return StartedTarget(turn=started, listener=listener)


def _described(call: Call) -> JsonObject:
    """What the function finds in `context["webhook"]`."""
    incoming = call.incoming
    return {
        "delivery_id": str(call.delivery_id),
        "replay_of": None if call.replay_of is None else str(call.replay_of),
        "method": incoming.method,
        "path": incoming.path,
        "query": query_of(incoming.query),
        "headers": incoming.shown_headers(),
        "content_type": incoming.content_type,
    }


def _message(webhook: Webhook, payload: JsonValue, given: JsonObject) -> str:
    """The message to the agent.

    The payload itself where there is no template or it comes out empty, and behind it where the
    template asks for what the payload does not have.
    """
    raw = text_of(payload if webhook.default_values is None else given)
    if webhook.message_template is None:
        return raw
    text, is_lacking = render_lenient(webhook.message_template, {"payload": given, **given})
    if not text.strip():
        return raw
    return f"{text}\n\n{raw}" if is_lacking else text


def _session(webhook: Webhook, caller: Principal, given: JsonObject) -> str | None:
    """The session of the chat; the webhook's own, so that callers reach no other one."""
    if webhook.session_key_template is None:
        return None
    key, _ = render_lenient(webhook.session_key_template, {"payload": given, **given})
    key = key.strip()
    if not key:
        return None
    if len(key) > _MAX_SESSION_KEY_CHARS:
        key = sha256_hex(key)
    return f"webhook:{webhook.id}:{caller.user_id}:{key}"
