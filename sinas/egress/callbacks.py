"""Callbacks: a URL that a caller named is told how the caller's work ended."""

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final
from uuid import UUID

import httpx
import orjson
import structlog

from sinas.auth.tokens import AccessClaims, TokenSigner
from sinas.egress.client import GuardedClient
from sinas.egress.policy import EgressError
from sinas.egress.urls import usable_port
from sinas.errors import BadRequestError, FieldError, UpstreamError
from sinas.kit.json_types import JsonObject
from sinas.kit.time import utcnow
from sinas.settings import Settings

log = structlog.get_logger(__name__)

SIGNATURE_HEADER: Final = "X-Sinas-Signature"
_MAX_URL_CHARS = 2048
_SECONDS = 10.0
# The answer's status is all that is wanted of it.
_MAX_ANSWER_BYTES = 64 * 1024
# As long as a receiver may take to call back for more, no longer: the token leaves the platform.
_TOKEN_LIFE = timedelta(minutes=5)


def check_callback_url(hosts: str, url: str, name: str = "callback_url") -> None:
    """Make sure that `url` may be called back.

    Whether its host has a public address is seen when it is called.

    Args:
        hosts: CALLBACK_URL_HOSTS: `*`, or a comma list of hosts and `.suffixes`.
        url: What the caller gave.
        name: The field it was given in.

    Raises:
        BadRequestError: Callbacks are disabled, or the URL is not one that may be called.
    """
    allowed = [host.strip().lower() for host in hosts.split(",") if host.strip()]
    if allowed:
        problem = _problem(allowed, url)
    else:
        problem = "is not possible: callbacks are disabled here (CALLBACK_URL_HOSTS is not set)."
    if problem is not None:
        raise BadRequestError(f"{name} {problem}", [FieldError(name, problem)])


def _problem(allowed: Sequence[str], url: str) -> str | None:
    if len(url) > _MAX_URL_CHARS:
        return f"must have at most {_MAX_URL_CHARS} characters."
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL:
        return "must be a URL that starts with https://."
    if parsed.scheme != "https" or not parsed.host or not usable_port(parsed):
        return "must be a URL that starts with https:// and names a host."
    if parsed.userinfo:
        return "must not contain a user name or a password."
    host = parsed.raw_host.decode().lower().rstrip(".")
    if not any(_is_covered(host, entry) for entry in allowed):
        return f"names the host '{parsed.host}', which is not in CALLBACK_URL_HOSTS."
    return None


def _is_covered(host: str, entry: str) -> bool:
    return entry in ("*", host) or (entry.startswith(".") and host.endswith(entry))


def callback_key(secret_key: str, user_id: UUID) -> str:
    """What callbacks about a user's work are signed with: 64 hexadecimal digits.

    Derived, so that it needs no storage and ends with the installation's SECRET_KEY.
    """
    purpose = f"sinas callback key {user_id}".encode()
    return hmac.new(secret_key.encode(), purpose, hashlib.sha256).hexdigest()


def signature(key: str, moment: int, body: bytes) -> str:
    """The header's value: HMAC-SHA256 of `<moment>.<body>`, keyed with the text of `key`.

    `moment` is in seconds since 1970; receivers refuse old ones, so that nothing is replayed.
    """
    digest = hmac.new(key.encode(), f"{moment}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={moment},v1={digest}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Callback:
    """One callback that is due.

    Attributes:
        user_id: Whose work ended.
        email: Of that user.
        access: The permission limit the work was started with, or None.
        body: What is told.
    """

    url: str
    user_id: UUID
    email: str
    access: Mapping[str, bool] | None
    body: JsonObject = field(repr=False)


class CallbackSender:
    """Sends callbacks, each in one POST that is never repeated by itself."""

    def __init__(self, http: GuardedClient, signer: TokenSigner, settings: Settings) -> None:
        self._http = http
        self._signer = signer
        self._hosts = settings.function.callback_url_hosts
        self._secret_key = settings.auth.secret_key.get_secret_value()

    async def send(self, callback: Callback) -> int | None:
        """POST one callback; the status of the answer, None when there was none."""
        body = orjson.dumps(callback.body, default=str)
        try:
            # Again: the operator may have withdrawn the host meanwhile.
            check_callback_url(self._hosts, callback.url)
            answer = await self._http.request(
                "POST",
                callback.url,
                headers=self._headers(callback, body),
                content=body,
                timeout_seconds=_SECONDS,
                max_bytes=_MAX_ANSWER_BYTES,
            )
        except (BadRequestError, EgressError, UpstreamError) as error:
            log.info("callbacks.not_sent", reason=error.message)
            return None
        return answer.status

    def _headers(self, callback: Callback, body: bytes) -> dict[str, str]:
        limit = callback.access
        claims = AccessClaims(
            user_id=callback.user_id,
            email=callback.email,
            limit=None if limit is None else tuple(key for key, held in limit.items() if held),
        )
        key = callback_key(self._secret_key, callback.user_id)
        return {
            "Content-Type": "application/json",
            "Authorization": f"Bearer {self._signer.mint(claims, _TOKEN_LIFE)}",
            SIGNATURE_HEADER: signature(key, int(utcnow().timestamp()), body),
        }
