"""Refresh tokens: opaque, stored as hashes, rotated at every use.

Tokens descended from one sign-in are a family. A replaced token still works for a short grace,
for clients that race with themselves or lost the answer. After that its use means that two
parties hold it, and the whole family ends (RFC 9700 §4.14.2).
"""

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from uuid import UUID

from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from sinas.kit.crypto import random_token, sha256_hex
from sinas.kit.ids import uuid7
from sinas.kit.time import utcnow
from sinas.models import RefreshToken, User


class Refusal(StrEnum):
    """Why a refresh token does not work, as a sentence for its holder."""

    INVALID = "Invalid or expired refresh token"
    REPLACED = (
        "This refresh token was replaced by a newer one; keep the refresh_token of each answer of "
        "/auth/refresh. Sign in again."
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Rotated:
    """A successful refresh.

    Attributes:
        token: The new refresh token, in clear; not stored anywhere.
    """

    user_id: UUID
    email: str
    token: str


class RefreshTokens:
    """Reads and writes refresh tokens within the caller's transaction."""

    def __init__(self, session: AsyncSession, *, lifetime: timedelta, grace: timedelta) -> None:
        self._session = session
        self._lifetime = lifetime
        self._grace = grace

    def issue(self, user_id: UUID, family_id: UUID | None = None) -> str:
        """A new token, of a new family unless one is given."""
        token = random_token()
        self._session.add(
            RefreshToken(
                user_id=user_id,
                family_id=family_id or uuid7(),
                token_hash=sha256_hex(token),
                expires_at=utcnow() + self._lifetime,
            )
        )
        return token

    async def rotate(self, token: str) -> Rotated | Refusal:
        """Trade a token for a new one of its family.

        A refusal is returned, not raised: the reuse of a replaced token revokes its family, and
        that must be committed.
        """
        if await self._lock_family(token) is None:
            return Refusal.INVALID
        found = await self._session.execute(
            select(RefreshToken, User.email)
            .join(User, User.id == RefreshToken.user_id)
            .where(RefreshToken.token_hash == sha256_hex(token), User.is_active)
            # Whoever deactivates the user meanwhile waits, and then revokes the new token too.
            .with_for_update(read=True, of=User)
        )
        row = found.one_or_none()
        now = utcnow()
        if row is None:
            return Refusal.INVALID
        held, email = row.RefreshToken, row.email
        if held.revoked_at is not None or held.expires_at <= now:
            return Refusal.INVALID
        if held.rotated_at is None:
            held.rotated_at = now
        elif now - held.rotated_at > self._grace:
            await self._revoke(held.family_id)
            return Refusal.REPLACED
        fresh = self.issue(held.user_id, held.family_id)
        return Rotated(user_id=held.user_id, email=email, token=fresh)

    async def revoke(self, token: str) -> bool:
        """End the token's family; False for a token nobody ever had. Repeating is fine."""
        family_id = await self._lock_family(token)
        if family_id is None:
            return False
        await self._revoke(family_id)
        return True

    async def _lock_family(self, token: str) -> UUID | None:
        """The token's family, until the end of the transaction ours alone.

        Row locks would not do: a revocation does not see the token that a rotation is just
        adding, and two revocations could wait for each other.
        """
        family_id = await self._session.scalar(
            select(RefreshToken.family_id).where(RefreshToken.token_hash == sha256_hex(token))
        )
        if family_id is not None:
            key = int.from_bytes(family_id.bytes[8:], signed=True)
            await self._session.execute(select(func.pg_advisory_xact_lock(key)))
        return family_id

    async def _revoke(self, family_id: UUID) -> None:
        await self._session.execute(
            update(RefreshToken)
            .where(RefreshToken.family_id == family_id, RefreshToken.revoked_at.is_(None))
            .values(revoked_at=func.now())
        )


async def revoke_all_of(session: AsyncSession, user_id: UUID) -> None:
    """End every sign-in of a user."""
    await session.execute(
        update(RefreshToken)
        .where(RefreshToken.user_id == user_id, RefreshToken.revoked_at.is_(None))
        .values(revoked_at=func.now())
    )
