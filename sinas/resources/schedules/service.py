"""Rules of schedules: what may be started, when it is due, and whose it is."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy.exc import IntegrityError

from sinas.auth.principal import Principal
from sinas.context import AppContext
from sinas.crud.service import duplicate
from sinas.db.unit import Unit
from sinas.errors import (
    ConflictError,
    FieldError,
    ForbiddenError,
    InvalidInputError,
    NotFoundError,
)
from sinas.kit.cron import Cron, time_zone
from sinas.kit.time import utcnow
from sinas.models import Schedule, TargetType
from sinas.resources.agents.service import AgentService
from sinas.resources.functions.service import FunctionService
from sinas.resources.schedules import repository
from sinas.resources.schedules.firing import start
from sinas.resources.schedules.repository import ScheduleRepository
from sinas.resources.schedules.schemas import ScheduleCreate, ScheduleUpdate

_TARGET = frozenset({"schedule_type", "target_namespace", "target_name"})
_WHAT = _TARGET | {"input_data", "content"}
_WHEN = frozenset({"cron_expression", "timezone", "is_active"})


class ScheduleService:
    """Schedules of one caller, in one transaction.

    A name means the caller's own schedule, and where they have none and may touch others', the
    only one of that name. In its place, an id means that schedule.
    """

    def __init__(self, unit: Unit, principal: Principal, context: AppContext) -> None:
        self.unit = unit
        self.principal = principal
        self.context = context
        self.rows = ScheduleRepository(unit.session, principal)

    async def page(self, *, skip: int, limit: int) -> Sequence[Schedule]:
        """Schedules the caller may see, by name."""
        return await self.rows.listed(skip=skip, limit=limit)

    async def get(self, name: str) -> Schedule:
        """One schedule.

        Raises:
            NotFoundError: Absent, or not visible to the caller.
            ConflictError: Several users have one of that name, and the caller has none.
        """
        row = await self._named(name, "read")
        if row is None:
            raise NotFoundError(f"Schedule '{name}' not found")
        return row

    async def create(self, data: ScheduleCreate) -> Schedule:
        """A new schedule of the caller, due from now on.

        Raises:
            NotFoundError: There is no such target, or it is inactive.
            ForbiddenError: The caller may not start it.
            InvalidInputError: An agent without a message.
            DuplicateError: The caller has a schedule of that name.
        """
        values = data.model_dump()
        _check_content(values)
        await self._check_target(values)
        row = self.rows.add(
            Schedule(
                **values,
                user_id=self.principal.user_id,
                access=self.principal.limit_map,
                next_run=_next_run(values),
            )
        )
        await self._flush(data.name)
        return row

    async def update(self, name: str, data: ScheduleUpdate) -> Schedule:
        """Change what `data` carries. Whoever changes what is run limits it to what they hold.

        Raises:
            NotFoundError: Absent or not visible; or there is no such target.
            ForbiddenError: Visible, but no update grant; or the caller may not start the target.
            InvalidInputError: An agent without a message.
            DuplicateError: Its owner has another schedule of the new name.
        """
        row = await self._changeable(name, "update")
        columns = Schedule.__table__.columns
        given = data.model_dump(include=data.model_fields_set).items()
        changes = {k: v for k, v in given if v is not None or columns[k].nullable}
        changed = {key for key, value in changes.items() if getattr(row, key) != value}
        values = {key: getattr(row, key) for key in _WHAT | _WHEN} | changes
        _check_content(values)
        if changed & _TARGET:
            await self._check_target(values)
        if changed & _WHAT:
            changes["access"] = self.principal.limit_map
        if changed & _WHEN:
            changes["next_run"] = _next_run(values)
        for key, value in changes.items():
            setattr(row, key, value)
        await self._flush(row.name)
        return row

    async def delete(self, name: str) -> None:
        """Forget a schedule; what it has started goes on.

        Raises:
            NotFoundError: Absent, or not visible.
            ForbiddenError: Visible, but no delete grant.
        """
        await self.unit.session.delete(await self._changeable(name, "delete"))

    async def run(self, name: str) -> Schedule:
        """Start it now, active or not, as its owner; when it is due next stays as it is.

        Raises:
            NotFoundError: Absent or not visible; or its target is gone.
            ForbiddenError: Visible, but no update grant; or its owner may not start the target.
            ConflictError: Its last run has not ended, or its owner was deactivated.
        """
        row = await self._changeable(name, "update")
        locked = await repository.lock(self.unit.session, row.id)
        if locked is None:
            raise NotFoundError(f"Schedule '{name}' not found")
        _, is_busy, now = locked
        if is_busy and not row.allow_overlap:
            raise ConflictError(
                f"The last run of schedule '{name}' has not ended; wait for it, or set "
                "allow_overlap."
            )
        for key, value in (await start(self.context, self.unit, row, now)).items():
            setattr(row, key, value)
        return row

    async def _named(self, name: str, action: str) -> Schedule | None:
        found = await self.rows.named(name, action)
        if len(found) > 1:
            raise ConflictError(
                f"Several users have a schedule '{name}'; give the id instead of the name."
            )
        return found[0] if found else None

    async def _changeable(self, name: str, action: str) -> Schedule:
        row = await self._named(name, action)
        if row is None:
            await self.get(name)
            raise ForbiddenError(f"Not authorized to {action} schedule '{name}'.")
        return row

    async def _check_target(self, values: dict[str, Any]) -> None:
        namespace, name = values["target_namespace"], values["target_name"]
        if values["schedule_type"] is TargetType.AGENT:
            await AgentService(self.unit, self.principal).for_chat(namespace, name)
            return
        self.principal.require(f"sinas.functions/{namespace}/{name}.execute:own")
        functions = FunctionService(self.unit, self.principal, self.context.settings.function)
        await functions.executable(namespace, name)

    async def _flush(self, name: str) -> None:
        try:
            await self.unit.session.flush()
        except IntegrityError as error:
            raise duplicate(error, f"Schedule '{name}'") from error


def _check_content(values: dict[str, Any]) -> None:
    if values["schedule_type"] is TargetType.AGENT and not values["content"]:
        message = "content is needed for an agent: the message it gets"
        raise InvalidInputError(message, [FieldError("content", message)])


def _next_run(values: dict[str, Any]) -> datetime | None:
    if not values["is_active"]:
        return None
    return Cron(values["cron_expression"]).next_after(utcnow(), time_zone(values["timezone"]))
