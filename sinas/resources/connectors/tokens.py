"""Access tokens of OAuth 2.0: kept encrypted, renewed by one process at a time."""

import hashlib
import hmac
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Final
from uuid import UUID

import orjson
from redis.exceptions import LockError
from sqlalchemy import delete, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from sinas.auth.principal import Principal
from sinas.context import AppContext
from sinas.errors import BadRequestError, ConfigurationError, UnavailableError
from sinas.kit.time import utcnow
from sinas.models import ConnectorToken
from sinas.resources.connectors.grants import Granted, GrantRefusedError, audience_of, granted
from sinas.resources.connectors.secret_access import secret_of
from sinas.resources.connectors.targets import Target

_PREFIX: Final = "sinas:connectors:token:"
# A token that ends within it would end on its way.
_MARGIN: Final = timedelta(seconds=30)
# How long one without an end is kept in the cache.
_DEFAULT_SECONDS: Final = 300
# Longer than the request for a token may take, or two would use up one refresh token.
_LOCK_SECONDS: Final = 30
_PATIENCE_SECONDS: Final = 25


class NotConnectedError(BadRequestError):
    """The user has not allowed the connector to act for them, or has to again."""

    code = "not_connected"


@dataclass(frozen=True, slots=True)
class AccessTokens:
    """Tokens for the calls of one caller. Redis and the network, never a transaction meanwhile."""

    context: AppContext
    principal: Principal

    async def of_client(self, target: Target, secret: str, stale: str | None = None) -> str:
        """The token of the client itself (client credentials), cached as long as it is good.

        Args:
            target: The connector.
            secret: The client's.
            stale: A token the service did not take.

        Raises:
            BadRequestError: The address may not be reached.
            UpstreamError: The service gave none.
        """
        redis, auth = self.context.redis, target.auth
        scope = " ".join(map(str, _scopes(target)))
        parts = [auth["token_url"], auth["client_id"], auth.get("client_auth"), secret, scope]
        key = _PREFIX + self._digest(orjson.dumps(parts))
        if (cached := await self._cached(key)) and cached != stale:
            return cached
        async with self._alone(key, target):
            if (cached := await self._cached(key)) and cached != stale:
                return cached
            parameters = {"grant_type": "client_credentials", "scope": scope}
            if not scope:
                del parameters["scope"]
            got = await granted(self.context, target, secret, **parameters)
            encrypted = self.context.cipher.encrypt(got.access_token)
            if (seconds := _seconds_good(got)) > 0:
                await redis.set(key, encrypted, ex=seconds)
            return got.access_token

    async def of_user(self, target: Target, stale: str | None = None) -> str:
        """The caller's token, renewed when it is about to end or `stale`.

        Raises:
            NotConnectedError: They have to allow it, for the first time or again.
            BadRequestError: The client's secret is missing, or the address may not be reached.
            UpstreamError: The service gave no token now.
        """
        row = await self._row(target)
        if (good := self._good(row, stale)) is not None:
            return good
        async with self._alone(f"{_PREFIX}{row.id}", target):
            row = await self._row(target)
            if (good := self._good(row, stale)) is not None:
                return good
            return await self._renewed(target, row)

    async def _renewed(self, target: Target, row: ConnectorToken) -> str:
        if row.refresh_token_encrypted is None:
            raise _not_connected(target, "has ended")
        has_secret = target.auth.get("secret") is not None
        url = str(target.auth["token_url"])
        secret = await secret_of(self.context, self.principal, target, url) if has_secret else None
        refresh = self._plain(target, row.refresh_token_encrypted)
        try:
            got = await granted(
                self.context, target, secret, grant_type="refresh_token", refresh_token=refresh
            )
        except GrantRefusedError as error:
            if error.reason == "invalid_grant":
                await self._forget(row)
                raise _not_connected(target, "was withdrawn") from error
            raise
        values = stored(self.context, got)
        if got.refresh_token is None:
            # The service lets the old one go on (RFC 6749 §6).
            del values["refresh_token_encrypted"]
        async with self.context.unit() as unit:
            await unit.session.execute(
                update(ConnectorToken)
                # Not over what the user allowed, or took back, meanwhile.
                .where(
                    ConnectorToken.id == row.id,
                    ConnectorToken.access_token_encrypted == row.access_token_encrypted,
                )
                .values(**values)
            )
        return got.access_token

    async def _row(self, target: Target) -> ConnectorToken:
        async with self.context.statement_sessions() as session:
            row = await token_of(session, target.id, self.principal.user_id)
        if row is None:
            raise _not_connected(target, "is not there yet")
        if row.audience != audience_of(target):
            raise _not_connected(target, "was for other addresses")
        return row

    def _good(self, row: ConnectorToken, stale: str | None) -> str | None:
        if row.expires_at is not None and row.expires_at <= utcnow() + _MARGIN:
            return None
        try:
            token = self.context.cipher.decrypt(row.access_token_encrypted)
        except ConfigurationError:
            return None
        return None if token == stale else token

    def _plain(self, target: Target, encrypted: str) -> str:
        try:
            return self.context.cipher.decrypt(encrypted)
        except ConfigurationError:
            raise _not_connected(target, "was stored under another ENCRYPTION_KEY") from None

    async def _forget(self, row: ConnectorToken) -> None:
        async with self.context.unit() as unit:
            await unit.session.execute(
                delete(ConnectorToken).where(
                    ConnectorToken.id == row.id,
                    ConnectorToken.access_token_encrypted == row.access_token_encrypted,
                )
            )

    @asynccontextmanager
    async def _alone(self, key: str, target: Target) -> AsyncIterator[None]:
        """Keep all processes but one from asking for the same token."""
        lock = self.context.redis.lock(
            f"{key}:lock", timeout=_LOCK_SECONDS, blocking_timeout=_PATIENCE_SECONDS
        )
        if not await lock.acquire():
            raise UnavailableError(
                f"The token for '{target.reference}' is being renewed for too long; try again."
            )
        try:
            yield
        finally:
            # It may have run out; then it is somebody else's by now.
            with suppress(LockError):
                await lock.release()

    async def _cached(self, key: str) -> str | None:
        encrypted = await self.context.redis.get(key)
        if encrypted is None:
            return None
        try:
            return self.context.cipher.decrypt(encrypted.decode())
        except ConfigurationError:
            return None

    def _digest(self, text: bytes) -> str:
        """Keyed: whoever reads Redis must not be able to try secrets."""
        key = self.context.settings.auth.secret_key.get_secret_value()
        return hmac.new(key.encode(), b"sinas client token " + text, hashlib.sha256).hexdigest()


