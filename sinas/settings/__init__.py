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

from pydantic import ValidationError

from sinas.errors import ConfigurationError
from sinas.settings.egress import EgressSettings
from sinas.settings.files import FileSettings
from sinas.settings.identity import OidcSettings
from sinas.settings.platform import (
    AuthSettings,
    CoreSettings,
    DatabaseSettings,
    Group,
    MailSettings,
    RedisSettings,
)
from sinas.settings.search import SearchSettings
from sinas.settings.telemetry import TelemetrySettings
from sinas.settings.work import (
    ChatSettings,
    DependencySettings,
    FunctionSettings,
    QueueSettings,
    SandboxSettings,
    WebhookSettings,
)

__all__ = [
    "GROUPS",
    "AuthSettings",
    "ChatSettings",
    "CoreSettings",
    "DatabaseSettings",
    "DependencySettings",
    "EgressSettings",
    "FileSettings",
    "FunctionSettings",
    "MailSettings",
    "OidcSettings",
    "QueueSettings",
    "RedisSettings",
    "SandboxSettings",
    "SearchSettings",
    "Settings",
    "TelemetrySettings",
    "WebhookSettings",
    "check_keys",
    "client_address",
    "environment",
    "has_proxy",
    "load_settings",
    "prefer_local_model_prices",
    "read_settings",
    "replace_environment",
    "use_defaults",
]

_PLACEHOLDER_SECRETS = frozenset({"your-secret-key-change-in-production", "changeme", "secret"})
_MIN_SECRET_LENGTH = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All groups."""

    core: CoreSettings
    database: DatabaseSettings
    redis: RedisSettings
    auth: AuthSettings
    mail: MailSettings
    oidc: OidcSettings
    queue: QueueSettings
    function: FunctionSettings
    sandbox: SandboxSettings
    dependency: DependencySettings
    webhook: WebhookSettings
    chat: ChatSettings
    egress: EgressSettings
    files: FileSettings
    search: SearchSettings
    telemetry: TelemetrySettings

    @property
    def is_production(self) -> bool:
        """Whether weak configuration must be refused."""
        return self.core.env == "production"


GROUPS: dict[str, type[Group]] = {
    "core": CoreSettings,
    "database": DatabaseSettings,
    "redis": RedisSettings,
    "auth": AuthSettings,
    "mail": MailSettings,
    "oidc": OidcSettings,
    "queue": QueueSettings,
    "function": FunctionSettings,
    "sandbox": SandboxSettings,
    "dependency": DependencySettings,
    "webhook": WebhookSettings,
    "chat": ChatSettings,
    "egress": EgressSettings,
    "files": FileSettings,
    "search": SearchSettings,
    "telemetry": TelemetrySettings,
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


def _read(group: type[Group]) -> Group:
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
