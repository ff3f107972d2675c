"""A call of a webhook: who it runs as, what it starts, and what is kept of it."""

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any, TypeAlias
from uuid import UUID

from sinas.auth.principal import Principal
from sinas.auth.rate_limit import RateLimiter
from sinas.context import AppContext
from sinas.db.unit import Unit
from sinas.errors import (
    ConflictError,
    DeadlineError,
    ForbiddenError,
    NotFoundError,
    RateLimitedError,
    SinasError,
    UnauthenticatedError,
    UnavailableError,
)
from sinas.kit.time import utcnow
from sinas.models import DeliveryStatus, ResponseMode, Webhook, WebhookDelivery
from sinas.resources.chats.waiting import wait_for
from sinas.resources.executions.events import ExecutionEnd, wait_for_end
from sinas.resources.executions.service import RejectedInputError
from sinas.resources.secrets.service import secret_value
from sinas.resources.webhooks import repository
from sinas.resources.webhooks.payload import Incoming, dedup_key, payload_of
from sinas.resources.webhooks.schemas import Dedup, DeliveryReplayed, Signature
from sinas.resources.webhooks.service import WebhookService
from sinas.resources.webhooks.signatures import refusal
from sinas.resources.webhooks.targets import Call, StartedTarget, start_target

# Rejected calls that are recorded, of one webhook in a minute: anybody can make them.
_MAX_REJECTED = 100
_REJECTED_SECONDS = 60
# What a delivery and the one it repeats have in common.
_STARTED = ("execution_id", "chat_id", "turn_id")

SignedIn: TypeAlias = Callable[[], Awaitable[Principal]]


class UnfinishedError(DeadlineError):
    """The function did not end in time; `execution_id` tells how it goes on."""

    def __init__(self, execution_id: UUID) -> None:
        super().__init__("The function did not end in time; its execution tells how it ends.")
        self.execution_id = execution_id


@dataclass(frozen=True, slots=True)
class Repeated:
    """The call repeats one that has not failed; `first` is how that one's target ended."""

    first: Any


@dataclass(frozen=True, slots=True)
class FunctionCalled:
    """A function was started. `end` is None where nobody waits."""

    execution_id: UUID
    end: ExecutionEnd | None


@dataclass(frozen=True, slots=True)
class AgentCalled:
    """An agent was started. `reply` is None where nobody waits."""

    chat_id: UUID
    turn_id: UUID
    reply: str | None


Outcome: TypeAlias = Repeated | FunctionCalled | AgentCalled


