"""Which URLs may be called back, and what they get."""

import dataclasses
import hashlib
import hmac
from pathlib import Path
from uuid import uuid4

import pytest

from sinas.auth.tokens import TokenSigner
from sinas.egress.callbacks import (
    Callback,
    CallbackSender,
    callback_key,
    check_callback_url,
    signature,
)
from sinas.egress.client import GuardedClient
from sinas.egress.policy import EgressPolicy
from sinas.errors import BadRequestError
from sinas.kit.addresses import parse_networks
from sinas.settings import Settings
from tests.fixtures.configuration import changed, make_settings
from tests.support.outside import Outside


@pytest.mark.parametrize(
    ("hosts", "url"),
    [
        ("*", "https://anything.example/x?y=z"),
        ("hooks.example.com", "https://hooks.example.com/done"),
        ("Hooks.Example.com", "https://HOOKS.example.COM:8443/done"),
        ("a.example, .example.com", "https://one.two.example.com/"),
        ("xn--bcher-kva.example", "https://bücher.example/"),
    ],
)
def test_urls_that_may_be_called(hosts: str, url: str) -> None:
    check_callback_url(hosts, url)


@pytest.mark.parametrize(
    ("hosts", "url", "reason"),
    [
        ("", "https://hooks.example.com/", "disabled"),
        (" , ", "https://hooks.example.com/", "disabled"),
        ("*", "http://hooks.example.com/", "https://"),
        ("*", "file:///etc/passwd", "https://"),
        ("*", "//hooks.example.com/", "https://"),
        ("*", "https://", "https://"),
        ("*", "https://hooks.example.com:99999/", "https://"),
        ("*", "https://hooks.example.com:port/", "https://"),
        ("*", "https://hooks.example.com\n/", "https://"),
        ("*", "https://me:secret@hooks.example.com/", "password"),
        ("*", "https://me@hooks.example.com/", "password"),
        ("*", "https://hooks.example.com/" + "x" * 2048, "2048"),
        ("hooks.example.com", "https://example.com/", "CALLBACK_URL_HOSTS"),
        ("hooks.example.com", "https://hooks.example.com.evil.example/", "CALLBACK_URL_HOSTS"),
        ("hooks.example.com", "https://evil.example/hooks.example.com", "CALLBACK_URL_HOSTS"),
        ("hooks.example.com", "https://evil.example#@hooks.example.com/", "CALLBACK_URL_HOSTS"),
        (".example.com", "https://example.com/", "CALLBACK_URL_HOSTS"),
        (".example.com", "https://evilexample.com/", "CALLBACK_URL_HOSTS"),
    ],
)
def test_urls_that_may_not(hosts: str, url: str, reason: str) -> None:
    with pytest.raises(BadRequestError, match=reason) as caught:
        check_callback_url(hosts, url, "batch_callback_url")
    assert caught.value.errors[0].field == "batch_callback_url"
    assert "secret" not in caught.value.message


def test_the_key_is_the_users_and_the_installations() -> None:
    one, other = uuid4(), uuid4()
    keys = {callback_key(secret, user) for secret in ("a", "b") for user in (one, other)}
    assert len(keys) == 4
    assert {len(key) for key in keys} == {64}
    assert callback_key("a", one) in keys


def test_the_signature_can_be_verified_with_what_the_docs_say() -> None:
    moment, _, digest = signature("00ff", 1_700_000_000, b'{"a":1}').partition(",v1=")
    assert moment == "t=1700000000"
    expected = hmac.new(b"00ff", b'1700000000.{"a":1}', hashlib.sha256).hexdigest()
    assert digest == expected


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    made = make_settings(database_url="", redis_url="", data_dir=tmp_path)
    return changed(made, function={"callback_url_hosts": "127.0.0.1"})


async def test_a_callback_is_one_signed_post_with_a_limited_short_lived_token(
    settings: Settings,
) -> None:
    secret = settings.auth.secret_key.get_secret_value()
    signer, user = TokenSigner(secret), uuid4()
    async with Outside() as server:
        http = GuardedClient(EgressPolicy(parse_networks("127.0.0.1")), server.trust)
        sender = CallbackSender(http, signer, settings)
        callback = Callback(
            url=f"{server.url}/done",
            user_id=user,
            email="u@example.com",
            access={"sinas.executions.read:own": True, "sinas.users.read:own": False},
            body={"execution_id": "x"},
        )
        assert await sender.send(callback) == 200
        [seen] = server.received
        assert (seen.method, seen.target, seen.json()) == ("POST", "/done", {"execution_id": "x"})
        assert seen.headers["content-type"] == "application/json"
        moment = int(seen.headers["x-sinas-signature"].partition(",")[0].removeprefix("t="))
        expected = signature(callback_key(secret, user), moment, seen.body)
        assert seen.headers["x-sinas-signature"] == expected
        claims = signer.read(seen.headers["authorization"].removeprefix("Bearer "))
        assert (claims.user_id, claims.execution_id) == (user, None)
        assert claims.limit == ("sinas.executions.read:own",)
        server.answer = b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n"
        assert await sender.send(callback) == 503
        await http.aclose()


async def test_what_cannot_be_sent_is_not(settings: Settings) -> None:
    async with Outside() as server:
        http = GuardedClient(EgressPolicy(), server.trust)
        callback = Callback(url=server.url, user_id=uuid4(), email="", access=None, body={})
        signer = TokenSigner("k")
        assert await CallbackSender(http, signer, settings).send(callback) is None
        withdrawn = changed(settings, function={"callback_url_hosts": "hooks.example.com"})
        open_http = GuardedClient(EgressPolicy(parse_networks("127.0.0.1")), server.trust)
        assert await CallbackSender(open_http, signer, withdrawn).send(callback) is None
        gone = dataclasses.replace(callback, url="https://127.0.0.1:1/")
        assert await CallbackSender(open_http, signer, settings).send(gone) is None
        assert server.received == []
        await http.aclose()
        await open_http.aclose()
