"""Alembic's entry point: online only, async engine, URL or connection injected by callers."""

import asyncio

from alembic import context
from alembic.runtime.migration import MigrationInfo
from alembic.script import Script
from sqlalchemy import Connection, pool
from sqlalchemy.dialects.postgresql.base import ischema_names
from sqlalchemy.ext.asyncio import create_async_engine

from sinas import models  # noqa: F401 - registers every table
from sinas.db.base import Base
from sinas.db.engine import async_url
from sinas.db.types import HalfVec
from sinas.settings import DatabaseSettings

# For `alembic check`, which reads the columns there are.
ischema_names["halfvec"] = HalfVec


def _describe(step: MigrationInfo) -> str:
    revision = step.up_revision
    return f"{revision.revision}: {revision.doc}" if isinstance(revision, Script) else str(step)


def _migrate(connection: Connection) -> None:
    progress = context.config.attributes.get("progress")
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        compare_type=True,
        compare_server_default=True,
        transaction_per_migration=True,
        on_version_apply=lambda *, step, **_: progress(_describe(step)) if progress else None,
    )
    with context.begin_transaction():
        context.run_migrations()


async def _connect() -> None:
    url = context.config.attributes.get("database_url") or DatabaseSettings().url
    engine = create_async_engine(async_url(url), poolclass=pool.NullPool)
    async with engine.connect() as connection:
        await connection.run_sync(_migrate)
        await connection.commit()
    await engine.dispose()


if (connection := context.config.attributes.get("connection")) is not None:
    _migrate(connection)
else:
    asyncio.run(_connect())
