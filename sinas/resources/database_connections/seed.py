"""The connection `built-in`, made at the first start and kept as it is by the later ones."""

import asyncpg
import structlog
from sqlalchemy import exists, func, literal, select
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.sql import column, table

from sinas.context import DATABASE_CHANGED_PREFIX, AppContext
from sinas.databases.builtin import BuiltinRefusedError, make_builtin
from sinas.db.unit import Unit
from sinas.errors import ConfigurationError
from sinas.kit.crypto import Cipher, random_token
from sinas.models import DatabaseConnection
from sinas.models.databases import MANAGED_BY_SYSTEM

BUILTIN = "built-in"

log = structlog.get_logger(__name__)

_DATABASES = table("pg_database", column("datname"), column("datdba"), schema="pg_catalog")
_SSL_MODES = frozenset({"disable", "allow", "prefer", "require", "verify-ca", "verify-full"})


async def seed_builtin_database(unit: Unit, context: AppContext) -> None:
    """Make database, role and connection where they are missing; one statement where they are not.

    A server that does not allow it gets no connection, and the log says why: no start fails for
    it. The caller holds a lock that lets one process at a time do this.
    """
    if not context.settings.database.builtin_enabled:
        return
    where = address_of(make_url(context.settings.database.url))
    if where is None:
        _skipped("DATABASE_URL names no host and port")
        return
    row, is_there = await _look(unit)
    if row is not None and row.managed_by != MANAGED_BY_SYSTEM:
        _skipped(f"there is a connection '{BUILTIN}' already; rename it to get this one")
        return
    password = None
    if row is None or not is_there or not _is_readable(row, context.cipher):
        password = random_token()
        try:
            name = await _make(context, password)
        except BuiltinRefusedError as error:
            _skipped(str(error))
            return
        except (asyncpg.PostgresError, asyncpg.InterfaceError, SQLAlchemyError, OSError) as error:
            _skipped(str(getattr(error, "message", None) or error))
            return
        if row is None:
            row = DatabaseConnection(
                name=BUILTIN, connection_type="postgresql", managed_by=MANAGED_BY_SYSTEM
            )
            unit.session.add(row)
        row.database = row.username = name
        row.password_encrypted = context.cipher.encrypt(password)
    # The server may have moved since the last start; the password is its own role's.
    row.host, row.port, row.ssl_mode = where
    if unit.session.is_modified(row):
        await unit.session.flush()
        unit.publish(f"{DATABASE_CHANGED_PREFIX}{row.id}", b"")


async def _look(unit: Unit) -> tuple[DatabaseConnection | None, bool]:
    """The connection, and whether its database is there and its role's."""
    there = exists(
        select(literal(1))
        .select_from(_DATABASES)
        .where(
            _DATABASES.c.datname == DatabaseConnection.database,
            func.pg_get_userbyid(_DATABASES.c.datdba) == DatabaseConnection.username,
        )
    )
    found = (
        await unit.session.execute(
            select(DatabaseConnection, there).where(
                DatabaseConnection.name == BUILTIN, DatabaseConnection.deleted_at.is_(None)
            )
        )
    ).one_or_none()
    return (None, False) if found is None else (found[0], bool(found[1]))


async def _make(context: AppContext, password: str) -> str:
    # A database cannot be made in a transaction, so not by the caller's connection.
    async with context.autocommit.connect() as connection:
        raw = await connection.get_raw_connection()
        driver = raw.driver_connection
        assert isinstance(driver, asyncpg.Connection)
        return (await make_builtin(driver, password)).name


def address_of(url: URL) -> tuple[str, int, str] | None:
    """Host, port and TLS mode of Sinas' own server; the host may be a socket's directory.

    Of several hosts the first. None where the URL names none, or no port that is a number.
    """
    query = {
        key: (value if isinstance(value, str) else value[0]).partition(",")[0]
        for key, value in url.query.items()
    }
    host, port = query.get("host", ""), ""
    if host.count(":") == 1:
        host, _, port = host.partition(":")
    host = host or url.host or ""
    port = port or query.get("port") or str(url.port or 5432)
    if not host or not port.isdecimal():
        return None
    mode = query.get("sslmode") or query.get("ssl") or "prefer"
    return host, int(port), mode if mode in _SSL_MODES else "prefer"


def _is_readable(row: DatabaseConnection, cipher: Cipher) -> bool:
    try:
        return row.password_encrypted is not None and bool(cipher.decrypt(row.password_encrypted))
    except ConfigurationError:
        return False


def _skipped(why: str) -> None:
    log.warning("builtin_database.skipped", why=why, off="BUILTIN_DATABASE_ENABLED=false")
