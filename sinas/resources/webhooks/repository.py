"""SQL of webhooks and of their deliveries."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    Row,
    Select,
    bindparam,
    case,
    delete,
    false,
    func,
    insert,
    literal,
    or_,
    select,
    true,
    type_coerce,
)
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import defer
from typing_extensions import override

from sinas.crud.repository import Repository
from sinas.models import (
    DeliveryStatus,
    Execution,
    ExecutionStatus,
    Message,
    Turn,
    TurnStatus,
    Webhook,
    WebhookDelivery,
)

_PURGE_BATCH = 1000

# A delivery, and what became of it.
DeliveryRow: TypeAlias = Row[WebhookDelivery, DeliveryStatus]


class WebhookRepository(Repository[Webhook]):
    """Webhooks, as one caller may see them: their own, or all."""

    model = Webhook
    resource = "webhooks"

    @override
    def readable(self, action: str = "read") -> ColumnElement[bool]:
        """SQL: every webhook, the caller's, or none."""
        if self.principal.can(f"sinas.webhooks.{action}:all"):
            return true()
        if self.principal.can(f"sinas.webhooks.{action}:own"):
            return Webhook.user_id == self.principal.user_id
        return false()

    async def by_path(self, path: str, action: str = "read") -> Webhook | None:
        """One webhook, if the caller may do `action` on it."""
        return await self.session.scalar(self.visible(action).where(Webhook.path == path))


# Made once: every call asks it. Whoever calls may have no account here.
_CALLED = select(Webhook).where(
    Webhook.path == bindparam("called_path"),
    Webhook.http_method == bindparam("called_method", type_=Webhook.http_method.type),
    Webhook.is_active,
)


async def called(session: AsyncSession, method: str, path: str) -> Webhook | None:
    """The active webhook of a path and method."""
    return await session.scalar(_CALLED, {"called_path": path, "called_method": method})


def _status() -> ColumnElement[DeliveryStatus]:
    """What became of a delivery: what it started tells, so that nothing has to be written."""
    ended_well = or_(
        Execution.status == ExecutionStatus.COMPLETED, Turn.status == TurnStatus.COMPLETED
    )
    ended_badly = or_(
        Execution.status.in_([ExecutionStatus.FAILED, ExecutionStatus.CANCELLED]),
        Turn.status.in_([TurnStatus.FAILED, TurnStatus.CANCELLED]),
    )
    accepted = WebhookDelivery.status == DeliveryStatus.ACCEPTED
    return type_coerce(
        case(
            (accepted & ended_well, literal(DeliveryStatus.SUCCEEDED.value)),
            (accepted & ended_badly, literal(DeliveryStatus.FAILED.value)),
            else_=WebhookDelivery.status,
        ),
        WebhookDelivery.status.type,
    )


def _with_status() -> Select[WebhookDelivery, DeliveryStatus]:
    return (
        select(WebhookDelivery, _status().label("outcome"))
        .outerjoin(Execution, Execution.id == WebhookDelivery.execution_id)
        .outerjoin(Turn, Turn.id == WebhookDelivery.turn_id)
    )


async def delivery_page(
    session: AsyncSession,
    webhook_id: UUID,
    *,
    status: DeliveryStatus | None,
    skip: int,
    limit: int,
) -> Sequence[DeliveryRow]:
    """Deliveries without their bodies and their `outcome`, newest first."""
    statement = (
        _with_status()
        .where(WebhookDelivery.webhook_id == webhook_id)
        .order_by(WebhookDelivery.received_at.desc(), WebhookDelivery.id.desc())
        .offset(skip)
        .limit(limit)
        .options(defer(WebhookDelivery.body, raiseload=True))
    )
    if status is not None:
        statement = statement.where(_status() == status)
    return (await session.execute(statement)).all()


async def delivery(session: AsyncSession, webhook_id: UUID, key: UUID) -> DeliveryRow | None:
    """One delivery of a webhook, and its `outcome`."""
    statement = _with_status().where(
        WebhookDelivery.webhook_id == webhook_id, WebhookDelivery.id == key
    )
    return (await session.execute(statement)).first()


_INSERT = insert(WebhookDelivery)


async def insert_delivery(session: AsyncSession, values: Mapping[str, Any]) -> None:
    """Record one delivery."""
    await session.execute(_INSERT, [dict(values)])


# The first delivery with this value that has not failed, and how what it started has ended.
_FIRST = (
    select(
        WebhookDelivery.id,
        WebhookDelivery.execution_id,
        WebhookDelivery.chat_id,
        WebhookDelivery.turn_id,
        Execution.status.label("execution_status"),
        Execution.output_data,
        Turn.status.label("turn_status"),
        Message.content.label("reply"),
    )
    .outerjoin(Execution, Execution.id == WebhookDelivery.execution_id)
    .outerjoin(Turn, Turn.id == WebhookDelivery.turn_id)
    .outerjoin(Message, Message.id == Turn.reply_message_id)
    .where(
        WebhookDelivery.webhook_id == bindparam("of_webhook"),
        WebhookDelivery.dedup_key == bindparam("of_key"),
        WebhookDelivery.user_id == bindparam("of_user"),
        WebhookDelivery.status == DeliveryStatus.ACCEPTED,
        _status() != DeliveryStatus.FAILED,
        WebhookDelivery.received_at
        > func.clock_timestamp() - func.make_interval(0, 0, 0, 0, 0, 0, bindparam("ttl_seconds")),
    )
    .order_by(WebhookDelivery.received_at)
    .limit(1)
)
_LOCK = select(func.pg_advisory_xact_lock(func.hashtextextended(bindparam("named"), 0)))


async def first_delivery(
    session: AsyncSession, webhook_id: UUID, user_id: UUID, dedup_key: str, ttl_seconds: int
) -> Any | None:
    """The delivery of the same caller that a call with this key repeats, if there is one.

    Until the transaction ends, others with the same key wait here: whoever finds none records
    one in it.
    """
    # A statement of its own: what comes next must see what the holder before has committed.
    await session.execute(_LOCK, {"named": f"webhook {webhook_id} {user_id} {dedup_key}"})
    wanted = {"of_webhook": webhook_id, "of_user": user_id, "of_key": dedup_key}
    return (await session.execute(_FIRST, {**wanted, "ttl_seconds": ttl_seconds})).first()


async def purge(session: AsyncSession, older_than_days: int) -> int:
    """Delete some deliveries that are older; how many."""
    age = func.make_interval(0, 0, 0, older_than_days)
    old = (
        select(WebhookDelivery.id)
        .where(WebhookDelivery.received_at < func.now() - age)
        .limit(_PURGE_BATCH)
        .with_for_update(skip_locked=True)
    )
    deleted = await session.execute(
        delete(WebhookDelivery).where(WebhookDelivery.id.in_(old)).returning(WebhookDelivery.id)
    )
    return len(deleted.all())
