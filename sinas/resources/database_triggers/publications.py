"""What a trigger by replication asks the user's PostgreSQL: publication, slot, and what they hold.

Through SQL functions on ordinary connections: no session stays open between two looks.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sinas.databases.base import (
    Database,
    DatabaseError,
    Limits,
    ReadOnlyError,
    Statement,
    StatementTimeoutError,
)
from sinas.databases.ddl import quoted
from sinas.errors import BadRequestError, ConflictError, FieldError
from sinas.resources.database_triggers.pgoutput import Change, Column
from sinas.resources.database_triggers.position import lsn_of, lsn_text

_QUICK = Limits(rows=2000, seconds=10)
# A slot can be made once every transaction that is writing has ended.
_MAKING = Limits(rows=1, seconds=20)
# The server reads its log from where the slot stands; a large transaction takes it a while.
_READING_SECONDS = 300
# What is held in memory at a time: one large row goes beyond it.
_PORTION_BYTES = 8 * 2**20
_PORTION_MESSAGES = 20_000
_VERSION_WITH_GENERATED = 180_000

_SERVER = """
SELECT current_setting('wal_level') AS wal_level,
       current_setting('server_version_num')::int AS version
"""
_TABLE = """
WITH RECURSIVE tables AS (
  SELECT c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE n.nspname = :schema AND c.relname = :table
  UNION SELECT i.inhrelid FROM pg_inherits i JOIN tables ON i.inhparent = tables.oid
)
SELECT c.oid::regclass::text AS name FROM tables JOIN pg_class c ON c.oid = tables.oid
WHERE c.relkind = 'r' AND c.relreplident <> 'f' AND NOT EXISTS (
  SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisvalid AND i.indimmediate AND (
    (c.relreplident = 'd' AND i.indisprimary) OR (c.relreplident = 'i' AND i.indisreplident)))
ORDER BY 1
"""
_STATE = """
SELECT p.oid::int8 AS publication, p.pubinsert, p.pubupdate, p.pubdelete,
       EXISTS (
         SELECT FROM pg_publication_rel r JOIN pg_class c ON c.oid = r.prrelid
         JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE r.prpubid = p.oid AND n.nspname = :schema AND c.relname = :table
       ) AS has_table,
       s.slot_name IS NOT NULL AS has_slot, s.wal_status = 'lost' AS is_lost,
       s.confirmed_flush_lsn::text AS confirmed, pg_current_wal_flush_lsn()::text AS now
FROM (SELECT CAST(:name AS text) AS name) wanted
LEFT JOIN pg_publication p ON p.pubname = wanted.name
LEFT JOIN pg_replication_slots s ON s.slot_name = wanted.name
  AND s.database = current_database() AND s.plugin = 'pgoutput'
"""
_CREATE_SLOT = "SELECT slot_name FROM pg_create_logical_replication_slot(:name, 'pgoutput')"
_DROP_SLOT = """
SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots
WHERE slot_name = CAST(:name AS text) AND database = current_database()
"""
_ADVANCE = "SELECT pg_replication_slot_advance(:name, CAST(CAST(:upto AS text) AS pg_lsn))"
# `change` counts the rows that were changed, up to and with each message; those up to `after` are
# left out. The server cuts no transaction, so what is returned of it is cut by its size here.
_PEEK = """
SELECT data, change, n FROM (
  SELECT n, data, change, sum(octet_length(data)) OVER running AS size FROM (
    SELECT n, data, kind IN ('I', 'U', 'D') AS is_change,
           count(*) FILTER (WHERE kind IN ('I', 'U', 'D')) OVER numbered AS change
    FROM (
      SELECT n, data, chr(get_byte(data, 0)) AS kind
      FROM pg_logical_slot_peek_binary_changes(
        CAST(:name AS text), NULL, CAST(:messages AS int4),
        'proto_version', '1', 'publication_names', CAST(:name AS text)
      ) WITH ORDINALITY AS read(lsn, xid, data, n)
    ) kinds WINDOW numbered AS (ORDER BY n ROWS UNBOUNDED PRECEDING)
  ) counted WHERE NOT is_change OR change > CAST(:after AS int8)
  WINDOW running AS (ORDER BY n ROWS UNBOUNDED PRECEDING)
) sized WHERE size - octet_length(data) < CAST(:bytes AS int8) ORDER BY n
"""
# Of texts the driver makes what it makes of a column of the same type, whichever that is. Some need
# nothing done, and must not be tried: a label that was renamed since, the name of a dropped table.
_TYPES = """
WITH kinds AS (
  SELECT oid, typtype = 'e' OR typnamespace = 'pg_catalog'::regnamespace AND (typname LIKE 'reg%'
    OR typname IN ('text', 'varchar', 'bpchar', 'name', 'xml')) AS is_text FROM pg_type
)
SELECT t.oid::int8 AS oid, wanted.modifier, kind.is_text,
       CASE WHEN element.is_text AND b.typcategory = 'A' THEN 'text[]'
         WHEN b.oid = t.oid THEN format_type(b.oid, wanted.modifier)
         ELSE format_type(b.oid, t.typtypmod) END AS type
