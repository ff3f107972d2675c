"""The SQL of roles, their members and their permission keys."""

from collections.abc import Iterable, Sequence
from uuid import UUID

from sqlalchemy import ColumnElement, exists, func, select, true, update
from sqlalchemy.dialects.postgresql import insert
from typing_extensions import override

from sinas.auth.permissions import ADMIN_ROLE
from sinas.crud.repository import Repository
from sinas.models import Role, RolePermission, User, UserRole
from sinas.resources.roles.schemas import MemberRead


class RoleRepository(Repository[Role]):
    """Roles the caller is a member of, or all of them with `sinas.roles.read:all`."""

    model = Role
    resource = "roles"

    @override
    def readable(self, action: str = "read") -> ColumnElement[bool]:
        """SQL: everything, or the caller's own memberships."""
        if self.principal.can(f"sinas.roles.{action}:all"):
            return true()
        return exists().where(
            UserRole.role_id == Role.id,
            UserRole.user_id == self.principal.user_id,
            UserRole.active,
        )

    async def by_role_name(self, name: str) -> Role | None:
        """One role, if the caller may see it."""
        return await self.session.scalar(self.visible().where(Role.name == name))

    async def lock_admins(self) -> Role:
        """The Admins role, ours until the end of the transaction: nobody else counts its members."""
        statement = self.visible_to_system().where(Role.name == ADMIN_ROLE).with_for_update()
        return (await self.session.scalars(statement)).one()

    async def matching_domain(self, domain: str) -> Sequence[UUID]:
        """Ids of the roles that users of an e-mail domain join."""
        return (
            await self.session.scalars(select(Role.id).where(Role.email_domain == domain))
        ).all()

    async def ids_by_name(self, names: Iterable[str]) -> Sequence[UUID]:
        """Ids of the roles of these names."""
        return (
            await self.session.scalars(select(Role.id).where(Role.name.in_(tuple(names))))
        ).all()

    async def join(self, user_id: UUID, role_ids: Iterable[UUID]) -> None:
        """Make the user an active member of each role; a membership that ended begins again."""
        rows = [{"user_id": user_id, "role_id": role_id} for role_id in role_ids]
        if not rows:
            return
        fresh = insert(UserRole)
        await self.session.execute(
            fresh.on_conflict_do_update(
                index_elements=["user_id", "role_id"],
                set_={"active": True, "added_at": func.now()},
                where=~UserRole.active,
            ),
            rows,
        )

    async def leave(self, user_id: UUID, role_id: UUID | None = None) -> bool:
        """End one membership, or all of them; False if there was none."""
        statement = update(UserRole).where(UserRole.user_id == user_id, UserRole.active)
        if role_id is not None:
            statement = statement.where(UserRole.role_id == role_id)
        ended = await self.session.execute(statement.values(active=False).returning(UserRole.id))
        return ended.first() is not None

    async def members(self, role_id: UUID, user_id: UUID | None = None) -> Sequence[MemberRead]:
        """Active members in the order they joined; only `user_id` if given."""
        statement = (
            select(
                UserRole.id,
                UserRole.role_id,
                UserRole.user_id,
                User.email.label("user_email"),
                UserRole.active,
                UserRole.added_at,
            )
            .join(User, User.id == UserRole.user_id)
            .where(UserRole.role_id == role_id, UserRole.active)
            .order_by(UserRole.added_at, UserRole.id)
        )
        if user_id is not None:
            statement = statement.where(UserRole.user_id == user_id)
        rows = await self.session.execute(statement)
        return [MemberRead.model_validate(row) for row in rows]

    async def active_members(self, role_id: UUID) -> int:
        """How many members could sign in."""
        count = await self.session.scalar(
            select(func.count())
            .select_from(UserRole)
            .join(User, User.id == UserRole.user_id)
            .where(UserRole.role_id == role_id, UserRole.active, User.is_active)
        )
        return int(count or 0)

    async def active_user(self, user_id: UUID) -> User | None:
        """A user who can become a member."""
        return await self.session.scalar(select(User).where(User.id == user_id, User.is_active))

    async def permissions(self, role_id: UUID) -> Sequence[RolePermission]:
        """The role's keys in alphabetical order."""
        return (
            await self.session.scalars(
                select(RolePermission)
                .where(RolePermission.role_id == role_id)
                .order_by(RolePermission.permission_key)
            )
        ).all()

    async def permission(self, role_id: UUID, key: str) -> RolePermission | None:
        """One key of a role."""
        return await self.session.scalar(
            select(RolePermission).where(
                RolePermission.role_id == role_id, RolePermission.permission_key == key
            )
        )

    async def set_permission(self, role_id: UUID, key: str, value: bool) -> RolePermission:
        """Add the key or change its value."""
        fresh = insert(RolePermission).values(
            role_id=role_id, permission_key=key, permission_value=value
        )
        statement = fresh.on_conflict_do_update(
            index_elements=["role_id", "permission_key"],
            set_={"permission_value": value, "updated_at": func.now()},
        ).returning(RolePermission)
        rows = await self.session.scalars(statement, execution_options={"populate_existing": True})
        return rows.one()
