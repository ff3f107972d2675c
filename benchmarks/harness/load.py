"""Closed-loop load: each client sends its next request when it has the answer to the last."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from benchmarks.harness.http import BrokenAnswerError, Connection, Server

Work = Callable[[Connection, int], Awaitable[float]]
"""One unit of work; returns what is measured of it, in seconds. `int` numbers the client."""


class WorkFailedError(Exception):
    """A request did not do what it should; counted, never measured."""


@dataclass(slots=True)
class Sample:
    """What one round saw."""

    seconds: float = 0.0
    values: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    @property
    def rate(self) -> float:
        """Successes per second."""
        return len(self.values) / self.seconds if self.seconds else 0.0

    def at(self, share: float) -> float:
        """The value that `share` of all values do not exceed (nearest rank), in seconds."""
        ordered = sorted(self.values)
        if not ordered:
            return float("nan")
        return ordered[min(len(ordered) - 1, max(0, round(share * len(ordered)) - 1))]


async def run_load(
    server: Server,
    work: Work,
    *,
    clients: int,
    seconds: float | None = None,
    each: int | None = None,
    warm_up: int = 3,
) -> Sample:
    """Run `work` by `clients` side by side, for `seconds` or `each` times per client.

    The first `warm_up` of each client are not counted; the clock starts when all are warm.
    """
    sample = Sample()
    warm = asyncio.Barrier(clients + 1)
    deadline = 0.0

    async def client(number: int) -> None:
        connection = await server.connect()
        for _ in range(warm_up):
            connection = await _once(server, connection, work, number, Sample())
        await warm.wait()
        done = 0
        while (each is None or done < each) and (not deadline or time.perf_counter() < deadline):
            connection = await _once(server, connection, work, number, sample)
            done += 1
        connection.close()

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(client(number)) for number in range(clients)]
        await warm.wait()
        began = time.perf_counter()
        deadline = began + seconds if seconds is not None else 0.0
        await asyncio.wait(tasks)
        sample.seconds = time.perf_counter() - began
    return sample


async def _once(
    server: Server, connection: Connection, work: Work, number: int, sample: Sample
) -> Connection:
    try:
        sample.values.append(await work(connection, number))
    except WorkFailedError as error:
        sample.failures.append(str(error))
    except BrokenAnswerError as error:
        sample.failures.append(str(error))
        return await server.connect()
    return connection


async def median_ms(work: Callable[[], Awaitable[object]], seconds: float) -> float:
    """The median duration of `work`, repeated for `seconds` with nothing beside it, in milliseconds."""
    for _ in range(20):
        await work()
    alone = Sample()
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        began = time.perf_counter()
        await work()
        alone.values.append(time.perf_counter() - began)
    return alone.at(0.5) * 1000
