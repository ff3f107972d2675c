"""Configuration: a tree of small models, read once from the environment by entry points.

Names are the contract's environment variables: the group's prefix plus the field's name,
upper-cased (`SANDBOX_MIN_SIZE` is `settings.sandbox.min_size`). Durations in the environment
are plain seconds, minutes or days as the name says; each field's description gives its unit.
Nothing outside this module reads the environment, and nothing imports a settings object:
entry points call `load_settings()` and hand the result down through `AppContext`.
"""

import os
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_network
from pathlib import Path
from typing import Literal

from pydantic import AliasChoices, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from sinas.errors import ConfigurationError

_PLACEHOLDER_SECRETS = frozenset({"your-secret-key-change-in-production", "changeme", "secret"})
_MIN_SECRET_LENGTH = 32


class _Group(BaseSettings):
    model_config = SettingsConfigDict(
        extra="ignore", frozen=True, populate_by_name=True, case_sensitive=False
    )


class CoreSettings(_Group):
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
    def api_url(self) -> str:
        """Base URL of the runtime API as workers reach it, without a trailing slash."""
        return (self.internal_api_url or f"http://127.0.0.1:{self.port}").rstrip("/")


class DatabaseSettings(_Group):
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


class RedisSettings(_Group):
    """Redis."""

    url: str = Field(
        "",
        validation_alias=AliasChoices("REDIS_URL", "url"),
        description="redis://… or unix://…; required outside `sinas up`.",
    )


class AuthSettings(_Group):
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


class MailSettings(_Group):
    """Outgoing mail."""

    model_config = SettingsConfigDict(env_prefix="SMTP_")

    host: str = Field("", description="SMTP server; empty prints login codes in development.")
    port: int = Field(587, description="SMTP port; 465 means implicit TLS.")
    user: str = Field("", description="SMTP user.")
    password: SecretStr = Field(SecretStr(""), description="SMTP password.")
    domain: str = Field("", description="Codes are sent from login@domain.")
    starttls: Literal["auto", "never"] = Field(
        "auto", description="`auto` upgrades to TLS where the server offers it."
    )


class QueueSettings(_Group):
    """Jobs and the workers that take them."""

    function_concurrency: int = Field(
        10,
        validation_alias=AliasChoices("QUEUE_FUNCTION_CONCURRENCY", "function_concurrency"),
        description="Function calls one function worker runs at once.",
    )
    agent_concurrency: int = Field(
        20,
        validation_alias=AliasChoices("QUEUE_AGENT_CONCURRENCY", "agent_concurrency"),
        description="Turns one agent worker runs at once.",
    )
    max_retries: int = Field(
        3,
        validation_alias=AliasChoices("QUEUE_MAX_RETRIES", "max_retries"),
        description="How often a turn whose worker died is taken over.",
    )
    lease_seconds: float = Field(
        5.0,
        validation_alias=AliasChoices("QUEUE_LEASE_SECONDS", "lease_seconds"),
        description="A worker silent for this long has lost its work.",
    )
    drain_seconds: float = Field(
        3.0,
        validation_alias=AliasChoices("QUEUE_DRAIN_SECONDS", "drain_seconds"),
        description="How long a stopping worker waits for running jobs.",
    )


