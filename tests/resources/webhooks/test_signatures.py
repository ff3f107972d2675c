"""Signatures as well-known senders make them, computed here by their own documents."""

import base64
import hmac
from datetime import UTC, datetime
from typing import Any

import pytest

from sinas.egress.callbacks import signature as callback_signature
from sinas.resources.webhooks.schemas import Signature
from sinas.resources.webhooks.signatures import refusal

NOW = datetime(2026, 1, 1, tzinfo=UTC)
MOMENT = int(NOW.timestamp())
SECRET, BODY = "It's a Secret to Everybody", b"Hello, World!"


def mac(content: bytes, algorithm: str = "sha256") -> bytes:
    return hmac.new(SECRET.encode(), content, algorithm).digest()


GITHUB = {"header": "X-Hub-Signature-256", "prefix": "sha256="}
SLACK = {
    "header": "X-Slack-Signature",
    "prefix": "v0=",
    "signed_content": "v0:{timestamp}:{body}",
    "timestamp_header": "X-Slack-Request-Timestamp",
}
STRIPE = {"header": "Stripe-Signature", "prefix": "v1=", "signed_content": "{timestamp}.{body}"}
SHOPIFY = {"header": "X-Shopify-Hmac-Sha256", "encoding": "base64"}
GITLAB = {"header": "X-Gitlab-Token", "algorithm": "plain"}
SLACK_HEX = mac(b"v0:%d:" % MOMENT + BODY).hex()
STRIPE_HEX = mac(b"%d." % MOMENT + BODY).hex()
CASES: list[tuple[dict[str, Any], dict[str, str]]] = [
    # The example in GitHub's documentation.
    (
        GITHUB,
        {
            "x-hub-signature-256": "sha256="
            "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
        },
    ),
    (
        {"header": "X-Hub-Signature", "prefix": "sha1=", "algorithm": "sha1"},
        {"x-hub-signature": "sha1=" + mac(BODY, "sha1").hex()},
    ),
    ({"header": "X-S", "algorithm": "sha512"}, {"x-s": mac(BODY, "sha512").hex().upper()}),
    (
        SLACK,
        {"x-slack-request-timestamp": str(MOMENT), "x-slack-signature": f"v0={SLACK_HEX}"},
    ),
    (STRIPE, {"stripe-signature": f"t={MOMENT},v1={'0' * 64},v1={STRIPE_HEX},v0=x"}),
    (SHOPIFY, {"x-shopify-hmac-sha256": base64.b64encode(mac(BODY)).decode()}),
    (GITLAB, {"x-gitlab-token": SECRET}),
    (
        {**STRIPE, "header": "X-Sinas-Signature"},
        {"x-sinas-signature": callback_signature(SECRET, MOMENT, BODY)},
    ),
]


def check(
    fields: dict[str, Any], headers: dict[str, str], *, secret: str = SECRET, body: bytes = BODY
) -> str | None:
    return refusal(Signature(secret="KEY", **fields), secret, headers, body, NOW)


@pytest.mark.parametrize(("fields", "headers"), CASES)
def test_a_right_signature_is_taken_and_nothing_else(
    fields: dict[str, Any], headers: dict[str, str]
) -> None:
    assert check(fields, headers) is None
    assert check(fields, {}) is not None
    assert check(fields, headers, secret="another") == "The signature is wrong."
    if fields.get("algorithm") != "plain":
        assert check(fields, headers, body=BODY + b" ") == "The signature is wrong."
    name = fields["header"].lower()
    cut = {**headers, name: headers[name].partition(fields.get("prefix") or "\n")[2] or "x"}
    if fields.get("prefix"):
        assert check(fields, {**headers, name: cut[name].partition(",")[0][:10]}) is not None
    assert check(fields, {**headers, name: "é\xff"}) is not None
    assert check(fields, {**headers, name: ""}) is not None


@pytest.mark.parametrize("moment", [MOMENT - 301, MOMENT + 301, "", "soon", "-5", "9" * 30, "١٢"])
def test_old_and_odd_timestamps_are_refused(moment: int | str) -> None:
    digest = mac(f"{moment}.".encode() + BODY).hex()
    reason = check(STRIPE, {"stripe-signature": f"t={moment},v1={digest}"})
    assert reason == "The signature's timestamp is missing, or too far from now."


def test_the_tolerance_is_the_webhooks() -> None:
    moment = MOMENT - 3000
    headers = {"stripe-signature": f"t={moment},v1={mac(f'{moment}.'.encode() + BODY).hex()}"}
    assert check(STRIPE, headers) is not None
    assert check({**STRIPE, "tolerance_seconds": 3600}, headers) is None


def test_a_body_that_looks_like_the_placeholder_is_only_a_body() -> None:
    body = b"{timestamp}{body}"
    digest = mac(b"%d." % MOMENT + body).hex()
    assert check(STRIPE, {"stripe-signature": f"t={MOMENT},v1={digest}"}, body=body) is None
