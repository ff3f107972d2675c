"""Checking who sent a body: pure."""

import base64
import hashlib
import hmac
from collections.abc import Iterator, Mapping
from datetime import datetime

from sinas.resources.webhooks.schemas import BODY, TIMESTAMP, Signature


def refusal(
    signature: Signature, secret: str, headers: Mapping[str, str], body: bytes, now: datetime
) -> str | None:
    """Why a body is not from somebody who has the secret, None if it is.

    `headers` has names in lower case. Takes the same time wherever a wrong signature differs.
    """
    given = headers.get(signature.header.lower())
    if given is None:
        return f"The header {signature.header} with the signature is missing."
    timestamp = _timestamp(signature, headers, given)
    if TIMESTAMP in signature.signed_content and not _is_fresh(timestamp, signature, now):
        return "The signature's timestamp is missing, or too far from now."
    expected = _expected(signature, secret.encode(), timestamp, body)
    # Every entry is looked at, so that the time taken says nothing about which was right.
    matches = [hmac.compare_digest(_bytes(one), expected) for one in _entries(signature, given)]
    return None if any(matches) else "The signature is wrong."


def _expected(signature: Signature, secret: bytes, timestamp: str, body: bytes) -> bytes:
    if signature.algorithm == "plain":
        return secret
    before, _, after = signature.signed_content.replace(TIMESTAMP, timestamp).partition(BODY)
    content = before.encode() + body + after.encode()
    digest = hmac.new(secret, content, getattr(hashlib, signature.algorithm)).digest()
    if signature.encoding == "base64":
        return base64.b64encode(digest)
    return digest.hex().encode()


def _entries(signature: Signature, given: str) -> Iterator[str]:
    if not signature.prefix:
        yield _digest(signature, given.strip())
        return
    for entry in given.split(","):
        if entry.strip().startswith(signature.prefix):
            yield _digest(signature, entry.strip().removeprefix(signature.prefix))


def _digest(signature: Signature, text: str) -> str:
    is_hex = signature.encoding == "hex" and signature.algorithm != "plain"
    return text.lower() if is_hex else text


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _timestamp(signature: Signature, headers: Mapping[str, str], given: str) -> str:
    if signature.timestamp_header is not None:
        return headers.get(signature.timestamp_header.lower(), "").strip()
    entries = (entry.strip() for entry in given.split(","))
    return next((entry[2:] for entry in entries if entry.startswith("t=")), "")


def _is_fresh(timestamp: str, signature: Signature, now: datetime) -> bool:
    if not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) <= 12):
        return False
    return abs(now.timestamp() - int(timestamp)) <= signature.tolerance_seconds
