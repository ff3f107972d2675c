"""The rules of signing in.

The service opens its own short transactions: a wrong code is counted and the reuse of a
refresh token ends its family although the caller gets an error.
"""

from datetime import timedelta
from typing import Final, Literal
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from sinas.auth.one_time import code_hash, is_code, new_code
from sinas.auth.permissions import PermissionSet
from sinas.auth.principal import Principal
from sinas.auth.rate_limit import RateLimiter
from sinas.auth.refresh import RefreshTokens, Rotated
from sinas.auth.tokens import AccessClaims
from sinas.context import AppContext
from sinas.db.unit import Unit
from sinas.errors import (
    BadRequestError,
    ConflictError,
    ForbiddenError,
    NotFoundError,
    UnauthenticatedError,
)
from sinas.kit.addresses import subscriber
from sinas.kit.ids import uuid7
from sinas.kit.time import utcnow
from sinas.models import OtpSession, User
from sinas.resources.auth.delivery import open_delivery
from sinas.resources.auth.identity import IdentityProvider
from sinas.resources.auth.repository import SignIns
from sinas.resources.auth.schemas import (
    AccessGrant,
    AuthUser,
    LoginResponse,
    OTPVerifyResponse,
)
from sinas.resources.users.schemas import UserCreate
from sinas.resources.users.service import UserService

_BEARER: Final[Literal["bearer"]] = "bearer"
# On whose behalf users are made who come by themselves: it may do that, and nothing else.
_PROVISIONER: Final = Principal(
    user_id=UUID(int=0),
    email="",
    roles=(),
    grants=PermissionSet.of(("sinas.users.create:all",)),
    credential="system",
)


