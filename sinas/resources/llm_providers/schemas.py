"""Bodies of the LLM provider operations."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, SecretStr, TypeAdapter, ValidationError

from sinas.crud.schema import Change, Input, Stamped
from sinas.kit.json_types import JsonObject

ProviderType = Literal["openai", "anthropic", "mistral", "ollama"]


def _http_url(value: str) -> str:
    if not value.startswith(("http://", "https://")):
        raise ValueError("must be a URL that starts with http:// or https://")
    return value.rstrip("/")


Endpoint = Annotated[
    str,
    AfterValidator(_http_url),
    Field(max_length=2048, description="Base URL of the API, such as http://host:8080/v1."),
]
Name = Annotated[str, Field(min_length=1, max_length=255)]


def _header_safe(value: SecretStr) -> SecretStr:
    plain = value.get_secret_value()
    if not (plain.isascii() and (plain.isprintable() or not plain)):
        raise ValueError("must be printable ASCII: it is sent in an HTTP header")
    return value


Key = Annotated[
    SecretStr,
    AfterValidator(_header_safe),
    Field(max_length=4096, description="Stored encrypted, never returned; '' removes it."),
]


class ModelPrice(Input):
    """USD per million tokens; cached tokens cost what others do unless it is said."""

    input: Annotated[float, Field(ge=0)]
    output: Annotated[float, Field(ge=0)]
    cache_read: Annotated[float | None, Field(ge=0)] = None
    cache_write: Annotated[float | None, Field(ge=0)] = None


_PRICES: TypeAdapter[dict[str, ModelPrice]] = TypeAdapter(dict[str, ModelPrice])


def _with_prices(value: JsonObject) -> JsonObject:
    if "prices" not in value:
        return value
    try:
        prices = _PRICES.validate_python(value["prices"])
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ValueError(f"prices.{where}: {first['msg']}") from error
    plain: JsonObject = {
        model: price.model_dump(exclude_none=True) for model, price in prices.items()
    }
    return {**value, "prices": plain}


Config = Annotated[
    JsonObject,
    AfterValidator(_with_prices),
    Field(
        description="`models`: names besides the default one. `prices`: by model, USD per million "
        "tokens as `input`, `output`, `cache_read`, `cache_write`."
    ),
]


class LlmProviderCreate(Input):
    """A new provider."""

    name: Name
    provider_type: ProviderType
    api_key: Key | None = None
    api_endpoint: Endpoint | None = None
    default_model: str | None = Field(None, max_length=255)
    config: Config | None = None
    is_default: bool | None = False


class LlmProviderUpdate(Change):
    """Changes; what is left out stays."""

    name: Name | None = None
    provider_type: ProviderType | None = None
    api_key: Key | None = None
    api_endpoint: Endpoint | None = None
    default_model: str | None = Field(None, max_length=255)
    config: Config | None = None
    is_default: bool | None = None
    is_active: bool | None = None


class LlmProviderRead(Stamped):
    """A provider without its key."""

    name: str
    provider_type: str
    api_endpoint: str | None
    default_model: str | None
    config: JsonObject
    is_default: bool
    is_active: bool
