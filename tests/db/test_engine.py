"""The engine: what a caller sees when there is no database."""

from pathlib import Path

import pytest
from sqlalchemy import text

from sinas.db.engine import async_url, open_engine
from sinas.errors import ConfigurationError
from sinas.settings import DatabaseSettings
from tests.fixtures.servers import Servers


@pytest.mark.parametrize("where", ["socket", "port", "name", "database"])
async def test_no_connection_is_a_connection_error(
    servers: Servers, tmp_path: Path, where: str
) -> None:
    url = {
        "socket": f"postgresql://postgres@/sinas?host={tmp_path}",
        "port": "postgresql://postgres@127.0.0.1:1/sinas",
        "name": "postgresql://postgres@nowhere.invalid/sinas",
        "database": servers.database("nowhere"),
    }[where]
    engine = open_engine(DatabaseSettings(url=url))
    with pytest.raises(ConnectionError, match="PostgreSQL gives no connection"):
        async with engine.connect():
            raise AssertionError("connected")
    await engine.dispose()


async def test_an_error_does_not_carry_the_parameters(worker_database: str) -> None:
    engine = open_engine(DatabaseSettings(url=worker_database))
    with pytest.raises(Exception, match="SELECT") as caught:
        async with engine.connect() as connection:
            await connection.execute(text("SELECT 1/0 WHERE :x = 'x'"), {"x": "hunter2"})
    assert "hunter2" not in str(caught.value)
    await engine.dispose()


@pytest.mark.parametrize("url", ["", "mysql://root@/sinas", "sqlite:///x"])
def test_other_databases_are_refused(url: str) -> None:
    with pytest.raises(ConfigurationError, match="DATABASE_URL"):
        async_url(url)


def test_any_postgres_driver_is_replaced() -> None:
    assert async_url("postgresql+psycopg://u:p%40@h/d") == "postgresql+asyncpg://u:p%40@h/d"
