"""Snowflake's wire before an emulator of Snowflake (fakesnow, which is DuckDB underneath).

SQL, its types, errors and INFORMATION_SCHEMA are the emulator's. What is ours is what it leaves
out: passwords and keys, the name of the role, tokens that the connector insists on, results as JSON, describing without
running, time limits and aborting. It runs in the emulator's own environment, for that wants
another version of the connector:

    .venv/emulators/snowflake/bin/python -m tests.support.snowflake_server PORT
"""

from __future__ import annotations

import base64
import contextlib
import gzip
import importlib
import json
import sys
import threading
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import jwt
import uvicorn
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from fakesnow.dialect import parse_one
from fakesnow.statement_type import DDL, SELECT, statement_type_id
from snowflake.connector.errors import ProgrammingError
from sqlglot import exp
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

# The package has a function of this name, too.
server: Any = importlib.import_module("fakesnow.server")
# By name: the password, or the public key (PEM) that a test has put there.
USERS: dict[str, str] = {"SINAS": "hunter2"}
_DESCRIBED = (exp.Select, exp.Insert, exp.Update, exp.Delete, exp.Merge)
_stopped: dict[str, str] = {}
_running: dict[str, Any] = {}
_seen: list[dict[str, Any]] = []
# Tokens: of sessions whose warehouse has a limit of its own, and past their time.
_brief: set[str] = set()
_expired: set[str] = set()
_BRIEF_SECONDS = 0.2
_PART_ROWS = 2000
_parts: list[str] = []
_roles: dict[str, str] = {}


_WHY = {
    "000604": "SQL execution canceled",
    "000630": "Statement reached its statement or warehouse timeout of 0 second(s) and was canceled.",
}


async def login(request: Request) -> Response:
    """Who may enter, and the tokens of a session."""
    data = (await _body(request))["data"]
    _seen.append({"kind": "login", **data, "query": dict(request.query_params)})
    if not _is_known(data):
        return _refused("390100", "Incorrect username or password was specified.", "08001")
    answer = json.loads((await server.login_request(request)).body)
    answer["data"] |= {"masterToken": "master", "masterValidityInSeconds": 14400}
    if request.query_params.get("warehouse") == "BRIEF":
        _brief.add(answer["data"]["token"])
    _roles[answer["data"]["token"]] = (request.query_params.get("roleName") or "PUBLIC").upper()
    answer["data"] |= {"validityInSeconds": 3600, "sessionId": len(_seen)}
    return JSONResponse(answer)


def _is_known(data: dict[str, Any]) -> bool:
    user = str(data["LOGIN_NAME"]).upper()
    if data.get("AUTHENTICATOR") != "SNOWFLAKE_JWT":
        return USERS.get(user) == data.get("PASSWORD")
    try:
        key: Any = load_pem_public_key(USERS[user].encode())
        claims = jwt.decode(data["TOKEN"], key, algorithms=["RS256"])
    except (KeyError, ValueError, jwt.InvalidTokenError):
        return False
    return str(claims["sub"]).endswith(f".{user}")


async def query(request: Request) -> Response:
    """A statement, described or run; one that is stopped answers as Snowflake does."""
    body = await _body(request)
    request_id = request.query_params["requestId"]
    _seen.append({"kind": "query", "id": request_id, **body})
    token = server.to_token(request)
    if token in _expired:
        return _refused("390112", "Your session has expired. Please login again.", "08001")
    if body.get("describeOnly") and (kind := _kind_alone(body["sqlText"])) is not None:
        return JSONResponse({"success": True, "data": {"statementTypeId": kind, "rowtype": []}})
    session = server.sessions.get(token)
    seconds = (body.get("parameters") or {}).get("STATEMENT_TIMEOUT_IN_SECONDS")
    if token in _brief:
        seconds = _BRIEF_SECONDS
    timer = threading.Timer(float(seconds or 3600), _stop, (request_id, "000630"))
    timer.daemon = True
    timer.start()
    _running[request_id] = session
    _commit_before_structure(session, body["sqlText"])
    if body["sqlText"] == "SELECT CURRENT_ROLE()":
        # Roles are nothing to the emulator.
        _replace(request, body | {"sqlText": f"SELECT '{_roles[token]}'"})
    try:
        answer = json.loads((await server.query_request(request)).body)
    finally:
        timer.cancel()
        del _running[request_id]
    if (code := _stopped.pop(request_id, None)) is not None:
        return _refused(code, _WHY[code], "57014")
    return JSONResponse(_as_json(answer, str(request.base_url)))


def _replace(request: Request, body: dict[str, Any]) -> None:
    raw = json.dumps(body).encode()
    is_packed = request.headers.get("Content-Encoding") == "gzip"
    request._body = gzip.compress(raw) if is_packed else raw


def _commit_before_structure(session: Any, sql: str) -> None:
    """As Snowflake does; the emulator does so in some sessions alone."""
    with contextlib.suppress(ProgrammingError, RuntimeError):
        if statement_type_id(parse_one(sql)) == DDL:
            session._duck_conn.commit()


def _kind_alone(sql: str) -> int | None:
    """For what the emulator would run to describe it."""
    try:
        expression = parse_one(sql)
    except ProgrammingError:
        # The emulator says what is wrong.
        return None
    if isinstance(expression, _DESCRIBED):
        return None
    # Accounts that have no type of its own for CALL are the harder case.
    is_call = isinstance(expression, exp.Command) and expression.name.upper() == "CALL"
    if is_call or isinstance(expression, exp.Query):
        return int(SELECT)
    return int(statement_type_id(expression))


