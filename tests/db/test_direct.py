"""The raw connections behind authentication and function calls."""

import asyncio
from uuid import uuid4

import asyncpg
import pytest
from sqlalchemy import bindparam, delete, func, insert, literal, select, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine

from sinas.db.direct import DirectReads, DirectStatements, Statement
from sinas.db.engine import async_url
from sinas.errors import UnavailableError
from sinas.models import Function, LlmProvider


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


async def test_a_statement_takes_parameters_by_name_and_keeps_its_constants(engine):
    direct = DirectStatements(engine)
    statement = Statement(
        select(
            bindparam("second", type_=Function.input_schema.type).label("second"),
            literal("built in").label("constant"),
            bindparam("first", type_=Function.name.type).label("first"),
        )
    )
    row = await direct.one(statement, {"first": "ä", "second": {"n": [1, None, "x"]}})
    assert dict(row) == {"second": {"n": [1, None, "x"]}, "constant": "built in", "first": "ä"}


async def test_a_write_is_there_at_once_and_says_whether_it_hit(engine):
    direct = DirectStatements(engine)
    made = Statement(
        insert(LlmProvider)
        .values(id=bindparam("key"), name=bindparam("called"), provider_type="openai", config={})
        .returning(LlmProvider.id)
    )
    key = uuid4()
    assert (await direct.one(made, {"key": key, "called": "one"}))["id"] == key
    renamed = Statement(
        update(LlmProvider)
        .where(LlmProvider.id == bindparam("key"))
        .values(config=bindparam("fresh", type_=LlmProvider.config.type))
        .returning(LlmProvider.config)
    )
    try:
        row = await direct.one(renamed, {"key": key, "fresh": {"a": 1}})
        assert row["config"] == {"a": 1}
        assert await direct.one(renamed, {"key": uuid4(), "fresh": {}}) is None
        with pytest.raises(DBAPIError, match=r"uq_llm_providers_name|pk_llm"):
            await direct.one(made, {"key": key, "called": "two"})
    finally:
        async with engine.begin() as connection:
            await connection.execute(delete(LlmProvider).where(LlmProvider.id == key))


async def test_a_write_on_a_connection_that_broke_is_not_repeated(engine):
    direct = DirectStatements(engine)
    pid = Statement(select(func.pg_backend_pid().label("pid")))
    first = (await direct.one(pid, {}))["pid"]
    connection = await asyncpg.connect(direct._dsn)
    await connection.execute("SELECT pg_terminate_backend($1)", first)
    await connection.close()
    with pytest.raises(ConnectionError):
        await direct.one(pid, {})
    assert (await direct.one(pid, {}))["pid"] != first


@pytest.mark.parametrize("bad", ["a\x00b", "a\ud800b"])
async def test_a_text_that_cannot_be_stored_is_refused_not_a_broken_connection(engine, bad):
    direct = DirectStatements(engine)
    echo = Statement(select(bindparam("given", type_=Function.name.type).label("given")))
    pid = Statement(select(func.pg_backend_pid().label("pid")))
    before = await direct.one(pid, {})
    with pytest.raises(DBAPIError) as refused:
        await direct.one(echo, {"given": bad})
    assert bad not in str(refused.value)
    assert (await direct.one(echo, {"given": "fine"}))["given"] == "fine"
    assert before is not None
