"""What a trigger asks the user's PostgreSQL: the table's shape, what is new, who still writes.

Names are quoted here; values go beside the text. Every statement only reads.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sinas.databases.base import Database, DatabaseTarget, Limits, Statement
from sinas.errors import BadRequestError, FieldError
from sinas.resources.database_triggers.position import MOST_KEYS, Bookmark

_LIMITS = Limits(rows=MOST_KEYS + 1, seconds=30)
# Types whose values have one order, in which new ones come last where their maker wants it.
_ORDERED = frozenset(
    [
        "int2",
        "int4",
        "int8",
        "numeric",
        "float4",
        "float8",
        "date",
        "timestamp",
        "timestamptz",
        "uuid",
        "text",
        "varchar",
    ]
)
_COLUMNS = """
SELECT a.attname AS name, format_type(a.atttypid, a.atttypmod) AS type,
       coalesce((SELECT b.typname FROM pg_type b WHERE b.oid = t.typbasetype), t.typname) AS base,
       c.relkind::text AS kind, i.position AS key_position,
       a.attidentity <> '' OR coalesce(pg_get_expr(d.adbin, d.adrelid), '') LIKE 'nextval(%'
         AS is_sequence
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
JOIN pg_type t ON t.oid = a.atttypid
LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
LEFT JOIN LATERAL (
  SELECT k.position FROM pg_index x, unnest(x.indkey::int2[]) WITH ORDINALITY k(number, position)
  WHERE x.indrelid = c.oid AND x.indisprimary AND k.number = a.attnum
) i ON true
WHERE n.nspname = :schema AND c.relname = :table AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
ORDER BY a.attnum
"""
# Whoever holds such a lock has written to the table, a partition or a child of it, or is about
# to. Others may still come to it with a time they took when they began.
_OPEN = """
WITH RECURSIVE tables AS (
  SELECT to_regclass(:table)::oid AS oid
  UNION SELECT i.inhrelid FROM pg_inherits i JOIN tables ON i.inhparent = tables.oid
), here AS (SELECT oid FROM pg_database WHERE datname = current_database())
SELECT DISTINCT l.virtualtransaction AS holder, l.locktype = 'relation' AS writes,
       extract(epoch FROM clock_timestamp())::float8 AS now
FROM pg_locks l LEFT JOIN pg_stat_activity a ON a.pid = l.pid
WHERE l.pid IS DISTINCT FROM pg_backend_pid() AND (
  (l.locktype = 'relation' AND l.database = (SELECT oid FROM here)
   AND l.relation IN (SELECT oid FROM tables)
   AND l.mode IN ('RowExclusiveLock', 'ShareRowExclusiveLock', 'ExclusiveLock',
                  'AccessExclusiveLock'))
  OR (CAST(:all AS boolean) AND l.locktype = 'virtualxid' AND l.mode = 'ExclusiveLock'
      AND a.datid = (SELECT oid FROM here) AND a.usesysid IS NOT NULL))
"""
_NOW = "SELECT extract(epoch FROM clock_timestamp())::float8 AS now"


@dataclass(frozen=True, slots=True, kw_only=True)
class Open:
    """Transactions that run at a moment.

    Attributes:
        writers: Those that hold a lock for writing on the table.
        all: These, and where values may be older than the lock, every other one.
    """

    writers: frozenset[str]
    all: frozenset[str]
    now: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A row that is new: its value and key as text, and what its columns hold."""

    value: str
    key: str
    columns: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table that can be polled.

    Attributes:
        keys: Column and type of each part of the primary key; empty where there is none.
        is_sequence: Whether the poll column's values come from a sequence.
        never_changes: Whether updates leave the poll column as it is.
    """

    name: str
    column: str
    column_type: str
    keys: tuple[tuple[str, str], ...]
    is_sequence: bool
    never_changes: bool

    @property
    def key_texts(self) -> list[str]:
        """SQL: the parts of the key as text; the row's place where the table has no key."""
        return [f"t.{_quoted(name)}::text" for name, _ in self.keys] or ["t.ctid::text"]

    @property
    def key(self) -> str:
        """SQL: the key as one text."""
        return f"json_build_array({', '.join(self.key_texts)})::text"

    @property
    def order(self) -> str:
        """SQL: the order within one value."""
        return ", ".join(f"t.{_quoted(name)}" for name, _ in self.keys) or "t.ctid"


async def check_table(database: Database, schema: str, table: str) -> Sequence[Mapping[str, Any]]:
    """Its columns, when it is a table.

    Raises:
        BadRequestError: It is not, or is not there; the field is named.
        DatabaseError: The database did not answer.
    """
    found = await database.read(
        Statement(_COLUMNS, {"schema": schema, "table": table}), Limits(rows=2000, seconds=10)
    )
    rows = found.dicts()
    if not rows:
        raise _refused("table_name", f"There is no table '{schema}.{table}' in this database.")
    if rows[0]["kind"] not in ("r", "p"):
        raise _refused("table_name", f"'{schema}.{table}' is not a table; name a table, no view.")
    return rows


