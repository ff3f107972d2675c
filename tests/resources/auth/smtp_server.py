"""A mail server for tests: just enough of SMTP, and it can refuse."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class SmtpServer:
    """Keeps what it receives. `refuse` is a command (`AUTH`, `RCPT`, `DATA`) answered with 550."""

    def __init__(self) -> None:
        self.port = 0
        self.refuse = ""
        self.commands: list[str] = []
        self.mails: list[str] = []
        self.arrived = asyncio.Event()
        self.hung_up = asyncio.Event()

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async def say(line: str) -> None:
            writer.write(f"{line}\r\n".encode())
            await writer.drain()

        await say("220 test")
        while line := (await reader.readline()).decode().strip():
            verb = line.split(" ")[0].split(":")[0].upper()
            self.commands.append(verb)
            if verb == self.refuse:
                await say("550 no")
            elif verb == "EHLO":
                await say("250-test")
                await say("250 AUTH PLAIN")
            elif verb == "AUTH":
                await say("235 ok")
            elif verb == "DATA":
                await say("354 go")
                self.mails.append((await reader.readuntil(b"\r\n.\r\n")).decode())
                await say("250 ok")
                self.arrived.set()
            elif verb == "QUIT":
                await say("221 bye")
                break
            else:
                await say("250 ok")
        writer.close()
        self.hung_up.set()


@asynccontextmanager
async def smtp_server() -> AsyncIterator[SmtpServer]:
    server = SmtpServer()
    listener = await asyncio.start_server(server.talk, "127.0.0.1", 0)
    server.port = listener.sockets[0].getsockname()[1]
    async with listener:
        yield server
