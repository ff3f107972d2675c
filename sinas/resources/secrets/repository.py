"""SQL of secrets: what callers may see, and what code that runs for a user may use."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Row, and_, bindparam, false, func, or_, select, text, true
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession
from typing_extensions import override

from sinas.crud.repository import Repository
from sinas.models import Secret, SecretVisibility

_shared = Secret.visibility == SecretVisibility.SHARED
_private = Secret.visibility == SecretVisibility.PRIVATE
# The user's own after the shared ones: whoever reads them in this order ends with the right one.
# Made once: every call in the shared pool asks it.
_USABLE = (
    select(Secret.name, Secret.value_encrypted)
    .where(or_(_shared, and_(_private, Secret.user_id == bindparam("of_user"))))
    .order_by(Secret.visibility.desc())
)
# One of them with where it may go, the one that counts first.
_SENDABLE = (
    select(Secret.value_encrypted, Secret.visibility, Secret.allowed_hosts)
    .where(
        Secret.name == bindparam("name"),
        or_(_shared, and_(_private, Secret.user_id == bindparam("of_user"))),
    )
    .order_by(Secret.visibility)
    .limit(1)
)
_USABLE_NAMED = _USABLE.where(Secret.name.in_(bindparam("names", expanding=True)))


class SecretRepository(Repository[Secret]):
    """Secrets, as one caller may see them."""

    model = Secret
    resource = "secrets"

    @override
    def readable(self, action: str = "read") -> ColumnElement[bool]:
        """SQL: every secret, the shared ones and the caller's own, or none."""
        if self.principal.can(f"sinas.secrets.{action}:all"):
            return true()
        if self.principal.can(f"sinas.secrets.{action}:own"):
            return or_(_shared, self._is_own())
        return false()

    async def listed(self, *, skip: int, limit: int) -> Sequence[Secret]:
        """Visible secrets by name, a shared one before private ones."""
        statement = self.visible().order_by(
            Secret.name, Secret.visibility.desc(), Secret.created_at, Secret.id
        )
        return await self.page(statement, skip=skip, limit=limit)

    async def named(
        self, name: str, action: str, visibility: SecretVisibility | None = None
    ) -> Secret | None:
        """The caller's own of that name, else the shared one; only one kind if told which."""
        statement = (
            self.visible(action)
            .where(Secret.name == name, or_(_shared, self._is_own()))
            .order_by(Secret.visibility)
            .limit(1)
        )
        if visibility is not None:
            statement = statement.where(Secret.visibility == visibility)
        return await self.session.scalar(statement)

    async def put(
        self,
        name: str,
        visibility: SecretVisibility,
        encrypted: str,
        changes: dict[str, Any],
    ) -> Secret:
        """Insert, or replace value and `changes` of the one that is there, in one statement."""
        row = insert(Secret).values(
            user_id=self.principal.user_id,
            name=name,
            visibility=visibility,
            value_encrypted=encrypted,
            **changes,
        )
        is_shared = visibility is SecretVisibility.SHARED
        stored = row.on_conflict_do_update(
            index_elements=["name"] if is_shared else ["user_id", "name"],
            # Literal: with a parameter, PostgreSQL stops finding the index once it plans the
            # prepared statement for any value.
            index_where=text(f"visibility = '{visibility.value}'"),
            set_={"value_encrypted": encrypted, **changes, "updated_at": func.now()},
        ).returning(Secret)
        found = await self.session.scalars(stored, execution_options={"populate_existing": True})
        return found.one()

    def _is_own(self) -> ColumnElement[bool]:
        return and_(_private, Secret.user_id == self.principal.user_id)


async def usable(
    session: AsyncSession, user_id: UUID, names: Sequence[str] | None
) -> Sequence[Row[str, str]]:
    """Name and ciphertext of what work of a user may use; a private one after the shared one."""
    if names is None:
        return (await session.execute(_USABLE, {"of_user": user_id})).all()
    return (await session.execute(_USABLE_NAMED, {"of_user": user_id, "names": list(names)})).all()


async def sendable(
    session: AsyncSession, user_id: UUID, name: str
) -> Row[str, SecretVisibility, list[Any] | None] | None:
    """Ciphertext, kind and allowed hosts of the secret that work of a user means by a name."""
    return (await session.execute(_SENDABLE, {"of_user": user_id, "name": name})).first()
