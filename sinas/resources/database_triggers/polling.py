"""What a trigger by polling does in a look: it asks the table for what is behind its bookmark.

What a function gets is fenced: a value counts once no transaction is open that may still commit
a smaller one. Transactions that hold a lock for writing on the table are waited for however long
they take; those that only may come to it, for `_PATIENCE_SECONDS`.
"""

import asyncio
from collections.abc import Sequence
from functools import partial

from sinas.databases.base import Database
from sinas.kit.json_types import JsonObject
from sinas.resources.database_triggers import source
from sinas.resources.database_triggers.batches import Batches
from sinas.resources.database_triggers.position import MOST_KEYS, Bookmark, Pending
from sinas.resources.database_triggers.source import Row, Table

_PATIENCE_SECONDS = 60.0
_TOLD_AFTER_SECONDS = 10.0
# Most transactions are short: it is asked again so often, before the next look is set.
_ASK_AGAIN_SECONDS = 0.05
_ASKED_AGAIN = 10
_WAITING = (
    "Waiting for {count} open transaction(s) on this table that may still commit smaller values "
    "of the poll column; nothing is lost. Pids are in pg_locks."
)


async def ask(batches: Batches, database: Database) -> str | None:
    """None when all that there was is started; else why something waits, '' for not yet long.

    Raises:
        SinasError: The database, the function or the owner's rights are in the way.
        LeaseLostError: Another process looks now, or the trigger was changed meanwhile.
    """
    trigger = batches.trigger
    table = await source.find_table(
        database, trigger.schema_name, trigger.table_name, str(trigger.poll_column)
    )
    if trigger.bookmark is None:
        await batches.move((await _first(database, table)).dump())
        return None
    return await _forward(batches, database, table, Bookmark.load(trigger.bookmark))


async def _forward(
    batches: Batches, database: Database, table: Table, bookmark: Bookmark
) -> str | None:
    trigger = batches.trigger
    pending = bookmark.pending
    if pending is None:
        value = await source.largest(database, table)
        if value is None:
            return None
        open_ = await source.open_transactions(database, table)
        pending = Pending(value=value, holders=tuple(sorted(open_.all)), since=open_.now)
    pending, age = await _settled(database, table, pending)
    if pending.holders:
        if pending != bookmark.pending:
            await batches.move(bookmark.waiting(pending).dump())
        long = age > _TOLD_AFTER_SECONDS
        return _WAITING.format(count=len(pending.holders)) if long else ""
    bookmark = bookmark.waiting(pending)
    size = trigger.batch_size
    while rows := await source.new_rows(database, table, bookmark, pending.value, size):
        started = await batches.start(
            [row.columns for row in rows], partial(_behind, bookmark, rows)
        )
        bookmark = Bookmark.load(_behind(bookmark, rows, started))
        if started == len(rows) < size:
            break
    if bookmark.pending is not None and trigger.bookmark is not None:
        cleared = bookmark.waiting(None)
        if cleared.dump() != trigger.bookmark:
            await batches.move(cleared.dump())
    return None


def _behind(bookmark: Bookmark, rows: Sequence[Row], count: int) -> JsonObject:
    return bookmark.after([(row.value, row.key) for row in rows[:count]]).dump()


async def _settled(database: Database, table: Table, pending: Pending) -> tuple[Pending, float]:
    """Without the holders that have ended, and how long it has waited."""
    age = 0.0
    for number in range(_ASKED_AGAIN):
        if not pending.holders:
            break
        if number:
            await asyncio.sleep(_ASK_AGAIN_SECONDS)
        open_ = await source.open_transactions(database, table)
        age = open_.now - pending.since
        still = open_.writers if age > _PATIENCE_SECONDS else open_.all
        left = tuple(each for each in pending.holders if each in still)
        pending = Pending(value=pending.value, holders=left, since=pending.since)
    return pending, age


async def _first(database: Database, table: Table) -> Bookmark:
    """Behind everything that is in the table now."""
    value = await source.largest(database, table)
    if value is None:
        return Bookmark()
    keys = await source.keys_at(database, table, value)
    few = len(keys) <= MOST_KEYS
    return Bookmark(
        value=value, keys=tuple(keys) if few else None, last_key=keys[-1] if keys else None
    )
