"""A scripted LLM server over real HTTP, for tests (in process) and benchmarks (standalone).

In process: `async with LlmUpstream() as upstream: upstream.url`. Standalone:
`python -m tests.support.llm_upstream --port 9001`; script it with POST /_script
`{"model": …, "answers": […], "by": "call"|"round"|"reply"}`, read what it got with GET /_requests,
forget both with POST /_reset, end a silence with POST /_release.

| route | wire |
|---|---|
| POST …/chat/completions | OpenAI, also Mistral's and every compatible server's |
| POST …/messages | Anthropic |
| POST /api/chat, /api/show | Ollama |

Models without a script go by name: `echo`, `words-50`, `words-50-slow`, `tool-echo`; any other
name is answered 404. It shares its cores with what it measures, so there are no tasks and no
framework: a protocol per connection, an answer compiled once, one write per chunk.
"""

import argparse
import asyncio
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Self, cast

import httptools
import orjson
import uvloop
from typing_extensions import override

from tests.support.llm_script import (
    Answer,
    By,
    Script,
    answer_from_json,
    by_name,
    counted,
    replies_in,
    round_of,
)
from tests.support.llm_wires import Mark, Step, Wire, compile_answer, error_body, response

KEPT_REQUESTS = 5000
# Of the loop: a connection that was accepted is there after three, an aborted one gone after one.
_CLOSING_TURNS = 5


@dataclass(slots=True, eq=False)
class Recorded:
    """One model request as it arrived.

    Attributes:
        connection: Number of the TCP connection, to see keep-alive.
        finished: Set when the whole answer was written.
        disconnected: Set when the client went away before that.
    """

    wire: Wire
    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    connection: int
    finished: asyncio.Event = field(default_factory=asyncio.Event)
    disconnected: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def model(self) -> str:
        return str(self.body.get("model", ""))

    def to_json(self) -> dict[str, Any]:
        return {
            "wire": self.wire,
            "path": self.path,
            "headers": self.headers,
            "body": self.body,
            "connection": self.connection,
            "finished": self.finished.is_set(),
            "disconnected": self.disconnected.is_set(),
        }


class LlmUpstream:
    """The server. Port 0 takes a free one; `url` has no path and no trailing slash."""

    def __init__(self, *, host: str = "127.0.0.1", port: int = 0) -> None:
        self.requests: deque[Recorded] = deque(maxlen=KEPT_REQUESTS)
        self.arrived = asyncio.Event()  # set by every model request
        self.connections = 0
        self.open: set[_Connection] = set()
        self._host = host
        self._port = port
        self._scripts: dict[str, Script] = {}
        self._used: dict[str, int] = {}
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: _Connection(self), self._host, self._port, backlog=1024
        )
        self._port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for _turn in range(_CLOSING_TURNS):
            for connection in tuple(self.open):
                connection.abort()
            await asyncio.sleep(0)
        await self._server.wait_closed()

    @property
    def url(self) -> str:
        return f"http://{self._host}:{self._port}"

    @property
    def openai_url(self) -> str:
        """What an OpenAI-compatible provider takes as its endpoint."""
        return f"{self.url}/v1"

    def script(self, model: str, answers: Iterable[Answer], *, by: By = "call") -> None:
        """Set the answers of a model from now on; see `Script` for `by`."""
        self._scripts[model] = Script(tuple(answers), by)
        self._used[model] = 0

    @property
    def is_holding(self) -> bool:
        """Whether a stream has fallen silent: one that has not will not notice `release`."""
        return any(connection.is_held for connection in self.open)

    def release(self) -> None:
        """Let every stream that fell silent (`hold_after`) go on."""
        for connection in tuple(self.open):
            connection.release()

    def reset(self) -> None:
        """Forget scripts and requests."""
        self._scripts.clear()
        self._used.clear()
        self.requests.clear()

    def answer(self, wire: Wire, body: dict[str, Any]) -> tuple[Step, ...]:
        """The steps that answer this request."""
        model = str(body.get("model", ""))
        answer = self._pick(model, body)
        if answer is None:
            message = f"The model `{model}` does not exist"
            return (response(404, error_body(wire, 404, message)),)
        options = body.get("stream_options")
        if answer.refuse_stream_options and options is not None:
            message = "Unrecognized request argument supplied: stream_options"
            return (response(400, error_body(wire, 400, message)),)
        return compile_answer(
            wire,
            model,
            counted(answer, body),
            stream=bool(body.get("stream", wire == "ollama")),
            with_usage=bool(options and options.get("include_usage")),
        )

    def _pick(self, model: str, body: dict[str, Any]) -> Answer | None:
        script = self._scripts.get(model)
        if script is None:
            return by_name(model, body)
        if script.by == "round":
            number = round_of(body)
        elif script.by == "reply":
            number = replies_in(body)
        else:
            number = self._used[model]
            self._used[model] += 1
        return script.answers[min(number, len(script.answers) - 1)]

    def control(self, method: str, path: str, raw: bytes) -> bytes:
        """Answer anything that is not a model request."""
        match method, path:
            case "GET", "/_requests":
                return response(200, orjson.dumps([r.to_json() for r in self.requests]))
            case "POST", "/_script":
                return self._control_script(raw)
            case "POST", "/_reset":
                self.reset()
            case "POST", "/_release":
                self.release()
            case "GET", "/health":
                pass
            case "GET", "/v1/models":
                names = ("echo", "words-50", "words-50-slow", "tool-echo", *self._scripts)
                return response(200, orjson.dumps({"data": [{"id": n} for n in names]}))
            case "POST", "/api/show":
                known = {"capabilities": ["completion", "tools"], "template": "{{ .Tools }}"}
                return response(200, orjson.dumps(known))
            case _:
                message = f"No route {method} {path}"
                return response(404, error_body("openai", 404, message))
        return response(200, b"{}")

    def _control_script(self, raw: bytes) -> bytes:
        try:
            data = orjson.loads(raw)
            answers = [answer_from_json(answer) for answer in data["answers"]]
            self.script(data["model"], answers, by=data.get("by", "call"))
        except (ValueError, KeyError, TypeError) as error:
            return response(400, error_body("openai", 400, f"Bad script: {error!r}"))
        return response(200, b"{}")


