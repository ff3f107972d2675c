"""Snowflake. What speaks to it is imported in a thread: the connector takes its time."""

import asyncio
import os
from importlib import import_module
from typing import Any, cast

from sinas.databases.base import Database, DatabaseTarget, DriverMissingError

_DRIVER = "sinas.databases.snowflake_driver"
# The connector asks the cloud's metadata address who this machine is. Nothing else stops it.
_NO_PROBES = "SNOWFLAKE_DISABLE_PLATFORM_DETECTION"


async def open_database(target: DatabaseTarget) -> Database:
    """Sessions, one of which is open.

    Raises:
        UnreachableError: There is none.
        DriverMissingError: The connector is not installed.
    """
    os.environ[_NO_PROBES] = "true"  # noqa: TID251 - the connector reads it, not Sinas
    try:
        driver: Any = await asyncio.to_thread(import_module, _DRIVER)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != "snowflake":
            raise
        raise DriverMissingError(
            "The driver for 'snowflake' databases is not installed: install "
            "sinas-server[snowflake]."
        ) from error
    return cast(Database, await driver.opened(target))
