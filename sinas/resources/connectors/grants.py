"""Requests for tokens to a service's token endpoint (RFC 6749, RFC 7636)."""

import base64
import hashlib
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import orjson

from sinas.context import AppContext
from sinas.egress.policy import EgressError
from sinas.egress.urls import parse_url
from sinas.errors import BadRequestError, UpstreamError
from sinas.kit.time import utcnow
from sinas.resources.connectors.checks import header_problem
from sinas.resources.connectors.targets import Target

if TYPE_CHECKING:
    from oauthlib.oauth2 import WebApplicationClient

_SECONDS: Final = 15.0
_MAX_BYTES: Final = 256 * 1024
# Of errors that token endpoints may tell; what else they say may hold what was sent.
_CODES: Final = frozenset(
    {
        "access_denied",
        "invalid_client",
        "invalid_grant",
        "invalid_request",
        "invalid_scope",
        "server_error",
        "temporarily_unavailable",
        "unauthorized_client",
        "unsupported_grant_type",
    }
)


class GrantRefusedError(UpstreamError):
    """The token endpoint gave no token. `reason` is its error code, where it gave a known one."""

    def __init__(self, message: str, reason: str | None) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Granted:
    """Tokens, as they came."""

    access_token: str = field(repr=False)
    refresh_token: str | None = field(repr=False)
    expires_at: datetime | None
    scope: str | None


def oauth_client(target: Target) -> "WebApplicationClient":
    """What writes requests and reads answers for a connector."""
    # Late: most processes never need it, and it takes a while to import.
    from oauthlib.oauth2 import WebApplicationClient  # noqa: PLC0415

    return WebApplicationClient(str(target.auth["client_id"]))


async def granted(
    context: AppContext, target: Target, secret: str | None, **parameters: str
) -> Granted:
    """Ask for tokens.

    Args:
        context: For its HTTP client.
        target: The connector.
        secret: The client's; None for a public client, which only names itself.
        parameters: The grant, from its type on.

    Raises:
        GrantRefusedError: The service says no, or something else than tokens.
        UpstreamError: It does not answer.
        BadRequestError: Its address may not be reached.
    """
    auth = target.auth
    client_id = str(auth["client_id"])
    headers = {
        "Accept": "application/json",
        "Content-Type": "application/x-www-form-urlencoded",
    }
    if secret is not None and auth.get("client_auth") != "body":
        # Each part form-encoded before they are joined (RFC 6749 §2.3.1).
        pair = f"{quote(client_id, safe='')}:{quote(secret, safe='')}"
        headers["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
    else:
        parameters["client_id"] = client_id
        if secret is not None:
            parameters["client_secret"] = secret
    body = "&".join(f"{name}={quote(value, safe='')}" for name, value in parameters.items())
    try:
        answer = await context.http.request(
            "POST",
            str(auth["token_url"]),
            headers=headers,
            content=body.encode(),
            timeout_seconds=_SECONDS,
            max_bytes=_MAX_BYTES,
        )
    except EgressError as error:
        raise BadRequestError(f"token_url: {error.message}") from error
    return _read(target, answer.status, answer.body.decode("utf-8", "replace"))


def _read(target: Target, status: int, text: str) -> Granted:
    from oauthlib.oauth2 import OAuth2Error  # noqa: PLC0415 - as above

    reason: str | None = None
    try:
        found: Any = oauth_client(target).parse_request_body_response(text)
        if 200 <= status < 300:
            return _granted(found)
    except OAuth2Error as error:
        reason = error.error if error.error in _CODES else None
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError):
        pass
    told = f"status {status}" if reason is None else f"status {status}, {reason}"
    raise GrantRefusedError(
        f"The token endpoint of '{target.reference}' gave no token ({told}).", reason
    )


def _granted(found: Any) -> Granted:
    access, refresh = found["access_token"], found.get("refresh_token")
    kind = str(found.get("token_type") or "bearer")
    if not isinstance(access, str) or not access or header_problem(access):
        raise ValueError("access_token")
    if kind.lower() != "bearer" or not isinstance(refresh, str | None):
        raise ValueError("token_type")
    seconds = found.get("expires_in")
    scope = found.get("scope")
    return Granted(
        access_token=access,
        refresh_token=refresh or None,
        expires_at=None if seconds is None else utcnow() + timedelta(seconds=int(seconds)),
        scope=" ".join(map(str, scope)) if isinstance(scope, list) else scope,
    )


def audience_of(target: Target) -> str:
    """Digest of who gets a user's tokens: another one, and the user has to be asked again."""
    url = parse_url(target.base_url)
    auth = target.auth
    parts = [url.scheme, url.raw_host.decode(), url.port, auth["token_url"], auth["client_id"]]
    return hashlib.sha256(orjson.dumps(parts)).hexdigest()