async def token_of(
    session: AsyncSession, connector_id: UUID, user_id: UUID
) -> ConnectorToken | None:
    """What a user allowed a connector."""
    statement = select(ConnectorToken).where(
        ConnectorToken.connector_id == connector_id, ConnectorToken.user_id == user_id
    )
    return await session.scalar(statement)


def stored(context: AppContext, got: Granted) -> dict[str, object]:
    """The columns that hold tokens."""
    encrypt = context.cipher.encrypt
    return {
        "access_token_encrypted": encrypt(got.access_token),
        "refresh_token_encrypted": encrypt(got.refresh_token) if got.refresh_token else None,
        "expires_at": got.expires_at,
        "scope": got.scope,
    }


def _seconds_good(got: Granted) -> int:
    if got.expires_at is None:
        return _DEFAULT_SECONDS
    return int((got.expires_at - utcnow() - _MARGIN).total_seconds())


def _scopes(target: Target) -> list[object]:
    scopes = target.auth.get("scopes")
    return list(scopes) if isinstance(scopes, list) else []


def _not_connected(target: Target, why: str) -> NotConnectedError:
    return NotConnectedError(
        f"Your permission for the connector '{target.reference}' {why}. Give it with POST "
        f"/api/v1/connectors/{target.reference}/oauth/authorize, and open the address it answers."
    )