class SignInService:
    """Login by one-time code, and the tokens that follow.

    `address` is the client's address, for rate limits.
    """

    def __init__(self, context: AppContext, address: str) -> None:
        self._context = context
        self._auth = context.settings.auth
        self._secret = self._auth.secret_key.get_secret_value()
        self._lifetime = timedelta(minutes=self._auth.access_token_expire_minutes)
        self._client = subscriber(address)
        self._limits = RateLimiter(context.redis, self._auth.rate_limit_window_seconds)

    async def start(self, email: str) -> LoginResponse:
        """Send a code to a user. For an unknown address everything but the code is the same.

        Raises:
            RateLimitedError: Too many logins from this client or for this address.
            UnavailableError: No code can be sent to anybody right now.
        """
        # The client first: who is over their own limit must not use up the address's.
        await self._limits.hit(f"login:ip:{self._client}", self._auth.rate_limit_login_ip_max)
        await self._limits.hit(f"login:email:{email}", self._auth.rate_limit_login_email_max)
        delivery = await open_delivery(self._context)
        try:
            session_id, code = await self._open_session(email)
        except BaseException:
            await delivery.close()
            raise
        self._context.background.spawn("auth.deliver", delivery.finish(email, code))
        return LoginResponse(
            message="If this address has an account, a login code is on its way.",
            session_id=session_id,
        )

    async def verify(self, session_id: UUID, code: str) -> OTPVerifyResponse:
        """Trade a code for tokens, once.

        Raises:
            RateLimitedError: Too many tries from this client.
            BadRequestError: Wrong, expired, used, or tried too often: all the same to the caller.
        """
        await self._limits.hit(f"verify_otp:ip:{self._client}", self._auth.rate_limit_otp_ip_max)
        async with self._context.unit() as unit:
            answer = await self._try_code(unit.session, session_id, code)
        if answer is None:
            raise BadRequestError(
                "This code is wrong, expired or used; check it, or log in again for a new one."
            )
        return answer

    async def exchange(self, token: str) -> OTPVerifyResponse:
        """Trade an identity provider's token for our own.

        Raises:
            RateLimitedError: Too many tries from this client that were no good.
            NotFoundError: No provider is set up.
            UnauthenticatedError: The token is not good, see `IdentityProvider`.
            ForbiddenError: Its owner has no user here, or a deactivated one.
            UnavailableError: The provider does not answer.
        """
        tries = f"external:ip:{self._client}"
        await self._limits.hit(tries, self._auth.rate_limit_login_ip_max)
        oidc = self._context.settings.oidc
        if not oidc.issuer:
            raise NotFoundError("No identity provider is set up here; OIDC_ISSUER names one.")
        # No transaction is open while the provider is asked.
        provider = IdentityProvider(oidc, self._context.http, self._context.redis)
        email = await provider.email_of(token)
        try:
            answer = await self._vouched_for(email)
        except ConflictError:
            # Somebody's first sign-in, twice at once: by now the other one has made the user.
            answer = await self._vouched_for(email)
        # The server of an application signs all of its users in, from one address.
        await self._limits.take_back(tries)
        return answer

    async def _vouched_for(self, email: str) -> OTPVerifyResponse:
        async with self._context.unit() as unit:
            sign_ins = SignIns(unit.session)
            known = await sign_ins.user_of(email) or await self._provisioned(unit, email)
            # None for one whom an administrator deactivated: they do not come back by themselves.
            user = await sign_ins.note_login(known.id)
            if user is None:
                raise _no_user()
            return await self._welcome(unit.session, sign_ins, user)

    async def _provisioned(self, unit: Unit, email: str) -> User:
        if not self._context.settings.oidc.auto_provision:
            raise _no_user()
        users = UserService(unit, _PROVISIONER, self._auth.superadmin_email)
        return await users.create(UserCreate(email=email))

    async def refresh(self, token: str) -> AccessGrant:
        """New tokens for a refresh token, which is replaced.

        Raises:
            UnauthenticatedError: Unknown, expired, revoked, replaced, or of a deactivated user.
        """
        async with self._context.unit() as unit:
            outcome = await self._tokens(unit.session).rotate(token)
        if not isinstance(outcome, Rotated):
            raise UnauthenticatedError(outcome.value)
        return AccessGrant(
            access_token=self._access_token(outcome.user_id, outcome.email),
            refresh_token=outcome.token,
            token_type=_BEARER,
            expires_in=int(self._lifetime.total_seconds()),
        )

    async def end(self, token: str) -> None:
        """End the sign-in a refresh token belongs to. Repeating is fine.

        Raises:
            NotFoundError: Nobody ever had this token.
        """
        async with self._context.unit() as unit:
            if not await self._tokens(unit.session).revoke(token):
                raise NotFoundError("Refresh token not found")

    async def _open_session(self, email: str) -> tuple[UUID, str | None]:
        """A new session and the code to deliver; None when no user has the address."""
        session_id, code = uuid7(), new_code()
        async with self._context.unit() as unit:
            sign_ins = SignIns(unit.session)
            user_id = await sign_ins.active_user_id(email)
            await sign_ins.replace(
                OtpSession(
                    id=session_id,
                    email=email,
                    user_id=user_id,
                    code_hash=code_hash(self._secret, session_id, code),
                    expires_at=utcnow() + timedelta(minutes=self._auth.otp_expire_minutes),
                )
            )
        return session_id, code if user_id is not None else None

    async def _try_code(
        self, session: AsyncSession, session_id: UUID, code: str
    ) -> OTPVerifyResponse | None:
        sign_ins = SignIns(session)
        held = await sign_ins.locked(session_id)
        if held is None or not self._is_open(held):
            return None
        held.attempts += 1
        if not is_code(held.code_hash, self._secret, session_id, code) or held.user_id is None:
            return None
        held.used_at = utcnow()
        user = await sign_ins.note_login(held.user_id)
        return None if user is None else await self._welcome(session, sign_ins, user)

    def _is_open(self, held: OtpSession) -> bool:
        return (
            held.used_at is None
            and held.expires_at > utcnow()
            and held.attempts < self._auth.otp_max_attempts
        )

    async def _welcome(
        self, session: AsyncSession, sign_ins: SignIns, user: User
    ) -> OTPVerifyResponse:
        return OTPVerifyResponse(
            access_token=self._access_token(user.id, user.email),
            refresh_token=self._tokens(session).issue(user.id),
            token_type=_BEARER,
            expires_in=int(self._lifetime.total_seconds()),
            user=AuthUser(
                id=user.id,
                email=user.email,
                last_login_at=user.last_login_at,
                created_at=user.created_at,
                roles=list(await sign_ins.role_names(user.id)),
            ),
        )

    def _access_token(self, user_id: UUID, email: str) -> str:
        claims = AccessClaims(user_id=user_id, email=email)
        return self._context.signer.mint(claims, self._lifetime)

    def _tokens(self, session: AsyncSession) -> RefreshTokens:
        return RefreshTokens(
            session,
            lifetime=timedelta(days=self._auth.refresh_token_expire_days),
            grace=timedelta(seconds=self._auth.refresh_reuse_grace_seconds),
        )


def _no_user() -> ForbiddenError:
    return ForbiddenError(
        "The identity provider knows you, but you have no user here; ask an administrator."
    )
