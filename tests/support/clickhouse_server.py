"""ClickHouse's HTTP interface before the real engine, which comes as a library (chDB).

The engine is ClickHouse's own: types, limits, read-only mode, system tables and errors are its
answers. What is ours is only how a request reaches it: credentials, settings and parameters, the
answer's headers, an exception in the middle of it, and `KILL QUERY` by the id that the request
gave. Run as a program it serves until it is ended:

    python -m tests.support.clickhouse_server FOLDER PORT TLS_PORT CERTIFICATE KEY
"""

from __future__ import annotations

import base64
import importlib.machinery
import importlib.util
import json
import re
import ssl
import sys
import threading
from email.parser import BytesParser
from email.policy import HTTP
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import parse_qsl, urlsplit

from typing_extensions import override

# By name and password: what the profile of the user sets.
USERS = {
    ("default", "hunter2"): {},
    ("limited", "hunter2"): {"readonly": "1"},
    ("tuning", "hunter2"): {"readonly": "2"},
}
_NOT_SETTINGS = {"database", "default_format", "query_id", "wait_end_of_query"}
_KILL = re.compile(r"KILL QUERY WHERE query_id = \{id:String\} ASYNC")
_FORMAT = re.compile(r"\bFORMAT\s+(\w+)\s*$", re.IGNORECASE)
_TAG = "kdbzvbujnyqrwfxa"
_STATUS = {"62": 400, "81": 404, "60": 404, "164": 403, "159": 408, "516": 403}


