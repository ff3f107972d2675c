"""Addresses of files that work without signing in."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Final
from urllib.parse import quote
from uuid import UUID

from sinas.auth.tokens import TokenSigner
from sinas.context import AppContext
from sinas.errors import UnauthenticatedError

DEFAULT_SECONDS: Final = 3600
_PURPOSE: Final = "file_serve"
_SHORTEST, _LONGEST = 60, 2_592_000


@dataclass(frozen=True, slots=True)
class Links:
    """Makes and reads them."""

    signer: TokenSigner
    base_url: str

    @classmethod
    def of(cls, context: AppContext) -> "Links":
        """For an installation."""
        return cls(context.signer, context.settings.core.links_url)

    def temporary(
        self, file_id: UUID, version: int, lifetime: timedelta = timedelta(seconds=DEFAULT_SECONDS)
    ) -> str:
        """An address of one version; it opens it to whoever has it, until it expires."""
        claims = {"file_id": str(file_id), "version": version}
        token = self.signer.mint_link(_PURPOSE, claims, lifetime)
        return f"{self.base_url}/files/serve/{token}"

    def public(self, namespace: str, collection: str, name: str) -> str:
        """The lasting address of a shared file of a public collection."""
        return f"{self.base_url}/files/public/{namespace}/{collection}/{quote(name, safe='')}"

    def read(self, token: str) -> tuple[UUID, int]:
        """File and version of a token.

        Raises:
            UnauthenticatedError: Forged or expired.
        """
        claims = self.signer.read_link(_PURPOSE, token)
        try:
            return UUID(claims["file_id"]), int(claims["version"])
        except (KeyError, ValueError, TypeError) as error:
            raise UnauthenticatedError("The link is invalid or has expired.") from error


def within_limits(seconds: int) -> int:
    """What is asked for, at least a minute and at most 30 days."""
    return min(max(seconds, _SHORTEST), _LONGEST)
