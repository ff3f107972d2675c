"""What ClickHouse's HTTP interface answers: rows as they come, or why there are none."""

import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from json import loads
from typing import Any, Final

import httpx

from sinas.databases.base import (
    DatabaseTarget,
    Limits,
    ReadOnlyError,
    StatementError,
    UnreachableError,
)
from sinas.databases.clickhouse_values import row_reader
from sinas.databases.told import MAX_RESULT_BYTES, out_of_reach, timed_out, too_large

FORMAT: Final = "JSONCompactEachRowWithNamesAndTypes"
_MAX_ERROR_BYTES = 2**16
_MAX_TOLD = 2000
_EXCEPTION: Final = re.compile(r"Code: (\d+)\. (?:DB::Exception: )?(.*)", re.DOTALL)
# What newer servers put around an exception in the middle of an answer, and what all add to it.
_AROUND: Final = re.compile(r"\n\d+ \w+\s*__exception__\s*\Z|\s*\(version [^()]*(?:\(.*?\)\s*)?\)")
_UNREACHABLE_CODES: Final = frozenset(
    # Too many queries; no user, wrong or no password, address not allowed, no authentication.
    [202, 192, 193, 194, 195, 516]
)
_TIMEOUT_CODE: Final = 159
_READ_ONLY_CODE: Final = 164


class AnswerError(Exception):
    """ClickHouse's own exception. `code` is its number, 0 where it tells none."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


async def check_begun(response: httpx.Response) -> None:
    """Refuse an answer that is an error, in another format, or not ClickHouse's.

    Raises:
        AnswerError: ClickHouse tells of an error.
        StatementError: The statement chose a format itself.
        UnreachableError: Something else answers there.
    """
    is_clickhouse = any(name.startswith("x-clickhouse-") for name in response.headers)
    if response.status_code != httpx.codes.OK:
        text = await _beginning(response)
        if not is_clickhouse and _EXCEPTION.search(text) is None:
            raise UnreachableError(f"it answers {response.status_code}, and not as ClickHouse does")
        raise _answer_error(text, response.headers.get("x-clickhouse-exception-code"))
    if not is_clickhouse:
        raise UnreachableError("what answers there is not ClickHouse's HTTP interface")
    if response.headers.get("x-clickhouse-format", FORMAT) != FORMAT:
        raise StatementError("FORMAT cannot be chosen here; leave it out of the statement.")


async def read_rows(
    response: httpx.Response, count: int
) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
    """Columns and up to `count` rows; what follows is not read.

    Raises:
        AnswerError: ClickHouse met an error after it had begun to answer.
        StatementError: The result is too large.
        UnreachableError: The answer breaks off.
    """
    columns: list[str] = []
    rows: list[tuple[Any, ...]] = []
    async with aclosing(_lines(response)) as lines:
        # The first line holds names, the second types.
        read: Callable[[bytes], Any] = loads
        number = 0
        async for line in lines:
            try:
                row = read(line)
            except ValueError:
                # What tells of an error, or half a row that it follows.
                raise await _broken(line, lines) from None
            if number == 0:
                columns = row
            elif number == 1:
                read = row_reader(row)
            else:
                rows.append(row)
                if len(rows) >= count:
                    break
            number += 1
    return tuple(columns), rows


async def _lines(response: httpx.Response) -> AsyncGenerator[bytes]:
    parts: list[bytes] = []
    size = 0
    try:
        async for chunk in response.aiter_raw():
            size += len(chunk)
            if size > MAX_RESULT_BYTES:
                raise too_large()
            first, *others = chunk.split(b"\n")
            parts.append(first)
            for other in others:
                yield b"".join(parts)
                parts = [other]
    except httpx.RemoteProtocolError:
        # A server may break off behind the exception it wrote.
        yield b"".join([*parts, b" "])
        raise
    if any(parts):
        yield b"".join(parts)


async def _broken(line: bytes, lines: AsyncIterator[bytes]) -> Exception:
    pieces = [line]
    size = len(line)
    try:
        async for following in lines:
            pieces.append(following)
            size += len(following)
            if size > _MAX_ERROR_BYTES:
                break
    except httpx.RemoteProtocolError:
        pass
    text = b"\n".join(pieces)[-_MAX_ERROR_BYTES:].decode(errors="replace")
    if _EXCEPTION.search(text) is None:
        return UnreachableError("its answer broke off")
    return _answer_error(text, None)


async def _beginning(response: httpx.Response) -> str:
    held = b""
    async for chunk in response.aiter_raw():
        held += chunk
        if len(held) > _MAX_ERROR_BYTES:
            break
    return held[:_MAX_ERROR_BYTES].decode(errors="replace")


def _answer_error(text: str, code: str | None) -> AnswerError:
    found = _EXCEPTION.search(text)
    number = int(code) if code is not None and code.isdigit() else 0
    if found is None:
        return AnswerError(number, text.strip()[:_MAX_TOLD])
    told = _AROUND.sub("", found.group(2)).strip()
    while (again := _EXCEPTION.match(told)) is not None:
        told = again.group(2)
    return AnswerError(number or int(found.group(1)), told[:_MAX_TOLD])


def translated(error: AnswerError, target: DatabaseTarget, limits: Limits) -> Exception:
    """The error of ours that means the same."""
    if error.code == _TIMEOUT_CODE:
        return timed_out(limits)
    if error.code == _READ_ONLY_CODE:
        return ReadOnlyError(error.message)
    if error.code in _UNREACHABLE_CODES:
        return UnreachableError(out_of_reach(target, error.message))
    return StatementError(error.message)
