"""From a credential to a Principal: one round trip, no write."""

from collections.abc import Mapping
from typing import Any, Final
from uuid import UUID

import orjson
from sqlalchemy import Select, bindparam, func, select
from sqlalchemy.dialects.postgresql.asyncpg import dialect
from sqlalchemy.ext.asyncio import AsyncEngine

from sinas.auth.permissions import PermissionSet
from sinas.auth.principal import Credential, Principal, permission_set
from sinas.auth.tokens import TokenSigner
from sinas.db.direct import DirectReads
from sinas.errors import UnauthenticatedError
from sinas.kit.crypto import sha256_hex
from sinas.kit.time import utcnow
from sinas.models import ApiKey, Role, RolePermission, User, UserRole

_INVALID = "Invalid or expired credentials"

_roles = (
    select(func.array_agg(Role.name.distinct()))
    .join(UserRole, UserRole.role_id == Role.id)
    .where(UserRole.user_id == User.id, UserRole.active)
    .correlate(User)
    .scalar_subquery()
)
_keys = (
    select(func.array_agg(RolePermission.permission_key.distinct()))
    .join(UserRole, UserRole.role_id == RolePermission.role_id)
    .where(UserRole.user_id == User.id, UserRole.active, RolePermission.permission_value)
    .correlate(User)
    .scalar_subquery()
)
# What `deferred_principal` reads of a joined `users` row.
PRINCIPAL_COLUMNS: Final[tuple[Any, ...]] = (
    User.id,
    User.email,
    User.last_login_at,
    User.created_at,
    _roles.label("roles"),
    _keys.label("keys"),
)
_user: Select[Any] = select(*PRINCIPAL_COLUMNS).where(User.is_active)


def _sql(statement: Select[Any]) -> str:
    """The text asyncpg takes, with its one parameter as `$1`."""
    return str(statement.compile(dialect=dialect()))  # type: ignore[no-untyped-call]


_BY_USER = _sql(_user.where(User.id == bindparam("user_id")))
_BY_EMAIL = _sql(_user.where(User.email == bindparam("email")))
_BY_KEY = _sql(
    _user.add_columns(
        ApiKey.id.label("key_id"),
        ApiKey.permissions.label("key_permissions"),
        ApiKey.expires_at.label("key_expires_at"),
    )
    .join(ApiKey, ApiKey.user_id == User.id)
    .where(ApiKey.key_hash == bindparam("key_hash"), ApiKey.is_active)
)


class Authenticator:
    """Reads principals: one query, no BEGIN and no COMMIT, on connections of its own."""

    def __init__(self, engine: AsyncEngine, signer: TokenSigner) -> None:
        self._reads = DirectReads(engine)
        self._signer = signer

    async def by_credential(self, credential: str) -> tuple[Principal, UUID | None]:
        """The caller behind a JWT or an API key, and the API key's id if it was one.

        Raises:
            UnauthenticatedError: Unknown, expired or revoked, or its user is deactivated.
        """
        if credential.count(".") == 2:
            return await self.by_token(credential), None
        return await self.by_api_key(credential)

    async def by_token(self, token: str) -> Principal:
        """The user a signed token names, with the roles they hold now."""
        claims = self._signer.read(token)
        row = await self._one(_BY_USER, claims.user_id)
        limit = None if claims.limit is None else PermissionSet.of(claims.limit)
        return _principal(row, "token", limit, claims.execution_id, claims.depth)

    async def by_api_key(self, key: str) -> tuple[Principal, UUID]:
        """The owner of an API key, limited to the key's own map."""
        row = await self._one(_BY_KEY, sha256_hex(key))
        if row["key_expires_at"] is not None and row["key_expires_at"] <= utcnow():
            raise UnauthenticatedError(_INVALID)
        stored = row["key_permissions"]
        # Raw asyncpg gives JSON as text.
        limit = None if stored is None else permission_set(orjson.loads(stored))
        return _principal(row, "api_key", limit), row["key_id"]

    async def by_user(self, user_id: UUID, limit: Mapping[str, bool] | None = None) -> Principal:
        """The principal that deferred work of a user acts as.

        Raises:
            UnauthenticatedError: The user was deactivated or deleted meanwhile.
        """
        row = await self._one(_BY_USER, user_id)
        return deferred_principal(row, limit)

    async def by_email(self, email: str) -> Principal:
        """The user of an address, for the operator's own commands.

        Raises:
            UnauthenticatedError: No active user has it.
        """
        return _principal(await self._one(_BY_EMAIL, email.strip().lower()), "system", None)

    async def _one(self, statement: str, parameter: object) -> Mapping[str, Any]:
        row: Mapping[str, Any] | None = await self._reads.fetch_one(statement, parameter)
        if row is None:
            raise UnauthenticatedError(_INVALID)
        return row


def deferred_principal(
    row: Mapping[str, Any],
    limit: Mapping[str, bool] | None,
    execution_id: UUID | None = None,
    depth: int = 0,
) -> Principal:
    """The principal deferred work acts as, from a row with `PRINCIPAL_COLUMNS`.

    `execution_id` and `depth` are of the execution whose code caused the work.
    """
    held = None if limit is None else permission_set(limit)
    return _principal(row, "system", held, execution_id, depth)


def _principal(
    row: Mapping[str, Any],
    credential: Credential,
    limit: PermissionSet | None,
    execution_id: UUID | None = None,
    depth: int = 0,
) -> Principal:
    return Principal(
        user_id=row["id"],
        email=row["email"],
        roles=tuple(sorted(row["roles"] or ())),
        grants=PermissionSet.of(row["keys"] or ()),
        credential=credential,
        limit=limit,
        last_login_at=row["last_login_at"],
        created_at=row["created_at"],
        execution_id=execution_id,
        depth=depth,
    )
