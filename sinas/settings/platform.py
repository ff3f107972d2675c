"""Groups about the installation itself: where it runs, its stores, its keys, its mail."""

from ipaddress import ip_network
from pathlib import Path
from typing import Literal

from pydantic import AliasChoices, Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict


class Group(BaseSettings):
    """Base of every group."""

    model_config = SettingsConfigDict(
        extra="ignore", frozen=True, populate_by_name=True, case_sensitive=False
    )


class CoreSettings(Group):
    """What every process needs to know about where it runs."""

    env: Literal["development", "production"] = Field(
        "development",
        validation_alias=AliasChoices("SINAS_ENV", "env"),
        description="`production` refuses weak keys and process sandboxes.",
    )
    data_dir: Path = Field(
        Path("data"),
        validation_alias=AliasChoices("SINAS_DATA_DIR", "data_dir"),
        description="Where the embedded services, keys and sandbox sockets live.",
    )
    instance_id: str = Field(
        "sinas",
        validation_alias=AliasChoices("SINAS_INSTANCE_ID", "instance_id"),
        description="Labels containers, so that two installations on one engine stay apart.",
    )
    host: str = Field(
        "127.0.0.1",
        validation_alias=AliasChoices("SINAS_HOST", "host"),
        description="Address the API listens on.",
    )
    port: int = Field(
        8000,
        validation_alias=AliasChoices("SINAS_PORT", "BACKEND_PORT", "port"),
        description="Port the API listens on.",
    )
    internal_api_url: str = Field(
        "",
        validation_alias=AliasChoices("SINAS_INTERNAL_API_URL", "internal_api_url"),
        description="Base URL workers reach the API at; empty means http://127.0.0.1:port.",
    )
    domain: str = Field(
        "",
        validation_alias=AliasChoices("DOMAIN", "domain"),
        description="Name under which the API is reached from everywhere, over HTTPS; temporary "
        "and public URLs of files begin with it. Empty means that they begin with "
        "SINAS_PUBLIC_URL, or else with SINAS_INTERNAL_API_URL.",
    )
    public_url: str = Field(
        "",
        validation_alias=AliasChoices("SINAS_PUBLIC_URL", "public_url"),
        description="Base URL browsers reach the API at, where services send them back to once "
        "users allowed a connector; empty means the address of the request.",
    )
    local_model_url: str = Field(
        "",
        validation_alias=AliasChoices("SINAS_LOCAL_MODEL_URL", "local_model_url"),
        description="OpenAI-compatible base URL of the offline model; set by `sinas up`.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info",
        validation_alias=AliasChoices("LOG_LEVEL", "log_level"),
        description="Least severe level that is logged.",
    )
    log_format: Literal["text", "json"] = Field(
        "text",
        validation_alias=AliasChoices("LOG_FORMAT", "log_format"),
        description="`json` prints one object per line.",
    )

    @property
    def environments_dir(self) -> Path:
        """Where built environments of Python packages are, one directory for each id."""
        return (self.data_dir / "environments").resolve()

    @property
    def api_url(self) -> str:
        """Base URL of the runtime API as workers reach it, without a trailing slash."""
        return (self.internal_api_url or f"http://127.0.0.1:{self.port}").rstrip("/")

    @property
    def links_url(self) -> str:
        """Base URL that links begin with, without a trailing slash."""
        name = self.domain.rpartition("://")[2].rstrip("/")
        if name not in ("", "localhost", "127.0.0.1"):
            return f"https://{name}"
        return self.public_url.rstrip("/") or self.api_url


