"""Requests and answers of signing in."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field, StringConstraints

from sinas.auth.permissions import MAX_KEY_LENGTH
from sinas.auth.principal import Principal
from sinas.crud.schema import Input, Output
from sinas.kit.email import Email

RefreshTokenText = Annotated[str, StringConstraints(strip_whitespace=True, max_length=512)]


class LoginRequest(Input):
    """Who wants to sign in."""

    email: Email


class LoginResponse(Output):
    """The sign-in that waits for its code."""

    message: str
    session_id: UUID


class OTPVerifyRequest(Input):
    """The code that was delivered."""

    session_id: UUID
    otp_code: Annotated[str, StringConstraints(strip_whitespace=True, max_length=64)]


class AuthUser(Output):
    """A signed-in user."""

    id: UUID
    email: str
    last_login_at: datetime | None
    created_at: datetime | None
    roles: list[str]

    @classmethod
    def of(cls, principal: Principal) -> "AuthUser":
        """The user behind a caller, from what was read to authenticate them."""
        return cls(
            id=principal.user_id,
            email=principal.email,
            last_login_at=principal.last_login_at,
            created_at=principal.created_at,
            roles=list(principal.roles),
        )


class AccessGrant(Output):
    """A new access token, and the refresh token that replaces the one sent."""

    access_token: str
    refresh_token: str = Field(description="Keep it: the one sent stops working shortly.")
    token_type: Literal["bearer"]
    expires_in: int = Field(description="Life of the access token in seconds.")


class OTPVerifyResponse(AccessGrant):
    """The first tokens of a sign-in."""

    user: AuthUser


class RefreshRequest(Input):
    """A refresh token to trade for new tokens."""

    refresh_token: RefreshTokenText


class LogoutRequest(Input):
    """A refresh token whose sign-in is to end."""

    refresh_token: RefreshTokenText


class ExternalAuthRequest(Input):
    """What the identity provider gave."""

    token: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=16_384)]


class PermissionCheckRequest(Input):
    """Permission keys to test."""

    permissions: Annotated[
        list[Annotated[str, StringConstraints(max_length=MAX_KEY_LENGTH)]], Field(max_length=1000)
    ]
    logic: Literal["AND", "OR"] = "AND"


class PermissionCheckResult(Output):
    """One key and whether the caller holds it."""

    permission: str
    has_permission: bool


class PermissionCheckResponse(Output):
    """All keys, and the verdict by `logic`."""

    result: bool
    logic: Literal["AND", "OR"]
    checks: list[PermissionCheckResult]

    @classmethod
    def of(cls, principal: Principal, request: PermissionCheckRequest) -> "PermissionCheckResponse":
        """Test each key against what the caller may do right now."""
        checks = [
            PermissionCheckResult(permission=key, has_permission=principal.can(key))
            for key in request.permissions
        ]
        verdict = all if request.logic == "AND" else any
        result = verdict(check.has_permission for check in checks)
        return cls(result=result, logic=request.logic, checks=checks)
