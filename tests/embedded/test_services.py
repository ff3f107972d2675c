import asyncio
import os
import signal
import stat
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncpg
import pytest
from redis.asyncio import Redis

from sinas.embedded import account
from sinas.embedded.children import Child
from sinas.embedded.datadir import DataDir
from sinas.embedded.postgres import EmbeddedPostgres
from sinas.embedded.processes import ChildSpec
from sinas.embedded.redis import EmbeddedRedis


@pytest.fixture
def data(tmp_path: Path) -> Iterator[DataDir]:
    data = DataDir.open(tmp_path / "data")
    data.make_sockets()
    yield data
    data.remove_sockets()


def child_of(spec: ChildSpec) -> Child:
    return Child(spec, on_line=lambda *_: None, on_event=lambda *_: None, on_change=lambda: None)


def postgres_in(data: DataDir) -> EmbeddedPostgres:
    server = EmbeddedPostgres(data.postgres, data.sockets / "postgres", data.logs / "postgres.log")
    server.prepare(lambda _: None)
    return server


async def test_postgres_keeps_its_data_over_a_crash(data: DataDir) -> None:
    server = postgres_in(data)
    async with asyncio.TaskGroup() as tasks, asyncio.timeout(20):
        child = child_of(server.spec())
        tasks.create_task(child.run())
        await server.wait_ready()
        connection = await asyncpg.connect(server.url)
        await connection.execute("CREATE EXTENSION vector; CREATE TABLE kept (x vector(2))")
        await connection.execute("INSERT INTO kept VALUES ('[1,2]')")
        await connection.execute("CREATE ROLE guest LOGIN PASSWORD 'secret'")
        await connection.execute("CREATE DATABASE guest OWNER guest")
        await connection.close()
        child.kill()
    # As data directories of before were.
    (data.postgres / "pg_hba.conf").write_text("local all all trust\n")

    # As if the dead server's process id had been given to another one meanwhile.
    lock = data.sockets / "postgres" / ".s.PGSQL.5432.lock"
    with someone_else() as pid:
        lock.write_text(lock.read_text().replace(lock.read_text().split()[0], str(pid), 1))
        await starts_again(data)
    assert not (data.postgres / "postmaster.pid").exists()


@contextmanager
def someone_else() -> Iterator[int]:
    """A process of the user PostgreSQL runs as."""
    owner = account.postgres_account()
    with subprocess.Popen(["sleep", "60"], user=None if owner is None else owner.uid) as process:
        yield process.pid
        process.kill()


async def only_with_a_password(url: str) -> None:
    """Roles that are not Sinas' own come in by a password, and into their own database."""
    await (await asyncpg.connect(url, user="guest", password="secret", database="guest")).close()
    for password, database in (("wrong", "guest"), ("", "guest"), ("secret", "sinas")):
        with pytest.raises(asyncpg.InvalidAuthorizationSpecificationError):
            await asyncpg.connect(url, user="guest", password=password, database=database)


async def starts_again(data: DataDir) -> None:
    again = postgres_in(data)
    async with asyncio.TaskGroup() as tasks, asyncio.timeout(20):
        child = child_of(again.spec())
        tasks.create_task(child.run())
        await again.wait_ready()
        connection = await asyncpg.connect(again.url)
        assert await connection.fetchval("SELECT x::text FROM kept") == "[1,2]"
        assert await connection.fetchval("SHOW listen_addresses") == ""
        assert await connection.fetchval("SHOW fsync") == "on"
        await only_with_a_password(again.url)
        # Not `await close()`: an open client must not hold up the end.
        assert await child.stop(10)
        connection.terminate()


def test_a_cluster_whose_making_was_interrupted_is_made_anew(data: DataDir) -> None:
    scratch = data.root / "postgres18.new"
    scratch.mkdir()
    (scratch / "PG_VERSION").write_text("18\n")

    postgres_in(data)

    assert (data.postgres / "global" / "pg_control").exists()
    assert not scratch.exists()


async def test_redis_keeps_its_data_and_never_forgets_by_itself(data: DataDir) -> None:
    server = EmbeddedRedis(data.redis, data.sockets, data.logs / "redis.log")
    server.prepare()
    for value in (None, "kept"):
        async with asyncio.TaskGroup() as tasks, asyncio.timeout(30):
            child = child_of(server.spec())
            tasks.create_task(child.run())
            await server.wait_ready()
            async with Redis.from_url(server.url, decode_responses=True) as client:
                assert await client.get("key") == value
                await client.set("key", "kept")
                policy = await client.config_get("maxmemory-policy")
                assert policy == {"maxmemory-policy": "noeviction"}
            assert await child.stop(5)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root needs another account")
def test_only_the_account_may_pass_through_a_closed_directory(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    (closed / "file").write_text("seen")
    server = account.postgres_account()
    assert server is not None

    account.let_through(closed, server)
    account.let_through(closed, server)

    assert reads_as(server.uid, closed / "file")
    assert not reads_as(65534, closed / "file")
    assert not stat.S_IMODE(closed.stat().st_mode) & stat.S_IRWXO


def reads_as(uid: int, path: Path) -> bool:
    """Whether a process of that user can read the file."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.setgroups([])
            os.setgid(uid)
            os.setuid(uid)
            code = 0 if path.read_text() else 1
        except OSError:
            code = 2
        finally:
            os._exit(code)
    _, status = os.waitpid(pid, 0)
    assert not os.WIFSIGNALED(status), signal.Signals(os.WTERMSIG(status))
    return os.waitstatus_to_exitcode(status) == 0