class DatabaseSettings(Group):
    """PostgreSQL."""

    url: str = Field(
        "",
        validation_alias=AliasChoices("DATABASE_URL", "url"),
        description="postgresql://… (any driver suffix is replaced); required outside `sinas up`.",
    )
    pool_size: int = Field(
        20,
        validation_alias=AliasChoices("DB_POOL_SIZE", "pool_size"),
        description="Connections a process keeps open.",
    )
    max_overflow: int = Field(
        10,
        validation_alias=AliasChoices("DB_MAX_OVERFLOW", "max_overflow"),
        description="Connections a process may open beyond the pool.",
    )
    builtin_enabled: bool = Field(
        True,
        validation_alias=AliasChoices("BUILTIN_DATABASE_ENABLED", "builtin_enabled"),
        description="Whether a start makes the connection `built-in`: a database and a role of its "
        "own on the server of DATABASE_URL, whose role must be a superuser, or own its database "
        "and have CREATEDB and CREATEROLE.",
    )


class RedisSettings(Group):
    """Redis."""

    url: str = Field(
        "",
        validation_alias=AliasChoices("REDIS_URL", "url"),
        description="redis://… or unix://…; required outside `sinas up`.",
    )


class AuthSettings(Group):
    """Keys, tokens and rate limits."""

    secret_key: SecretStr = Field(
        SecretStr(""),
        validation_alias=AliasChoices("SECRET_KEY", "secret_key"),
        description="Signs access tokens; 32 characters or more.",
    )
    encryption_key: SecretStr = Field(
        SecretStr(""),
        validation_alias=AliasChoices("ENCRYPTION_KEY", "encryption_key"),
        description="Fernet key that encrypts stored credentials.",
    )
    superadmin_email: str = Field(
        "",
        validation_alias=AliasChoices("SUPERADMIN_EMAIL", "superadmin_email"),
        description="Made a member of Admins at first start; required in production.",
    )
    access_token_expire_minutes: int = Field(15, description="Life of an access token.")
    refresh_token_expire_days: int = Field(30, description="Life of a refresh token.")
    refresh_reuse_grace_seconds: int = Field(
        30, description="How long a rotated refresh token still answers, for clients that race."
    )
    otp_expire_minutes: int = Field(10, description="Life of a one-time code.")
    otp_max_attempts: int = Field(2, description="Tries per code, the right one included.")
    rate_limit_window_seconds: int = Field(900, description="Length of a rate-limit window.")
    rate_limit_login_ip_max: int = Field(10, description="Logins per client address and window.")
    rate_limit_login_email_max: int = Field(5, description="Logins per e-mail and window.")
    rate_limit_otp_ip_max: int = Field(10, description="Code checks per client address and window.")
    rate_limit_email_max: int = Field(
        100, description="Mails made of templates per sending user and window."
    )
    oauth_bind_browser_session: bool = Field(
        True,
        description="Whether users have to allow connectors (OAuth 2.0) in the browser that asked "
        "for it. Without, somebody could have another person allow what they get.",
    )
    trusted_proxies: str = Field(
        "127.0.0.1,::1",
        description="Comma list of addresses or networks whose X-Forwarded-For is believed.",
    )

    @field_validator("trusted_proxies")
    @classmethod
    def _are_networks(cls, value: str) -> str:
        for part in filter(None, map(str.strip, value.split(","))):
            ip_network(part, strict=False)
        return value


class MailSettings(Group):
    """Outgoing mail."""

    model_config = SettingsConfigDict(env_prefix="SMTP_")

    host: str = Field("", description="SMTP server; empty prints login codes in development.")
    port: int = Field(587, description="SMTP port; 465 means implicit TLS.")
    user: str = Field("", description="SMTP user.")
    password: SecretStr = Field(SecretStr(""), description="SMTP password.")
    domain: str = Field("", description="Codes are sent from login@domain, other mail from it too.")
    starttls: Literal["auto", "never"] = Field(
        "auto", description="`auto` upgrades to TLS where the server offers it."
    )
    max_attachments_mb: int = Field(
        10,
        ge=1,
        le=100,
        description="What the attachments of one mail may have together, in MiB. Servers see a "
        "third more; while it is sent, the API needs up to ten times that, for at most four mails "
        "at once.",
    )
