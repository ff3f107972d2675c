"""What Mistral's API wants different from OpenAI's. Pure."""

import hashlib
import re
from typing import Final

from sinas.kit.json_types import JsonObject, JsonValue

_ACCEPTED_ID: Final = re.compile(r"[a-zA-Z0-9]{9}")


def mistral_messages(messages: list[JsonObject]) -> list[JsonObject]:
    """The messages with every tool-call id in Mistral's form: nine letters or digits.

    Ids come from other providers when a chat changes its model. The same id always maps to
    the same new one, so calls and results still match.
    """
    return [_with_ids(message) for message in messages]


def _with_ids(message: JsonObject) -> JsonObject:
    changed = dict(message)
    if isinstance(call_id := message.get("tool_call_id"), str):
        changed["tool_call_id"] = _accepted(call_id)
    if isinstance(calls := message.get("tool_calls"), list):
        changed["tool_calls"] = [_call_with_id(call) for call in calls]
    return changed


def _call_with_id(call: JsonValue) -> JsonValue:
    if isinstance(call, dict) and isinstance(call_id := call.get("id"), str):
        return {**call, "id": _accepted(call_id)}
    return call


def _accepted(call_id: str) -> str:
    if _ACCEPTED_ID.fullmatch(call_id):
        return call_id
    return hashlib.sha256(call_id.encode()).hexdigest()[:9]
