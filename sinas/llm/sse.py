"""Server-sent events to payloads, for bytes that arrive in arbitrary pieces."""

from typing import Final

_MAX_LINE_BYTES: Final = 16 * 1024 * 1024


class SseOverflowError(ValueError):
    """A line grew beyond 16 MiB: whatever this is, it is not an event stream."""


class SseDecoder:
    """Yields the `data` of each event (WHATWG HTML, 9.2.6), LF and CRLF line ends.

    Differences to the standard, all seen in the wild: an event at the end of the stream counts
    without its blank line, and a line `error: {…}` (llama.cpp) counts as data. Event names,
    ids and comments are of no use here and dropped.
    """

    __slots__ = ("_data", "_rest")

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[bytes] = []

    def feed(self, piece: bytes) -> list[bytes]:
        """The payloads completed by `piece`.

        Raises:
            SseOverflowError: See there.
        """
        lines = (self._rest + piece if self._rest else piece).split(b"\n")
        self._rest = lines.pop()
        if len(self._rest) > _MAX_LINE_BYTES:
            raise SseOverflowError
        return self._take(lines)

    def end(self) -> list[bytes]:
        """The payload of an event the stream ended in, if there is one."""
        lines = [self._rest, b""]
        self._rest = b""
        return self._take(lines)

    def _take(self, lines: list[bytes]) -> list[bytes]:
        data = self._data
        payloads: list[bytes] = []
        for raw in lines:
            line = raw[:-1] if raw.endswith(b"\r") else raw
            if line.startswith(b"data:"):
                data.append(line[6:] if line.startswith(b"data: ") else line[5:])
            elif not line:
                if data:
                    payloads.append(data[0] if len(data) == 1 else b"\n".join(data))
                    data.clear()
            elif line.startswith(b"error: {"):
                data.append(b'{"error":' + line[7:] + b"}")
        return payloads
