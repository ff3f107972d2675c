"""Running the migrations from code."""

import asyncio
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, pool, text
from sqlalchemy.ext.asyncio import create_async_engine

from sinas.db.engine import async_url

# Two processes that start together must not both migrate; any number known to both will do.
_ADVISORY_LOCK = 7_215_501


def alembic_config(database_url: str) -> Config:
    """Alembic's configuration, found beside the package (checkout) or inside it (wheel)."""
    root = Path(str(files("sinas"))).parent
    scripts = root / "migrations"
    if not scripts.is_dir():
        scripts = Path(str(files("sinas"))) / "migrations"
    config = Config()
    config.set_main_option("script_location", str(scripts))
    config.attributes["database_url"] = database_url
    return config


def upgrade(database_url: str, progress: Callable[[str], None] | None = None) -> None:
    """Bring the schema to the newest revision. Safe to call from several processes at once.

    `progress` receives one line per applied revision. Synchronous: called before the event loop.
    """
    asyncio.run(_upgrade(database_url, progress))


async def _upgrade(database_url: str, progress: Callable[[str], None] | None) -> None:
    config = alembic_config(database_url)
    script = ScriptDirectory.from_config(config)
    engine = create_async_engine(async_url(database_url), poolclass=pool.NullPool)
    try:
        async with engine.connect() as connection:
            await connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": _ADVISORY_LOCK})
            current = await connection.run_sync(
                lambda sync: MigrationContext.configure(sync).get_current_revision()
            )
            if current == script.get_current_head():
                return
            # The lock is the session's and stays; inside an open transaction alembic would
            # leave the commit to us and roll everything back with one failing revision.
            await connection.commit()
            config.attributes["progress"] = progress
            await connection.run_sync(lambda sync: _run(config, sync))
    finally:
        await engine.dispose()


def _run(config: Config, connection: Connection) -> None:
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
