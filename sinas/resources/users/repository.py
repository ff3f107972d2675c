"""The SQL of users."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Select, false, func, select, true
from typing_extensions import override

from sinas.crud.repository import Repository
from sinas.models import Role, User, UserRole
from sinas.resources.users.schemas import UserDetail

_roles = (
    select(func.array_agg(Role.name.distinct()))
    .join(UserRole, UserRole.role_id == Role.id)
    .where(UserRole.user_id == User.id, UserRole.active)
    .correlate(User)
    .scalar_subquery()
)


class UserRepository(Repository[User]):
    """All users, or the caller alone."""

    model = User
    resource = "users"

    @override
    def readable(self, action: str = "read") -> ColumnElement[bool]:
        """SQL: everybody, the caller, or nobody."""
        if self.principal.can(f"sinas.users.{action}:all"):
            return true()
        if self.principal.can(f"sinas.users.{action}:own"):
            return User.id == self.principal.user_id
        return false()

    async def details(
        self, *, search: str | None, include_inactive: bool, skip: int, limit: int
    ) -> Sequence[UserDetail]:
        """Users with their role names in one query, newest first."""
        statement = self._detailed()
        if not include_inactive:
            statement = statement.where(User.is_active)
        if search:
            statement = statement.where(User.email.icontains(search, autoescape=True))
        statement = statement.order_by(User.created_at.desc(), User.id.desc())
        rows = await self.session.execute(statement.offset(skip).limit(limit))
        return [_detail(row) for row in rows]

    async def detail(self, user_id: UUID) -> UserDetail | None:
        """One user with their role names, if the caller may see them."""
        rows = await self.session.execute(self._detailed().where(User.id == user_id))
        row = rows.one_or_none()
        return None if row is None else _detail(row)

    async def by_email(self, email: str) -> User | None:
        """The user of an address, deactivated ones included."""
        return await self.session.scalar(self.visible_to_system().where(User.email == email))

    async def locked(self, user_id: UUID) -> User | None:
        """One user to change, if the caller may see them."""
        statement = self.visible().where(User.id == user_id).with_for_update()
        return await self.session.scalar(statement)

    def _detailed(self) -> Select[Any]:
        return select(User, _roles.label("roles")).where(self.readable())


def _detail(row: Any) -> UserDetail:
    user: User = row.User
    return UserDetail(
        id=user.id,
        email=user.email,
        last_login_at=user.last_login_at,
        created_at=user.created_at,
        is_active=user.is_active,
        roles=sorted(row.roles or ()),
    )
