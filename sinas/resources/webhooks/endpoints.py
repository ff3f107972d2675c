"""Management operations of webhooks and their deliveries.

Paths have slashes in them, so the operations behind a path come before the path itself.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Query
from pydantic import BeforeValidator

from sinas.auth.principal import Principal
from sinas.crud.schema import LimitQuery, SkipQuery
from sinas.models import DeliveryStatus, Webhook
from sinas.resources.webhooks.calls import WebhookCalls
from sinas.resources.webhooks.schemas import (
    DeliveryDetail,
    DeliveryRead,
    DeliveryReplayed,
    WebhookCreate,
    WebhookRead,
    WebhookUpdate,
)
from sinas.resources.webhooks.service import WebhookService
from sinas.web.deps import CREDENTIALS, Context, InUnit, permitted
from sinas.web.problems import PROBLEM_RESPONSES

router = APIRouter(
    prefix="/webhooks", tags=["webhooks"], responses=PROBLEM_RESPONSES, dependencies=CREDENTIALS
)


def _for(action: str) -> Callable[..., Awaitable[WebhookService]]:
    check = permitted("webhooks", action)

    async def build(
        unit: InUnit, context: Context, principal: Annotated[Principal, Depends(check)]
    ) -> WebhookService:
        return WebhookService(unit, principal, context.settings.function)

    return build


Create = Annotated[WebhookService, Depends(_for("create"))]
Read = Annotated[WebhookService, Depends(_for("read"))]
Update = Annotated[WebhookService, Depends(_for("update"))]
Delete = Annotated[WebhookService, Depends(_for("delete"))]
Replayer = Annotated[Principal, Depends(permitted("webhooks", "update"))]
Status = Annotated[
    DeliveryStatus | None,
    BeforeValidator(lambda given: given.lower() if isinstance(given, str) else given),
    Query(description="In any case."),
]


@router.get("/{path:path}/deliveries")
async def list_deliveries(
    path: str,
    webhooks: Read,
    status: Status = None,
    skip: SkipQuery = 0,
    limit: LimitQuery = 100,
) -> Sequence[DeliveryRead]:
    """List the calls of a webhook, newest first, for as long as they are kept."""
    return await webhooks.deliveries(path, status=status, skip=skip, limit=limit)


@router.get("/{path:path}/deliveries/{delivery_id}")
async def get_delivery(path: str, delivery_id: UUID, webhooks: Read) -> DeliveryDetail:
    """Get one call of a webhook with its body, as far as that was kept."""
    return await webhooks.delivery(path, delivery_id)


@router.post("/{path:path}/deliveries/{delivery_id}/replay", status_code=202)
async def replay_delivery(
    path: str, delivery_id: UUID, principal: Replayer, context: Context
) -> DeliveryReplayed:
    """Send a call again, as whom it ran. Nobody waits, and it is no repetition.

    Somebody else's calls only admins send again (`sinas.webhooks.update:all`).
    """
    return await WebhookCalls(context).replay(path, delivery_id, principal)


@router.post("", status_code=201, response_model=WebhookRead)
async def create_webhook(data: WebhookCreate, webhooks: Create) -> Webhook:
    """Create a webhook for a function or an agent that you may use."""
    return await webhooks.create(data)


@router.get("", response_model=list[WebhookRead])
async def list_webhooks(
    webhooks: Read, skip: SkipQuery = 0, limit: LimitQuery = 100
) -> Sequence[Webhook]:
    """List webhooks, newest first."""
    return await webhooks.page(skip=skip, limit=limit)


@router.get("/{path:path}", response_model=WebhookRead)
async def get_webhook(path: str, webhooks: Read) -> Webhook:
    """Get one webhook."""
    return await webhooks.get(path)


@router.patch("/{path:path}", response_model=WebhookRead)
async def update_webhook(path: str, data: WebhookUpdate, webhooks: Update) -> Webhook:
    """Change a webhook; fields left out stay as they are."""
    return await webhooks.update(path, data)


@router.delete("/{path:path}", status_code=204)
async def delete_webhook(path: str, webhooks: Delete) -> None:
    """Delete a webhook and the record of its calls."""
    await webhooks.delete(path)
