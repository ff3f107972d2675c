"""Asking a user's permission at a service: OAuth 2.0 authorization code with PKCE."""

import hashlib
import hmac
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import orjson
from sqlalchemy import delete
from sqlalchemy.dialects.postgresql import insert

from sinas.auth.principal import Principal
from sinas.context import AppContext
from sinas.errors import (
    BadRequestError,
    ConfigurationError,
    ForbiddenError,
    NotFoundError,
    SinasError,
    UnauthenticatedError,
)
from sinas.kit.crypto import random_token
from sinas.kit.ids import uuid7
from sinas.models import ConnectorToken
from sinas.resources.connectors.grants import audience_of, granted, oauth_client
from sinas.resources.connectors.secret_access import secret_of
from sinas.resources.connectors.targets import Target, target_by_id, target_by_name
from sinas.resources.connectors.tokens import stored, token_of

CALLBACK_PATH: Final = "/connectors/oauth/callback"
BROWSER_COOKIE: Final = "sinas_connector_authorization"
STATE_SECONDS: Final = 600
_PREFIX: Final = "sinas:connectors:oauth:"
_VERIFIER_CHARS: Final = 64


class AuthorizationError(BadRequestError):
    """An authorization that cannot go on; the message is for the person in the browser."""

    code = "authorization_failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """An authorization that waits for the user.

    Attributes:
        browser: What only the browser that began may show at its end.
    """

    authorize_url: str
    expires_in_seconds: int
    browser: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """What a caller allowed a connector."""

    connected: bool
    scope: str | None
    expires_at: datetime | None
    renews: bool


@dataclass(frozen=True, slots=True)
class Authorizations:
    """Authorizations of one caller."""

    context: AppContext
    principal: Principal

    async def start(self, namespace: str, name: str, redirect_uri: str) -> Started:
        """Where the caller's browser has to go.

        Raises:
            NotFoundError: No such connector, or the caller may not read it.
            BadRequestError: It is not one that asks users.
        """
        target = await self._target(namespace, name)
        auth = target.auth
        client = oauth_client(target)
        verifier: str = client.create_code_verifier(_VERIFIER_CHARS)
        state, browser = _signed(self.context, random_token()), random_token()
        extra = auth.get("authorize_params")
        scopes = auth.get("scopes")
        more = {str(k): str(v) for k, v in extra.items()} if isinstance(extra, dict) else {}
        url: str = client.prepare_request_uri(
            str(auth["authorize_url"]),
            redirect_uri=redirect_uri,
            scope=[str(scope) for scope in scopes] if isinstance(scopes, list) else None,
            state=state,
            code_challenge=client.create_code_challenge(verifier, "S256"),
            code_challenge_method="S256",
            **more,
        )
        pending = {
            "connector_id": str(target.id),
            "user_id": str(self.principal.user_id),
            "verifier": verifier,
            "audience": audience_of(target),
            "redirect_uri": redirect_uri,
            "browser": _digest(browser),
        }
        encrypted = self.context.cipher.encrypt(orjson.dumps(pending).decode())
        await self.context.redis.set(_PREFIX + _digest(state), encrypted, ex=STATE_SECONDS)
        return Started(authorize_url=url, expires_in_seconds=STATE_SECONDS, browser=browser)

    async def show(self, namespace: str, name: str) -> Connection:
        """Whether the caller allowed it, and for how long.

        Raises:
            NotFoundError: No such connector, or the caller may not read it.
            BadRequestError: It is not one that asks users.
        """
        target = await self._target(namespace, name)
        async with self.context.statement_sessions() as session:
            row = await token_of(session, target.id, self.principal.user_id)
        if row is None or row.audience != audience_of(target):
            return Connection(connected=False, scope=None, expires_at=None, renews=False)
        return Connection(
            connected=True,
            scope=row.scope,
            expires_at=row.expires_at,
            renews=row.refresh_token_encrypted is not None,
        )

    async def forget(self, namespace: str, name: str) -> None:
        """Delete the caller's tokens; the service is not told.

        Raises:
            NotFoundError: No such connector, the caller may not read it, or never allowed it.
        """
        target = await self._target(namespace, name)
        async with self.context.unit() as unit:
            gone = await unit.session.scalars(
                delete(ConnectorToken)
                .where(
                    ConnectorToken.connector_id == target.id,
                    ConnectorToken.user_id == self.principal.user_id,
                )
                .returning(ConnectorToken.id)
            )
            if gone.first() is None:
                raise NotFoundError(f"You have not allowed the connector '{target.reference}'.")

    async def _target(self, namespace: str, name: str) -> Target:
        async with self.context.statement_sessions() as session:
            target = await target_by_name(session, namespace, name)
        if target is None or not target.is_readable_by(self.principal):
            raise NotFoundError(f"Connector '{namespace}/{name}' not found")
        if target.auth.get("type") != "oauth2_authorization_code":
            raise BadRequestError(
                f"The connector '{target.reference}' does not ask its users: its auth.type is "
                f"{target.auth.get('type')}, not oauth2_authorization_code."
            )
        return target


async def finish(
    context: AppContext, *, state: str, code: str | None, error: str | None, browser: str | None
) -> str:
    """Take what a service's answer brings, and get the tokens; the connector's reference.

    Whoever calls is not signed in: `state` says whose authorization it is, once.

    Raises:
        AuthorizationError: It cannot go on; nothing was stored.
    """
    pending = await _taken(context, state)
    is_bound = context.settings.auth.oauth_bind_browser_session
    if is_bound and not hmac.compare_digest(_digest(browser or ""), str(pending["browser"])):
        # Or somebody could have another person allow what they get the tokens of.
        raise AuthorizationError("Another browser began this authorization; begin it in this one.")
    if code is None:
        refused = "was refused" if error == "access_denied" else "failed at the service"
        raise AuthorizationError(f"The authorization {refused}.")
    try:
        return await _finish(context, pending, code)
    except AuthorizationError:
        raise
    except SinasError as failure:
        raise AuthorizationError(failure.message) from failure


async def _finish(context: AppContext, pending: dict[str, Any], code: str) -> str:
    user_id, connector_id = UUID(pending["user_id"]), UUID(pending["connector_id"])
    async with context.statement_sessions() as session:
        target = await target_by_id(session, connector_id)
    try:
        principal = await context.authenticator.by_user(user_id)
    except UnauthenticatedError:
        raise ForbiddenError("The user who began this is deactivated.") from None
    if target is None or not target.is_readable_by(principal):
        raise NotFoundError("The connector is gone, or you may not use it any more.")
    is_same = target.auth.get("type") == "oauth2_authorization_code"
    if not is_same or audience_of(target) != pending["audience"]:
        raise AuthorizationError("The connector was changed meanwhile; begin again.")
    has_secret = target.auth.get("secret") is not None
    url = str(target.auth["token_url"])
    got = await granted(
        context,
        target,
        await secret_of(context, principal, target, url) if has_secret else None,
        grant_type="authorization_code",
        code=code,
        redirect_uri=str(pending["redirect_uri"]),
        code_verifier=str(pending["verifier"]),
    )
    values = {**stored(context, got), "audience": pending["audience"]}
    async with context.unit() as unit:
        row = insert(ConnectorToken).values(
            id=uuid7(), connector_id=connector_id, user_id=user_id, **values
        )
        await unit.session.execute(
            row.on_conflict_do_update(index_elements=["connector_id", "user_id"], set_=values)
        )
    return target.reference


async def _taken(context: AppContext, state: str) -> dict[str, Any]:
    """What was kept for a state, which is of no use afterwards."""
    gone = AuthorizationError("The authorization is unknown, too old, or was used; begin it again.")
    nonce, _, _ = state.partition(".")
    if not state.isascii() or not hmac.compare_digest(state, _signed(context, nonce)):
        raise gone
    encrypted = await context.redis.getdel(_PREFIX + _digest(state))
    if encrypted is None:
        raise gone
    try:
        found: dict[str, Any] = orjson.loads(context.cipher.decrypt(encrypted.decode()))
    except ConfigurationError:
        raise gone from None
    return found


def _signed(context: AppContext, nonce: str) -> str:
    """A state: what is not signed here costs no look into Redis."""
    key = context.settings.auth.secret_key.get_secret_value()
    mark = hmac.new(key.encode(), f"sinas oauth state {nonce}".encode(), hashlib.sha256)
    return f"{nonce}.{mark.hexdigest()}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
