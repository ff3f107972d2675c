"""Access tokens: short-lived JWTs signed with SECRET_KEY.

A token names its purpose in `aud`, so that one kind can never be used as another although all
are signed with the same key (RFC 7519 §4.1.3).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

from jose import JWTError, jwt

from sinas.errors import UnauthenticatedError
from sinas.kit.time import utcnow

ACCESS: Final = "sinas"
_ALGORITHM: Final = "HS256"


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessClaims:
    """What an access token says.

    Attributes:
        user_id: Whose rights it carries.
        execution_id: Set when it was minted for the user code of that execution.
        depth: How many executions the chain behind the caller has; 0 for none.
        limit: The permission limit of the caller it was minted for, or None.
    """

    user_id: UUID
    email: str
    execution_id: UUID | None = None
    depth: int = 0
    limit: tuple[str, ...] | None = None


class TokenSigner:
    """Mints and checks access tokens."""

    def __init__(self, secret_key: str) -> None:
        self._key = secret_key

    def mint(self, claims: AccessClaims, lifetime: timedelta) -> str:
        """A signed token that expires after `lifetime`."""
        now = utcnow()
        payload: dict[str, object] = {
            "sub": str(claims.user_id),
            "email": claims.email,
            "aud": ACCESS,
            "iat": int(now.timestamp()),
            "exp": int((now + lifetime).timestamp()),
        }
        if claims.execution_id is not None:
            payload["execution_id"] = str(claims.execution_id)
            payload["depth"] = claims.depth
        if claims.limit is not None:
            payload["limit"] = list(claims.limit)
        return jwt.encode(payload, self._key, algorithm=_ALGORITHM)

    def read(self, token: str) -> AccessClaims:
        """The claims of a valid token.

        Raises:
            UnauthenticatedError: Forged, expired, or minted for another purpose.
        """
        try:
            payload = jwt.decode(token, self._key, algorithms=[_ALGORITHM], audience=ACCESS)
            execution = payload.get("execution_id")
            limit = payload.get("limit")
            return AccessClaims(
                user_id=UUID(payload["sub"]),
                email=str(payload.get("email", "")),
                execution_id=UUID(execution) if execution else None,
                depth=int(payload.get("depth", 0)),
                limit=tuple(limit) if limit is not None else None,
            )
        except (JWTError, KeyError, ValueError, TypeError) as error:
            raise UnauthenticatedError("Invalid or expired credentials") from error

    def mint_link(self, purpose: str, claims: Mapping[str, object], lifetime: timedelta) -> str:
        """A token that opens one thing to whoever has it; it is nobody's credential."""
        expires = int((utcnow() + lifetime).timestamp())
        payload = {**claims, "aud": f"{ACCESS}:{purpose}", "purpose": purpose, "exp": expires}
        return jwt.encode(payload, self._key, algorithm=_ALGORITHM)

    def read_link(self, purpose: str, token: str) -> dict[str, Any]:
        """The claims of a valid token of `mint_link` for that purpose.

        Raises:
            UnauthenticatedError: Forged, expired, or minted for another purpose.
        """
        audience = f"{ACCESS}:{purpose}"
        try:
            return jwt.decode(token, self._key, algorithms=[_ALGORITHM], audience=audience)
        except JWTError as error:
            raise UnauthenticatedError("The link is invalid or has expired.") from error
