"""Runtime routes of signing in, under `/auth`."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request, status

from sinas.auth.principal import Principal
from sinas.resources.auth.schemas import (
    AccessGrant,
    AuthUser,
    ExternalAuthRequest,
    LoginRequest,
    LoginResponse,
    LogoutRequest,
    OTPVerifyRequest,
    OTPVerifyResponse,
    PermissionCheckRequest,
    PermissionCheckResponse,
    RefreshRequest,
)
from sinas.resources.auth.service import SignInService
from sinas.web.client_address import client_address
from sinas.web.deps import CREDENTIALS, Caller, Context
from sinas.web.problems import PROBLEM_RESPONSES

router = APIRouter(prefix="/auth", tags=["auth"], responses=PROBLEM_RESPONSES)


async def sign_ins(request: Request, context: Context) -> SignInService:
    """The service, for callers who are nobody yet."""
    return SignInService(context, client_address(request, context))


async def signed_in(principal: Caller) -> Principal:
    """Anybody with a valid credential. Opens no transaction."""
    return principal


signed_in.permission = "authenticated"  # type: ignore[attr-defined]

SignIns = Annotated[SignInService, Depends(sign_ins)]
SignedIn = Annotated[Principal, Depends(signed_in)]


@router.post("/login")
async def login(body: LoginRequest, service: SignIns) -> LoginResponse:
    """Ask for a one-time code. Whether the address has an account is not revealed."""
    return await service.start(body.email)


@router.post("/verify-otp")
async def verify_otp(body: OTPVerifyRequest, service: SignIns) -> OTPVerifyResponse:
    """Trade the one-time code for an access token and a refresh token."""
    return await service.verify(body.session_id, body.otp_code)


@router.post("/external-auth")
async def external_auth(body: ExternalAuthRequest, service: SignIns) -> OTPVerifyResponse:
    """Trade an ID token of the identity provider for an access token and a refresh token.

    The provider is the one that the setting OIDC_ISSUER names. Its token must be made for
    OIDC_AUDIENCE and hold a verified e-mail address, by which the user is found.
    """
    return await service.exchange(body.token)


@router.post("/refresh")
async def refresh(body: RefreshRequest, service: SignIns) -> AccessGrant:
    """Trade a refresh token for a new access token and a new refresh token.

    The token sent keeps working for a short while, so that a client may repeat a lost request;
    used later, it ends the whole sign-in.
    """
    return await service.refresh(body.refresh_token)


@router.post("/logout", status_code=status.HTTP_204_NO_CONTENT)
async def logout(body: LogoutRequest, service: SignIns) -> None:
    """End a sign-in: none of its refresh tokens works any more."""
    await service.end(body.refresh_token)


@router.get("/me", dependencies=CREDENTIALS)
async def me(principal: SignedIn) -> AuthUser:
    """The signed-in user."""
    return AuthUser.of(principal)


@router.post("/check-permissions", dependencies=CREDENTIALS)
async def check_permissions(
    body: PermissionCheckRequest, principal: SignedIn
) -> PermissionCheckResponse:
    """Which of the given permissions the caller holds, limits of an API key included."""
    return PermissionCheckResponse.of(principal, body)