def _engine() -> Any:
    """The library's own module: its package would want pandas and pyarrow beside it."""
    package = importlib.util.find_spec("chdb")
    assert package is not None, "chdb-core-lite is not installed; run scripts/setup dev"
    assert package.submodule_search_locations is not None
    path = str(Path(package.submodule_search_locations[0]) / "_chdb.abi3.so")
    loader = importlib.machinery.ExtensionFileLoader("_chdb", path)
    spec = importlib.util.spec_from_file_location("_chdb", path, loader=loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


class _Request:
    """One request, taken apart."""

    def __init__(self, handler: _Handler) -> None:
        length = int(handler.headers["Content-Length"])
        kind = handler.headers["Content-Type"].encode()
        body = b"Content-Type: " + kind + b"\r\n\r\n" + handler.rfile.read(length)
        fields: dict[str, str] = {}
        for part in BytesParser(policy=HTTP).parsebytes(body).iter_parts():
            name = str(part.get_param("name", header="content-disposition"))
            text: Any = part.get_payload(decode=True)
            fields[name] = text.decode()
        given = dict(parse_qsl(urlsplit(handler.path).query, keep_blank_values=True))
        self.sql = fields.pop("query")
        self.parameters = {name.removeprefix("param_"): each for name, each in fields.items()}
        self.database = given["database"]
        self.format = given.get("default_format", "TabSeparated")
        self.query_id = given.get("query_id", "")
        self.is_whole = given.get("wait_end_of_query") == "1"
        self.settings = {name: each for name, each in given.items() if name not in _NOT_SETTINGS}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    engine: ClassVar[Any]
    folder: ClassVar[str]
    changing: ClassVar[threading.Lock]

    def do_POST(self) -> None:
        request = _Request(self)
        profile = self._profile()
        if profile is None:
            message = "Authentication failed: password is incorrect, or there is no such user"
            self._refuse(f"Code: 516. DB::Exception: {message}. (AUTHENTICATION_FAILED)")
            return
        connection = self.engine.connect(self.folder)
        try:
            self._prepare(connection, request, profile)
            if request.is_whole:
                self._whole(connection, request)
            else:
                self._streamed(connection, request)
        except RuntimeError as error:
            self._refuse(str(error))
        except OSError:
            # The client is gone.
            self.close_connection = True
        finally:
            connection.close()

    def _profile(self) -> dict[str, str] | None:
        given = self.headers.get("Authorization", "").removeprefix("Basic ")
        name, _, password = base64.b64decode(given).decode().partition(":")
        return USERS.get((name, password))

    def _prepare(self, connection: Any, request: _Request, profile: dict[str, str]) -> None:
        # The engine gives ids of its own; this is how one is found again.
        connection.query(f"SET log_comment = {_quoted(request.query_id)}")
        if profile:
            connection.query(f"SET {_assigned(profile)}")
        connection.query(f"USE `{request.database}`")
        if request.settings:
            connection.query(f"SET {_assigned(request.settings)}")
        if _KILL.fullmatch(request.sql):
            request.sql = "KILL QUERY WHERE Settings['log_comment'] = {id:String} ASYNC"

    def _whole(self, connection: Any, request: _Request) -> None:
        # The engine counts rows for all together, so changes go one after another.
        with self.changing:
            before = self._inserted()
            result = connection.query(request.sql, request.format, params=request.parameters)
            written = self._inserted() - before
        self._begin(request, {"X-ClickHouse-Summary": json.dumps({"written_rows": str(written)})})
        self._chunk(_body(result))
        self._end()

    def _inserted(self) -> int:
        counting = self.engine.connect(self.folder)
        try:
            sql = "SELECT sum(value) FROM system.events WHERE event = 'InsertedRows'"
            return int(counting.query(sql, "TSV").bytes())
        finally:
            counting.close()

    def _streamed(self, connection: Any, request: _Request) -> None:
        asked = (request.sql, request.format)
        stream: Any = None
        try:
            stream = connection.send_query(*asked, params=request.parameters)
            piece = connection.streaming_fetch_result(stream)
        except RuntimeError as error:
            if "Streaming query is not supported" not in str(error):
                raise
            piece = None
        if piece is None or not piece.rows_read():
            # What is no SELECT has no stream, and a stream without rows has no names of columns.
            body = _body(connection.query(*asked, params=request.parameters))
            self._begin(request, {})
            self._chunk(body)
            self._end()
            return
        self._begin(request, {"X-ClickHouse-Exception-Tag": _TAG})
        try:
            self._chunk(_body(piece))
            while (piece := connection.streaming_fetch_result(stream)).rows_read():
                # Names and types come again before every block, as they do not over HTTP.
                self._chunk(_body(piece).split(b"\n", 2)[2])
            self._end()
        except RuntimeError as error:
            text = str(error)
            told = f"{text}\n{len(text)} {_TAG}"
            self._chunk(f"\r\n__exception__\r\n{_TAG}\r\n{told}\r\n__exception__\r\n".encode())
            # Without the last chunk: so does ClickHouse break off.
            self.close_connection = True
        except OSError:
            connection.streaming_cancel_query(stream)
            raise

    def _begin(self, request: _Request, headers: dict[str, str]) -> None:
        chosen = _FORMAT.search(request.sql)
        self.send_response(200)
        self.send_header("X-ClickHouse-Query-Id", request.query_id)
        self.send_header("X-ClickHouse-Format", chosen.group(1) if chosen else request.format)
        self.send_header("Transfer-Encoding", "chunked")
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def _chunk(self, data: bytes) -> None:
        if data:
            self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")

    def _end(self) -> None:
        self.wfile.write(b"0\r\n\r\n")

    def _refuse(self, text: str) -> None:
        found = re.match(r"Code: (\d+)", text)
        code = found.group(1) if found else "1002"
        body = f"{text} (version 26.5.1.1)\n".encode()
        self.send_response(_STATUS.get(code, 500))
        self.send_header("X-ClickHouse-Exception-Code", code)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    @override
    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: a test that fails says enough."""


def _body(result: Any) -> bytes:
    return bytes(result.bytes() or b"")


def _assigned(settings: dict[str, str]) -> str:
    return ", ".join(f"{name} = {_quoted(text)}" for name, text in settings.items())


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    context: ssl.SSLContext | None = None

    @override
    def finish_request(self, request: Any, client_address: Any) -> None:
        # In the request's own thread: one that never shakes hands keeps nobody waiting.
        if self.context is not None:
            request = self.context.wrap_socket(request, server_side=True)
        super().finish_request(request, client_address)

    @override
    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that leave are part of the tests."""


def serve(folder: str, port: int, tls_port: int, *certificate: str) -> None:
    """Serve until the process is ended."""
    _Handler.engine = _engine()
    _Handler.folder = folder
    _Handler.changing = threading.Lock()
    # Kept open: the engine ends with its last connection.
    opened = _Handler.engine.connect(folder)
    encrypted = _Server(("127.0.0.1", tls_port), _Handler)
    encrypted.context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    encrypted.context.load_cert_chain(*certificate)
    threading.Thread(target=encrypted.serve_forever, daemon=True).start()
    _Server(("127.0.0.1", port), _Handler).serve_forever()
    opened.close()


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), *sys.argv[4:])
