"""Channels: a turn's events in a Redis stream, written under a fence and read by anyone.

Every entry is also published, so that readers need no blocking connection of their own; the
stream is what they catch up from. The fence keeps a worker that lost its turn from writing
into it: a script compares and appends in one step.
"""

import asyncio
import time
from dataclasses import dataclass, replace
from typing import Final

import orjson
from redis.asyncio import Redis
from redis.exceptions import RedisError

from sinas.chat.events import (
    APPROVAL_REQUIRED,
    INPUT_REQUIRED,
    MESSAGE,
    TOOL_REJECTED,
    Event,
    message,
    sub_agent,
)
from sinas.errors import LeaseLostError
from sinas.kit.json_types import JsonObject

STREAM_PREFIX: Final = "sinas:stream:"
LIVE_PREFIX: Final = "sinas:live:"

# Of entries that belong to no model round of the stream's own turn.
NO_ROUND: Final = -1

_COALESCE_SECONDS = 0.015
_COALESCE_BYTES = 1024
_REDIS_PATIENCE_SECONDS = 30.0

# KEYS: stream, fence. ARGV: fence, ttl, live channel, then event, data, round for each entry.
_APPEND = """
local held = tonumber(redis.call('GET', KEYS[2]) or '0')
local mine = tonumber(ARGV[1])
if held > mine then return false end
if held < mine then redis.call('SET', KEYS[2], ARGV[1]) end
local lines = {}
for i = 4, #ARGV, 3 do
  local id = redis.call('XADD', KEYS[1], '*', 'event', ARGV[i], 'data', ARGV[i+1], 'round', ARGV[i+2])
  lines[#lines+1] = id .. ' ' .. ARGV[i] .. ' ' .. ARGV[i+1]
end
redis.call('EXPIRE', KEYS[1], ARGV[2])
redis.call('EXPIRE', KEYS[2], ARGV[2])
if #lines > 0 then redis.call('PUBLISH', ARGV[3], table.concat(lines, '\\n')) end
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
        fence: Of the turn above when it began to wait: once it goes on, nothing is shown there.
        call_id: The call of the turn above that waits for this one.
        agent: `namespace/name` of the sub-agent that works.
        chat_id: The sub-agent's chat.
    """

    channel_id: str
    fence: int
    call_id: str
    agent: str
    chat_id: str

    def shown(self, event: Event) -> Event:
        """What of `event` the stream above gets.

        What asks people goes up as it is, with the chat it belongs to, so that clients that know
        nothing of sub-agents can answer.
        """
        if event.name in (APPROVAL_REQUIRED, INPUT_REQUIRED):
            where: JsonObject = {"agent": self.agent, "chat_id": self.chat_id}
            return replace(event, data={**event.data, **where})
        return sub_agent(self.call_id, self.agent, self.chat_id, event)


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
        self._pending: list[tuple[Event, int]] = []
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
            if pending:
                await self._append(pending)

    async def take(self) -> None:
        """Close the channel to whoever wrote into it before: read it only afterwards.

        Raises:
            LeaseLostError: Another worker holds the turn.
        """
        async with self._lock:
            await self._append([])

    async def discard(self, entry_ids: tuple[bytes, ...]) -> None:
        """Remove entries of an abandoned attempt."""
        if entry_ids:
            await self._redis.xdel(stream_key(self._channel_id), *entry_ids)

    async def _append(self, pending: list[tuple[Event, int]]) -> None:
        if not await self._write(self._channel_id, self._fence, pending):
            raise LeaseLostError("Another worker has taken this turn over.")
        for mirror in self.mirrors if pending else ():
            shown = [(mirror.shown(event), NO_ROUND) for event, _ in pending]
            if not await self._write(mirror.channel_id, mirror.fence, shown):
                self.mirrors = tuple(each for each in self.mirrors if each is not mirror)

    async def _write(self, channel_id: str, fence: int, pending: list[tuple[Event, int]]) -> bool:
        """Append to one stream. False when its fence is a newer one."""
        arguments: list[str | bytes | int] = [fence, self._ttl, live_channel(channel_id)]
        for event, round_number in pending:
            arguments += [event.name, orjson.dumps(event.data), round_number]
        keys = [stream_key(channel_id), f"{stream_key(channel_id)}:fence"]
        deadline = time.monotonic() + _REDIS_PATIENCE_SECONDS
        while True:
            try:
                return bool(await self._script(keys=keys, args=arguments))
            except RedisError:
                # A restarting Redis must not end a turn: its journal is in PostgreSQL.
                if time.monotonic() > deadline:
                    raise
                await asyncio.sleep(0.2)


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
