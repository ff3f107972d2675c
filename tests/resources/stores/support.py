"""Calls that several tests of states make."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import httpx

STATES = "/stores/app/notes/states"


async def together(*calls: Coroutine[Any, Any, httpx.Response]) -> list[httpx.Response]:
    """The answers to calls made at once."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(call) for call in calls]
    return [task.result() for task in tasks]


async def put(client: httpx.AsyncClient, key: str = "k", value: Any = 1, **body: Any) -> Any:
    """Create a state; its body."""
    answer = await client.post(STATES, json={"key": key, "value": value, **body})
    assert answer.status_code == 200, answer.text
    return answer.json()


async def got(client: httpx.AsyncClient, key: str = "k") -> Any:
    """The value under a key."""
    answer = await client.get(f"{STATES}/{key}")
    assert answer.status_code == 200, answer.text
    return answer.json()["value"]


async def keys(client: httpx.AsyncClient, **query: Any) -> list[str]:
    """Keys of a list, in its order."""
    answer = await client.get(STATES, params=query)
    assert answer.status_code == 200, answer.text
    return [state["key"] for state in answer.json()]
