"""The SQL of API keys."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Select, false, func, select, true, update
from typing_extensions import override

from sinas.crud.repository import Repository
from sinas.models import ApiKey, User
from sinas.resources.api_keys.schemas import ApiKeyRead


class ApiKeyRepository(Repository[ApiKey]):
    """All keys, or the caller's own."""

    model = ApiKey
    resource = "api_keys"

    @override
    def readable(self, action: str = "read") -> ColumnElement[bool]:
        """SQL: every key, the caller's, or none."""
        if self.principal.can(f"sinas.api_keys.{action}:all"):
            return true()
        if self.principal.can(f"sinas.api_keys.{action}:own"):
            return ApiKey.user_id == self.principal.user_id
        return false()

    async def views(self, *, skip: int, limit: int) -> Sequence[ApiKeyRead]:
        """Visible keys with their owners' addresses, newest first."""
        statement = self._with_owner().order_by(ApiKey.created_at.desc(), ApiKey.id.desc())
        rows = await self.session.execute(statement.offset(skip).limit(limit))
        return [_view(row) for row in rows]

    async def view(self, key_id: UUID) -> ApiKeyRead | None:
        """One visible key with its owner's address."""
        rows = await self.session.execute(self._with_owner().where(ApiKey.id == key_id))
        row = rows.one_or_none()
        return None if row is None else _view(row)

    async def revoke_all_of(self, user_id: UUID) -> None:
        """End every key of a user."""
        await self.session.execute(
            update(ApiKey)
            .where(ApiKey.user_id == user_id, ApiKey.is_active)
            .values(is_active=False, revoked_at=func.now())
        )

    def _with_owner(self) -> Select[ApiKey, str]:
        return (
            select(ApiKey, User.email).join(User, User.id == ApiKey.user_id).where(self.readable())
        )


def _view(row: Any) -> ApiKeyRead:
    key: ApiKey = row.ApiKey
    return ApiKeyRead(
        id=key.id,
        user_id=key.user_id,
        user_email=row.email,
        name=key.name,
        key_prefix=key.key_prefix,
        permissions=key.permissions or {},
        inherits=key.permissions is None,
        is_active=key.is_active,
        last_used_at=key.last_used_at,
        expires_at=key.expires_at,
        created_at=key.created_at,
        revoked_at=key.revoked_at,
    )
