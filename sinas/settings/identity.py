"""The group about an identity provider that users may sign in with."""

from typing import Self

from pydantic import Field, field_validator, model_validator
from pydantic_settings import SettingsConfigDict

from sinas.settings.platform import Group


class OidcSettings(Group):
    """Signing in with an identity provider (OpenID Connect)."""

    model_config = SettingsConfigDict(env_prefix="OIDC_")

    issuer: str = Field(
        "",
        description="Address of the provider as its tokens name it (`iss`), by https; empty turns "
        "`/auth/external-auth` off. A private one needs EGRESS_ALLOW_HOSTS.",
    )
    audience: str = Field(
        "", description="Client id that its tokens are made for (`aud`); needed with an issuer."
    )
    auto_provision: bool = Field(
        False,
        description="Whether somebody without a user becomes one, as if an administrator had "
        "made them: a guest, and in the roles of their e-mail's domain.",
    )
    trust_email: bool = Field(
        False,
        description="Whether addresses are believed that the provider does not call verified; "
        "only where nobody there can choose their own.",
    )

    @field_validator("issuer")
    @classmethod
    def _is_https(cls, value: str) -> str:
        if value and not value.startswith("https://"):
            raise ValueError("must begin with https://, or its keys could be anybody's")
        return value

    @model_validator(mode="after")
    def _has_audience(self) -> Self:
        if self.issuer and not self.audience:
            raise ValueError("OIDC_AUDIENCE is needed with OIDC_ISSUER")
        return self
