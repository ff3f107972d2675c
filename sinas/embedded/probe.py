"""Asking whether something answers, without an HTTP library in the supervisor."""

import asyncio
import json
from collections.abc import Iterator
from urllib.parse import urlsplit

from sinas.embedded.errors import StartupError
from sinas.kit.json_types import JsonObject

_LARGEST_ANSWER = 1_048_576


async def get(host: str, port: int, path: str, seconds: float = 5.0) -> tuple[int, str]:
    """One GET over plain HTTP.

    Returns:
        Status and body; status 0 where nobody answered in time.
    """
    try:
        async with asyncio.timeout(seconds):
            reader, writer = await asyncio.open_connection(host, port)
            try:
                request = f"GET {path} HTTP/1.0\r\nHost: {host}:{port}\r\nConnection: close\r\n\r\n"
                writer.write(request.encode())
                answer = await reader.read(_LARGEST_ANSWER)
                while more := await reader.read(_LARGEST_ANSWER):
                    answer += more
            finally:
                writer.close()
        head, _, body = answer.partition(b"\r\n\r\n")
        return int(head.split(b" ", 2)[1]), body.decode(errors="replace")
    except (OSError, TimeoutError, ValueError, IndexError):
        return 0, ""


async def wait_until_ok(host: str, port: int) -> None:
    """Return once `/health` answers 200. The caller sets the time limit."""
    while True:
        status, _ = await get(host, port, "/health")
        if status == 200:
            return
        await asyncio.sleep(0.05)


def explain_health(status: int, body: str) -> str:
    """What `/health` complains about, in one sentence."""
    if status == 0:
        return "the API does not answer yet."
    try:
        report = json.loads(body)
        failing = [f"{name}: {state}" for name, state in _failing(report)]
    except (ValueError, AttributeError):
        failing = []
    return f"/health answers {status} ({'; '.join(failing) or body[:300]})."


def _failing(report: JsonObject) -> Iterator[tuple[str, str]]:
    for name, part in report.items():
        if name == "status":
            continue
        if isinstance(part, dict) and part.get("status") == "unhealthy":
            warnings = part.get("warnings")
            said = warnings if isinstance(warnings, list) else []
            yield name, ", ".join(str(warning) for warning in said) or "unhealthy"
        elif part in ("unhealthy", 0):
            yield name.replace("_", " "), "none" if part == 0 else str(part)


async def check_reachable(step: str, variable: str, url: str) -> None:
    """Refuse an address at which nobody listens.

    Raises:
        StartupError: Nobody does. The message names host and port, never the password.
    """
    parts = urlsplit(url)
    default = 6379 if parts.scheme.startswith("redis") else 5432
    if not parts.hostname:
        return  # a Unix socket in one of several spellings; the first use will tell
    port = parts.port or default
    try:
        async with asyncio.timeout(5):
            _, writer = await asyncio.open_connection(parts.hostname, port)
        writer.close()
    except (OSError, TimeoutError) as error:
        raise StartupError(
            step,
            f"nobody answers at {parts.hostname} port {port} ({str(error) or 'no answer in 5 s'}).",
            f"Start it or correct {variable}; unset it to use the embedded one.",
        ) from error
