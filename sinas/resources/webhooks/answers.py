"""What the caller of a webhook gets. Whatever functions return, it stays an answer of theirs.

Raw answers come from the platform's own origin, so they get none of its trust: they are sandboxed
documents of the type they say, set no cookies, and leave the connection alone.
"""

import re
from typing import Any, Final

import orjson
from fastapi import Request, Response

from sinas.kit.json_types import JsonObject, JsonValue
from sinas.models import ExecutionStatus, ResponseMode, TurnStatus, Webhook
from sinas.resources.executions.events import ExecutionEnd
from sinas.resources.webhooks.calls import AgentCalled, FunctionCalled, Outcome, Repeated
from sinas.web.problems import problem

_GUARDS: Final = {
    "x-content-type-options": "nosniff",
    "content-security-policy": "sandbox allow-scripts allow-forms allow-popups",
}
# Belong to the connection (RFC 9110, 7.6.1), to the platform, or would reach beyond this answer.
_REFUSED: Final = frozenset(
    {
        *("connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"),
        *("content-length", "date", "server", "x-request-id", "x-execution-id"),
        *("set-cookie", "set-cookie2", "clear-site-data", "service-worker-allowed"),
        *("strict-transport-security", "public-key-pins", "alt-svc", "origin-agent-cluster"),
        *_GUARDS,
    }
)
_REFUSED_PREFIXES: Final = ("proxy-", "access-control-", "sec-")
_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_RAW_KEYS: Final = frozenset({"_status", "_headers", "_body"})
_WITHOUT_BODY: Final = frozenset({204, 304})


def answer(request: Request, webhook: Webhook, outcome: Outcome) -> Response:
    """The HTTP answer to a call that was accepted."""
    match outcome:
        case Repeated(first):
            return _repeated(request, webhook, first)
        case FunctionCalled(_, ExecutionEnd() as end):
            return _ended(request, webhook, end)
        case FunctionCalled(execution_id):
            return _json({"execution_id": str(execution_id)}, 202)
        case AgentCalled(chat_id, turn_id, None):
            return _json({"chat_id": str(chat_id), "job_id": str(turn_id)}, 202)
        case AgentCalled(chat_id, _, reply):
            return _json({"success": True, "chat_id": str(chat_id), "reply": reply})


def _repeated(request: Request, webhook: Webhook, first: Any) -> Response:
    """The first call's answer again where there is one, else that this was not the first."""
    if webhook.response_mode is ResponseMode.ASYNC:
        return _json({"deduplicated": True})
    if first.execution_status is ExecutionStatus.COMPLETED:
        end = ExecutionEnd(
            execution_id=first.execution_id,
            status=ExecutionStatus.COMPLETED,
            result=first.output_data,
        )
        return _ended(request, webhook, end)
    if first.turn_status is TurnStatus.COMPLETED:
        reply = first.reply or ""
        return _json({"success": True, "chat_id": str(first.chat_id), "reply": reply})
    return _json({"deduplicated": True})


def _ended(request: Request, webhook: Webhook, end: ExecutionEnd) -> Response:
    headers = {"X-Execution-ID": str(end.execution_id)}
    reason = None if end.has_result else end.error or end.status.lower()
    if reason is None and webhook.response_mode is ResponseMode.RAW:
        try:
            response = _raw(end.result)
        except ValueError as error:
            reason = str(error)
        else:
            response.headers.update(headers)
            return response
    if reason is None:
        done: JsonObject = {"success": True, "execution_id": str(end.execution_id)}
        return _json({**done, "result": end.result}, headers=headers)
    status = 504 if end.timed_out else 500
    detail = f"Function execution failed: {reason}"
    return problem(request, status, detail, "function_failed", headers=headers)


def _json(body: JsonValue, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(orjson.dumps(body), status, headers, "application/json")


def _raw(result: JsonValue) -> Response:
    """The bare result; `_status`, `_headers` and `_body` say more.

    Raises:
        ValueError: What they say cannot be sent; the message names the key.
    """
    status, given, body = 200, {}, result
    if isinstance(result, dict) and not _RAW_KEYS.isdisjoint(result):
        status = _status(result.get("_status", 200))
        given = _headers(result.get("_headers"))
        body = result.get("_body")
        if body is None:
            return Response(b"", status, given | _GUARDS)
    if status in _WITHOUT_BODY:
        return Response(None, status, given | _GUARDS)
    if isinstance(body, str):
        content, kind = body.encode(), "text/plain; charset=utf-8"
    else:
        content, kind = orjson.dumps(body), "application/json"
    return Response(content, status, {"content-type": kind} | given | _GUARDS)


def _status(value: JsonValue) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 200 <= value <= 599:
        raise ValueError("_status must be a number from 200 to 599")
    return value


def _headers(value: JsonValue) -> dict[str, str]:
    """Headers that may be sent, names in lower case."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ValueError("_headers must be an object of texts")  # noqa: TRY004 - a user's value
    found = {}
    for name, text in value.items():
        if not isinstance(text, str | int | float) or isinstance(text, bool):
            raise ValueError(f"_headers: the value of '{name}' must be a text")  # noqa: TRY004
        line = str(text)
        if not _TOKEN.fullmatch(name) or not line.isprintable() or not _is_latin(line):
            raise ValueError(f"_headers: '{name}' has characters that headers cannot have")
        lowered = name.lower()
        if lowered not in _REFUSED and not lowered.startswith(_REFUSED_PREFIXES):
            found[lowered] = line
    return found


def _is_latin(text: str) -> bool:
    try:
        text.encode("latin-1")
    except UnicodeEncodeError:
        return False
    return True