def _wire_of(method: str, path: str) -> Wire | None:
    if method != "POST":
        return None
    if path.endswith("/chat/completions"):
        return "openai"
    if path.endswith("/messages"):
        return "anthropic"
    return "ollama" if path == "/api/chat" else None


class _Connection(asyncio.Protocol):
    """One TCP connection: parses requests and plays answers by loop callbacks, without tasks."""

    def __init__(self, upstream: LlmUpstream) -> None:
        self._upstream = upstream
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._number = 0
        self._reset_request()
        self._steps: Iterator[Step] = iter(())
        self._current: Recorded | None = None
        self._timer: asyncio.Handle | None = None
        self.is_held = False
        self._paused = False

    def _reset_request(self) -> None:
        self._url = b""
        self._headers: dict[str, str] = {}
        self._body = bytearray()

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # cast: uvloop's transports are not subclasses of asyncio's.
        self._transport = cast(asyncio.Transport, transport)
        self._upstream.connections += 1
        self._number = self._upstream.connections
        self._upstream.open.add(self)

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._upstream.open.discard(self)
        self._transport = None
        if self._timer is not None:
            self._timer.cancel()
        if self._current is not None:
            self._current.disconnected.set()
            self._current = None

    @override
    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self.abort()

    @override
    def pause_writing(self) -> None:
        self._paused = True

    @override
    def resume_writing(self) -> None:
        self._paused = False
        self._play()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def release(self) -> None:
        if self.is_held:
            self.is_held = False
            self._play()

    # httptools callbacks

    def on_message_begin(self) -> None:
        self._reset_request()

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        method = self._parser.get_method().decode()
        path = self._url.decode().partition("?")[0]
        wire = _wire_of(method, path)
        if wire is None:
            self._steps = iter((self._upstream.control(method, path, bytes(self._body)),))
        else:
            self._steps = iter(self._model_request(wire, path))
        self._play()

    def _model_request(self, wire: Wire, path: str) -> tuple[Step, ...]:
        try:
            body = orjson.loads(self._body)
        except ValueError:
            return (response(400, error_body(wire, 400, "The body is not JSON")),)
        recorded = Recorded(wire, path, self._headers, body, self._number)
        self._current = recorded
        self._upstream.requests.append(recorded)
        self._upstream.arrived.set()
        return self._upstream.answer(wire, body)

    def _play(self) -> None:
        """Write until the answer waits, holds, is cut or ends."""
        self._timer = None
        transport = self._transport
        if transport is None or self.is_held or self._is_blocked():
            return
        for step in self._steps:
            if isinstance(step, bytes):
                transport.write(step)
                if self._is_blocked():
                    return
            elif step is Mark.HOLD:
                self.is_held = True
                return
            elif isinstance(step, Mark):
                transport.close()
                return
            else:
                self._timer = self._later(step, self._play)
                return
        if self._current is not None:
            self._current.finished.set()
            self._current = None

    def _is_blocked(self) -> bool:
        return self._paused

    def _later(self, seconds: float, callback: Callable[[], None]) -> asyncio.Handle:
        if seconds:
            return self._loop.call_later(seconds, callback)
        return self._loop.call_soon(callback)


async def _serve(host: str, port: int) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    async with LlmUpstream(host=host, port=port) as upstream:
        print(upstream.url, flush=True)  # noqa: T201 - the caller reads the port here
        await stop.wait()


def main() -> None:
    """Serve until SIGINT or SIGTERM; prints the base URL."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    arguments = parser.parse_args()
    uvloop.run(_serve(arguments.host, arguments.port))


if __name__ == "__main__":
    main()