@dataclass(frozen=True, slots=True)
class WebhookCalls:
    """Calls of webhooks."""

    context: AppContext

    async def find(self, method: str, path: str) -> Webhook:
        """The webhook that is called.

        Raises:
            NotFoundError: None has this path and method and is active.
        """
        async with self.context.statement_unit() as unit:
            webhook = await repository.called(unit.session, method, path)
        if webhook is None:
            raise NotFoundError("Webhook not found")
        return webhook

    async def call(self, webhook: Webhook, incoming: Incoming, signed_in: SignedIn) -> Outcome:
        """Start what the webhook is for, and wait for its end where the caller does.

        Whatever becomes of the call, it is recorded.

        Args:
            webhook: What is called.
            incoming: The call.
            signed_in: Finds out who calls, for webhooks that ask for it.

        Raises:
            UnauthenticatedError: Nobody is signed in, or the signature is wrong.
            ForbiddenError: The caller may not use the target.
            NotFoundError: The target is gone, or X-Chat-ID names no chat of the caller.
            BadRequestError: The body is not what its content type says.
            InvalidInputError: The input breaks the function's schema or cannot be stored.
            PayloadTooLargeError: It is too large.
            UnavailableError: The signature cannot be checked now.
            DeadlineError: The target did not end in time.
            UpstreamError: The agent's model failed.
        """
        call = Call(webhook=webhook, incoming=incoming)
        call.waits = webhook.response_mode is not ResponseMode.ASYNC
        async with AsyncExitStack() as stack:
            try:
                call.caller = await self._caller(webhook, incoming, signed_in)
                call.payload = await payload_of(incoming)
                if webhook.dedup is not None:
                    wanted = Dedup.model_validate(webhook.dedup)
                    call.dedup_key = dedup_key(wanted.key, call.payload, incoming.headers)
                begun = await self._begin(call, stack)
            except SinasError as error:
                await self._record_refused(call, error)
                raise
            return begun if isinstance(begun, Repeated) else await self._ended(begun)

    async def replay(self, path: str, delivery_id: UUID, principal: Principal) -> DeliveryReplayed:
        """Send a delivery again, as whom it ran; nobody waits, and it repeats nothing.

        Raises:
            NotFoundError: The webhook or the delivery is absent, or not visible.
            ForbiddenError: The webhook is not the caller's to change, or somebody else called.
            ConflictError: The delivery cannot be sent again.
        """
        async with self.context.statement_unit() as unit:
            webhooks = WebhookService(unit, principal, self.context.settings.function)
            webhook = await webhooks.changeable(path, "update")
            delivery, _ = await webhooks.delivery_row(webhook, delivery_id)
        if not webhook.is_active:
            raise ConflictError(f"Webhook '{path}' is not active.")
        if delivery.body is None and delivery.body_bytes:
            raise ConflictError(
                "The body of this delivery was not kept, so it cannot be sent again: it was "
                "rejected, or larger than WEBHOOK_MAX_STORED_BYTES."
            )
        call = Call(webhook=webhook, incoming=_kept(delivery, path), replay_of=delivery.id)
        call.caller = await self._replayer(principal, delivery)
        async with AsyncExitStack() as stack:
            try:
                call.payload = await payload_of(call.incoming)
                # Not looked for, but set: the sender's own next try is then a repetition.
                call.dedup_key = delivery.dedup_key
                begun = await self._begin(call, stack)
            except SinasError as error:
                await self._record_refused(call, error)
                raise
        assert isinstance(begun, StartedTarget)
        _check_accepted(begun)
        return DeliveryReplayed.model_validate({"delivery_id": call.delivery_id, **begun.columns()})

    async def _caller(self, webhook: Webhook, incoming: Incoming, signed_in: SignedIn) -> Principal:
        """Whom the call runs as: whoever calls, or the owner where nobody has to sign in."""
        if webhook.signature is not None:
            await self._check_signature(webhook, incoming)
        if webhook.requires_auth:
            return await signed_in()
        try:
            return await self.context.authenticator.by_user(webhook.user_id, webhook.access)
        except UnauthenticatedError:
            raise ForbiddenError("The owner of this webhook is no longer active.") from None

    async def _check_signature(self, webhook: Webhook, incoming: Incoming) -> None:
        wanted = Signature.model_validate(webhook.signature)
        async with self.context.statement_unit() as unit:
            secret = await secret_value(
                unit.session, self.context.cipher, webhook.user_id, wanted.secret
            )
        if not secret:
            error = UnavailableError(
                "This webhook cannot check signatures now; its owner sees why in its deliveries.",
                retry_after_seconds=60,
            )
            error.add_note(f"The secret '{wanted.secret}', which calls are signed with, is gone.")
            raise error
        if reason := refusal(wanted, secret, incoming.headers, incoming.body, utcnow()):
            raise UnauthenticatedError(reason)

    async def _replayer(self, principal: Principal, delivery: WebhookDelivery) -> Principal:
        if delivery.user_id is None:
            raise ConflictError("This delivery was rejected, so it cannot be sent again.")
        if delivery.user_id == principal.user_id:
            return principal
        # It would run with somebody else's rights.
        principal.require("sinas.webhooks.update:all")
        try:
            return await self.context.authenticator.by_user(delivery.user_id, delivery.access)
        except UnauthenticatedError:
            raise ConflictError("The user who made this call is no longer active.") from None

    async def _begin(self, call: Call, stack: AsyncExitStack) -> Repeated | StartedTarget:
        """Start the target and record the delivery, unless it repeats another one."""
        looks_back = call.dedup_key is not None and call.replay_of is None
        # Where only the start itself and the record are written, each may stand alone.
        is_one = looks_back or call.is_for_agent
        async with self.context.unit() if is_one else self.context.statement_unit() as unit:
            if looks_back and (first := await self._first(unit, call)) is not None:
                columns = {name: getattr(first, name) for name in _STARTED}
                record = call.record(DeliveryStatus.DUPLICATE, self._kept_bytes, columns)
                await repository.insert_delivery(unit.session, record)
                return Repeated(first)
            started = await start_target(self.context, unit, call, stack)
            record = call.record(DeliveryStatus.ACCEPTED, self._kept_bytes, started.columns())
            await repository.insert_delivery(unit.session, record)
        return started

    async def _first(self, unit: Unit, call: Call) -> Any | None:
        """The call that this one repeats, of the same caller: others' answers are not theirs."""
        assert call.caller is not None
        assert call.dedup_key is not None
        wanted = Dedup.model_validate(call.webhook.dedup)
        return await repository.first_delivery(
            unit.session,
            call.webhook.id,
            call.caller.user_id,
            call.dedup_key,
            wanted.ttl_seconds,
        )

    async def _ended(self, started: StartedTarget) -> FunctionCalled | AgentCalled:
        if started.turn is not None:
            reply = None
            if started.listener is not None:
                ended = await wait_for(self.context, started.turn, started.listener)
                reply = (ended.message.content if ended.message else None) or ""
            return AgentCalled(started.turn.chat_id, started.turn.turn_id, reply)
        _check_accepted(started)
        assert started.execution is not None
        execution_id = started.execution.execution_id
        if started.listener is None:
            return FunctionCalled(execution_id, None)
        patience = started.execution.patience_seconds(self.context.settings)
        end = await wait_for_end(self.context, started.listener, execution_id, patience)
        if end is None:
            raise UnfinishedError(execution_id)
        return FunctionCalled(execution_id, end)

    @property
    def _kept_bytes(self) -> int:
        return self.context.settings.webhook.max_stored_bytes

    async def _record_refused(self, call: Call, error: SinasError) -> None:
        """Record a call that started nothing."""
        reason = {"error": "; ".join(getattr(error, "__notes__", ())) or error.message}
        if isinstance(error, UnauthenticatedError | ForbiddenError):
            if not await self._may_record_rejected(call.webhook):
                return
            record = call.record(DeliveryStatus.REJECTED, -1, {**reason, "user_id": None})
        else:
            record = call.record(DeliveryStatus.FAILED, self._kept_bytes, reason)
        async with self.context.statement_unit() as unit:
            await repository.insert_delivery(unit.session, record)

    async def _may_record_rejected(self, webhook: Webhook) -> bool:
        limiter = RateLimiter(self.context.redis, _REJECTED_SECONDS)
        try:
            await limiter.hit(f"webhook-rejected:{webhook.id}", _MAX_REJECTED)
        except (RateLimitedError, UnavailableError):
            return False
        return True


def _check_accepted(started: StartedTarget) -> None:
    """Raise if the input broke the function's schema; the execution on record says so, too."""
    if started.execution is not None and started.execution.errors:
        raise RejectedInputError(started.execution.execution_id, started.execution.errors)


def _kept(delivery: WebhookDelivery, path: str) -> Incoming:
    return Incoming(
        method=delivery.method,
        path=path,
        query=delivery.query,
        headers={name: str(value) for name, value in delivery.headers.items()},
        body=delivery.body or b"",
        client_address=delivery.client_address,
    )