class FunctionSettings(_Group):
    """Limits of a function call."""

    timeout: int = Field(
        300,
        validation_alias=AliasChoices("FUNCTION_TIMEOUT", "timeout"),
        description="Seconds a call may run when the function sets none.",
    )
    max_timeout: int = Field(
        86_400,
        validation_alias=AliasChoices("FUNCTION_MAX_TIMEOUT", "max_timeout"),
        description="Largest timeout a function may ask for, in seconds.",
    )
    token_buffer_seconds: int = Field(
        300,
        validation_alias=AliasChoices("EXECUTION_TOKEN_BUFFER_SECONDS", "token_buffer_seconds"),
        description="How long a call's access token outlives its timeout.",
    )
    max_token_seconds: int = Field(
        86_400,
        validation_alias=AliasChoices("MAX_EXECUTION_TOKEN_SECONDS", "max_token_seconds"),
        description="Longest life of a call's access token.",
    )
    max_input_bytes: int = Field(
        6_291_456,
        validation_alias=AliasChoices("FUNCTION_MAX_INPUT_BYTES", "max_input_bytes"),
        description="Largest JSON input of a call.",
    )
    max_result_bytes: int = Field(
        6_291_456,
        validation_alias=AliasChoices("FUNCTION_MAX_RESULT_BYTES", "max_result_bytes"),
        description="Largest JSON result of a call.",
    )
    max_output_bytes: int = Field(
        65_536,
        validation_alias=AliasChoices("FUNCTION_MAX_OUTPUT_BYTES", "max_output_bytes"),
        description="How much of stdout, and of stderr, is kept with an execution.",
    )


class SandboxSettings(_Group):
    """Where user code runs. `backend` is the variable SANDBOX; the rest are SANDBOX_*."""

    model_config = SettingsConfigDict(env_prefix="SANDBOX_")

    backend: Literal["auto", "docker", "process"] = Field(
        "auto",
        validation_alias=AliasChoices("SANDBOX", "backend"),
        description="`auto` takes Docker where an engine answers and has or can build the image.",
    )
    image: str = Field(
        "sinas-executor",
        validation_alias=AliasChoices("FUNCTION_CONTAINER_IMAGE", "image"),
        description="Image the containers run.",
    )
    network: str = Field("sinas-sandbox", description="Docker network of the containers.")
    min_size: int = Field(4, description="Sandboxes kept ready.")
    max_size: int = Field(20, description="Sandboxes at most, per function worker.")
    min_idle: int = Field(2, description="Idle sandboxes kept while others are busy.")
    max_executions: int = Field(
        5000,
        description="Calls after which a sandbox is replaced. Each call is a fresh process of a "
        "user of its own, so this bounds what could pile up in a container, not what calls share.",
    )
    acquire_timeout: float = Field(30.0, description="Seconds a call waits for a free sandbox.")
    memory_mb: int = Field(
        512,
        validation_alias=AliasChoices("MAX_FUNCTION_MEMORY", "memory_mb"),
        description="Memory of one sandbox, in MiB.",
    )
    cpus: float = Field(
        1.0,
        validation_alias=AliasChoices("MAX_FUNCTION_CPU", "cpus"),
        description="CPUs of one sandbox.",
    )
    pids: int = Field(256, description="Processes and threads of one sandbox.")
    tmp_mb: int = Field(100, description="Size of /tmp in one sandbox, in MiB.")
    allow_process_in_production: bool = Field(
        False, description="Lets `process` run in production although it isolates less."
    )


