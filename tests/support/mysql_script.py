"""A server that speaks MySQL's protocol as a test tells it: one that no real server would be."""

from __future__ import annotations

import asyncio
import struct
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pymysql.constants import CLIENT, COMMAND

from sinas.databases.base import DatabaseTarget

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

SALT = b"12345678901234567890"
# Longer than the salt.
PASSWORD = "hunter2-" + "x" * 30
OK = b"\x00\x00\x00\x02\x00\x00\x00"
_EOF = b"\xfe\x00\x00\x02\x00"
_TEXT_COLUMN = b"\x03def" + bytes(5) + b"\x0c" + struct.pack("<HIBHB", 45, 80, 253, 0, 0) + bytes(2)


@dataclass(slots=True)
class Wire:
    """One client, in packets. `received` has all that it sent."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    received: bytearray = field(default_factory=bytearray)
    sequence: int = 0

    def send(self, payload: bytes) -> None:
        self.writer.write(struct.pack("<I", len(payload))[:3] + bytes([self.sequence]) + payload)
        self.sequence = (self.sequence + 1) % 256

    async def receive(self) -> bytes:
        header = await self.reader.readexactly(4)
        payload = await self.reader.readexactly(int.from_bytes(header[:3], "little"))
        self.sequence = (header[3] + 1) % 256
        self.received += header + payload
        return payload

    async def let_in(self) -> None:
        """Whoever it is."""
        self.greet("mysql_native_password")
        await self.receive()
        self.send(OK)

    def greet(self, plugin: str) -> None:
        """Without TLS among what it can do."""
        able = (CLIENT.CAPABILITIES & ~CLIENT.SSL) & 0xFFFFFFFF
        self.send(
            b"\x0a8.4.0-scripted\0"
            + struct.pack("<I", 7)
            + SALT[:8]
            + b"\0"
            + struct.pack("<HBHHB", able & 0xFFFF, 45, 2, able >> 16, 21)
            + bytes(10)
            + SALT[8:]
            + b"\0"
            + plugin.encode()
            + b"\0"
        )

    async def answer(
        self,
        special: Callable[[bytes], bytes | None] = lambda _: None,
        facts: Mapping[str, str] | None = None,
    ) -> None:
        """Every command: with what `special` says, else as if there were no rows anywhere.

        `facts` are the server's variables.
        """
        while True:
            command = await self.receive()
            if (given := special(command)) is not None:
                self.send(given)
            elif command.startswith(b"\x03SHOW"):
                rows = [_text(name) + _text(value) for name, value in (facts or {}).items()]
                for packet in (b"\x02", _TEXT_COLUMN, _TEXT_COLUMN, _EOF, *rows, _EOF):
                    self.send(packet)
            elif command[0] == COMMAND.COM_STMT_PREPARE:
                self.send(b"\x00" + struct.pack("<IHHBH", 1, 1, 0, 0, 0))
                self.send(_TEXT_COLUMN)
                self.send(_EOF)
            elif command[0] != COMMAND.COM_STMT_CLOSE:
                self.send(OK)


def _text(text: str) -> bytes:
    return bytes([len(text)]) + text.encode()


@asynccontextmanager
async def scripted(
    script: Callable[[Wire], Awaitable[Any]],
) -> AsyncIterator[tuple[DatabaseTarget, list[Wire]]]:
    """Where to connect, and the clients there were."""
    wires: list[Wire] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        wires.append(Wire(reader, writer))
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            await script(wires[-1])
            # What the client may still say.
            wires[-1].received += await reader.read()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield (
            DatabaseTarget(
                connection_id=None,
                name="scripted",
                connection_type="mysql",
                host="127.0.0.1",
                port=server.sockets[0].getsockname()[1],
                database="d",
                username="u",
                password=PASSWORD,
                min_pool_size=1,
                max_pool_size=1,
            ),
            wires,
        )
