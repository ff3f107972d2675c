"""What a request shows to be let in: from secrets, the caller's own token, or OAuth 2.0."""

import base64
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final, assert_never, cast
from urllib.parse import quote

from sinas.auth.principal import Principal
from sinas.auth.tokens import AccessClaims
from sinas.context import AppContext
from sinas.errors import ForbiddenError
from sinas.models import SecretVisibility
from sinas.resources.connectors.schemas import AuthType
from sinas.resources.connectors.secret_access import secret_of
from sinas.resources.connectors.targets import Target
from sinas.resources.connectors.tokens import AccessTokens

# Those of a secret go where its `allowed_hosts` say, these nowhere else.
_OF_ITS_HOST: Final = frozenset(
    {"oauth2_authorization_code", "oauth2_client_credentials", "sinas_token"}
)
_TOKEN_LIFE: Final = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class Credential:
    """Parts of a request that let it in.

    Attributes:
        headers: To be sent over all others.
        query: Likewise.
        secrets: What must not be seen in an answer.
        renews: Whether there may be a newer one when the service refuses this one.
    """

    headers: dict[str, str] = field(default_factory=dict, repr=False)
    query: dict[str, str] = field(default_factory=dict, repr=False)
    secrets: tuple[str, ...] = field(default=(), repr=False)
    renews: bool = False


@dataclass(frozen=True, slots=True)
class Credentials:
    """Credentials of one caller."""

    context: AppContext
    principal: Principal

    async def of(self, target: Target, *, refused: Credential | None = None) -> Credential:
        """What a request to `target` shows.

        Args:
            target: The connector.
            refused: What the service did not take a moment ago.

        Raises:
            BadRequestError: The secret is missing or cannot be used, or the caller has not
                allowed the connector to act for them yet.
            ForbiddenError: The secret, or the caller's token, may not be sent there.
            UpstreamError: The service gave no token.
            UnreadableSecretError: The secret cannot be decrypted.
        """
        kind = cast(AuthType, target.auth.get("type") or "none")
        if target.is_elsewhere and kind in _OF_ITS_HOST:
            raise ForbiddenError(
                f"The operation is on another host than the connector '{target.reference}', and "
                f"credentials of the type {kind} do not go there. Make a connector for that host."
            )
        match kind:
            case "none":
                found = Credential()
            case "bearer":
                found = _bearer(await self._secret(target))
            case "basic":
                found = _basic(await self._secret(target))
            case "api_key":
                found = await self._key(target)
            case "sinas_token":
                found = _bearer(self._own_token(target))
            case "oauth2_authorization_code" | "oauth2_client_credentials":
                found = await self._token(target, refused.secrets[0] if refused else None)
            case _:
                assert_never(kind)
        return found

    async def _token(self, target: Target, stale: str | None) -> Credential:
        tokens = AccessTokens(self.context, self.principal)
        if target.auth["type"] == "oauth2_authorization_code":
            return _bearer(await tokens.of_user(target, stale), renews=True)
        url = str(target.auth["token_url"])
        secret = await secret_of(self.context, self.principal, target, url)
        return _bearer(await tokens.of_client(target, secret, stale), renews=True)

    async def _key(self, target: Target) -> Credential:
        key = await self._secret(target)
        auth = target.auth
        if auth.get("position") == "query":
            name = str(auth.get("param_name") or "api_key")
            return Credential({}, {name: key}, (key, quote(key, safe="")))
        return Credential({str(auth.get("header") or "X-Api-Key"): key}, {}, (key,))

    async def _secret(self, target: Target) -> str:
        return await secret_of(self.context, self.principal, target, target.base_url)

    def _own_token(self, target: Target) -> str:
        """A new token of the caller, whatever they signed in with, with its limit."""
        caller = self.principal
        if not target.may_send_for(caller.user_id, SecretVisibility.PRIVATE):
            raise ForbiddenError(
                f"Your token is not sent for the connector '{target.reference}': whoever set its "
                "address is neither you nor an admin, and could act as you with it."
            )
        limit = caller.limit_map
        claims = AccessClaims(
            user_id=caller.user_id,
            email=caller.email,
            execution_id=caller.execution_id,
            depth=caller.depth,
            limit=None if limit is None else tuple(limit),
        )
        return self.context.signer.mint(claims, _TOKEN_LIFE)


def _bearer(token: str, *, renews: bool = False) -> Credential:
    return Credential({"Authorization": f"Bearer {token}"}, {}, (token,), renews)


def _basic(text: str) -> Credential:
    encoded = base64.b64encode(text.encode()).decode()
    secrets = (text, encoded, text.partition(":")[2])
    return Credential({"Authorization": f"Basic {encoded}"}, {}, secrets)
