"""What is made of a service's answer: a value without credentials in it. Pure."""

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import quote

import orjson

from sinas.egress.client import Answer
from sinas.kit.json_text import NotJsonError, encode, storable
from sinas.kit.json_types import JsonObject, JsonValue

_HIDDEN: Final = "[secret]"
# Shorter texts are everywhere, and no credentials.
_MIN_SECRET_CHARS: Final = 4
# A session of the service's, which whoever has it could go on with.
_DROPPED: Final = frozenset({"set-cookie", "set-cookie2"})
_CHARSET = re.compile(r"charset=\"?([A-Za-z0-9_.:-]+)", re.IGNORECASE)
_TEXTUAL = re.compile(
    r"^(text/|application/.*(json|xml|javascript|yaml|urlencoded))", re.IGNORECASE
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CallResult:
    """One call's outcome; an error status is one, too."""

    status_code: int
    headers: dict[str, str]
    body: JsonValue = field(repr=False)
    elapsed_ms: float

    def as_json(self) -> JsonObject:
        """As clients and models get it."""
        return {
            "status_code": self.status_code,
            "headers": dict(self.headers),
            "body": self.body,
            "elapsed_ms": self.elapsed_ms,
        }


def result_of(
    answer: Answer, mapping: str, secrets: Sequence[str], elapsed_ms: float
) -> CallResult:
    """The result of an answer, with `secrets` taken out wherever the service repeats them."""
    hide = _Hiding(secrets)
    headers = {
        name: storable(hide(text))
        for name, text in answer.headers.items()
        if name.lower() not in _DROPPED
    }
    return CallResult(
        status_code=answer.status,
        headers=headers,
        body=_body(answer, mapping, hide),
        elapsed_ms=round(elapsed_ms, 2),
    )


class _Hiding:
    """Replaces credentials in texts, as they are and as they are usually written."""

    def __init__(self, secrets: Sequence[str]) -> None:
        forms: set[str] = set()
        for secret in secrets:
            if len(secret) >= _MIN_SECRET_CHARS:
                forms |= {secret, quote(secret, safe=""), orjson.dumps(secret).decode()[1:-1]}
        # The longest first: one may be a part of another.
        self._forms = sorted(forms, key=len, reverse=True)

    def __call__(self, text: str) -> str:
        for form in self._forms:
            text = text.replace(form, _HIDDEN)
        return text


def _body(answer: Answer, mapping: str, hide: _Hiding) -> JsonValue:
    kind = answer.headers.get("content-type", "")
    if not answer.body:
        return None if mapping == "json" else ""
    text = _text(answer.body, kind)
    if text is None:
        if mapping == "text":
            return storable(hide(answer.body.decode("utf-8", "replace")))
        return {
            "content_type": kind,
            "size_bytes": len(answer.body),
            "base64": base64.b64encode(answer.body).decode(),
        }
    text = hide(text)
    if mapping == "json":
        try:
            # Encoded again to see that it can be stored: no NUL, not too deep, no huge numbers.
            return _checked(orjson.loads(text))
        except (orjson.JSONDecodeError, NotJsonError, RecursionError):
            pass
    return storable(text)


def _checked(value: JsonValue) -> JsonValue:
    encode(value)
    return value


def _text(body: bytes, kind: str) -> str | None:
    """The body as text; None when it is none."""
    match = _CHARSET.search(kind)
    charset = match[1] if match else "utf-8"
    try:
        return body.decode(charset)
    except (LookupError, UnicodeDecodeError):
        return body.decode("utf-8", "replace") if _TEXTUAL.match(kind) else None
