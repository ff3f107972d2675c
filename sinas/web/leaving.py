"""Waits that end when the client leaves."""

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from starlette.types import Receive

T = TypeVar("T")


class ClientGoneError(Exception):
    """The client has closed its connection: nobody reads the answer any more."""


async def while_connected(receive: Receive, work: Awaitable[T]) -> T:
    """The result of `work`, which is cancelled when the client leaves.

    The request's body must have been read.

    Raises:
        ClientGoneError: It left.
    """
    failure: Exception | None = None
    results: list[T] = []
    try:
        async with asyncio.TaskGroup() as group:
            watch = group.create_task(departure(receive))
            try:
                results.append(await work)
            except Exception as error:  # noqa: BLE001 - raised again outside of the group
                failure = error
            finally:
                watch.cancel()
    except* ClientGoneError:
        raise ClientGoneError from None
    if failure is not None:
        raise failure
    return results[0]


async def departure(receive: Receive) -> None:
    """Wait until the client leaves.

    Raises:
        ClientGoneError: It left.
    """
    while (await receive())["type"] != "http.disconnect":
        pass
    raise ClientGoneError