async def find_table(database: Database, schema: str, table: str, column: str) -> Table:
    """The table, when it can be polled by that column.

    Raises:
        BadRequestError: It cannot, or is not there; the field is named.
        DatabaseError: The database did not answer.
    """
    rows = await check_table(database, schema, table)
    by_name = {row["name"]: row for row in rows}
    if column not in by_name:
        raise _refused("poll_column", f"'{schema}.{table}' has no column '{column}'.")
    polled = by_name[column]
    if polled["base"] not in _ORDERED:
        raise _refused(
            "poll_column",
            f"Column '{column}' is of the type {polled['type']}; poll by a number, a date, a "
            "time stamp, a text or a UUID.",
        )
    keyed = sorted(
        (row for row in rows if row["key_position"] is not None),
        key=lambda row: int(row["key_position"]),
    )
    return Table(
        name=f"{_quoted(schema)}.{_quoted(table)}",
        column=f"t.{_quoted(column)}",
        column_type=polled["type"],
        keys=tuple((row["name"], row["type"]) for row in keyed),
        is_sequence=bool(polled["is_sequence"]),
        never_changes=bool(polled["is_sequence"]) or polled["key_position"] is not None,
    )


async def largest(database: Database, table: Table) -> str | None:
    """The largest value that is committed; None when there is none."""
    sql = f"SELECT max({table.column})::text AS value FROM {table.name} t"  # noqa: S608 - quoted
    if table.column_type == "uuid":
        # PostgreSQL before 18 has no max() for them.
        sql = (
            f"SELECT {table.column}::text AS value FROM {table.name} t "  # noqa: S608 - quoted
            f"WHERE {table.column} IS NOT NULL ORDER BY {table.column} DESC LIMIT 1"
        )
    rows = (await database.read(Statement(sql), _LIMITS)).dicts()
    return rows[0]["value"] if rows else None


async def open_transactions(database: Database, table: Table) -> Open:
    """Who may still commit a row with a value that was taken before this moment."""
    asked = {"table": table.name, "all": not table.is_sequence}
    rows = (await database.read(Statement(_OPEN, asked), _LIMITS)).dicts()
    if not rows:
        now = (await database.read(Statement(_NOW), _LIMITS)).dicts()[0]["now"]
        return Open(writers=frozenset(), all=frozenset(), now=now)
    return Open(
        writers=frozenset(row["holder"] for row in rows if row["writes"]),
        all=frozenset(row["holder"] for row in rows),
        now=rows[0]["now"],
    )


async def keys_at(database: Database, table: Table, value: str) -> list[str]:
    """Keys of the rows with a value, in order; one more than are remembered at most."""
    sql = (
        f"SELECT {table.key} AS key FROM {table.name} t "  # noqa: S608 - quoted
        f"WHERE {table.column} = {_cast('value', table.column_type)} ORDER BY {table.order}"
    )
    rows = (await database.read(Statement(sql, {"value": value}), _LIMITS)).dicts()
    return [row["key"] for row in rows]


async def new_rows(
    database: Database, table: Table, bookmark: Bookmark, upto: str, limit: int
) -> Sequence[Row]:
    """Rows behind the bookmark, up to and with a value, in order."""
    where = [f"{table.column} <= {_cast('upto', table.column_type)}"]
    asked: dict[str, Any] = {"upto": upto}
    if bookmark.value is not None:
        value = _cast("value", table.column_type)
        asked["value"] = bookmark.value
        # Said besides, so that an index on the column is used.
        where.append(f"{table.column} >= {value}")
        where.append(f"({table.column} > {value} OR {_unseen(table, bookmark, asked)})")
    sql = (
        f"SELECT {table.column}::text AS value_, {table.key} AS key_, t.* "  # noqa: S608 - quoted
        f"FROM {table.name} t WHERE {' AND '.join(where)} ORDER BY {table.column}, {table.order}"
    )
    found = await database.read(Statement(sql, asked), Limits(rows=limit, seconds=30))
    names = found.columns[2:]
    return [
        Row(value=row[0], key=row[1], columns=dict(zip(names, row[2:], strict=True)))
        for row in found.rows
    ]


def unreachable(target: DatabaseTarget) -> str:
    """What is told: where it is, and as whom it is reached, is not for all who may have triggers."""
    return f"The database '{target.name}' cannot be reached; the test of its connection says why."


def _unseen(table: Table, bookmark: Bookmark, asked: dict[str, Any]) -> str:
    if bookmark.keys is not None:
        asked["keys"] = list(bookmark.keys)
        return f"{table.key} <> ALL(CAST(:keys AS text[]))"
    parts = json.loads(bookmark.last_key or "[]")
    types = [kind for _, kind in table.keys] or ["tid"]
    asked.update({f"key{number}": part for number, part in enumerate(parts)})
    last = ", ".join(_cast(f"key{number}", kind) for number, kind in enumerate(types))
    return f"({table.order}) > ({last})"


def _cast(name: str, kind: str) -> str:
    return f"CAST(CAST(:{name} AS text) AS {kind})"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _refused(field: str, message: str) -> BadRequestError:
    return BadRequestError(message, [FieldError(field, message)])
