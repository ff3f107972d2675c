"""Tokens of the identity provider: whose they are, if they are good.

OpenID Connect Core 1.0 §3.1.3.7 says what is checked of an ID token, RFC 8725 what must not be
believed in it: the key is one the provider publishes, and the algorithm one that only whoever
holds its private half can sign with.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson
from jose import JOSEError, jwt
from pydantic_core import PydanticCustomError
from redis.asyncio import Redis

from sinas.egress.client import GuardedClient
from sinas.egress.policy import EgressError
from sinas.errors import UnauthenticatedError, UnavailableError, UpstreamError
from sinas.kit.email import normalise_email
from sinas.settings import OidcSettings

_ALGORITHMS: Final = ("RS256", "RS384", "RS512", "ES256", "ES384", "ES512")
_LEEWAY_SECONDS: Final = 60
_KEYS_SECONDS: Final = 3600
# Whoever makes up key ids must not have us ask the provider each time.
_ASK_AGAIN_SECONDS: Final = 30
_TIMEOUT_SECONDS: Final = 10.0
_MAX_BYTES: Final = 512 * 1024
_REFUSED: Final = "The identity provider's token is not valid here: {}."


@dataclass(frozen=True, slots=True)
class IdentityProvider:
    """The one that OIDC_ISSUER names. Its keys are kept in Redis, for all processes."""

    settings: OidcSettings
    http: GuardedClient
    redis: Redis

    async def email_of(self, token: str) -> str:
        """The address a good token vouches for.

        Raises:
            UnauthenticatedError: Forged, expired, not for us, or without an address to believe.
            UnavailableError: The provider does not answer.
        """
        claims = self._claims(token, await self._key_for(token))
        if claims.get("email_verified") is not True and not self.settings.trust_email:
            raise _refused("it does not say that the e-mail address is verified")
        try:
            return normalise_email(str(claims.get("email") or ""))
        except PydanticCustomError:
            raise _refused("it has no e-mail address; ask for the scope 'email'") from None

    def _claims(self, token: str, key: Mapping[str, Any]) -> dict[str, Any]:
        try:
            claims = jwt.decode(
                token,
                key,
                algorithms=list(_ALGORITHMS),
                audience=self.settings.audience,
                issuer=self.settings.issuer,
                # The access token that at_hash is about stays with the client.
                options={
                    "require_aud": True,
                    "require_exp": True,
                    "require_iat": True,
                    "require_sub": True,
                    "verify_at_hash": False,
                    "leeway": _LEEWAY_SECONDS,
                },
            )
        except (JOSEError, ValueError, TypeError) as error:  # the latter of keys that are none
            raise _refused(str(error).rstrip(".") or "it cannot be verified") from error
        audiences = claims["aud"]
        others = isinstance(audiences, list) and len(audiences) > 1
        if (others or "azp" in claims) and claims.get("azp") != self.settings.audience:
            raise _refused("it was made for another client")
        return claims

    async def _key_for(self, token: str) -> Mapping[str, Any]:
        try:
            header = jwt.get_unverified_header(token)
        except JOSEError as error:
            raise _refused("it is no signed JSON Web Token") from error
        if header.get("alg") not in _ALGORITHMS:
            raise _refused(f"its algorithm must be one of {', '.join(_ALGORITHMS)}")
        key_id = header.get("kid")
        for is_fresh in (False, True):
            found = _matching(await self._keys(is_fresh=is_fresh), key_id, str(header["alg"]))
            if found is not None:
                return found
        raise _refused("no key of the provider's has signed it")

    async def _keys(self, *, is_fresh: bool) -> list[Mapping[str, Any]]:
        name = f"sinas:oidc:keys:{self.settings.issuer}"
        if is_fresh:
            asked = await self.redis.set(f"{name}:asked", 1, nx=True, ex=_ASK_AGAIN_SECONDS)
            if not asked:
                return []
        elif (kept := await self.redis.get(name)) is not None:
            return list(orjson.loads(kept))
        keys = await self._published()
        await self.redis.set(name, orjson.dumps(keys), ex=_KEYS_SECONDS)
        return keys

    async def _published(self) -> list[Mapping[str, Any]]:
        issuer = self.settings.issuer
        about = await self._get(f"{issuer.rstrip('/')}/.well-known/openid-configuration")
        # OpenID Connect Discovery 1.0 §4.3: or one provider could speak for another.
        if about.get("issuer") != issuer:
            raise _away(issuer, f"calls itself {about.get('issuer')!r}")
        found = (await self._get(str(about.get("jwks_uri") or ""))).get("keys")
        if not isinstance(found, list):
            raise _away(issuer, "publishes no keys")
        return [key for key in found if isinstance(key, dict)]

    async def _get(self, url: str) -> Mapping[str, Any]:
        issuer = self.settings.issuer
        if not url.startswith("https://"):
            raise _away(issuer, "publishes its keys at no https address")
        try:
            answer = await self.http.request(
                "GET", url, timeout_seconds=_TIMEOUT_SECONDS, max_bytes=_MAX_BYTES
            )
            found = orjson.loads(answer.body) if answer.status == 200 else None
        except (EgressError, UpstreamError) as error:
            raise _away(issuer, error.message) from error
        except orjson.JSONDecodeError as error:
            raise _away(issuer, "answered with no JSON") from error
        if not isinstance(found, dict):
            raise _away(issuer, f"answered {answer.status} without an object")
        return found


def _matching(
    keys: list[Mapping[str, Any]], key_id: object, algorithm: str
) -> Mapping[str, Any] | None:
    """The key of an id; without one, the only key that could have signed."""
    kind = "RSA" if algorithm.startswith("RS") else "EC"
    able = [
        key
        for key in keys
        if key.get("kty") == kind
        and key.get("use") in (None, "sig")
        and key.get("alg") in (None, algorithm)
        and (key_id is None or key.get("kid") == key_id)
    ]
    return able[0] if len(able) == 1 else None


def _refused(why: str) -> UnauthenticatedError:
    return UnauthenticatedError(_REFUSED.format(why))


def _away(issuer: str, why: str) -> UnavailableError:
    return UnavailableError(f"The identity provider '{issuer}' cannot be asked: {why}")
