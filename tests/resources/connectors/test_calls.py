"""What a call sends, and what it makes of the answer."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import pytest

from tests.resources.connectors.conftest import PATH, Make, schema
from tests.support.outside import Outside, redirect, reply

if TYPE_CHECKING:
    from tests.fixtures.client import SignIn

TEXT = {"type": "string"}
ANY: dict[str, Any] = {}
MAPPINGS = ["json", "query", "path_and_json", "path_and_query"]


@pytest.mark.parametrize("mapping", MAPPINGS)
@pytest.mark.parametrize("place", ["{{ id }}", "{id}", "{{id}}"])
async def test_mappings(make: Make, service: Outside, mapping: str, place: str) -> None:
    made = await make(
        {"method": "POST", "path": f"/users/{place}/notes", "request_body_mapping": mapping}
    )
    result = await made.result({"id": "a b", "text": "x&y=z", "n": 7})
    assert (result["status_code"], result["body"]) == (200, {"ok": True})
    assert result["headers"]["content-type"] == "application/json"
    assert result["elapsed_ms"] > 0
    [seen] = service.received
    assert seen.method == "POST"
    if "query" in mapping:
        assert seen.target == "/users/a%20b/notes?text=x%26y%3Dz&n=7"
        assert seen.body == b""
    else:
        assert seen.target == "/users/a%20b/notes"
        assert seen.json() == {"text": "x&y=z", "n": 7}
        assert seen.headers["content-type"] == "application/json"


async def test_bindings_go_where_they_are_told(make: Make, service: Outside) -> None:
    made = await make(
        {
            "method": "PUT",
            "path": "/a?fixed=1",
            "parameters": schema(
                q=ANY, tags=ANY, ids=ANY, filter=ANY, raw=ANY, head=ANY, who=ANY, body=ANY
            ),
            "bindings": {
                "q": {"in": "query", "name": "q[x]"},
                "tags": {"in": "query"},
                "ids": {"in": "query", "style": "pipeDelimited"},
                "filter": {"in": "query", "style": "deepObject"},
                "raw": {"in": "query", "style": "json"},
                "head": {"in": "header", "name": "X-Head"},
                "who": {"in": "cookie"},
            },
        }
    )
    await made.result(
        {
            "q": True,
            "tags": ["a", "b,c"],
            "ids": [1, 2],
            "filter": {"a": {"b": 1}, "c": [2]},
            "raw": {"x": [1]},
            "head": "zoë",
            "who": "me; admin=1",
            "body": {"deep": None},
        }
    )
    [seen] = service.received
    assert seen.target == (
        "/a?q%5Bx%5D=true&tags=a&tags=b%2Cc&ids=1%7C2"
        "&filter%5Ba%5D%5Bb%5D=1&filter%5Bc%5D%5B0%5D=2"
        "&raw=%7B%22x%22%3A%5B1%5D%7D&fixed=1"
    )
    assert seen.headers["x-head"].encode("latin-1").decode() == "zoë"
    assert seen.headers["cookie"] == "who=me%3B%20admin%3D1"
    assert seen.json() == {"body": {"deep": None}}


async def test_forms(make: Make, service: Outside) -> None:
    made = await make(
        {
            "method": "POST",
            "content_type": "application/x-www-form-urlencoded",
            "parameters": schema(items=ANY, expand=ANY, name=ANY),
            "bindings": {"expand": {"in": "body", "style": "deepObject"}},
        }
    )
    await made.result({"items": [{"price": "p&1"}], "expand": ["a"], "name": "ü"})
    [seen] = service.received
    assert seen.headers["content-type"] == "application/x-www-form-urlencoded"
    assert seen.body == b"items%5B0%5D%5Bprice%5D=p%261&expand%5B0%5D=a&name=%C3%BC"


async def test_multipart_and_files(make: Make, service: Outside) -> None:
    made = await make(
        {
            "method": "POST",
            "content_type": "multipart/form-data",
            "parameters": schema(
                file={"type": "string", "contentEncoding": "base64"}, title={"type": "string"}
            ),
        },
        headers={"Content-Type": "application/json"},
    )
    await made.result({"file": base64.b64encode(b"\x00\xff").decode(), "title": "T"})
    [seen] = service.received
    kind, _, boundary = seen.headers["content-type"].partition("; boundary=")
    assert kind == "multipart/form-data"
    parts = seen.body.split(b"--" + boundary.encode())
    assert b'name="file"; filename="file"' in parts[1]
    assert parts[1].endswith(b"\r\n\r\n\x00\xff\r\n")
    assert parts[2].endswith(b'name="title"\r\n\r\nT\r\n')
    assert "base64" in await made.problem({"file": "%"})


async def test_a_body_that_is_one_argument(make: Make, service: Outside) -> None:
    made = await make(
        {"method": "POST", "parameters": schema(items={"type": "array"}), "body_argument": "items"}
    )
    await made.result({"items": [1, {"a": 2}]})
    text = await make(
        {
            "method": "POST",
            "parameters": schema(text=TEXT),
            "body_argument": "text",
            "content_type": "text/plain",
        },
        name="text",
    )
    await text.result({"text": "ünï"})
    await text.result({})
    assert service.received[0].json() == [1, {"a": 2}]
    assert service.received[1].body.decode() == "ünï"
    assert service.received[1].headers["content-type"] == "text/plain"
    assert service.received[2].body == b""


async def test_nothing_has_no_body_where_none_is_usual(make: Make, service: Outside) -> None:
    await (await make()).result()
    await (await make({"method": "POST"}, name="post")).result()
    await (await make(name="get")).result({"x": 1})
    bodies = [(seen.method, seen.body) for seen in service.received]
    assert bodies == [("GET", b""), ("POST", b"{}"), ("GET", b'{"x":1}')]


async def test_arguments_are_checked(make: Make, service: Outside) -> None:
    made = await make(
        {
            "method": "POST",
            "path": "/{id}",
            "parameters": {**schema(id=TEXT, n={"type": "integer"}), "required": ["n"]},
        }
    )
    assert await made.problem({"id": "a"}) == "parameters.n: 'n' is a required property"
    assert "parameters.n" in await made.problem({"id": "a", "n": "many"})
    assert "no parameter" in await made.problem({"id": "a", "n": 1, "extra": 1})
    assert "'id' goes into the path and is missing" in await made.problem({"n": 1})
    assert service.received == []
    await made.result({"id": "a", "n": "7"})
    assert service.received[0].json() == {"n": 7}


@pytest.mark.parametrize(
    "value",
    [
        *(".", "..", "../admin", "a/../b", "a\\..\\b", "%2e%2e", "%2E%2e/x", "..%2fadmin"),
        *("%252e%252e%252f", "..%5cadmin", "./x", "x/.", "", "a/%2e%2e%2f%2e%2e/b"),
    ],
)
async def test_a_path_cannot_be_left(make: Make, service: Outside, value: str) -> None:
    made = await make({"path": "/users/{{id}}/posts"})
    assert "'id' goes into the path" in await made.problem({"id": value})
    assert service.received == []


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("a/b", "a%2Fb"),
        ("a%2fb", "a%252fb"),
        ("a?x=1#y", "a%3Fx%3D1%23y"),
        ("@evil.example", "%40evil.example"),
        ("a..b", "a..b"),
        ("//evil.example", "%2F%2Fevil.example"),
        ("a\r\nHost: x", "a%0D%0AHost%3A%20x"),
        ("ü", "%C3%BC"),
        (["a", "b/c"], "a%2Cb%2Fc"),
        (7, "7"),
    ],
)
async def test_path_arguments_stay_one_part(
    make: Make, service: Outside, value: Any, written: str
) -> None:
    made = await make({"path": "/users/{{id}}/posts"})
    await made.result({"id": value})
    assert service.received[0].target == f"/users/{written}/posts"
    assert service.received[0].headers["host"] == f"127.0.0.2:{service.port}"


async def test_two_arguments_do_not_make_a_dot_segment(make: Make, service: Outside) -> None:
    made = await make({"path": "/users/{a}{b}/posts"})
    assert "'.'" in await made.problem({"a": ".", "b": "x"})
    assert (await made.result({"a": "x", "b": "y"}))["status_code"] == 200
    query = await make({"path": "/q?x={a}"}, name="query")
    await query.result({"a": "1&y=2"})
    assert service.received[-1].target == "/q?x=1%26y%3D2"


async def test_headers_of_arguments(make: Make, service: Outside) -> None:
    made = await make(
        {
            "parameters": schema(tenant=TEXT, trace=TEXT),
            "bindings": {
                "tenant": {"in": "header", "name": "x-tenant"},
                "trace": {"in": "header", "name": "X-Trace"},
            },
        },
        headers={"X-Tenant": "mine"},
    )
    assert "line break" in await made.problem({"trace": "a\r\nX-Evil: b"})
    await made.result({"tenant": "theirs", "trace": "t"})
    assert service.received[0].headers["x-tenant"] == "mine"
    assert service.received[0].headers["x-trace"] == "t"


@pytest.mark.parametrize(
    ("answer", "mapping", "body"),
    [
        (reply({"a": 1}), "json", {"a": 1}),
        (reply({"a": 1}), "text", '{"a":1}'),
        (reply(b"plain"), "json", "plain"),
        (reply(None, 204), "json", None),
        (reply(None, 204), "text", ""),
        (reply(b'{"a": NaN}'), "json", '{"a": NaN}'),
        (reply(b'"a\\u0000b"'), "json", '"a\\u0000b"'),
        (reply(b"a\x00b"), "text", "a\ufffdb"),
        (reply(b"[" * 5000), "json", "[" * 5000),
        (reply(b"[" * 500 + b"]" * 500), "json", "[" * 500 + "]" * 500),
        (reply(b'{"n": 123456789012345678901234567890}'), "json", None),
        (reply(b"\xe4", 200, "Content-Type: text/plain; charset=latin-1"), "json", "ä"),
        (reply(b"\xe4", 200, "Content-Type: text/plain; charset=nonsense"), "json", "\ufffd"),
        (
            reply(b"\xff\xd8", 200, "Content-Type: image/jpeg"),
            "json",
            {"content_type": "image/jpeg", "size_bytes": 2, "base64": "/9g="},
        ),
        (reply(b"\xff\xd8", 200, "Content-Type: image/jpeg"), "text", "\ufffd\ufffd"),
    ],
)
async def test_bodies_of_answers(
    make: Make, service: Outside, answer: bytes, mapping: str, body: Any
) -> None:
    made = await make({"response_mapping": mapping})
    service.answer = answer
    found = (await made.result())["body"]
    if body is None and b"123456789" in answer:
        assert isinstance(found, float | str | dict)
    else:
        assert found == body


async def test_error_statuses_are_results(make: Make, service: Outside) -> None:
    service.says({"error": "no"}, 404, "Set-Cookie: session=s3cret")
    result = await (await make()).result()
    assert (result["status_code"], result["body"]) == (404, {"error": "no"})
    assert "set-cookie" not in result["headers"]


async def test_too_large_an_answer_fails(make: Make, service: Outside, as_: SignIn) -> None:
    service.answer = b"HTTP/1.1 200 OK\r\nContent-Length: 11000000\r\n\r\n" + b"x" * 11_000_000
    detail = await (await make()).problem(status=502)
    assert "10485760 bytes" in detail


async def test_no_answer_is_a_502(make: Make, service: Outside) -> None:
    service.answer = None
    made = await make(timeout_seconds=1)
    assert "did not answer within 1 seconds" in await made.problem(status=502)
    await made.client.put(made.path, json={"base_url": "http://127.0.0.2:1"})
    assert "cannot be reached" in await made.problem(status=502)


async def test_redirects(make: Make, service: Outside) -> None:
    made = await make()
    service.answers = [redirect("/next")]
    assert (await made.result())["status_code"] == 200
    assert [seen.target for seen in service.received] == ["/do", "/next"]
    service.answer = redirect("/again")
    assert "redirects more than 5 times" in await made.problem(status=502)


async def test_who_may_test(make: Make, service: Outside, as_: SignIn) -> None:
    made = await make(operation={"name": "do"})
    assert (await made.test(operation="other")).status_code == 400
    other = await made.test(client=await as_("other"))
    missing = await (await as_("other")).post(f"{PATH}/default/none/test/do", json={})
    assert other.status_code == missing.status_code == 404
    assert other.json()["detail"].replace("svc", "none") == missing.json()["detail"]
    assert (await made.test(client=await as_("guest"))).status_code == 403
    assert (await made.test(client=await as_("admin"))).status_code == 200
    limited = await as_.key("user", ["sinas.connectors/default/other.read:own"])
    assert (await made.test(client=limited)).status_code == 404
    await made.client.put(made.path, json={"is_active": False})
    assert (await made.test()).status_code == 200


async def test_odd_arguments_are_no_500(make: Make, service: Outside) -> None:
    made = await make({"path": "/{id}", "request_body_mapping": "query"})
    for text in ('"a\\u0000b"', '"a\\ud800"', "1e999", "NaN", '"' + "x" * 20_000 + '"', "null"):
        for name in ("id", "q"):
            content = f'{{"parameters": {{"id": "a", "{name}": {text}}}}}'
            answer = await made.client.post(
                f"{made.path}/test/do",
                content=content.encode(),
                headers={"content-type": "application/json"},
            )
            assert answer.status_code in (200, 400, 422), (text, answer.text)
