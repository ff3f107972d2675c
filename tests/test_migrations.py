"""The migrations lead to the models, and back."""

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory

from sinas.db.base import Base
from sinas.db.migrate import alembic_config, upgrade
from tests.fixtures.servers import Servers

TABLES = """
    SELECT table_name FROM information_schema.tables
    WHERE table_schema = 'public' AND table_type = 'BASE TABLE'
"""


@pytest.fixture
async def empty_database(servers: Servers, worker_number: int) -> AsyncIterator[str]:
    name = f"{servers.run.root.name}-empty-{worker_number}"
    await servers.admin(f'CREATE DATABASE "{name}"')
    yield servers.database(name)
    await servers.drop(name)


async def tables(url: str) -> set[str]:
    connection = await asyncpg.connect(url)
    try:
        return {row["table_name"] for row in await connection.fetch(TABLES)}
    finally:
        await connection.close()


def run(what: str, config: Config, *arguments: str) -> None:
    getattr(command, what)(config, *arguments)


async def test_up_down_up_leads_to_the_models(empty_database: str) -> None:
    """Fix: `alembic revision --autogenerate`, read what it wrote, and complete `downgrade`."""
    models = {*Base.metadata.tables, "alembic_version"}
    config = alembic_config(empty_database)
    await asyncio.to_thread(upgrade, empty_database)
    assert await tables(empty_database) == models
    await asyncio.to_thread(run, "downgrade", config, "base")
    assert await tables(empty_database) == {"alembic_version"}
    await asyncio.to_thread(upgrade, empty_database)
    assert await tables(empty_database) == models
    # Raises when the models have what the migrations have not, columns and indexes included.
    await asyncio.to_thread(run, "check", config)


async def test_check_catches_a_missing_column(empty_database: str) -> None:
    await asyncio.to_thread(upgrade, empty_database)
    connection = await asyncpg.connect(empty_database)
    await connection.execute("ALTER TABLE users DROP COLUMN last_login_at")
    await connection.close()
    with pytest.raises(Exception, match="last_login_at"):
        await asyncio.to_thread(run, "check", alembic_config(empty_database))


def test_there_is_one_head() -> None:
    """Fix: rebase the younger migration onto the other one (`down_revision`)."""
    assert len(ScriptDirectory.from_config(alembic_config("")).get_heads()) == 1


async def test_upgrades_at_the_same_time_run_once(empty_database: str) -> None:
    lines: list[str] = []
    async with asyncio.TaskGroup() as group:
        for _ in range(3):
            group.create_task(asyncio.to_thread(upgrade, empty_database, lines.append))
    assert len(lines) == len(list(ScriptDirectory.from_config(alembic_config("")).walk_revisions()))
    assert "users" in await tables(empty_database)
