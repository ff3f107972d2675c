"""Channels: a turn's events in a Redis stream, written under a fence and read by anyone.

Every entry is also published, so that readers need no blocking connection of their own; the
stream is what they catch up from. The fence keeps a worker that lost its turn from writing
into it: a script compares and appends in one step.
"""

import asyncio
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

import orjson
from redis.asyncio import Redis
from redis.exceptions import RedisError

from sinas.chat.events import (
    APPROVAL_REQUIRED,
    INPUT_REQUIRED,
    MESSAGE,
    TOOL_REJECTED,
    Event,
    from_sub_agent,
    message,
    reset,
    sub_agent,
)
from sinas.errors import LeaseLostError

STREAM_PREFIX: Final = "sinas:stream:"
LIVE_PREFIX: Final = "sinas:live:"

# Of entries that belong to no model round of the stream's own turn.
NO_ROUND: Final = -1

_COALESCE_SECONDS = 0.015
_COALESCE_BYTES = 1024
_REDIS_PATIENCE_SECONDS = 30.0

# KEYS: the turn's stream and its fence, then the streams of turns above. ARGV: fence, writer, number
# of this batch, ttl, how many entries to remove and their ids; then for each stream its live
# channel, how many entries it gets, and event, data and round of each.
#
# The fence's value is `fence:writer:batch`: a batch that is sent again because its answer was lost
# is written once. Streams above have other writers; they get nothing any more once they have ended.
_APPEND = """
local value = redis.call('GET', KEYS[2]) or '0'
local held = tonumber(string.match(value, '^%d+'))
local mine = tonumber(ARGV[1])
if held > mine then return false end
local batch = tonumber(ARGV[3])
local known = string.match(value, '^%d+:' .. ARGV[2] .. ':(%d+)$')
if held == mine and known and tonumber(known) >= batch then return true end
redis.call('SET', KEYS[2], mine .. ':' .. ARGV[2] .. ':' .. batch, 'EX', ARGV[4])
local at = 6 + ARGV[5]
for i = 6, at - 1 do redis.call('XDEL', KEYS[1], ARGV[i]) end
for k = 1, #KEYS do
  if k ~= 2 then
    local key, live, last = KEYS[k], ARGV[at], at + 1 + 3 * ARGV[at + 1]
    local newest = k > 2 and redis.call('XREVRANGE', key, '+', '-', 'COUNT', 1)[1]
    local ended = newest and (newest[2][2] == 'done' or newest[2][2] == 'error')
    local lines = {}
    for i = at + 2, last, 3 do
      if not ended then
        local id = redis.call('XADD', key, '*',
          'event', ARGV[i], 'data', ARGV[i + 1], 'round', ARGV[i + 2])
        lines[#lines + 1] = id .. ' ' .. ARGV[i] .. ' ' .. ARGV[i + 1]
      end
    end
    redis.call('EXPIRE', key, ARGV[4])
    if #lines > 0 then redis.call('PUBLISH', live, table.concat(lines, '\\n')) end
    at = last + 1
  end
end
return true
"""


def stream_key(channel_id: str) -> str:
    """Redis key of a channel's stream."""
    return f"{STREAM_PREFIX}{channel_id}"


def live_channel(channel_id: str) -> str:
    """Pub/sub channel the entries are published on."""
    return f"{LIVE_PREFIX}{channel_id}"


@dataclass(frozen=True, slots=True)
class Entry:
    """One stored event. `id` is `<milliseconds>-<sequence>`, ordered by `position`."""

    id: str
    event: str
    data: str

    @property
    def position(self) -> tuple[int, int]:
        """What to compare entries by."""
        milliseconds, _, sequence = self.id.partition("-")
        return int(milliseconds), int(sequence or 0)


def parse_live(payload: bytes) -> list[Entry]:
    """The entries of one published payload."""
    return [Entry(*line.split(" ", 2)) for line in payload.decode().split("\n")]


async def read_after(redis: Redis, channel_id: str, last_id: str) -> list[Entry]:
    """All stored entries behind `last_id` (`0` for the beginning)."""
    found = await redis.xrange(stream_key(channel_id), min=f"({last_id}" if last_id != "0" else "-")
    return [
        Entry(entry_id.decode(), fields[b"event"].decode(), fields[b"data"].decode())
        for entry_id, fields in found
    ]