class ChatSettings(_Group):
    """Limits of a turn."""

    max_history_messages: int = Field(100, description="Messages of history sent to a model.")
    max_tool_iterations: int = Field(25, description="Model rounds with tool calls in one turn.")
    tool_result_context_max_size: int = Field(
        102_400, description="Bytes of one tool result sent to a model."
    )
    agent_job_timeout: int = Field(600, description="Seconds a turn may take.")
    chats_unpaginated_max: int = Field(10_000, description="Chats listed without a limit.")
    stream_ttl_seconds: int = Field(3600, description="How long a finished stream can be replayed.")
    ping_seconds: float = Field(15.0, description="Silence after which a stream sends a ping.")
    llm_timeout_seconds: float = Field(
        120.0, description="Longest silence of an LLM upstream before the turn fails."
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All groups."""

    core: CoreSettings
    database: DatabaseSettings
    redis: RedisSettings
    auth: AuthSettings
    mail: MailSettings
    queue: QueueSettings
    function: FunctionSettings
    sandbox: SandboxSettings
    chat: ChatSettings

    @property
    def is_production(self) -> bool:
        """Whether weak configuration must be refused."""
        return self.core.env == "production"


GROUPS: dict[str, type[_Group]] = {
    "core": CoreSettings,
    "database": DatabaseSettings,
    "redis": RedisSettings,
    "auth": AuthSettings,
    "mail": MailSettings,
    "queue": QueueSettings,
    "function": FunctionSettings,
    "sandbox": SandboxSettings,
    "chat": ChatSettings,
}


def load_settings() -> Settings:
    """Read every group from the environment and check the keys.

    Raises:
        ConfigurationError: A variable has a value of the wrong type or range, or a key is missing
            or, in production, weak. The message names the variable.
    """
    settings = read_settings()
    check_keys(settings)
    return settings


def read_settings() -> Settings:
    """Read every group from the environment; the keys may be missing.

    Raises:
        ConfigurationError: A variable has a value of the wrong type or range.
    """
    return Settings(**{name: _read(group) for name, group in GROUPS.items()})  # type: ignore[arg-type]


def _read(group: type[_Group]) -> _Group:
    try:
        return group()
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0]) if first["loc"] else "the environment"
        field = group.model_fields.get(name)
        # pydantic names a field with aliases by its variable, one with a prefix without it.
        is_prefixed = field is not None and field.validation_alias is None
        prefix = group.model_config.get("env_prefix", "") if is_prefixed else ""
        raise ConfigurationError(f"{(prefix + name).upper()}: {first['msg']}.") from error


def check_keys(settings: Settings) -> None:
    """Refuse keys that would not protect anything.

    Raises:
        ConfigurationError: SECRET_KEY or ENCRYPTION_KEY is missing, a known placeholder or too
            short, or, in production, SUPERADMIN_EMAIL is missing.
    """
    auth = settings.auth
    secret = auth.secret_key.get_secret_value()
    if not secret:
        raise ConfigurationError(
            "SECRET_KEY is not set; set it to at least 32 random characters, for example from "
            "`python3 -c 'import secrets; print(secrets.token_urlsafe(48))'`."
        )
    if settings.is_production and (
        secret.lower() in _PLACEHOLDER_SECRETS
        or len(secret) < _MIN_SECRET_LENGTH
        or len(set(secret)) < 8
    ):
        raise ConfigurationError(
            "SECRET_KEY is too weak for production; set it to at least 32 random characters."
        )
    if not auth.encryption_key.get_secret_value():
        raise ConfigurationError(
            "ENCRYPTION_KEY is not set; set it to a Fernet key, for example from "
            "`python3 -c 'import base64, os; print(base64.urlsafe_b64encode(os.urandom(32))"
            ".decode())'`."
        )
    if settings.is_production and not auth.superadmin_email:
        raise ConfigurationError("SUPERADMIN_EMAIL is not set; production needs a first admin.")


def environment() -> dict[str, str]:
    """A copy of this process's environment, for child processes."""
    return dict(os.environ)  # noqa: TID251 - this module is the one reader


def has_proxy() -> bool:
    """Whether HTTP_PROXY, HTTPS_PROXY or ALL_PROXY (in either case) is set."""
    return bool({"http", "https", "all"} & urllib.request.getproxies_environment().keys())


def prefer_local_model_prices() -> None:
    """Keep litellm from fetching its price table from the internet when it is imported."""
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # noqa: TID251 - see environment()


def use_defaults(values: Mapping[str, str]) -> None:
    """Fill variables that are unset, for commands that join a running instance."""
    for name, value in values.items():
        os.environ.setdefault(name, value)  # noqa: TID251 - as above


def replace_environment(values: Mapping[str, str]) -> None:
    """Make `values` this process's whole environment, for one forked on another's order."""
    os.environ.clear()  # noqa: TID251 - as above
    os.environ.update(values)  # noqa: TID251 - as above


def client_address() -> tuple[str, str]:
    """SINAS_BASE_URL and SINAS_API_KEY, for commands that are clients; empty where unset."""
    values = environment()
    return values.get("SINAS_BASE_URL", ""), values.get("SINAS_API_KEY", "")
