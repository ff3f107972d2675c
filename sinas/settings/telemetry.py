"""The group about traces."""

from typing import Literal
from urllib.parse import unquote, urlsplit

from pydantic import Field, SecretStr, ValidationInfo, field_validator
from pydantic_settings import SettingsConfigDict

from sinas.settings.platform import Group


class TelemetrySettings(Group):
    """Traces, sent with OTLP over HTTP."""

    model_config = SettingsConfigDict(env_prefix="OTEL_")

    enabled: bool = Field(False, description="Whether traces are recorded and sent.")
    exporter_endpoint: str = Field(
        "",
        validate_default=True,
        description="Where to: `http://collector:4318`, with or without `/v1/traces`.",
    )
    exporter_headers: SecretStr = Field(
        SecretStr(""),
        description="Sent along, as `Name=value,Name2=value2`: the vendor's key.",
    )
    service_name: str = Field("sinas", description="The name traces show for this installation.")
    vendor: Literal["langwatch", "langfuse", "generic_otel"] = Field(
        "generic_otel",
        description="Whose attribute names to use besides OpenTelemetry's own.",
    )
    capture_content: bool = Field(
        False,
        description="Whether messages, answers, tool arguments, function inputs and results go "
        "along, 10000 characters of each. They leave the installation then.",
    )

    @field_validator("exporter_endpoint")
    @classmethod
    def _is_url(cls, value: str, info: ValidationInfo) -> str:
        parts = urlsplit(value)
        if value and not (parts.scheme in {"http", "https"} and parts.hostname):
            raise ValueError("must be an http or https URL")
        if not value and info.data.get("enabled"):
            raise ValueError("must be set where OTEL_ENABLED is")
        return value

    @field_validator("exporter_headers")
    @classmethod
    def _is_pairs(cls, value: SecretStr) -> SecretStr:
        if not all(name for name, _ in _pairs(value)):
            raise ValueError("must be name=value pairs with commas between them")
        return value

    @property
    def headers(self) -> dict[str, str]:
        """`exporter_headers` by name. Values may be percent-encoded, as OpenTelemetry has it."""
        return {name: unquote(text) for name, text in _pairs(self.exporter_headers)}


def _pairs(value: SecretStr) -> list[tuple[str, str]]:
    """Name and value of each pair; no name where there is no `=`."""
    parts = filter(None, map(str.strip, value.get_secret_value().split(",")))
    split = [part.partition("=") for part in parts]
    return [(name.strip() if equals else "", text.strip()) for name, equals, text in split]
