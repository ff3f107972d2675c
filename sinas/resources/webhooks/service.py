"""Rules of webhooks: what they may start, and who sees what they got."""

import base64
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy.exc import IntegrityError

from sinas.auth.principal import Principal
from sinas.crud.service import duplicate
from sinas.db.unit import Unit
from sinas.errors import FieldError, ForbiddenError, InvalidInputError, NotFoundError
from sinas.kit.templates import TemplateError, check_template
from sinas.models import DeliveryStatus, ResponseMode, TargetType, Webhook
from sinas.resources.agents.service import AgentService
from sinas.resources.functions.service import FunctionService
from sinas.resources.webhooks import repository
from sinas.resources.webhooks.repository import DeliveryRow, WebhookRepository
from sinas.resources.webhooks.schemas import (
    DeliveryDetail,
    DeliveryRead,
    WebhookCreate,
    WebhookUpdate,
)
from sinas.settings import FunctionSettings

_DEFAULT_NAMESPACE = "default"
_OF_FUNCTIONS = ("function_namespace", "function_name")
# Neither what is run, nor with what, nor by whom.
_HARMLESS = {"description", "is_active"}
_OF_AGENTS = ("agent_namespace", "agent_name", "message_template", "session_key_template")


class WebhookService:
    """Webhooks of one caller, in one transaction."""

    def __init__(self, unit: Unit, principal: Principal, limits: FunctionSettings) -> None:
        self.unit = unit
        self.principal = principal
        self.limits = limits
        self.rows = WebhookRepository(unit.session, principal)

    async def page(self, *, skip: int, limit: int) -> Sequence[Webhook]:
        """Webhooks the caller may read, newest first."""
        newest = self.rows.visible().order_by(Webhook.created_at.desc(), Webhook.id.desc())
        return await self.rows.page(newest, skip=skip, limit=limit)

    async def get(self, path: str) -> Webhook:
        """One webhook.

        Raises:
            NotFoundError: Absent, or not visible to the caller.
        """
        row = await self.rows.by_path(path)
        if row is None:
            raise NotFoundError(f"Webhook '{path}' not found")
        return row

    async def create(self, data: WebhookCreate) -> Webhook:
        """A new webhook, owned by the caller.

        Raises:
            DuplicateError: The path is taken, by whomever.
            ForbiddenError: The caller may not use the target.
            NotFoundError: The target does not exist.
            InvalidInputError: Fields do not fit each other.
        """
        self.principal.require("sinas.webhooks.create:own")
        values = data.model_dump()
        row = Webhook(
            user_id=self.principal.user_id,
            access=self.principal.limit_map,
            **await self._checked(values),
        )
        self.rows.add(row)
        await self._flush(row.path)
        return row

    async def update(self, path: str, data: WebhookUpdate) -> Webhook:
        """Change the given fields. A target that is left as it is, is not looked at.

        Whoever changes more than whether it is on limits what it runs to what they hold.

        Raises:
            NotFoundError: Absent or not visible, or the new target does not exist.
            ForbiddenError: Visible, but not the caller's to change, or no right to the target.
            InvalidInputError: Fields do not fit each other.
        """
        row = await self.changeable(path, "update")
        changes = data.model_dump(include=data.model_fields_set)
        columns = Webhook.__table__.columns
        changes = {k: v for k, v in changes.items() if v is not None or columns[k].nullable}
        merged = {key: getattr(row, key) for key in WebhookUpdate.model_fields} | changes
        if changes.get("target_type", row.target_type) is not row.target_type:
            # What belongs to the other kind of target goes, unless it was asked for just now.
            others = _OF_AGENTS if row.target_type is TargetType.AGENT else _OF_FUNCTIONS
            merged |= {key: None for key in others if key not in changes}
        values = await self._checked(merged, before=row)
        changed = {key for key, value in values.items() if getattr(row, key) != value}
        if changed - _HARMLESS:
            row.access = self.principal.limit_map
        for key, value in values.items():
            setattr(row, key, value)
        await self._flush(path)
        # `updated_at` is the database's; read it back for the answer.
        await self.unit.session.refresh(row)
        return row

    async def delete(self, path: str) -> None:
        """Remove a webhook and its deliveries.

        Raises:
            NotFoundError: Absent, or not visible.
            ForbiddenError: Visible, but not the caller's to delete.
        """
        await self.unit.session.delete(await self.changeable(path, "delete"))

    async def changeable(self, path: str, action: str) -> Webhook:
        """The webhook, if the caller may do `action` on it.

        Raises:
            NotFoundError: Absent, or not visible.
            ForbiddenError: Visible, but not for this.
        """
        row = await self.rows.by_path(path, action)
        if row is None:
            await self.get(path)
            raise ForbiddenError(f"Not authorized to {action} webhook '{path}'.")
        return row

    async def deliveries(
        self, path: str, *, status: DeliveryStatus | None, skip: int, limit: int
    ) -> Sequence[DeliveryRead]:
        """What a webhook got, newest first.

        Raises:
            NotFoundError: The webhook is absent, or not visible to the caller.
        """
        row = await self.get(path)
        rows = await repository.delivery_page(
            self.unit.session, row.id, status=status, skip=skip, limit=limit
        )
        return [DeliveryRead.model_validate(_columns(row)) for row in rows]

    async def delivery(self, path: str, delivery_id: UUID) -> DeliveryDetail:
        """One delivery with its body.

        Raises:
            NotFoundError: The webhook or the delivery is absent, or not visible to the caller.
        """
        row = await self.delivery_row(await self.get(path), delivery_id)
        return DeliveryDetail.model_validate({**_columns(row), **_body(row[0].body)})

    async def delivery_row(self, webhook: Webhook, delivery_id: UUID) -> DeliveryRow:
        """One delivery of a webhook, and its outcome.

        Raises:
            NotFoundError: It is absent.
        """
        found = await repository.delivery(self.unit.session, webhook.id, delivery_id)
        if found is None:
            raise NotFoundError(f"Delivery '{delivery_id}' not found")
        return found

    async def _checked(
        self, values: dict[str, Any], before: Webhook | None = None
    ) -> dict[str, Any]:
        """The values to store, once they fit each other and the target may be used."""
        if values["target_type"] is TargetType.FUNCTION:
            values = _function_values(values)
        else:
            values = _agent_values(values)
        names = ("target_type", *_OF_FUNCTIONS, "agent_namespace", "agent_name")
        if before is None or any(values[name] != getattr(before, name) for name in names):
            await self._check_target(values)
        return values

    async def _check_target(self, values: dict[str, Any]) -> None:
        if values["target_type"] is TargetType.AGENT:
            agents = AgentService(self.unit, self.principal)
            await agents.for_chat(values["agent_namespace"], values["agent_name"])
            return
        namespace, name = values["function_namespace"], values["function_name"]
        # Before it is looked up, so that the answer tells nothing about it.
        self.principal.require(f"sinas.functions/{namespace}/{name}.execute:own")
        functions = FunctionService(self.unit, self.principal, self.limits)
        await functions.executable(namespace, name)

    async def _flush(self, path: str) -> None:
        try:
            await self.unit.session.flush()
        except IntegrityError as error:
            raise duplicate(error, f"Webhook '{path}'") from error


