"""The rules of roles.

Whoever manages roles without being an administrator cannot use that to gain rights: they can
only hand out what they hold themselves, by key, by membership or by e-mail domain.
"""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy.exc import IntegrityError

from sinas.auth.permissions import (
    ADMIN_ROLE,
    DEFAULT_ROLES,
    GUEST_ROLE,
    REGISTRY,
    grammar_error,
)
from sinas.auth.principal import Principal
from sinas.crud.service import duplicate
from sinas.db.unit import Unit
from sinas.errors import (
    BadRequestError,
    FieldError,
    ForbiddenError,
    InvalidInputError,
    NotFoundError,
)
from sinas.kit.email import domain_of
from sinas.models import Role, RolePermission, User
from sinas.resources.roles.repository import RoleRepository
from sinas.resources.roles.schemas import (
    MemberRead,
    PermissionReference,
    PermissionSetting,
    RoleCreate,
    RoleRead,
    RoleUpdate,
)

EVERYTHING = "sinas.*:all"


class RoleService:
    """Roles, members and keys, for one caller in one transaction.

    `superadmin_email` is the address that stays in Admins whatever happens.
    """

    def __init__(self, unit: Unit, principal: Principal, superadmin_email: str) -> None:
        self._unit = unit
        self._principal = principal
        self._superadmin_email = superadmin_email
        self._rows = RoleRepository(unit.session, principal)

    async def page(self, *, skip: int, limit: int) -> Sequence[Role]:
        """Roles the caller may see, by name: all of them, or their own."""
        self._may_read()
        return await self._rows.page(
            self._rows.visible().order_by(Role.name), skip=skip, limit=limit
        )

    async def get(self, name: str) -> Role:
        """One role.

        Raises:
            NotFoundError: Absent, or the caller is no member and may not read all.
        """
        self._may_read()
        role = await self._rows.by_role_name(name)
        if role is None:
            raise NotFoundError(f"Role '{name}' not found")
        return role

    async def create(self, data: RoleCreate) -> Role:
        """A new role without keys; the caller becomes its first member.

        Raises:
            DuplicateError: The name is taken.
        """
        role = self._rows.add(Role(**data.model_dump()))
        await self._flush(data.name)
        await self._rows.join(self._principal.user_id, (role.id,))
        return role

    async def update(self, name: str, data: RoleUpdate) -> RoleRead:
        """Change the fields that `data` carries.

        Raises:
            ForbiddenError: A built-in role would get another name, or the new e-mail domain would
                give its users rights the caller does not hold.
            DuplicateError: The new name is taken.
        """
        role = await self._managed(name, "update")
        values = data.model_dump(include=data.model_fields_set)
        if values.get("name") is None:
            values.pop("name", None)
        if role.is_builtin and values.get("name", role.name) != role.name:
            raise ForbiddenError(f"The built-in role '{name}' cannot be renamed.")
        if values.get("email_domain") is not None:
            await self._require_all_keys_of(role)
        for key, value in values.items():
            setattr(role, key, value)
        await self._flush(role.name)
        await self._unit.session.refresh(role)
        return RoleRead.model_validate(role)

    async def delete(self, name: str) -> None:
        """Remove a role with its keys and memberships.

        Raises:
            ForbiddenError: It is built in.
        """
        role = await self._managed(name, "delete")
        if role.is_builtin:
            raise ForbiddenError(f"The built-in role '{name}' cannot be deleted.")
        await self._unit.session.delete(role)

    async def members(self, name: str) -> Sequence[MemberRead]:
        """Active members in the order they joined. Needs `sinas.roles.read:all`."""
        return await self._rows.members((await self._managed(name, "read")).id)

    async def add_member(self, name: str, user_id: UUID) -> MemberRead:
        """Make a user a member.

        Raises:
            NotFoundError: No such active user.
            BadRequestError: They are a member already.
            ForbiddenError: The role grants what the caller does not hold.
        """
        role = await self._managed(name, "manage_members")
        if await self._rows.active_user(user_id) is None:
            raise NotFoundError(f"User '{user_id}' not found")
        if await self._rows.members(role.id, user_id):
            raise BadRequestError(f"The user is already a member of '{name}'.")
        await self._require_all_keys_of(role)
        await self._rows.join(user_id, (role.id,))
        return (await self._rows.members(role.id, user_id))[0]

    async def remove_member(self, name: str, user_id: UUID) -> None:
        """End a membership.

        Raises:
            NotFoundError: They are no member.
            ForbiddenError: The superadmin, or the last active member, would leave Admins.
        """
        role = await self._managed(name, "manage_members")
        if role.name == ADMIN_ROLE:
            await self._rows.lock_admins()
        member = next(iter(await self._rows.members(role.id, user_id)), None)
        if member is None:
            raise NotFoundError(f"User '{user_id}' is no member of '{name}'")
        if role.name == ADMIN_ROLE:
            await self._admins_remain_without(member.user_email)
        await self._rows.leave(user_id, role.id)

    async def permissions(self, name: str) -> Sequence[RolePermission]:
        """The role's keys in alphabetical order. Needs `sinas.roles.read:all`."""
        return await self._rows.permissions((await self._managed(name, "read")).id)

    async def set_permission(self, name: str, data: PermissionSetting) -> RolePermission:
        """Add a key, or change its value.

        Raises:
            InvalidInputError: The key breaks the grammar.
            ForbiddenError: The role is Admins, the key is the one nobody may switch off, or the
                caller does not hold what they grant.
        """
        role = await self._keys_of(name)
        key = data.permission_key
        if problem := grammar_error(key):
            raise InvalidInputError(problem, [FieldError("permission_key", problem)])
        if not data.permission_value:
            _refuse_everything(key, "switched off")
        else:
            self._require_key(key)
        return await self._rows.set_permission(role.id, key, data.permission_value)

    async def remove_permission(self, name: str, key: str) -> None:
        """Take a key away.

        Raises:
            NotFoundError: The role does not have it.
            ForbiddenError: The role is Admins, or the key is the one nobody may take away.
        """
        role = await self._keys_of(name)
        _refuse_everything(key, "removed")
        row = await self._rows.permission(role.id, key)
        if row is None:
            raise NotFoundError(f"Role '{name}' has no permission '{key}'")
        await self._unit.session.delete(row)

    def reference(self) -> list[PermissionReference]:
        """What can be granted."""
        return [PermissionReference.of(row) for row in REGISTRY]

    def defaults(self) -> dict[str, dict[str, bool]]:
        """The keys built-in roles start with."""
        return {role: dict.fromkeys(keys, True) for role, keys in DEFAULT_ROLES.items()}

    async def admit(self, user: User) -> None:
        """Make a new user a guest, and a member of every role of their e-mail's domain.

        For `UserService`: creating users is what is checked, not managing members.
        """
        guests = await self._rows.ids_by_name((GUEST_ROLE,))
        colleagues = await self._rows.matching_domain(domain_of(user.email))
        await self._rows.join(user.id, {*guests, *colleagues})

    async def dismiss(self, user: User) -> None:
        """End all memberships of a user.

        Raises:
            ForbiddenError: They are the superadmin or the last active member of Admins.
        """
        admins = await self._rows.lock_admins()
        if user.email == self._superadmin_email or await self._rows.members(admins.id, user.id):
            await self._admins_remain_without(user.email)
        await self._rows.leave(user.id)

    async def _admins_remain_without(self, email: str) -> None:
        if email == self._superadmin_email:
            raise ForbiddenError("The superadmin always stays in Admins.")
        admins = await self._rows.lock_admins()
        if await self._rows.active_members(admins.id) <= 1:
            raise ForbiddenError("The last active member of Admins has to stay; add another first.")

    async def _managed(self, name: str, action: str) -> Role:
        """The role, if the caller may do `action` on it."""
        role = await self.get(name)
        self._principal.require(f"sinas.roles.{action}:all")
        return role

    async def _keys_of(self, name: str) -> Role:
        role = await self._managed(name, "manage_permissions")
        if role.name == ADMIN_ROLE:
            raise ForbiddenError(
                "The permissions of Admins cannot be changed: they are everything."
            )
        return role

    async def _require_all_keys_of(self, role: Role) -> None:
        for row in await self._rows.permissions(role.id):
            if row.permission_value:
                self._require_key(row.permission_key)

    def _require_key(self, key: str) -> None:
        # An administrator also hands out keys of other services, which they hold by no key.
        if not self._principal.can(EVERYTHING) and not self._principal.can(key):
            raise ForbiddenError(f"You cannot grant '{key}', because you do not hold it yourself.")

    def _may_read(self) -> None:
        """Everybody may read their own roles, except with an API key that excludes it."""
        limit = self._principal.limit
        if limit is not None and not limit.grants("sinas.roles.read:own"):
            raise ForbiddenError("Not authorized: this needs the permission 'sinas.roles.read'.")

    async def _flush(self, name: str) -> None:
        # Now, so that a taken name becomes the caller's error.
        try:
            await self._unit.session.flush()
        except IntegrityError as error:
            raise duplicate(error, f"Role '{name}'") from error


def _refuse_everything(key: str, what: str) -> None:
    if key == EVERYTHING:
        raise ForbiddenError(f"'{EVERYTHING}' cannot be {what}; delete the role instead.")
