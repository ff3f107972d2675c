"""Which driver opens which type. A driver's library is imported when it is first needed."""

from collections.abc import Callable, Coroutine
from importlib import import_module
from typing import Any, Final, TypeAlias, cast

from sinas.databases.base import Database, DatabaseTarget, DriverMissingError, UnreachableError

_Open: TypeAlias = Callable[[DatabaseTarget], Coroutine[Any, Any, Database]]

# By type: the module whose `open_database` connects, and the extra that its library is in.
_DRIVERS: Final[dict[str, tuple[str, str]]] = {
    "clickhouse": ("sinas.databases.clickhouse", ""),
    "postgresql": ("sinas.databases.postgresql", ""),
    "mysql": ("sinas.databases.mysql", "mysql"),
    "snowflake": ("sinas.databases.snowflake", "snowflake"),
}


async def open_database(target: DatabaseTarget) -> Database:
    """A pool of connections, at least one of which is open.

    Raises:
        UnreachableError: No connection, or no driver knows the type.
        DriverMissingError: The driver's library is not installed.
    """
    driver = _DRIVERS.get(target.connection_type)
    if driver is None:
        raise UnreachableError(f"There is no driver for '{target.connection_type}' databases.")
    module, extra = driver
    try:
        opened = cast(_Open, import_module(module).open_database)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] == "sinas":
            raise
        raise DriverMissingError(
            f"The driver for '{target.connection_type}' databases is not installed: install "
            f"sinas-server[{extra}]."
        ) from error
    return await opened(target)