def _stop(request_id: str, code: str) -> None:
    if (session := _running.get(request_id)) is not None:
        _stopped[request_id] = code
        session._duck_conn.interrupt()


async def abort(request: Request) -> Response:
    """Stop a statement."""
    body = await _body(request)
    _seen.append({"kind": "abort", **body})
    _stop(body["requestId"], "000604")
    return JSONResponse({"success": True, "data": None})


async def renew(request: Request) -> Response:
    """Another token for a session whose own has expired."""
    old = (await _body(request))["oldSessionToken"]
    _expired.discard(old)
    token = f"{old}-renewed"
    server.sessions[token] = server.sessions.pop(old)
    data = {"sessionToken": token, "masterToken": "master", "sessionId": len(_seen)}
    data |= {"validityInSecondsST": 3600, "validityInSecondsMT": 14400}
    _seen.append({"kind": "renewal"})
    return JSONResponse({"success": True, "data": data})


async def expire(request: Request) -> Response:
    """For the tests: let every session's token be past its time."""
    _expired.update(server.sessions)
    return Response()


async def seen(request: Request) -> Response:
    """For the tests: what was asked for, and which statements run."""
    return JSONResponse(
        {"seen": _seen, "running": list(_running), "sessions": len(server.sessions)}
    )


async def user(request: Request) -> Response:
    """For the tests: a user and its public key."""
    USERS[request.path_params["name"]] = (await request.body()).decode()
    return Response()


async def other(request: Request) -> Response:
    """What nobody here expects is remembered, too."""
    _seen.append({"kind": "other", "path": request.url.path})
    return JSONResponse({"success": True, "data": None})


async def _body(request: Request) -> dict[str, Any]:
    raw = await request.body()
    if request.headers.get("Content-Encoding") == "gzip":
        raw = gzip.decompress(raw)
    found: dict[str, Any] = json.loads(raw)
    return found


def _refused(code: str, message: str, state: str) -> Response:
    data = {"errorCode": code, "sqlState": state}
    return JSONResponse({"success": False, "code": code, "message": message, "data": data})


def _as_json(answer: dict[str, Any], base: str) -> dict[str, Any]:
    """With the rows as texts, as Snowflake sends them where a session asks for JSON.

    Many rows come in parts, of which the first is in the answer itself.
    """
    data = answer.get("data") or {}
    if (coded := data.pop("rowsetBase64", None)) is not None:
        data["queryResultFormat"] = "json"
        rows = json.loads(base64.b64decode(coded) or b"[]")
        data["rowset"] = rows[:_PART_ROWS]
        if len(rows) > _PART_ROWS:
            starts = range(_PART_ROWS, len(rows), _PART_ROWS)
            data["chunks"] = [_part(rows[at : at + _PART_ROWS], base) for at in starts]
            data["chunkHeaders"] = {"x-part": "1"}
    data["returned"] = data.get("total")
    return answer


def _part(rows: list[Any], base: str) -> dict[str, Any]:
    # Rows alone, without the brackets of a list around them.
    text = json.dumps(rows)[1:-1]
    _parts.append(text)
    size = len(text)
    url = f"{base}parts/{len(_parts) - 1}"
    return {"url": url, "rowCount": len(rows), "uncompressedSize": size, "compressedSize": size}


async def part(request: Request) -> Response:
    """One part of a result."""
    assert request.headers["x-part"] == "1"
    return Response(_parts[int(request.path_params["number"])], media_type="application/json")


def _texts(table: Any, rowtype: Any) -> bytes:
    kinds = [each["type"] for each in rowtype]
    rows = zip(*(column.to_pylist() for column in table.columns), strict=True)
    return json.dumps(
        [[_text(each, kind) for each, kind in zip(row, kinds, strict=True)] for row in rows]
    ).encode()


def _text(value: Any, kind: str) -> str | None:  # noqa: PLR0911 - one way out for each kind
    match value:
        case None:
            return None
        case bool():
            return "1" if value else "0"
        case datetime():
            since = value.replace(tzinfo=value.tzinfo or UTC) - datetime(1970, 1, 1, tzinfo=UTC)
            epoch = Decimal(since // timedelta(microseconds=1)) / 1_000_000
            return f"{epoch:.9f}" + (" 1440" if kind == "timestamp_tz" else "")
        case date():
            return str((value - date(1970, 1, 1)).days)
        case time():
            return (
                f"{value.hour * 3600 + value.minute * 60 + value.second}.{value.microsecond:06d}000"
            )
        case bytes():
            return value.hex().upper()
        case _:
            return str(value)


def serve(port: int) -> None:
    """Serve until the process is ended."""
    # The emulator knows Arrow alone; its rows are taken before they become that.
    server.to_sf = _texts
    server.to_ipc = lambda texts: texts
    routes = [
        Route("/session/v1/login-request", login, methods=["POST"]),
        Route("/queries/v1/query-request", query, methods=["POST"]),
        Route("/queries/v1/abort-request", abort, methods=["POST"]),
        Route("/session", server.session, methods=["POST"]),
        Route("/session/token-request", renew, methods=["POST"]),
        Route("/parts/{number}", part),
        Route("/seen", seen),
        Route("/expire", expire, methods=["PUT"]),
        Route("/users/{name}", user, methods=["PUT"]),
        Route("/{path:path}", other, methods=["GET", "POST", "PUT"]),
    ]
    uvicorn.run(Starlette(routes=routes), host="127.0.0.1", port=port, log_level="warning")


if __name__ == "__main__":
    serve(int(sys.argv[1]))
