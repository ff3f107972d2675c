"""Every error has one shape and one status, and none tells what is the server's alone."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from redis.exceptions import ConnectionError as RedisConnectionError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from sinas import errors
from tests.fixtures.client import SignIn

SHAPE = {"type", "title", "status", "detail", "code", "request_id"}

# error, status, extra headers
CASES: list[tuple[Exception, int, dict[str, str]]] = [
    (errors.UnauthenticatedError("Who?"), 401, {"WWW-Authenticate": "Bearer"}),
    (errors.ForbiddenError("Not you."), 403, {}),
    (errors.NotFoundError("Function 'a/b' not found"), 404, {}),
    (errors.ConflictError("It runs."), 409, {}),
    (errors.DuplicateError("Taken."), 400, {}),
    (errors.PreconditionError("It changed."), 412, {}),
    (errors.InvalidInputError("No."), 422, {}),
    (errors.BadRequestError("No."), 400, {}),
    (errors.PayloadTooLargeError("Too large."), 413, {}),
    (errors.RateLimitedError("Slow down.", retry_after_seconds=7), 429, {"Retry-After": "7"}),
    (errors.UpstreamError("The provider said no.", status=401), 502, {}),
    (errors.OutputInvalidError("The answer does not match."), 502, {}),
    (errors.UnavailableError("Full.", retry_after_seconds=3), 503, {"Retry-After": "3"}),
    (errors.DeadlineError("Too slow."), 504, {}),
]


def leaves(base: type[errors.SinasError] = errors.SinasError) -> Iterator[type]:
    yield base
    for child in base.__subclasses__():
        yield from leaves(child)


def assert_problem(answer: httpx.Response, status: int, code: str | None = None) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = answer.json()
    assert body.keys() >= SHAPE
    assert body["status"] == status
    assert body["detail"].strip()
    assert body["request_id"] == answer.headers["x-request-id"]
    if code is not None:
        assert body["code"] == code
    return body


@pytest.mark.parametrize("prefix", ["", "/api/v1"])
@pytest.mark.parametrize(
    ("error", "status", "headers"), CASES, ids=[type(case[0]).__name__ for case in CASES]
)
async def test_status_and_shape(
    failing_app: FastAPI,
    http: httpx.AsyncClient,
    error: Exception,
    status: int,
    headers: dict[str, str],
    prefix: str,
) -> None:
    raise_in(failing_app, error)
    answer = await http.get(f"{prefix}/fail")
    assert isinstance(error, errors.SinasError)
    assert assert_problem(answer, status, error.code)["detail"] == error.message
    assert headers.items() <= {k: answer.headers.get(k) for k in headers}.items()


def raise_in(app: FastAPI, error: Exception) -> None:
    app.state.raises = error
    for route in app.routes:
        if isinstance(inner := getattr(route, "app", None), FastAPI):
            inner.state.raises = error


def test_every_error_that_a_request_can_meet_has_a_case() -> None:
    """Fix: add the new class to `problems.STATUS` (unless a base's status fits) and to CASES."""
    never_in_a_request = {errors.SinasError, errors.LeaseLostError, errors.ConfigurationError}
    ours = {leaf for leaf in leaves() if leaf.__module__ == "sinas.errors"}
    assert ours - never_in_a_request == {type(error) for error, _, _ in CASES}


class SliceError(errors.ConflictError):
    """As a slice would subclass."""

    code = "slice_busy"


async def test_a_subclass_has_the_status_of_its_base(
    failing_app: FastAPI, http: httpx.AsyncClient
) -> None:
    raise_in(failing_app, SliceError("Busy."))
    assert_problem(await http.get("/fail"), 409, "slice_busy")


@pytest.mark.parametrize("prefix", ["", "/api/v1"])
@pytest.mark.parametrize(
    "error",
    [
        ValueError("password=hunter2"),
        KeyError("hunter2"),
        errors.ConfigurationError("ENCRYPTION_KEY hunter2"),
        errors.LeaseLostError("hunter2"),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_what_nobody_foresaw_is_a_500_that_tells_nothing(
    failing_app: FastAPI, http: httpx.AsyncClient, error: Exception, prefix: str
) -> None:
    raise_in(failing_app, error)
    answer = await http.get(f"{prefix}/fail", headers={"Origin": "http://console"})
    assert_problem(answer, 500, "internal")
    assert "hunter2" not in answer.text
    # A browser that may not read the answer shows a network error instead.
    assert answer.headers["access-control-allow-origin"] == "*"


@pytest.mark.parametrize(
    "error",
    [
        RedisConnectionError("redis at 10.0.0.7"),
        ConnectionResetError("10.0.0.7"),
        PoolTimeoutError(),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_a_part_that_is_down_is_a_503(
    failing_app: FastAPI, http: httpx.AsyncClient, error: Exception
) -> None:
    raise_in(failing_app, error)
    answer = await http.get("/fail")
    assert_problem(answer, 503, "unavailable")
    assert int(answer.headers["retry-after"]) > 0
    assert "10.0.0.7" not in answer.text


async def test_field_errors_are_named_by_path(http: httpx.AsyncClient) -> None:
    answer = await http.post("/shape", json={"sizes": {"a": -1, "b": "x"}})
    body = assert_problem(answer, 422, "invalid_input")
    assert {entry["field"] for entry in body["errors"]} == {"name", "sizes.a", "sizes.b"}
    assert body["detail"].startswith("name: ")


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (b'{"name": }', "The request body is not valid JSON at character 9: "),
        (b'{"name": "a", "sizes": {}, "shoes": 1}', "shoes: There is no such field"),
    ],
)
async def test_the_sentence_speaks_of_the_request_not_of_the_framework(
    http: httpx.AsyncClient, body: bytes, sentence: str
) -> None:
    answer = await http.post("/shape", content=body, headers={"content-type": "application/json"})
    assert assert_problem(answer, 422, "invalid_input")["detail"].startswith(sentence)


@pytest.mark.parametrize("body", [b"{", b"\xff\xfe", b"[]", b"", b"null", b'"text"'])
async def test_a_body_that_is_no_object_is_a_422(http: httpx.AsyncClient, body: bytes) -> None:
    answer = await http.post("/shape", content=body, headers={"content-type": "application/json"})
    assert_problem(answer, 422, "invalid_input")


@pytest.mark.parametrize(
    ("body", "status"),
    [("a\x00b@example.com", 422), ("\ud800@example.com", 422)],
    ids=["NUL", "lone surrogate"],
)
async def test_text_the_database_cannot_hold_is_a_422(
    http: httpx.AsyncClient, body: str, status: int
) -> None:
    escaped = body.encode("unicode_escape").decode().replace("\\x", "\\u00")
    answer = await http.post(
        "/store",
        content=f'{{"email": "{escaped}"}}',
        headers={"content-type": "application/json"},
    )
    assert_problem(answer, status)
    assert "INSERT" not in answer.text


@pytest.mark.parametrize(
    "statement",
    ["SELECT secret FROM nowhere", "SELECT 1/0", "INSERT INTO users (id) VALUES (NULL)"],
)
async def test_no_sql_in_an_answer(http: httpx.AsyncClient, statement: str) -> None:
    answer = await http.get("/sql", params={"statement": statement})
    assert_problem(answer, 500, "internal")
    for word in ("SELECT", "INSERT", "nowhere", "users", "division", "asyncpg", "sqlalchemy"):
        assert word not in answer.text


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nowhere", 404),
        ("GET", "/api/v1/nowhere", 404),
        ("DELETE", "/health", 405),
        ("POST", "/api/v1/openapi.json", 405),
        ("GET", "/static/swagger/nowhere.js", 404),
    ],
)
async def test_what_is_not_there(
    http: httpx.AsyncClient, method: str, path: str, status: int
) -> None:
    assert_problem(await http.request(method, path), status)


async def test_a_failed_commit_is_not_a_success(http: httpx.AsyncClient) -> None:
    """The transaction ends before the answer is sent, so its failure can still be told."""
    first = await http.post("/store", json={"email": "same@example.com"})
    assert first.status_code == 200
    assert (await http.post("/store", json={"email": "same@example.com"})).status_code >= 400


@pytest.mark.parametrize(
    ("content", "field"),
    [
        ([{"type": "bogus"}], "content.0"),
        ([{"type": "text"}], "content.0.text.text"),
        (7, "content"),
        ("", "content"),
    ],
)
async def test_alternatives_are_no_part_of_a_field(as_: SignIn, content: Any, field: str) -> None:
    answer = await (await as_("user")).post(
        "/chats/00000000-0000-7000-8000-000000000000/messages", json={"content": content}
    )
    body = assert_problem(answer, 422, "invalid_input")
    assert {each["field"] for each in body["errors"]} == {field}
    assert body["detail"].startswith(f"{field}: ")
