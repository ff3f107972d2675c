"""The SQL of signing in. It runs before there is a caller, so nothing is filtered by one."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from sinas.models import OtpSession, RefreshToken, Role, User, UserRole


class SignIns:
    """One-time code sessions and the users behind them."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def active_user_id(self, email: str) -> UUID | None:
        """The user of an address, if they may sign in."""
        return await self._session.scalar(
            select(User.id).where(User.email == email, User.is_active)
        )

    async def user_of(self, email: str) -> User | None:
        """The user of an address, active or not."""
        return await self._session.scalar(select(User).where(User.email == email))

    async def replace(self, fresh: OtpSession) -> None:
        """Store a session in place of all older ones of its address."""
        await self._session.execute(delete(OtpSession).where(OtpSession.email == fresh.email))
        self._session.add(fresh)

    async def locked(self, session_id: UUID) -> OtpSession | None:
        """One session, so that of two simultaneous tries the second sees the first."""
        return await self._session.scalar(
            select(OtpSession).where(OtpSession.id == session_id).with_for_update()
        )

    async def note_login(self, user_id: UUID) -> User | None:
        """Stamp the sign-in; None if the user was deactivated since the code was sent."""
        return await self._session.scalar(
            update(User)
            .where(User.id == user_id, User.is_active)
            # Signing in is no change of the account.
            .values(last_login_at=func.now(), updated_at=User.updated_at)
            .returning(User)
        )

    async def role_names(self, user_id: UUID) -> Sequence[str]:
        """Names of the user's active roles, in order."""
        return (
            await self._session.scalars(
                select(Role.name)
                .join(UserRole, UserRole.role_id == Role.id)
                .where(UserRole.user_id == user_id, UserRole.active)
                .order_by(Role.name)
            )
        ).all()

    async def forget_before(self, moment: datetime) -> None:
        """Delete sessions and refresh tokens that expired before `moment`."""
        await self._session.execute(delete(OtpSession).where(OtpSession.expires_at < moment))
        await self._session.execute(delete(RefreshToken).where(RefreshToken.expires_at < moment))
