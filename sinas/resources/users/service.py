"""The rules of users: who joins as what, and what ends when somebody leaves."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy.exc import IntegrityError

from sinas.auth import refresh
from sinas.auth.principal import Principal
from sinas.db.unit import Unit
from sinas.errors import BadRequestError, ConflictError, ForbiddenError, NotFoundError
from sinas.models import User
from sinas.resources.api_keys.service import ApiKeyService
from sinas.resources.roles.service import RoleService
from sinas.resources.users.repository import UserRepository
from sinas.resources.users.schemas import UserCreate, UserDetail, UserRead, UserUpdate


class UserService:
    """Users, for one caller in one transaction.

    `superadmin_email` is the address that can be neither deactivated nor removed from Admins.
    """

    def __init__(self, unit: Unit, principal: Principal, superadmin_email: str) -> None:
        self._unit = unit
        self._principal = principal
        self._superadmin_email = superadmin_email
        self._rows = UserRepository(unit.session, principal)
        self._roles = RoleService(unit, principal, superadmin_email)
        self._keys = ApiKeyService(unit, principal)

    async def page(
        self, *, search: str | None, include_inactive: bool, skip: int, limit: int
    ) -> Sequence[UserDetail]:
        """Users, newest first. `search` is part of an address. Needs `sinas.users.read:all`."""
        self._principal.require("sinas.users.read:all")
        return await self._rows.details(
            search=search, include_inactive=include_inactive, skip=skip, limit=limit
        )

    async def get(self, user_id: UUID) -> UserDetail:
        """One user: anybody, or oneself.

        Raises:
            NotFoundError: Absent, or somebody else and no right to read all.
        """
        found = await self._rows.detail(user_id)
        if found is None:
            raise _missing(user_id)
        return found

    async def create(self, data: UserCreate) -> User:
        """A new guest, who also joins the roles of their e-mail's domain.

        An address that was deactivated comes back as a new guest: its old memberships, sign-ins
        and keys stay ended. Needs `sinas.users.create:all`.

        Raises:
            ConflictError: An active user has this address.
        """
        self._principal.require("sinas.users.create:all")
        user = await self._rows.by_email(data.email)
        if user is not None:
            if user.is_active:
                raise _taken(data.email)
            user.is_active = True
        else:
            user = self._rows.add(User(email=data.email))
        try:
            # Now, for the id, and so that a race for the address becomes the caller's error.
            await self._unit.session.flush()
        except IntegrityError as error:
            raise _taken(data.email) from error
        await self._roles.admit(user)
        return user

    async def update(self, user_id: UUID, data: UserUpdate) -> UserRead:
        """Deactivate or reactivate a user; without `is_active` nothing changes.

        Raises:
            NotFoundError: Absent, or not visible.
            ForbiddenError: Not oneself and no `sinas.users.update:all`; or `is_active` without it.
            BadRequestError: Somebody would deactivate themselves.
        """
        user = await self._rows.locked(user_id)
        if user is None:
            raise _missing(user_id)
        if data.is_active is not None or user.id != self._principal.user_id:
            self._principal.require("sinas.users.update:all")
        if data.is_active is False:
            await self._deactivate(user)
        elif data.is_active and not user.is_active:
            user.is_active = True
            await self._roles.admit(user)
        return UserRead.model_validate(user)

    async def delete(self, user_id: UUID) -> None:
        """Deactivate a user: no credential of theirs works from the commit on.

        The row stays, because what they made belongs to it. Repeating is fine. Needs
        `sinas.users.delete:all`.

        Raises:
            BadRequestError: Oneself.
            ForbiddenError: The superadmin, or the last active member of Admins.
        """
        self._principal.require("sinas.users.delete:all")
        user = await self._rows.locked(user_id)
        if user is None:
            raise _missing(user_id)
        await self._deactivate(user)

    async def _deactivate(self, user: User) -> None:
        if user.id == self._principal.user_id:
            raise BadRequestError("You cannot delete or deactivate yourself.")
        if not user.is_active:
            return
        if user.email == self._superadmin_email:
            raise ForbiddenError("The superadmin cannot be deleted or deactivated.")
        await self._roles.dismiss(user)
        user.is_active = False
        # Before the tokens: whoever is just refreshing one waits for this row.
        await self._unit.session.flush()
        await refresh.revoke_all_of(self._unit.session, user.id)
        await self._keys.revoke_all_of(user.id)


def _missing(user_id: UUID) -> NotFoundError:
    return NotFoundError(f"User '{user_id}' not found")


def _taken(email: str) -> ConflictError:
    return ConflictError(f"A user with the address {email} already exists.")