async def newest_id(redis: Redis, channel_id: str) -> str:
    """The id of the newest entry; `0` where there is none."""
    found = await redis.xrevrange(stream_key(channel_id), count=1)
    return found[0][0].decode() if found else "0"


@dataclass(frozen=True, slots=True)
class Emitted:
    """What earlier workers wrote into a channel, as far as a successor must know.

    Attributes:
        text: Text of the round that was cut off.
        partial: Ids of that round's message entries, for removal.
        has_calls: Whether that round had begun a tool call.
        started: Call ids with a `tool_start`.
        ended: Call ids with a `tool_end`.
        rejected: Call ids with a `tool_rejected`.
        asked: Call ids with an `approval_required` or `input_required`.
    """

    text: str = ""
    partial: tuple[bytes, ...] = ()
    has_calls: bool = False
    started: frozenset[str] = frozenset()
    ended: frozenset[str] = frozenset()
    rejected: frozenset[str] = frozenset()
    asked: frozenset[str] = frozenset()


async def read_emitted(redis: Redis, channel_id: str, round_number: int) -> Emitted:
    """Read back what was written, with the text of round `round_number`."""
    text: list[str] = []
    partial: list[bytes] = []
    started: set[str] = set()
    ended: set[str] = set()
    rejected: set[str] = set()
    asked: set[str] = set()
    has_calls = False
    for entry_id, fields in await redis.xrange(stream_key(channel_id)):
        data = orjson.loads(fields[b"data"])
        match fields[b"event"]:
            case b"message" if data.get("type") == TOOL_REJECTED:
                rejected.add(data["tool_call_id"])
            case b"message" if int(fields[b"round"]) == round_number:
                text.append(data.get("content") or "")
                has_calls = has_calls or bool(data.get("tool_calls"))
                partial.append(entry_id)
            case b"tool_start":
                started.add(data["tool_call_id"])
            case b"tool_end":
                ended.add(data["tool_call_id"])
            case b"approval_required" | b"input_required":
                asked.add(data["tool_call_id"])
    return Emitted(
        text="".join(text),
        partial=tuple(partial),
        has_calls=has_calls,
        started=frozenset(started),
        ended=frozenset(ended),
        rejected=frozenset(rejected),
        asked=frozenset(asked),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Mirror:
    """The stream of an agent above, which shows what its sub-agent does.

    Attributes:
        call_id: The call of the turn above that waits for this one.
        agent: `namespace/name` of the sub-agent that works.
        chat_id: The sub-agent's chat.
    """

    channel_id: str
    call_id: str
    agent: str
    chat_id: str

    def shown(self, event: Event) -> Event:
        """What of `event` the stream above gets.

        What asks people goes up as it is; see `from_sub_agent`.
        """
        if event.name in (APPROVAL_REQUIRED, INPUT_REQUIRED):
            return from_sub_agent(event, self.agent, self.chat_id)
        return sub_agent(self.call_id, self.agent, self.chat_id, event)


_Batch: TypeAlias = tuple[list[str], list[str | bytes | int]]


class ChannelWriter:
    """Appends a turn's events, and shows them on the streams of the turns above it.

    `put` never waits. The first event leaves at once; text that follows faster than every
    15 ms is joined into one event of at most about 1 KiB per round trip.
    """

    def __init__(self, redis: Redis, channel_id: str, fence: int, ttl_seconds: int) -> None:
        self._redis = redis
        self._script = redis.register_script(_APPEND)
        self._channel_id = channel_id
        self._fence = fence
        self._ttl = ttl_seconds
        self._id = secrets.token_hex(4)
        self._number = 0
        self._sending: _Batch | None = None
        self._pending: list[tuple[Event, int]] = []
        self._dropped: tuple[bytes, ...] = ()
        self._size = 0
        self._wake = asyncio.Event()
        self._full = asyncio.Event()
        self._lock = asyncio.Lock()
        self._last = 0.0
        self.round_number = 0
        self.mirrors: tuple[Mirror, ...] = ()
        self.holds = False
        self._held: list[Event] = []

    def hold(self) -> None:
        """From now on keep the model's text back, until `release` or `drop`."""
        self.holds = True

    def release(self) -> None:
        """Write what was held back, and hold no more."""
        held, self._held, self.holds = self._held, [], False
        for event in held:
            self.put(event)

    def drop(self) -> None:
        """Forget what was held back, and hold no more."""
        self._held, self.holds = [], False

    def put(self, event: Event) -> None:
        """Write `event` soon, after everything put before it."""
        if self.holds and event.name == MESSAGE:
            self._held.append(event)
            return
        if self._pending and (joined := _join(self._pending[-1][0], event)) is not None:
            self._pending[-1] = (joined, self._pending[-1][1])
        else:
            self._pending.append((event, self.round_number))
        self._size += len(str(event.data.get("content") or ""))
        if self._size >= _COALESCE_BYTES:
            self._full.set()
        self._wake.set()

    def take_back(self, entry_ids: tuple[bytes, ...]) -> None:
        """Remove the entries of an abandoned answer, and make clients forget them.

        Both in one step with what is put next: no reader, and no successor of a worker that
        dies, finds them gone without a word.
        """
        self._dropped += entry_ids
        self.put(reset())

    async def run(self) -> None:
        """Write what is put, until cancelled.

        Raises:
            LeaseLostError: Another worker holds the turn.
        """
        while True:
            await self._wake.wait()
            pause = self._last + _COALESCE_SECONDS - time.monotonic()
            if pause > 0 and not self._full.is_set():
                try:
                    async with asyncio.timeout(pause):
                        await self._full.wait()
                except TimeoutError:
                    pass
            await self.flush()

    async def flush(self) -> None:
        """Write everything put so far; returns when it is stored.

        Raises:
            LeaseLostError: Another worker holds the turn.
        """
        async with self._lock:
            pending, self._pending, self._size = self._pending, [], 0
            self._wake.clear()
            self._full.clear()
            self._last = time.monotonic()
            if self._sending is not None:
                await self._send(self._sending)  # a cancellation had cut it off
            if pending:
                dropped, self._dropped = self._dropped, ()
                await self._send(self._packed(pending, dropped))

    async def take(self) -> None:
        """Close the channel to whoever wrote into it before: read it only afterwards.

        Raises:
            LeaseLostError: Another worker holds the turn.
        """
        async with self._lock:
            await self._send(self._packed([], ()))

    def _packed(self, pending: Sequence[tuple[Event, int]], dropped: Sequence[bytes]) -> _Batch:
        """What the script gets to write to the turn's stream and those above it."""
        self._number += 1
        arguments: list[str | bytes | int] = [self._fence, self._id, self._number, self._ttl]
        arguments += [len(dropped), *dropped]
        arguments += _written(self._channel_id, pending)
        keys = [stream_key(self._channel_id), f"{stream_key(self._channel_id)}:fence"]
        for mirror in self.mirrors if pending else ():
            shown = [(mirror.shown(event), NO_ROUND) for event, _ in pending]
            keys.append(stream_key(mirror.channel_id))
            arguments += _written(mirror.channel_id, shown)
        return keys, arguments

    async def _send(self, batch: _Batch) -> None:
        """Write a batch, all or nothing, however often it takes."""
        self._sending = batch
        is_held = await self._run_script(batch)
        self._sending = None
        if not is_held:
            raise LeaseLostError("Another worker has taken this turn over.")

    async def _run_script(self, batch: _Batch) -> bool:
        keys, arguments = batch
        deadline = time.monotonic() + _REDIS_PATIENCE_SECONDS
        while True:
            try:
                return bool(await self._script(keys=keys, args=arguments))
            except RedisError:
                # A restarting Redis must not end a turn: its journal is in PostgreSQL.
                if time.monotonic() > deadline:
                    raise
                await asyncio.sleep(0.2)


def _written(channel_id: str, events: Sequence[tuple[Event, int]]) -> list[str | bytes | int]:
    """One stream's part of the script's arguments."""
    entries: list[str | bytes | int] = [live_channel(channel_id), len(events)]
    for event, round_number in events:
        entries += [event.name, orjson.dumps(event.data), round_number]
    return entries


def _join(previous: Event, event: Event) -> Event | None:
    """Both as one event if each is nothing but text."""
    if not (_is_text(previous) and _is_text(event)):
        return None
    return replace(
        previous, data=message(f"{previous.data['content']}{event.data['content']}").data
    )


def _is_text(event: Event) -> bool:
    data = event.data
    return (
        event.name == MESSAGE
        and isinstance(data.get("content"), str)
        and not data.get("tool_calls")
        and data.get("finish_reason") is None
        and "thinking" not in data
    )
