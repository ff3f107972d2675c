"""An identity provider over HTTPS on this machine: keys it publishes, tokens it signs."""

import time
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jose import jwk, jwt

from tests.support.outside import Outside, reply

AUDIENCE = "sinas-console"
PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


class SigningKey:
    """A key pair with an id."""

    def __init__(self, key_id: str, algorithm: str = "RS256") -> None:
        self.id = key_id
        self.algorithm = algorithm
        private: PrivateKey = (
            rsa.generate_private_key(65537, 2048)
            if algorithm.startswith("RS")
            else ec.generate_private_key(ec.SECP256R1())
        )
        self.pem = private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ).decode()
        self.public_pem = (
            private.public_key()
            .public_bytes(
                serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
            )
            .decode()
        )

    def published(self) -> dict[str, Any]:
        made = jwk.construct(self.public_pem, self.algorithm).to_dict()
        plain = {k: v.decode() if isinstance(v, bytes) else v for k, v in made.items()}
        return plain | {"kid": self.id, "use": "sig"}


class IdentityProvider:
    """Speaks as the issuer that `outside` is."""

    def __init__(self, outside: Outside) -> None:
        self.outside = outside
        self.issuer = outside.url

    def publishes(self, *keys: SigningKey, **about: Any) -> None:
        """Be asked once for its keys: where they are, and what they are."""
        found = {"issuer": self.issuer, "jwks_uri": f"{self.issuer}/keys"} | about
        self.outside.answers += [
            reply(found),
            reply({"keys": [key.published() for key in keys]}),
        ]

    def token(self, key: SigningKey, email: str, **claims: Any) -> str:
        """An ID token; a claim that is None is left out."""
        now = int(time.time())
        whole = {
            "iss": self.issuer,
            "aud": AUDIENCE,
            "sub": "248289761001",
            "iat": now,
            "exp": now + 300,
            "email": email,
            "email_verified": True,
        } | claims
        told = {name: value for name, value in whole.items() if value is not None}
        return jwt.encode(told, key.pem, algorithm=key.algorithm, headers={"kid": key.id})
