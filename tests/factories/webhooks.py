"""Webhooks and their deliveries."""

from itertools import count
from typing import Any

from sinas.context import AppContext
from sinas.models import (
    Agent,
    DeliveryStatus,
    Function,
    HttpMethod,
    ResponseMode,
    TargetType,
    User,
    Webhook,
    WebhookDelivery,
)

_numbers = count(1)


async def make_webhook(
    context: AppContext, owner: User, target: Function | Agent, **columns: Any
) -> Webhook:
    """A webhook of `owner` that starts `target`; anybody may call it unless columns say more."""
    is_function = isinstance(target, Function)
    kind = "function" if is_function else "agent"
    async with context.unit() as unit:
        row = Webhook(
            user_id=owner.id,
            path=columns.pop("path", f"hook-{next(_numbers)}"),
            target_type=TargetType(kind),
            http_method=HttpMethod(columns.pop("http_method", "POST")),
            requires_auth=columns.pop("requires_auth", False),
            response_mode=ResponseMode(columns.pop("response_mode", "sync")),
            **{f"{kind}_namespace": target.namespace, f"{kind}_name": target.name},
            **columns,
        )
        unit.session.add(row)
    return row


async def make_delivery(context: AppContext, webhook: Webhook, **columns: Any) -> WebhookDelivery:
    """A call of `webhook` that started nothing."""
    async with context.unit() as unit:
        row = WebhookDelivery(
            webhook_id=webhook.id,
            user_id=columns.pop("user_id", webhook.user_id),
            method=webhook.http_method,
            query=columns.pop("query", ""),
            headers=columns.pop("headers", {}),
            body=columns.pop("body", b"{}"),
            body_bytes=columns.pop("body_bytes", 2),
            status=columns.pop("status", DeliveryStatus.ACCEPTED),
            **columns,
        )
        unit.session.add(row)
    return row
