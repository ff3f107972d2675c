"""The rules of API keys: no key allows more than its maker could do."""

from collections.abc import Sequence
from uuid import UUID

from sinas.auth.principal import Principal
from sinas.db.unit import Unit
from sinas.errors import FieldError, ForbiddenError, InvalidInputError, NotFoundError
from sinas.kit.crypto import random_token, sha256_hex
from sinas.kit.time import utcnow
from sinas.models import ApiKey
from sinas.resources.api_keys.repository import ApiKeyRepository
from sinas.resources.api_keys.schemas import ApiKeyCreate, ApiKeyCreated, ApiKeyRead

_PREFIX_LENGTH = 8


class ApiKeyService:
    """API keys, for one caller in one transaction."""

    def __init__(self, unit: Unit, principal: Principal) -> None:
        self._unit = unit
        self._principal = principal
        self._rows = ApiKeyRepository(unit.session, principal)

    async def create(self, data: ApiKeyCreate) -> ApiKeyCreated:
        """A new key of the caller; the answer is the only place where it is in clear.

        At use, a key grants what both its map and its owner's roles grant at that moment. The
        check here only tells its maker early what would never work.

        Raises:
            ForbiddenError: The map grants what the caller does not hold, or the caller is user
                code of a function: it must not outlive its call.
            InvalidInputError: It would have expired already.
        """
        if self._principal.execution_id is not None:
            raise ForbiddenError("A function cannot create API keys with its caller's token.")
        if data.expires_at is not None and data.expires_at <= utcnow():
            problem = "expires_at is in the past; give a later time, or leave it out."
            raise InvalidInputError(problem, [FieldError("expires_at", problem)])
        permissions = self._limited(data.permissions)
        key = random_token()
        row = ApiKey(
            user_id=self._principal.user_id,
            name=data.name,
            key_hash=sha256_hex(key),
            key_prefix=key[:_PREFIX_LENGTH],
            permissions=permissions,
            expires_at=data.expires_at,
        )
        self._rows.add(row)
        # Now, for the time of creation, which is the database's.
        await self._unit.session.flush()
        return ApiKeyCreated(
            id=row.id,
            name=row.name,
            key=key,
            key_prefix=row.key_prefix,
            permissions=permissions or {},
            inherits=permissions is None,
            expires_at=row.expires_at,
            created_at=row.created_at,
        )

    async def page(self, *, skip: int, limit: int) -> Sequence[ApiKeyRead]:
        """Keys the caller may see, newest first, revoked ones included."""
        return await self._rows.views(skip=skip, limit=limit)

    async def get(self, key_id: UUID) -> ApiKeyRead:
        """One key.

        Raises:
            NotFoundError: Absent, or somebody else's.
        """
        found = await self._rows.view(key_id)
        if found is None:
            raise _missing(key_id)
        return found

    async def revoke(self, key_id: UUID) -> None:
        """End a key at once; the row stays. Repeating is fine.

        Raises:
            NotFoundError: Absent, or somebody else's.
            ForbiddenError: Visible, but not the caller's to end.
        """
        row = await self._rows.by_id(key_id, "delete")
        if row is None:
            await self.get(key_id)
            raise ForbiddenError("Not authorized to delete somebody else's API key.")
        if row.is_active:
            row.is_active = False
            row.revoked_at = utcnow()

    async def revoke_all_of(self, user_id: UUID) -> None:
        """End every key of a user, for `UserService`."""
        await self._rows.revoke_all_of(user_id)

    def _limited(self, asked: dict[str, bool] | None) -> dict[str, bool] | None:
        """What to store: the map asked for, or no less a limit than the caller's own."""
        if asked is None:
            return self._principal.limit_map
        for key, granted in asked.items():
            if granted and not self._principal.can(key):
                raise ForbiddenError(
                    f"You cannot grant '{key}' to an API key, because you do not hold it yourself."
                )
        return asked


def _missing(key_id: UUID) -> NotFoundError:
    return NotFoundError(f"API key '{key_id}' not found")
