"""The raw connections behind authentication."""

import asyncio

import asyncpg
import pytest
from sqlalchemy.ext.asyncio import create_async_engine

from sinas.db.direct import DirectReads
from sinas.db.engine import async_url
from sinas.errors import UnavailableError


@pytest.fixture
async def engine(worker_database):
    engine = create_async_engine(async_url(worker_database))
    yield engine
    await engine.dispose()


@pytest.fixture
def reads(engine):
    return DirectReads(engine, size=2)


async def backend(reads):
    return (await reads.fetch_one("SELECT pg_backend_pid() AS pid"))["pid"]


async def test_connections_are_shared_and_few(reads):
    async with asyncio.TaskGroup() as group:
        tries = [
            group.create_task(reads.fetch_one("SELECT pg_backend_pid() AS pid, pg_sleep(0.01)"))
            for _ in range(10)
        ]
    assert len({each.result()["pid"] for each in tries}) == 2
    assert await backend(reads) == await backend(reads)


async def test_rows_and_no_row(reads):
    assert (await reads.fetch_one("SELECT $1::text AS x", "a"))["x"] == "a"
    assert await reads.fetch_one("SELECT 1 WHERE false") is None


async def test_a_connection_that_broke_is_replaced(reads):
    connection = await asyncpg.connect(reads._dsn)
    # Many times: how far the news of the end has come is different each time, and so is the error.
    for _ in range(100):
        pid = await backend(reads)
        await connection.execute("SELECT pg_terminate_backend($1)", pid)
        assert await backend(reads) != pid
    await connection.close()


async def test_a_cancelled_query_leaves_no_connection_in_use(reads):
    pid = await backend(reads)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await reads.fetch_one("SELECT pg_sleep(10)")
    async with asyncio.timeout(5):
        assert await backend(reads) != pid


async def test_a_wrong_statement_is_told_as_it_is(reads):
    with pytest.raises(asyncpg.PostgresSyntaxError):
        await reads.fetch_one("rubbish")
    assert await backend(reads)


async def test_an_unreachable_database(free_tcp_port):
    engine = create_async_engine(f"postgresql+asyncpg://nobody@127.0.0.1:{free_tcp_port}/none")
    with pytest.raises(UnavailableError):
        await DirectReads(engine).fetch_one("SELECT 1")
    await engine.dispose()


async def test_disposing_the_engine_closes_them(engine, reads):
    pid = await backend(reads)
    await engine.dispose()
    connection = await asyncpg.connect(reads._dsn)
    async with asyncio.timeout(5):
        while await connection.fetchval("SELECT 1 FROM pg_stat_activity WHERE pid = $1", pid):
            await asyncio.sleep(0.01)
    await connection.close()