def _columns(row: DeliveryRow) -> dict[str, Any]:
    delivery, outcome = row
    names = DeliveryRead.model_fields.keys() - {"status", "job_id"}
    values = {name: getattr(delivery, name) for name in names}
    return {**values, "status": outcome, "job_id": delivery.turn_id}


def _body(body: bytes | None) -> dict[str, str | None]:
    """The body as text, else in base64; JSON answers hold no other bytes."""
    if body is None:
        return {"body": None, "body_base64": None}
    try:
        return {"body": body.decode(), "body_base64": None}
    except UnicodeDecodeError:
        return {"body": None, "body_base64": base64.b64encode(body).decode()}


def _function_values(values: dict[str, Any]) -> dict[str, Any]:
    _refuse(values, _OF_AGENTS, "belongs to agents; set target_type to agent, or leave it out")
    if values["function_name"] is None:
        raise _invalid("function_name", "is required where target_type is function")
    return values | {"function_namespace": values["function_namespace"] or _DEFAULT_NAMESPACE}


def _agent_values(values: dict[str, Any]) -> dict[str, Any]:
    _refuse(values, _OF_FUNCTIONS, "belongs to functions; leave it out for an agent")
    if values["agent_name"] is None:
        raise _invalid("agent_name", "is required where target_type is agent")
    if values["response_mode"] is ResponseMode.RAW:
        raise _invalid("response_mode", "raw is for functions; use sync or async for an agent")
    for field in ("message_template", "session_key_template"):
        if (text := values[field]) is None:
            continue
        try:
            check_template(text)
        except TemplateError as error:
            raise _invalid(field, f"cannot be used: {error.message}") from error
    return values | {"agent_namespace": values["agent_namespace"] or _DEFAULT_NAMESPACE}


def _refuse(values: dict[str, Any], fields: Sequence[str], reason: str) -> None:
    for field in fields:
        if values[field] is not None:
            raise _invalid(field, reason)


def _invalid(field: str, message: str) -> InvalidInputError:
    return InvalidInputError(f"{field} {message}", [FieldError(field, message)])
