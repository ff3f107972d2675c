"""The engine: one per process, made by `open_context`."""

from typing import Any

import orjson
from sqlalchemy import event, make_url
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from sinas.errors import ConfigurationError
from sinas.kit.json_text import stored
from sinas.settings import DatabaseSettings


def async_url(url: str) -> str:
    """The URL with the asyncpg driver, whatever driver it named.

    Raises:
        ConfigurationError: Empty or not a PostgreSQL URL.
    """
    if not url:
        raise ConfigurationError(
            "DATABASE_URL is not set; set it to postgresql://user:password@host/name."
        )
    parsed = make_url(url)
    if parsed.get_backend_name() not in {"postgresql", "postgres"}:
        raise ConfigurationError("DATABASE_URL must start with postgresql://.")
    return parsed.set(drivername="postgresql+asyncpg").render_as_string(hide_password=False)


def open_engine(settings: DatabaseSettings) -> AsyncEngine:
    """A pool of asyncpg connections.

    Pre-ping is off: a dropped connection surfaces as an error that the pool invalidates, and a
    ping would cost a round trip on every request.
    """
    engine = create_async_engine(
        async_url(settings.url),
        pool_size=settings.pool_size,
        max_overflow=settings.max_overflow,
        pool_use_lifo=True,
        # An error's text reaches the log; rows hold what must not be there.
        hide_parameters=True,
        json_serializer=stored,
        json_deserializer=orjson.loads,
        connect_args={
            "server_settings": {"application_name": "sinas", "jit": "off"},
            "timeout": 10,
        },
    )
    event.listen(engine.sync_engine, "do_connect", _connect)
    return engine


def _connect(dialect: Any, _record: Any, arguments: Any, options: Any) -> Any:
    """Connect; every way of not getting a connection is a ConnectionError.

    The driver's own are of many kinds: a missing socket or host name, a server that starts,
    stops or is full. SQLAlchemy passes them on as they are.
    """
    try:
        return dialect.connect(*arguments, **options)
    except (OSError, dialect.loaded_dbapi.Error) as error:
        raise ConnectionError(f"PostgreSQL gives no connection: {error}") from error
