"""Every refusal in OpenAI's shape, as the SDK's classes of errors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx
import openai
import orjson
import pytest

from sinas.web.middleware import MAX_BODY_BYTES
from tests.adapters.openai.support import BASE, COMPLETIONS, HELLO, Clients
from tests.support.llm_script import Answer

if TYPE_CHECKING:
    from fastapi import FastAPI

    from tests.fixtures.client import SignIn

KEY = "sk-provider-0123456789"


def error_of(response: httpx.Response) -> dict[str, Any]:
    body = response.json()
    assert list(body) == ["error"]
    error: dict[str, Any] = body["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"]
    assert response.headers["x-request-id"]
    return error


@pytest.mark.parametrize("key", ["sk-unknown", "a.b.c", "x" * 5000])
async def test_who_are_you(clients: Clients, key: str) -> None:
    client = await clients(api_key=key)

    with pytest.raises(openai.AuthenticationError) as caught:
        await client.models.list()

    assert (caught.value.code, caught.value.type) == ("invalid_api_key", "authentication_error")
    assert caught.value.response.headers["www-authenticate"] == "Bearer"
    with pytest.raises(openai.AuthenticationError):
        await client.chat.completions.create(model="x", messages=HELLO)


async def test_without_credentials(client: httpx.AsyncClient) -> None:
    for response in (
        await client.get(f"{BASE}/models"),
        await client.get(f"{BASE}/models/shop/bot"),
        await client.post(COMPLETIONS, content=b"{"),
    ):
        assert response.status_code == 401
        assert error_of(response)["code"] == "invalid_api_key"


async def test_credentials_of_every_kind(clients: Clients, as_: SignIn, live: str) -> None:
    await clients.provider()
    body = {"model": "mine/echo", "messages": HELLO}
    token = await as_("admin", live=live)
    key = await as_.key("admin", live=live)

    assert (await token.post(COMPLETIONS, json=body)).status_code == 200
    assert (await key.post(COMPLETIONS, json=body)).status_code == 200


@pytest.mark.parametrize(
    ("content", "param", "said"),
    [
        (b"", "body", "not valid JSON"),
        (b"{", "body", "not valid JSON"),
        (b"[]", "body", "JSON object"),
        (b'{"model": 7, "messages": []}', "model", "text"),
        (b'{"model": "mine/echo"}', "messages", "at least one"),
        (b'{"model": "mine/echo", "messages": []}', "messages", "at least one"),
        (b'{"model": "mine/echo", "messages": ["x"]}', "messages[0].role", "role"),
        (
            b'{"model": "mine/echo", "messages": [{"role": "user", "content": "x"}], "stream": 1}',
            "stream",
            "true or false",
        ),
        (b'{"messages": [{"role": "user", "content": "\\u0000"}]}', "", "stored"),
        (b'{"model": "a\\u0000", "messages": []}', "", "stored"),
    ],
)
async def test_a_bad_body(
    clients: Clients, as_: SignIn, content: bytes, param: str, said: str
) -> None:
    await clients.provider()
    admin = await as_("admin")

    response = await admin.post(COMPLETIONS, content=content)

    error = error_of(response)
    assert response.status_code == 400, error
    assert (error["type"], error["param"] or "") == ("invalid_request_error", param)
    assert said in error["message"]


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"messages": "hello"}, "messages"),
        ({"messages": [{"role": "wizard", "content": "x"}]}, "messages[0]"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        (
            {"messages": [{"role": "user", "content": [{"type": "text"}]}]},
            "messages[0].content[0].text",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]},
            "messages[0].content[0].image_url.url",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "video"}]}]},
            "messages[0].content[0]",
        ),
        ({"temperature": 3}, "temperature"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"stream": "yes please"}, "stream"),
        ({"stream_options": {"include_usage": "x"}}, "stream_options.include_usage"),
        ({"metadata": {"session": ""}}, "metadata.session"),
        ({"metadata": {"session": "x" * 256}}, "metadata.session"),
        ({"metadata": {"a": 1}}, "metadata.a"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema.schema"),
        (
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "x", "schema": {"type": "nothing"}},
                }
            },
            "response_format.json_schema.schema.type",
        ),
        ({"messages": [{"role": "system", "content": "x"}]}, "messages"),
        ({"messages": [*HELLO, {"role": "assistant", "content": "x"}]}, "messages"),
        ({"messages": [{"role": "user", "content": ""}]}, "messages"),
        ({"sinas": {"input": 3}}, "sinas.input"),
    ],
)
async def test_a_bad_body_for_an_agent(
    clients: Clients, as_: SignIn, change: dict[str, Any], param: str
) -> None:
    await clients.agent()
    user = await as_("user")

    response = await user.post(
        COMPLETIONS, json={"model": "agent:shop/bot", "messages": HELLO, **change}
    )

    error = error_of(response)
    assert response.status_code == 400, error
    assert (error["param"], error["type"]) == (param, "invalid_request_error")


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/", 404, "unknown_url"),
        ("POST", "/v1/embeddings", 404, "unknown_url"),
        ("GET", "/v1/chat/completions", 405, "method_not_allowed"),
        ("DELETE", "/v1/models/shop/bot", 405, "method_not_allowed"),
    ],
)
async def test_what_is_not_there(
    client: httpx.AsyncClient, method: str, path: str, status: int, code: str
) -> None:
    response = await client.request(method, f"/adapters/openai{path}")

    error = error_of(response)
    assert response.status_code == status
    assert (error["code"], error["type"]) == (code, "invalid_request_error")


async def test_a_body_that_is_too_large(as_: SignIn) -> None:
    admin = await as_("admin")

    response = await admin.post(COMPLETIONS, content=b" " * (MAX_BODY_BYTES + 1))

    assert response.status_code == 413
    assert error_of(response)["code"] == "payload_too_large"


@pytest.mark.parametrize(
    ("status", "raised", "code"),
    [
        (400, openai.BadRequestError, "invalid_value"),
        (404, openai.NotFoundError, "model_not_found"),
        (415, openai.BadRequestError, "invalid_value"),
        (422, openai.UnprocessableEntityError, "invalid_value"),
        (429, openai.RateLimitError, "rate_limit_exceeded"),
        (500, openai.InternalServerError, "upstream_error"),
        (503, openai.InternalServerError, "upstream_error"),
    ],
)
@pytest.mark.parametrize("stream", [True, False])
async def test_a_provider_that_refuses(
    clients: Clients, status: int, raised: type[openai.APIStatusError], code: str, stream: bool
) -> None:
    await clients.provider(default_model="m")
    clients.llm.script("m", [Answer(status=status, headers=(("retry-after", "7"),))])
    client = await clients()

    with pytest.raises(raised, match="scripted failure") as caught:
        await client.chat.completions.create(model="mine/m", messages=HELLO, stream=stream)

    passed = {415: 400, 500: 502}.get(status, status)
    assert caught.value.status_code == passed
    assert caught.value.code == code
    assert caught.value.response.headers.get("retry-after") == "7"
    assert len(clients.llm.requests) == 1


async def test_a_providers_own_code(clients: Clients) -> None:
    await clients.provider(default_model="m")
    error = {
        "message": "This model's maximum context length is 10 tokens",
        "type": "invalid_request_error",
        "param": "messages",
        "code": "context_length_exceeded",
    }
    clients.llm.script("m", [Answer(status=400, body=orjson.dumps({"error": error}).decode())])
    client = await clients()

    with pytest.raises(openai.BadRequestError, match="maximum context length") as caught:
        await client.chat.completions.create(model="mine/m", messages=HELLO)

    assert caught.value.code == "context_length_exceeded"
    assert caught.value.param == "messages"


@pytest.mark.parametrize("status", [401, 402, 403])
async def test_the_providers_key_stays_here(
    clients: Clients, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    """A wrong key of ours is no fault of the caller, who must not read even parts of it."""
    await clients.provider(default_model="m", api_key=KEY)
    text = f"Incorrect API key provided: {KEY} ({KEY[:8]}***)"
    clients.llm.script(
        "m", [Answer(status=status, body=orjson.dumps({"error": {"message": text}}).decode())]
    )
    client = await clients()

    with pytest.raises(
        openai.InternalServerError, match="does not accept its credentials"
    ) as caught:
        await client.chat.completions.create(model="mine/m", messages=HELLO)

    assert caught.value.status_code == 502
    assert KEY[:8] not in caught.value.response.text
    assert KEY not in caplog.text


async def test_a_provider_that_is_not_there(clients: Clients) -> None:
    await clients.provider(endpoint="http://127.0.0.1:1/v1")
    client = await clients()

    with pytest.raises(openai.InternalServerError, match="connection refused") as caught:
        await client.chat.completions.create(model="mine/echo", messages=HELLO)

    assert caught.value.status_code == 502


@pytest.mark.parametrize("model", ["mine/echo", "claude/echo", "agent:shop/bot"])
async def test_a_body_without_end(clients: Clients, as_: SignIn, model: str) -> None:
    await clients.provider()
    await clients.provider("claude", provider_type="anthropic", endpoint=clients.llm.url)
    await clients.agent()
    admin = await as_("admin")
    deep = b"[" * 900 + b"]" * 900
    message = b'{"role": "user", "content": "x"}'
    bodies = [
        b'{"model": "%b", "messages": [%b], "sinas": {"input": {"a": %b}}, "stop": %b}',
        b'{"model": "%b", "messages": [%b], "tools": %b, "response_format": %b}',
    ]

    for body in bodies:
        response = await admin.post(
            COMPLETIONS, content=body % (model.encode(), message, deep, deep)
        )
        assert response.status_code == 400, response.text
        error_of(response)
    many = b",".join([message] * 10_001)
    response = await admin.post(
        COMPLETIONS, content=b'{"model": "agent:shop/bot", "messages": [%b]}' % many
    )
    assert response.status_code == 400
    assert error_of(response)["param"] == "messages"


async def test_a_deep_input(clients: Clients, as_: SignIn) -> None:
    await clients.agent()
    admin = await as_("admin")
    deep = b"[" * 400 + b"]" * 400
    body = b'{"model": "agent:shop/bot", "messages": [{"role": "user", "content": "x"}], %b}'

    for field in (b'"sinas": {"input": {"a": %b}}', b'"logit_bias": {"a": %b}', b'"tools": %b'):
        response = await admin.post(COMPLETIONS, content=body % (field % deep))
        assert response.status_code == 400, response.text
    schema = (
        b'"response_format": {"type": "json_schema", "json_schema": {"schema": {"default": %b}}}'
    )
    response = await admin.post(COMPLETIONS, content=body % (schema % deep))
    assert response.status_code == 400, response.text


async def test_a_fault_of_ours(
    clients: Clients, as_: SignIn, app: FastAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    await clients.provider()
    admin = await as_("admin")

    async def fail(*_: object) -> None:
        raise RuntimeError("secret detail")

    monkeypatch.setattr("sinas.adapters.openai.endpoints.complete", fail)
    response = await admin.post(COMPLETIONS, json={})

    assert response.status_code == 500
    assert error_of(response) == {
        "message": "Internal error",
        "type": "api_error",
        "param": None,
        "code": "internal",
    }
