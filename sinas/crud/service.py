"""Generic service: the management operations of one namespaced resource, for one caller."""

from collections.abc import Sequence
from typing import Any, ClassVar, Generic, TypeVar

from pydantic import BaseModel
from sqlalchemy.exc import IntegrityError

from sinas.auth.principal import Principal
from sinas.crud.repository import Repository
from sinas.db.base import Base
from sinas.db.unit import Unit
from sinas.errors import DuplicateError, ForbiddenError, NotFoundError

M = TypeVar("M", bound=Base)
C = TypeVar("C", bound=BaseModel)
U = TypeVar("U", bound=BaseModel)


class CrudService(Generic[M, C, U]):
    """Create, read, update, delete in one transaction.

    A row the caller may not see does not exist for them (`NotFoundError`); one they may see
    but not change is forbidden (`ForbiddenError`). Hooks are ordinary methods to override:
    `check`, `before_delete`.
    """

    repository: type[Repository[M]]
    noun: ClassVar[str]

    def __init__(self, unit: Unit, principal: Principal) -> None:
        self.unit = unit
        self.principal = principal
        self.rows = self.repository(unit.session, principal)

    async def get(self, namespace: str, name: str) -> M:
        """One row.

        Raises:
            NotFoundError: Absent, or not visible to the caller.
        """
        row = await self.rows.by_name(namespace, name)
        if row is None:
            raise self.missing(namespace, name)
        return row

    async def page(self, *, skip: int = 0, limit: int = 1000) -> Sequence[M]:
        """Rows the caller may read, newest first."""
        model: Any = self.rows.model
        statement = self.rows.visible().order_by(model.created_at.desc(), model.id.desc())
        return await self.rows.page(statement, skip=skip, limit=limit)

    async def create(self, data: C) -> M:
        """A new row, owned by the caller.

        Raises:
            ForbiddenError: No create grant for this name.
            DuplicateError: The name is taken.
            InvalidInputError: A rule of the resource is broken.
        """
        values = self._storable(data.model_dump())
        namespace, name = values["namespace"], values["name"]
        if not self.principal.can_create(self.rows.resource, namespace, name):
            raise ForbiddenError(
                f"Not authorized to create {self.noun} '{namespace}/{name}': this needs "
                f"'sinas.{self.rows.resource}/{namespace}/{name}.create:own'."
            )
        await self.check(values, None)
        row = self.rows.model(**values, user_id=self.principal.user_id)
        self.rows.add(row)
        await self.flush(namespace, name)
        return row

    async def update(self, namespace: str, name: str, data: U) -> M:
        """Change the fields that `data` carries, leave the others.

        Raises:
            NotFoundError: Absent, or not visible.
            ForbiddenError: Visible, but no update grant.
            DuplicateError: Renamed to a name that is taken.
        """
        row = await self.changeable(namespace, name, "update")
        values = self._storable(data.model_dump(include=data.model_fields_set))
        await self.check(values, row)
        for key, value in values.items():
            setattr(row, key, value)
        await self.flush(values.get("namespace", namespace), values.get("name", name))
        # `updated_at` is the database's; read it back for the answer.
        await self.unit.session.refresh(row)
        return row

    async def delete(self, namespace: str, name: str) -> None:
        """Remove the row.

        Raises:
            NotFoundError: Absent, or not visible.
            ForbiddenError: Visible, but no delete grant.
        """
        row = await self.changeable(namespace, name, "delete")
        await self.before_delete(row)
        await self.unit.session.delete(row)

    async def changeable(self, namespace: str, name: str, action: str) -> M:
        """The row, if the caller may do `action` on it."""
        row = await self.rows.by_name(namespace, name, action)
        if row is None:
            await self.get(namespace, name)
            raise ForbiddenError(f"Not authorized to {action} {self.noun} '{namespace}/{name}'.")
        return row

    async def check(self, values: dict[str, Any], row: M | None) -> None:
        """Rules beyond the schema; `row` is None on create. May normalise `values`."""

    async def before_delete(self, row: M) -> None:
        """Last word before the row goes."""

    async def flush(self, namespace: str, name: str) -> None:
        """Send the changes now, to turn a broken unique key into the caller's error."""
        try:
            await self.unit.session.flush()
        except IntegrityError as error:
            raise duplicate(error, f"{self.noun.capitalize()} '{namespace}/{name}'") from error

    def missing(self, namespace: str, name: str) -> NotFoundError:
        """The error for an absent row."""
        return NotFoundError(f"{self.noun.capitalize()} '{namespace}/{name}' not found")

    def _storable(self, values: dict[str, Any]) -> dict[str, Any]:
        """Without nulls for columns that have none: null means "not given" there."""
        columns = self.rows.model.__table__.columns
        return {
            key: value
            for key, value in values.items()
            if value is not None or key not in columns or columns[key].nullable
        }


def duplicate(error: IntegrityError, what: str) -> Exception:
    """The error to raise for a broken constraint: a duplicate, or the original."""
    if getattr(error.orig, "sqlstate", None) == "23505":
        return DuplicateError(f"{what} already exists; choose another name.")
    return error