FROM unnest(CAST(:oids AS int8[]), CAST(:modifiers AS int4[])) AS wanted(oid, modifier)
JOIN pg_type t ON t.oid = wanted.oid::oid
JOIN pg_type b ON b.oid = coalesce(nullif(t.typbasetype, 0), t.oid)
JOIN kinds kind ON kind.oid = b.oid
LEFT JOIN kinds element ON element.oid = b.typelem
"""
_RIGHTS = (
    "{} Replication needs a user who owns the table, may CREATE in its database, and has the "
    "attribute REPLICATION. Change that, or use mode 'poll'."
)
_REASONS = {
    "42501": _RIGHTS,
    "53400": "{} Ask for a higher max_replication_slots, or use mode 'poll'.",
}
_READ_ONLY = (
    "Replication makes a publication and a slot in the database, and this only reads. Use the mode "
    "'poll'. The answer was: {}"
)
_NO_SLOT_YET = (
    "The replication slot could not be made within {:g} s: it waits for every transaction that is "
    "writing in this server. Try again when they have ended."
)
_WAL_LEVEL = (
    "This server has wal_level = {}, and replication needs wal_level = logical: set it in "
    "postgresql.conf, or as your provider says, and restart the server. Or use mode 'poll'."
)
_NO_IDENTITY = (
    "{} has no replica identity, so PostgreSQL would refuse its updates and deletes once they are "
    "published: give it a primary key or set ALTER TABLE … REPLICA IDENTITY, or name INSERT alone."
)
_AGAIN = "Changes since then cannot be told; reset this trigger to begin anew from now on."


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """Publication and slot, when both are as they have to be. Places in the log are numbers.

    Attributes:
        publication: Its oid: another one of the same name has not seen the same changes.
        confirmed: Everything before it was given up by the slot.
        now: End of the log; what was committed before it is read by a peek after this.
    """

    publication: int
    confirmed: int
    now: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Portion:
    """What a peek gave.

    Attributes:
        messages: Each with the number of changes up to and with it.
        is_all: Whether there was no more at the time.
    """

    messages: Sequence[tuple[bytes, int]]
    is_all: bool


async def check(database: Database, schema: str, table: str, operations: Sequence[str]) -> None:
    """Whether the table may be replicated, as far as it can be told without trying.

    Raises:
        BadRequestError: It may not; the field is named.
        DatabaseError: The database did not answer.
    """
    server = (await database.read(Statement(_SERVER), _QUICK)).dicts()[0]
    if server["wal_level"] != "logical":
        raise _refused("mode", _WAL_LEVEL.format(server["wal_level"]))
    if set(operations) == {"INSERT"}:
        return
    asked = {"schema": schema, "table": table}
    without = (await database.read(Statement(_TABLE, asked), _QUICK)).dicts()
    if without:
        raise _refused("operations", _NO_IDENTITY.format(without[0]["name"]))


async def create(
    database: Database, name: str, schema: str, table: str, operations: Sequence[str]
) -> State:
    """Make publication and slot. What was made stays when the rest fails: `drop` it then.

    Raises:
        BadRequestError: The server does not let the user; the field is named.
        ConflictError: Somebody writes for too long.
        DatabaseError: The database did not answer.
    """
    server = (await database.read(Statement(_SERVER), _QUICK)).dicts()[0]
    options = _options(operations)
    if server["version"] >= _VERSION_WITH_GENERATED:
        options += ", publish_generated_columns = stored"
    target = f"{quoted(schema)}.{quoted(table)}"
    publication = Statement(
        f"CREATE PUBLICATION {quoted(name)} FOR TABLE {target} WITH ({options})"
    )
    try:
        # First, and by itself: the slot starts with it in place, and cannot be made by a
        # transaction that has written.
        await database.write([publication], _QUICK)
        await database.read(Statement(_CREATE_SLOT, {"name": name}), _MAKING)
    except StatementTimeoutError as error:
        raise ConflictError(_NO_SLOT_YET.format(_MAKING.seconds)) from error
    except DatabaseError as error:
        raise _explained(error) from error
    return await state(database, name, schema, table, operations)


async def publish(database: Database, name: str, operations: Sequence[str]) -> None:
    """Publish other operations from now on.

    Raises:
        BadRequestError: The server does not let the user; the field is named.
        DatabaseError: The database did not answer.
    """
    statement = Statement(f"ALTER PUBLICATION {quoted(name)} SET ({_options(operations)})")
    try:
        await database.write([statement], _QUICK)
    except DatabaseError as error:
        raise _explained(error) from error


async def drop(database: Database, name: str) -> None:
    """Drop slot and publication, as far as they are there.

    Raises:
        DatabaseError: The database did not let us, or somebody reads from the slot.
    """
    await database.read(Statement(_DROP_SLOT, {"name": name}), _QUICK)
    await database.write([Statement(f"DROP PUBLICATION IF EXISTS {quoted(name)}")], _QUICK)


async def state(
    database: Database, name: str, schema: str, table: str, operations: Sequence[str]
) -> State:
    """How far the slot and the log are.

    Raises:
        ConflictError: Something is missing, so that changes would be lost without a word.
        DatabaseError: The database did not answer.
    """
    asked = {"name": name, "schema": schema, "table": table}
    (row,) = (await database.read(Statement(_STATE, asked), _QUICK)).dicts()
    if row["publication"] is None:
        raise ConflictError(f"The publication {name} is gone. {_AGAIN}")
    if not row["has_table"]:
        raise ConflictError(
            f"There is no table '{schema}.{table}' in the publication {name}: it was dropped, "
            f"renamed or taken out. {_AGAIN}"
        )
    missing = [each for each in operations if not row[f"pub{each.lower()}"]]
    if missing:
        raise ConflictError(f"The publication {name} has no {' and '.join(missing)}. {_AGAIN}")
    if not row["has_slot"]:
        raise ConflictError(f"The replication slot {name} is gone. {_AGAIN}")
    if row["is_lost"]:
        raise ConflictError(
            f"The server has given up the replication slot {name}: it held back more of the log "
            f"than max_slot_wal_keep_size allows, or was not used for too long. {_AGAIN}"
        )
    return State(
        publication=row["publication"],
        confirmed=lsn_of(row["confirmed"]),
        now=lsn_of(row["now"]),
    )


async def peek(database: Database, name: str, after: int) -> Portion:
    """What the slot holds, without the first `after` changes, and no more than memory takes.

    Raises:
        DatabaseError: The database did not answer, or somebody else reads from the slot.
    """
    asked = {
        "name": name,
        "after": after,
        "messages": _PORTION_MESSAGES,
        "bytes": _PORTION_BYTES,
    }
    limits = Limits(rows=_PORTION_MESSAGES, seconds=_READING_SECONDS)
    found = await database.read(Statement(_PEEK, asked), limits)
    size = sum(len(row[0]) for row in found.rows)
    read = found.rows[-1][2] if found.rows else 0
    return Portion(
        messages=[(row[0], row[1]) for row in found.rows],
        is_all=size < _PORTION_BYTES and read < _PORTION_MESSAGES,
    )


async def advance(database: Database, name: str, upto: int) -> None:
    """Give up what is before that place: it is not read again, and its log may go.

    Raises:
        DatabaseError: The database did not answer, or somebody else reads from the slot.
    """
    limits = Limits(rows=1, seconds=_READING_SECONDS)
    await database.read(Statement(_ADVANCE, {"name": name, "upto": lsn_text(upto)}), limits)


async def typed(database: Database, changes: Sequence[Change]) -> list[dict[str, Any]]:
    """The rows of changes, their values as the driver gives those of a query.

    Raises:
        DatabaseError: The database did not answer, or knows a type no more.
    """
    rows: list[dict[str, Any]] = [dict(change.row) for change in changes]
    by_shape: dict[tuple[Column, ...], list[int]] = {}
    for number, change in enumerate(changes):
        by_shape.setdefault(change.relation.columns, []).append(number)
    for columns, numbers in by_shape.items():
        await _type(database, columns, [rows[number] for number in numbers])
    return rows


async def _type(
    database: Database, columns: Sequence[Column], rows: Sequence[dict[str, Any]]
) -> None:
    types = await _types(database, columns)
    wanted = [column for column in columns if (column.type_oid, column.type_modifier) in types]
    if not wanted:
        return
    asked = {
        f"c{number}": [row.get(column.name) for row in rows] for number, column in enumerate(wanted)
    }
    casts = ", ".join(
        f"CAST(given.c{number} AS {types[column.type_oid, column.type_modifier]})"
        for number, column in enumerate(wanted)
    )
    sql = (
        f"SELECT {casts} FROM unnest({', '.join(f'CAST(:{name} AS text[])' for name in asked)}) "  # noqa: S608 - types by the server
        f"WITH ORDINALITY AS given({', '.join(asked)}, n) ORDER BY given.n"
    )
    found = await database.read(Statement(sql, asked), Limits(rows=len(rows), seconds=30))
    for row, values in zip(rows, found.rows, strict=True):
        for column, value in zip(wanted, values, strict=True):
            if column.name in row:
                row[column.name] = value


async def _types(database: Database, columns: Sequence[Column]) -> dict[tuple[int, int], str]:
    """SQL names of the types that are not simply text."""
    asked = {
        "oids": [column.type_oid for column in columns],
        "modifiers": [column.type_modifier for column in columns],
    }
    found = (await database.read(Statement(_TYPES, asked), _QUICK)).dicts()
    return {(row["oid"], row["modifier"]): row["type"] for row in found if not row["is_text"]}


def _options(operations: Sequence[str]) -> str:
    return f"publish = '{', '.join(each.lower() for each in operations)}'"


def _explained(error: DatabaseError) -> DatabaseError | BadRequestError:
    is_read_only = isinstance(error, ReadOnlyError)
    reason = _READ_ONLY if is_read_only else _REASONS.get(error.sqlstate or "")
    return error if reason is None else _refused("mode", reason.format(error.message))


def _refused(field: str, message: str) -> BadRequestError:
    return BadRequestError(message, [FieldError(field, message)])
