"""What a trigger by replication does in a look: it reads its slot behind its bookmark.

The slot only moves on behind what was reported, or is of no concern, and the bookmark says from
where on to report: what was read twice, because a process died between the two, is left out.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from sinas.databases.base import Database, DatabaseError
from sinas.errors import ConflictError
from sinas.kit.json_types import JsonObject
from sinas.resources.database_triggers import publications
from sinas.resources.database_triggers.batches import Batches
from sinas.resources.database_triggers.pgoutput import Begin, Change, Commit, Decoder
from sinas.resources.database_triggers.position import LogPosition
from sinas.resources.database_triggers.publications import Portion, State
from sinas.resources.database_triggers.slots import slot_name

# A slot is moved on over that much of the log, although nothing in it was of this table.
_IDLE_BYTES = 2**20
_IN_USE = "55006"
_NO_SLOT = "This trigger has no replication slot any more; reset it to begin anew from now on."
_REPLACED = (
    "The publication {} was made anew by somebody. Changes since then cannot be told; reset this "
    "trigger to begin anew from now on."
)


@dataclass(frozen=True, slots=True)
class _Located:
    """A change, and which one it is of the transaction whose commit has that place in the log."""

    place: int
    ordinal: int
    change: Change


@dataclass(frozen=True, slots=True, kw_only=True)
class _Read:
    """What a portion says.

    Attributes:
        ended: Behind the last transaction that is in it up to its end; None where none is.
        after: Changes to leave out next time, the slot having moved to `ended`.
    """

    changes: Sequence[_Located]
    ended: int | None
    after: int


async def ask(batches: Batches, database: Database) -> str | None:
    """None when all that there was is started; '' when another process still reads the slot.

    Raises:
        SinasError: The database, the function or the owner's rights are in the way.
        LeaseLostError: Another process looks now, or the trigger was changed meanwhile.
    """
    trigger = batches.trigger
    if trigger.replication_slot_id is None or trigger.bookmark is None:
        raise ConflictError(_NO_SLOT)
    look = _Look(batches, database, slot_name(trigger.replication_slot_id))
    try:
        await look.run(LogPosition.load(trigger.bookmark))
    except DatabaseError as error:
        if error.sqlstate == _IN_USE:
            # Of a process that was killed, the server has not noticed it yet.
            return ""
        raise
    return None


class _Look:
    """One look at one slot."""

    def __init__(self, batches: Batches, database: Database, slot: str) -> None:
        self.batches = batches
        self.database = database
        self.slot = slot

    async def run(self, position: LogPosition) -> None:
        state = await self._state(position)
        # Where the slot has not passed the bookmark, it begins with what was reported.
        is_behind = position.value is not None and position.value >= state.confirmed
        after = position.ordinal if is_behind else 0
        while True:
            portion = await publications.peek(self.database, self.slot, after)
            read = _read(portion, after)
            # Of a publication that is gone, a peek says nothing instead of an error.
            behind = await self._state(position)
            position = await self._report(read.changes, position)
            await self._advance(read, state if portion.is_all else None)
            if portion.is_all:
                return
            state, after = behind, read.after

    async def _state(self, position: LogPosition) -> State:
        trigger = self.batches.trigger
        state = await publications.state(
            self.database,
            self.slot,
            trigger.schema_name,
            trigger.table_name,
            trigger.operations,
        )
        if state.publication != position.publication:
            raise ConflictError(_REPLACED.format(self.slot))
        return state

    async def _report(self, changes: Sequence[_Located], position: LogPosition) -> LogPosition:
        trigger = self.batches.trigger
        new = [
            each
            for each in changes
            if position.is_before(each.place, each.ordinal)
            and each.change.kind in trigger.operations
        ]
        while new:
            batch = new[: trigger.batch_size]
            rows = await publications.typed(self.database, [each.change for each in batch])
            started = await self.batches.start(
                rows, partial(_behind, position, batch), [each.change.kind for each in batch]
            )
            position = LogPosition.load(_behind(position, batch, started))
            new = new[started:]
        return position

    async def _advance(self, read: _Read, state: State | None) -> None:
        """Let go of what is done. `state` is that of before the peek, where it gave all."""
        upto = read.ended or 0
        if state is not None and state.now - state.confirmed > _IDLE_BYTES:
            upto = max(upto, state.now)
        if upto:
            # Operations that it asks for by now were passed over as those of no concern.
            await self.batches.check()
            await publications.advance(self.database, self.slot, upto)


def _behind(position: LogPosition, batch: Sequence[_Located], count: int) -> JsonObject:
    last = batch[count - 1]
    return position.at(last.place, last.ordinal).dump()


def _read(portion: Portion, after: int) -> _Read:
    decoder = Decoder()
    changes: list[_Located] = []
    commit = begun = done = last = 0
    ended: int | None = None
    for message, count in portion.messages:
        last = count
        match decoder.read(message):
            case Begin(commit_lsn=commit):
                begun = count
            case Commit(end_lsn=end):
                ended, done = end, count
            case Change() as change:
                changes.append(_Located(commit, count - begun, change))
    return _Read(changes=changes, ended=ended, after=max(last, after) - done)
