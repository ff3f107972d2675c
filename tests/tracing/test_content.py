import json
from typing import Any

import pytest

from sinas.kit.json_types import JsonObject
from sinas.tracing.content import MAX_CHARS, messages_text


def written(*messages: dict[str, Any]) -> Any:
    return json.loads(messages_text(messages))


def test_each_role_has_its_parts() -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}}
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    assert written(
        {"role": "system", "content": "be kind"},
        {"role": "user", "content": [{"type": "text", "text": "look"}, picture]},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "42"},
        {"role": "assistant", "content": "done", "finish_reason": "stop"},
    ) == [
        {"role": "system", "parts": [{"type": "text", "content": "be kind"}]},
        {"role": "user", "parts": [{"type": "text", "content": "look"}, {"type": "image_url"}]},
        {
            "role": "assistant",
            "parts": [{"type": "tool_call", "id": "c1", "name": "f", "arguments": '{"x": 1}'}],
        },
        {
            "role": "tool",
            "parts": [{"type": "tool_call_response", "id": "c1", "response": "42"}],
        },
        {
            "role": "assistant",
            "parts": [{"type": "text", "content": "done"}],
            "finish_reason": "stop",
        },
    ]


def test_the_newest_messages_are_kept() -> None:
    messages: list[JsonObject] = [
        {"role": "user", "content": f"{n:03} " + "x" * 996} for n in range(40)
    ]
    text = messages_text(messages)
    assert len(text) <= MAX_CHARS
    note, *kept = json.loads(text)
    assert [part["parts"][0]["content"][:3] for part in kept] == [
        f"{n:03}" for n in range(40 - len(kept), 40)
    ]
    assert len(kept) >= 8
    assert f"({40 - len(kept)} earlier messages left out" in note["parts"][0]["content"]


@pytest.mark.parametrize(
    "content",
    [
        "long " * 5000,
        '"\\\n' * 8000,
        [{"type": "text", "text": "a" * 3000}] * 20,
        [{"type": "picture"}] * 5000,
    ],
)
def test_one_message_too_long_is_cut_and_stays_json(content: Any) -> None:
    text = messages_text([{"role": "user", "content": content}])
    assert len(text) <= MAX_CHARS
    assert json.loads(text)


def test_odd_messages_do_no_harm() -> None:
    assert written({"role": "user", "content": 3, "tool_calls": [None, {"function": 1}]}) == [
        {
            "role": "user",
            "parts": [{"type": "tool_call", "id": None, "name": None, "arguments": ""}],
        }
    ]
    assert messages_text([]) == "[]"
    assert written({"role": "user", "content": "\ud800"})[0]["parts"][0]["content"] == "\ud800"
