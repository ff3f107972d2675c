"""A mail server in a process of its own: aiosmtpd, told by its arguments how to misbehave.

Prints one JSON line when it listens, and one for each mail it took. Recipients decide what
happens: `refused@…` is refused for good, `later@…` for now, `slow@…` waits, `gone@…` hangs up.
So do texts: "spam" is refused, and "too large" as a mail of too many bytes.
"""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any

USER, PASSWORD = "sinas", "hunter2-canary"


@dataclass
class MailServer:
    """The process, and what it took."""

    port: int
    mails: list[dict[str, Any]] = field(default_factory=list)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)

    def settings(self, **other: Any) -> dict[str, Any]:
        """The group `mail` of an installation that uses it."""
        return {"host": "127.0.0.1", "port": self.port, "domain": "sinas.example", **other}

    async def next(self) -> dict[str, Any]:
        """The oldest mail that was not looked at: `sender`, `recipients`, `raw`, and so on."""
        async with asyncio.timeout(10):
            while not self.mails:
                self.arrived.clear()
                await self.arrived.wait()
        return self.mails.pop(0)

    async def next_message(self) -> EmailMessage:
        """The oldest one, as a mail program reads it."""
        raw = base64.b64decode((await self.next())["raw"])
        return message_from_bytes(raw, policy=policy.default)


@asynccontextmanager
async def mail_server(*, certificate: Path | None = None) -> AsyncIterator[MailServer]:
    """With a certificate, it takes mail only over TLS and from whom it knows."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-W", "ignore", __file__, *([str(certificate)] if certificate else [])),
        stdout=asyncio.subprocess.PIPE,
        limit=2**26,
    )
    assert process.stdout is not None
    server = MailServer(json.loads(await process.stdout.readline())["port"])

    async def listen(lines: asyncio.StreamReader) -> None:
        async for line in lines:
            server.mails.append(json.loads(line))
            server.arrived.set()

    async with asyncio.TaskGroup() as group:
        listening = group.create_task(listen(process.stdout))
        try:
            yield server
        finally:
            listening.cancel()
            process.kill()
            await process.wait()


class _Handler:
    async def handle_RCPT(  # noqa: N802 - aiosmtpd's name
        self, server: Any, session: Any, envelope: Any, address: str, options: Any
    ) -> str:
        match address.partition("@")[0]:
            case "refused":
                return f"550 5.1.1 no such user here, said {USER} at mx7.internal"
            case "later":
                return "451 4.7.1 greylisted"
            case "slow":
                await asyncio.sleep(60)
            case "gone":
                server.transport.abort()
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802
        if b"spam" in envelope.content:
            return "554 5.7.1 this looks like spam"
        if b"too large" in envelope.content:
            return "552 5.3.4 message too big for mx7.internal"
        told = {
            "sender": envelope.mail_from,
            "recipients": envelope.rcpt_tos,
            "is_encrypted": session.ssl is not None,
            "user": session.auth_data,
            "raw": base64.b64encode(envelope.content).decode(),
        }
        print(json.dumps(told), flush=True)  # noqa: T201 - how the parent learns it
        return "250 OK"


async def _serve(certificate: str | None) -> None:
    from aiosmtpd.smtp import SMTP, AuthResult

    def authenticate(server: Any, session: Any, envelope: Any, mechanism: str, data: Any) -> Any:
        is_known = (data.login, data.password) == (USER.encode(), PASSWORD.encode())
        return AuthResult(success=is_known, handled=False, auth_data=USER if is_known else None)

    closed: dict[str, Any] = {}
    if certificate is not None:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(certificate)
        closed = {
            "tls_context": tls,
            "require_starttls": True,
            "auth_required": True,
            "authenticator": authenticate,
        }
    loop = asyncio.get_running_loop()
    listener = await loop.create_server(
        lambda: SMTP(_Handler(), decode_data=False, hostname="mail.test", **closed),
        "127.0.0.1",
        0,
    )
    port = listener.sockets[0].getsockname()[1]
    print(json.dumps({"port": port}), flush=True)  # noqa: T201 - how the parent learns it
    await listener.serve_forever()


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1] if len(sys.argv) > 1 else None))
