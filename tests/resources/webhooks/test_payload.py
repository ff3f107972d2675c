"""From a request to the input: every kind of body."""

from typing import Any

import pytest

from sinas.errors import BadRequestError
from sinas.resources.webhooks.payload import Incoming, dedup_key, input_of, payload_of, text_of


def incoming(
    body: bytes = b"", kind: str | None = None, *, method: str = "POST", query: str = ""
) -> Incoming:
    return Incoming(
        method=method,
        path="p",
        query=query,
        headers={} if kind is None else {"content-type": kind},
        body=body,
        client_address=None,
    )


FORM = "application/x-www-form-urlencoded"
MULTIPART = (
    b'--b\r\nContent-Disposition: form-data; name="a"\r\n\r\none\r\n'
    b'--b\r\nContent-Disposition: form-data; name="a"\r\n\r\ntwo\r\n'
    b'--b\r\nContent-Disposition: form-data; name="f"; filename="x.bin"\r\n'
    b"Content-Type: image/png\r\n\r\n\x00\xff\r\n--b--\r\n"
)


@pytest.mark.parametrize(
    ("body", "kind", "payload"),
    [
        (b'{"a": 1}', "application/json", {"a": 1}),
        (b'{"a": 1}', "application/json; charset=utf-8", {"a": 1}),
        (b'{"a": 1}', "Application/Vnd.GitHub+JSON", {"a": 1}),
        (b"[1, 2]", "application/json", [1, 2]),
        (b"null", "application/json", None),
        (b"", "application/json", {}),
        (b"a=1&b=x%20y&b=z&c=", FORM, {"a": "1", "b": ["x y", "z"], "c": ""}),
        (b"a=%C3%A9", FORM + "; charset=utf-8", {"a": "é"}),
        (
            MULTIPART,
            "multipart/form-data; boundary=b",
            {
                "a": ["one", "two"],
                "f": {"filename": "x.bin", "content_type": "image/png", "content_base64": "AP8="},
            },
        ),
        (b"<a>\xc3\xa9</a>", "application/xml", {"body": "<a>é</a>"}),
        (b"\xe9", "text/plain; charset=iso-8859-1", {"body": "é"}),
        (b"text", "text/plain; charset=punycode", {"body": "text"}),
        (b"\xff\xfe", "text/plain", {"body": "//4=", "encoding": "base64"}),
        (b"a\x00b", "text/plain", {"body": "YQBi", "encoding": "base64"}),
        (b"\x00", "application/octet-stream", {"body": "AA==", "encoding": "base64"}),
        (b"anything", None, {"body": "anything"}),
        (b"anything", ";;", {"body": "anything"}),
    ],
)
async def test_bodies(body: bytes, kind: str | None, payload: Any) -> None:
    assert await payload_of(incoming(body, kind)) == payload


@pytest.mark.parametrize(
    ("body", "kind", "reason"),
    [
        (b"{", "application/json", "not valid JSON"),
        (b"a=1", "application/json", "not valid JSON"),
        (b"\xff", "application/json", "not valid JSON"),
        (b"&".join([b"a=1"] * 1001), FORM, "1000 fields"),
        (b"\xff", FORM, "not valid utf-8"),
        (MULTIPART, "multipart/form-data", "boundary"),
        (b"nonsense", "multipart/form-data; boundary=b", "multipart body"),
        (
            b"".join(
                b'--b\r\nContent-Disposition: form-data; name="a"\r\n\r\n\r\n' for _ in range(1001)
            )
            + b"--b--\r\n",
            "multipart/form-data; boundary=b",
            "multipart body",
        ),
    ],
)
async def test_bodies_that_are_not_what_they_say(body: bytes, kind: str, reason: str) -> None:
    with pytest.raises(BadRequestError, match=reason):
        await payload_of(incoming(body, kind))


async def test_the_query_is_the_input_of_a_get_without_a_body() -> None:
    query = "a=1&b=2&b=3&c="
    found = await payload_of(incoming(method="GET", query=query))
    assert found == {"a": "1", "b": ["2", "3"], "c": ""}
    assert await payload_of(incoming(method="DELETE", query=query)) == {}
    with_body = incoming(b'{"x": 1}', "application/json", method="GET", query=query)
    assert await payload_of(with_body) == {"x": 1}


def test_defaults_lie_under_the_input() -> None:
    assert input_of({"a": 1}, {"a": 2, "b": 3}) == {"a": 1, "b": 3}
    assert input_of([1], {"b": 3}) == {"input": [1], "b": 3}
    assert input_of("x", None) == {"input": "x"}


def test_credentials_are_not_shown() -> None:
    secret = ("authorization", "cookie", "x-api-key", "x-gitlab-token", "x-my-secret-thing")
    given = incoming()
    headers = {**dict.fromkeys(secret, "s"), "x-event": "push", "x-signature": "v"}
    shown = Incoming(
        method=given.method,
        path="",
        query="",
        headers=headers,
        body=b"",
        client_address=None,
    ).shown_headers()
    assert shown == {"x-event": "push", "x-signature": "v"}


def test_what_calls_are_deduplicated_by() -> None:
    payload: Any = {"a": {"b": 7}, "none": None, "empty": ""}
    headers = {"x-id": "1"}
    found = dedup_key("$.a.b", payload, headers)
    assert found is not None
    assert len(found) == 64
    assert found != dedup_key("$.a.b", {"a": {"b": "7"}}, headers)
    assert found == dedup_key("$.a.b", {"a": {"b": 7}, "more": 1}, {})
    assert dedup_key("header:X-Id", None, headers) is not None
    for key in ("$.a.c", "$.a.b.c", "$.none", "$.empty", "$.x", "header:X-Other"):
        assert dedup_key(key, payload, headers) is None
    assert dedup_key("$.a", [1], headers) is None


def test_the_payload_as_a_message() -> None:
    assert text_of({"body": "hello"}) == "hello"
    assert text_of({"body": "x", "encoding": "base64"}) == '{"body":"x","encoding":"base64"}'
    assert text_of([1]) == "[1]"
