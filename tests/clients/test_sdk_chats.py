"""Chats through the SDK: making, finding, changing them, and talking in them."""

import json
from typing import Any

import pytest

from tests.chat.support import Talks
from tests.clients.sdk import Sdk, SdkError
from tests.factories.functions import make_function
from tests.support.llm_script import Answer, Call, words

pytestmark = pytest.mark.usefixtures("agent_worker", "function_worker")
SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}


async def chat_of(sdk: Sdk, talks: Talks, *answers: Answer, **agent: Any) -> str:
    """A new chat with an agent whose model gives these answers; its id."""
    talk = await talks(answers, **agent)
    made = await sdk("chats.create", talk.agent.namespace, talk.agent.name)
    return str(made["id"])


async def test_a_chat_from_its_beginning_to_its_end(sdk: Sdk, talks: Talks) -> None:
    talk = await talks([words(3)], input_schema=SCHEMA, name="helper", namespace="shop")
    chat = await sdk(
        "chats.create", "shop", "helper", input={"n": "7"}, title="Order", expires_in=3600
    )
    assert (chat["title"], chat["agent_name"], chat["archived"]) == ("Order", "helper", False)
    assert chat["expires_at"] is not None
    with pytest.raises(SdkError) as refused:
        await sdk("chats.create", "shop", "helper", input={"n": "x"})
    assert (refused.value.status, refused.value.type) == (400, "SinasAPIError")
    answer = await sdk("chats.send", chat["id"], "hello")
    assert (answer["role"], answer["content"]) == ("assistant", words(3).text)
    assert (answer["status"], answer["pending_inputs"]) == ("completed", [])
    assert answer["usage"]["calls"] == 1
    assert answer["usage"]["total_tokens"] > 0
    parts = [{"type": "text", "text": "once more"}]
    assert (await sdk("chats.send", chat["id"], parts))["content"] == words(3).text
    found = await sdk("chats.get", chat["id"])
    assert [m["role"] for m in found["messages"]] == ["user", "assistant"] * 2
    renamed = await sdk("chats.update", chat["id"], title="Order 7")
    assert renamed["title"] == "Order 7"
    assert await sdk("chats.delete", chat["id"]) is None
    listed = [each["id"] for each in await sdk("chats.list")]
    assert listed == [talk.chat_id]
    everything = [each["id"] for each in await sdk("chats.list", include_archived=True)]
    assert set(everything) == {talk.chat_id, chat["id"]}


async def test_lists_in_pages(sdk: Sdk, talks: Talks, monkeypatch: pytest.MonkeyPatch) -> None:
    talk = await talks([words(1)])
    await sdk("chats.delete", talk.chat_id)
    made = []
    for number in range(7):
        chat = await sdk(
            "chats.create", talk.agent.namespace, talk.agent.name, title=f"number {number}"
        )
        made.append(chat["id"])
    newest_first = made[::-1]
    page = await sdk("chats.list_page", limit=3)
    assert [chat["id"] for chat in page["chats"]] == newest_first[:3]
    assert page["truncated"] is False
    rest = await sdk("chats.list_page", limit=50, cursor=page["next_cursor"])
    assert [chat["id"] for chat in rest["chats"]] == newest_first[3:]
    assert rest["next_cursor"] is None
    assert [c["id"] for c in await sdk("chats.list", q="NUMBER 4")] == [made[4]]
    assert [c["id"] for c in await sdk("chats.list", limit=2)] == newest_first[:2]
    everything = [chat["id"] for chat in await sdk.all("chats.iter_all", page_size=2)]
    assert everything == newest_first
    monkeypatch.setitem(vars(talks.context.settings.chat), "chats_unpaginated_max", 5)
    assert [c["id"] for c in await sdk("chats.list")] == newest_first[:5]


async def test_streams(sdk: Sdk, talks: Talks) -> None:
    await make_function(talks.context, await talks.as_.user("user"), namespace="shop", name="find")
    chat_id = await chat_of(
        sdk,
        talks,
        Answer(chunks=("Let me ", "look."), calls=(Call("shop__find", '{"x": "1"}', id="call_a"),)),
        Answer(thinking=("hm",), chunks=("Here ", "it is.")),
        enabled_functions=["shop/find"],
    )
    data = [json.loads(text) for text in await sdk.all("chats.stream", chat_id, "find it")]
    said = "".join(each.get("content") or "" for each in data)
    assert said == "Let me look.Here it is."
    events = await sdk.all("chats.stream_events", chat_id, "again", include_thinking=True)
    kinds = [event["event"] for event in events]
    assert kinds[-1] == "done"
    assert set(kinds) == {"message", "tool_start", "tool_end", "done"}
    assert events[-1]["data"] == {"status": "completed"}
    assert [e["data"]["name"] for e in events if e["event"] == "tool_start"] == ["shop__find"]
    thoughts = [e["data"]["thinking"] for e in events if "thinking" in e["data"]]
    assert "".join(thoughts) == "hm"
    assert all(event["id"] for event in events)
    channel = (await sdk("chats.get", chat_id))["active_channel_id"]
    replayed = await sdk.all("chats.follow_channel", chat_id, channel, include_thinking=True)
    assert replayed == events
    later = await sdk.all("chats.follow_channel", chat_id, channel, last_id=events[3]["id"])
    assert [event["id"] for event in later] == [event["id"] for event in events[4:]]


async def test_a_failing_model(sdk: Sdk, talks: Talks) -> None:
    chat_id = await chat_of(sdk, talks, Answer(status=401))
    with pytest.raises(SdkError) as refused:
        await sdk("chats.send", chat_id, "hello")
    assert (refused.value.status, refused.value.type) == (502, "SinasAPIError")
    assert "the API key was not accepted" in str(refused.value)
    events = await sdk.all("chats.stream_events", chat_id, "hello")
    assert [event["event"] for event in events] == ["error"]
    assert "the API key was not accepted" in events[0]["data"]["error"]


async def test_one_shots_and_sessions(sdk: Sdk, talks: Talks) -> None:
    talk = await talks([words(2)], input_schema=SCHEMA)
    name = (talk.agent.namespace, talk.agent.name)
    once = await sdk("chats.invoke", *name, "hello", input={"n": 1})
    assert (once["reply"], once["status"], once["session_key"]) == (
        words(2).text,
        "completed",
        None,
    )
    first = await sdk("chats.invoke", *name, "hello", session_key="slack:1")
    again = await sdk("chats.invoke", *name, "hello", session_key="slack:1")
    assert first["chat_id"] == again["chat_id"] != once["chat_id"]
    anew = await sdk("chats.invoke", *name, "hello", session_key="slack:1", reset=True)
    assert anew["chat_id"] != first["chat_id"]
    assert anew["usage"]["calls"] == 1
