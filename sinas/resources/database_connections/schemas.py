"""Bodies of the database connection operations. A password only goes in."""

import re
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, SecretStr

from sinas.crud.schema import Change, Input, Output, Stamped
from sinas.databases.base import SslMode
from sinas.kit.json_types import JsonObject

ConnectionType = Literal["postgresql", "mysql", "clickhouse", "snowflake"]

_HOST = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9._-]*[A-Za-z0-9_])?|[0-9A-Fa-f:.]+")
_MAX_POOL = 100
_TEXTS = {"ssl_ca": 65_536, "warehouse": 255, "role": 255, "schema": 255}
_SNOWFLAKES = ("warehouse", "role", "schema")


def _host(value: str) -> str:
    # No path: a Unix socket of this machine may let in whoever reaches it.
    if not _HOST.fullmatch(value):
        raise ValueError("must be a host name or an address")
    return value


def _no_nul(value: str) -> str:
    if any(character < " " for character in value):
        raise ValueError("must not have control characters")
    return value


def _config(value: JsonObject) -> JsonObject:
    sizes: dict[str, int] = {}
    for key, each in value.items():
        if key in ("min_pool_size", "max_pool_size"):
            least = 0 if key == "min_pool_size" else 1
            if (
                isinstance(each, bool)
                or not isinstance(each, int)
                or not least <= each <= _MAX_POOL
            ):
                raise ValueError(f"{key} must be a whole number from {least} to {_MAX_POOL}")
            sizes[key] = each
        elif key in _TEXTS:
            if not isinstance(each, str) or len(each) > _TEXTS[key]:
                raise ValueError(f"{key} must be a text of at most {_TEXTS[key]} characters")
        else:
            known = ", ".join(["min_pool_size", "max_pool_size", *_TEXTS])
            raise ValueError(f"{key} is not known; known are {known}")
    if sizes.get("min_pool_size", 0) > sizes.get("max_pool_size", _MAX_POOL):
        raise ValueError("min_pool_size must not be larger than max_pool_size")
    return value


def unfit_option(connection_type: str, config: Mapping[str, object]) -> str | None:
    """What is wrong with a configuration for this type of connection; None where nothing is."""
    is_snowflake = connection_type == "snowflake"
    for key in config:
        if key in _SNOWFLAKES and not is_snowflake:
            return f"{key} is for snowflake connections"
        if key == "ssl_ca" and is_snowflake:
            return "ssl_ca is not for snowflake connections: the system's authorities are trusted"
    return None


Host = Annotated[str, AfterValidator(_host), Field(min_length=1, max_length=255)]
Port = Annotated[int, Field(ge=1, le=65_535)]
Text = Annotated[str, AfterValidator(_no_nul), Field(min_length=1, max_length=255)]
Name = Annotated[
    str,
    Field(min_length=1, max_length=255, pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._-]*$"),
]
Password = Annotated[
    SecretStr, Field(max_length=4096, description="Stored encrypted, never returned.")
]
Config = Annotated[
    JsonObject,
    AfterValidator(_config),
    Field(
        description="`min_pool_size` (2) and `max_pool_size` (10) of each process; `ssl_ca`, "
        "certificates in PEM form that verify-ca and verify-full trust instead of the system's; "
        "for Snowflake `warehouse`, `role` and `schema`."
    ),
]


class DatabaseConnectionCreate(Input):
    """A new connection."""

    name: Name
    connection_type: ConnectionType
    host: Host
    port: Port
    database: Text
    username: Text
    password: Password | None = None
    ssl_mode: SslMode | None = None
    config: Config | None = None
    read_only: bool = False
    is_active: bool = True


class DatabaseConnectionUpdate(Change):
    """Changes; null is as if left out. Open pools are closed once nobody uses them."""

    name: Name | None = None
    connection_type: ConnectionType | None = None
    host: Host | None = None
    port: Port | None = None
    database: Text | None = None
    username: Text | None = None
    password: Password | None = None
    ssl_mode: SslMode | None = None
    config: Config | None = None
    is_active: bool | None = None
    read_only: bool | None = None


class DatabaseConnectionTest(Input):
    """A connection to try without keeping it."""

    connection_type: ConnectionType
    host: Host
    port: Port
    database: Text
    username: Text
    password: Password | None = None
    ssl_mode: SslMode | None = None


class DatabaseConnectionRead(Stamped):
    """A connection without its password."""

    name: str
    connection_type: str
    host: str
    port: int
    database: str
    username: str
    ssl_mode: str | None
    config: JsonObject
    is_active: bool
    read_only: bool


class TestOutcome(Output):
    """What came of an attempt to connect."""

    success: bool
    message: str
    latency_ms: int | None


class Annotation(Input):
    """What people call a table, or a column of it, and what it holds."""

    schema_name: Text = "public"
    table_name: Text
    column_name: Text | None = None
    display_name: str | None = Field(None, max_length=255)
    description: str | None = Field(None, max_length=10_000)


class Annotations(Input):
    """Annotations to write over those of the same tables and columns."""

    annotations: list[Annotation] = Field(max_length=1000)


class Upserted(Output):
    """How many were written."""

    upserted: int
