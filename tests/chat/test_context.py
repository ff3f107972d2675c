"""What really arrives at the provider."""

from typing import Any
from uuid import UUID

import orjson
import pytest

from sinas.chat.journal import Journal
from sinas.chat.prompt import Line
from sinas.models import Turn
from tests.chat.support import Talk, Talks, text_of
from tests.factories.chats import make_agent, make_message
from tests.factories.llm import make_provider
from tests.support.llm_script import Answer, words

pytestmark = pytest.mark.usefixtures("agent_worker")


def sent(talks: Talks) -> dict[str, Any]:
    return talks.llm.requests[-1].body


async def test_temperature_and_max_tokens_are_sent(talks: Talks) -> None:
    talk = await talks([words(1)], temperature=0.15, max_tokens=77)
    await talk.stream()
    body = sent(talks)
    assert (body["temperature"], body["model"]) == (0.15, "scripted")
    assert 77 in (body.get("max_tokens"), body.get("max_completion_tokens"))
    assert body["stream"] is True
    assert "tools" not in body
    header = talks.llm.requests[-1].headers["authorization"]
    assert header == "Bearer sk-upstream"


async def test_defaults(talks: Talks) -> None:
    talk = await talks([words(1)])
    await talk.stream()
    assert sent(talks)["temperature"] == 0.7
    assert "max_tokens" not in sent(talks)


async def test_prompt_initial_messages_and_history_in_order(talks: Talks) -> None:
    talk = await talks(
        [Answer(chunks=("Hello Ann.",))],
        system_prompt="You help {{ name }}.",
        initial_messages=[
            {"role": "user", "content": "I am {{ name }}"},
            {"role": "assistant", "content": "Welcome, {{ name }}"},
            {"role": "user", "content": "{{ missing }} stays"},
        ],
        chat={"input": {"name": "Ann"}},
    )
    assert await talk.messages() == [
        ("user", "I am Ann"),
        ("assistant", "Welcome, Ann"),
        ("user", "{{ missing }} stays"),
    ]
    await talk.stream("first")
    await talk.stream("second")
    assert [(m["role"], m["content"]) for m in sent(talks)["messages"]] == [
        ("system", "You help Ann."),
        ("user", "I am Ann"),
        ("assistant", "Welcome, Ann"),
        ("user", "{{ missing }} stays"),
        ("user", "first"),
        ("assistant", "Hello Ann."),
        ("user", "second"),
    ]


async def test_long_prompts_and_messages_are_filled_in_too(talks: Talks) -> None:
    """On a thread: they are parsed anew each time."""
    long = "x" * 20_000
    talk = await talks(
        [words(1)],
        system_prompt=f"{long}{{{{ name }}}}",
        initial_messages=[{"role": "user", "content": f"{{{{ name }}}}{long}"}],
        chat={"input": {"name": "Ann"}},
    )
    await talk.stream("first")
    assert [m["content"] for m in sent(talks)["messages"]] == [f"{long}Ann", f"Ann{long}", "first"]


async def test_without_input_templates_stay_as_they_are(talks: Talks) -> None:
    talk = await talks([words(1)], system_prompt="Say {{ this }}.")
    await talk.stream()
    assert sent(talks)["messages"][0]["content"] == "Say {{ this }}."


async def test_a_prompt_that_fails_is_an_error_that_names_agent_and_variable(
    talks: Talks,
) -> None:
    talk = await talks(
        [words(1)], system_prompt="You help {{ nmae }}.", chat={"input": {"name": "Ann"}}
    )
    seen = await talk.stream()
    assert seen[-1].name == "error"
    assert "nmae" in seen[-1].data["error"]
    assert f"default/{talk.agent.name}" in seen[-1].data["error"]
    assert await talk.messages() == [("user", "hello")]
    answer = await talk.send("again")
    assert answer.status_code == 422
    assert "nmae" in answer.json()["detail"]
    assert len(talks.llm.requests) == 0


async def test_prompts_cannot_reach_into_the_process(talks: Talks) -> None:
    prompt = "{{ name.__class__.__mro__[1].__subclasses__() }}"
    talk = await talks([words(1)], system_prompt=prompt, chat={"input": {"name": "x"}})
    seen = await talk.stream()
    assert seen[-1].name == "error"
    assert len(talks.llm.requests) == 0


async def test_an_output_schema_is_an_instruction(talks: Talks) -> None:
    schema = {"type": "object", "properties": {"city": {"type": "string"}}}
    talk = await talks([words(1)], system_prompt="Short.", output_schema=schema)
    await talk.stream()
    system = sent(talks)["messages"][0]["content"]
    assert system.startswith("Short.\n\n")
    assert orjson.loads(system.split("```json\n")[1].split("\n```")[0]) == schema


async def test_history_has_a_window(talks: Talks, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(vars(talks.context.settings.chat), "max_history_messages", 4)
    talk = await talks([words(1)])
    for number in range(10):
        await make_message(talk.context, chat_row(talk), content=f"m{number}")
    await talk.stream("last")
    assert [m["content"] for m in sent(talks)["messages"]] == ["m7", "m8", "m9", "last"]


async def test_a_round_larger_than_the_window_is_sent_whole(
    talks: Talks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(vars(talks.context.settings.chat), "max_history_messages", 4)
    talk = await talks([words(1)])
    ids = [f"c{number}" for number in range(40)]
    calls = [
        {"id": i, "type": "function", "function": {"name": "t", "arguments": "{}"}} for i in ids
    ]
    await make_message(talk.context, chat_row(talk), content="do it")
    await make_message(
        talk.context, chat_row(talk), role="assistant", content=None, tool_calls=calls
    )
    for i in ids:
        await make_message(
            talk.context, chat_row(talk), role="tool", content=f"r{i}", tool_call_id=i, name="t"
        )
    rows = await history_of(talk)
    assert [row.tool_call_id for row in rows if row.role == "tool"] == ids
    assert rows[-41].tool_calls == calls


async def history_of(talk: Talk) -> list[Line]:
    """What the context builder is given for a turn of this chat."""
    turn = Turn(chat_id=UUID(talk.chat_id), seq=0)
    async with talk.context.sessions() as session:
        return await Journal(talk.context, turn).history(session, 4)


def chat_row(talk: Talk) -> Any:
    """Enough of a chat for the factories."""
    return type("Row", (), {"id": talk.chat_id})


async def test_a_call_without_a_result_is_sent_as_interrupted(talks: Talks) -> None:
    talk = await talks([words(1)])
    calls = [{"id": "c1", "type": "function", "function": {"name": "t", "arguments": "{}"}}]
    await make_message(talk.context, chat_row(talk), content="do it")
    await make_message(
        talk.context, chat_row(talk), role="assistant", content=None, tool_calls=calls
    )
    await talk.stream("and?")
    messages = sent(talks)["messages"]
    assert [m["role"] for m in messages] == ["user", "assistant", "tool", "user"]
    assert messages[2]["tool_call_id"] == "c1"
    assert messages[2]["content"] == "[Error: function call was interrupted or timed out]"


async def test_parts_are_stored_as_json_and_converted_for_the_provider(talks: Talks) -> None:
    talk = await talks([words(1)])
    parts = [
        {"type": "text", "text": "what is this?"},
        {"type": "image", "image": "data:image/png;base64,AAAA"},
        {"type": "audio", "data": "BBBB", "format": "wav"},
    ]
    await talk.stream(parts)
    role, stored = (await talk.messages())[0]
    assert role == "user"
    assert orjson.loads(stored or "") == parts
    assert sent(talks)["messages"][0]["content"] == [
        {"type": "text", "text": "what is this?"},
        {
            "type": "image_url",
            "image_url": {"url": "data:image/png;base64,AAAA", "detail": "auto"},
        },
        {"type": "input_audio", "input_audio": {"data": "BBBB", "format": "wav"}},
    ]
    await talk.stream("and now?")
    assert sent(talks)["messages"][0]["content"][0] == {"type": "text", "text": "what is this?"}


@pytest.mark.parametrize(
    "content",
    [
        "",
        [],
        [{"type": "video", "url": "x"}],
        [{"type": "text"}],
        [{"type": "image", "image": "x", "detail": "huge"}],
        7,
        None,
        {"type": "text", "text": "x"},
        "a\x00b",
    ],
)
async def test_content_that_is_none_is_refused_and_nothing_is_stored(
    talks: Talks, content: Any
) -> None:
    talk = await talks([words(1)])
    response = await talk.send(content)
    assert response.status_code == 422
    assert response.json()["detail"]
    assert await talk.messages() == []
    assert await talk.turns() == []


async def test_the_default_provider_and_its_model(talks: Talks) -> None:
    await make_provider(
        talks.context, talks.llm.openai_url, is_default=True, default_model="words-50"
    )
    agent = await make_agent(talks.context, await talks.as_.user())
    talk = await talks.open(await talks.as_(), agent)
    assert text_of(await talk.stream()) == words(50).text
    assert sent(talks)["model"] == "words-50"


async def test_no_provider_at_all(talks: Talks) -> None:
    agent = await make_agent(talks.context, await talks.as_.user(), name="lonely")
    talk = await talks.open(await talks.as_(), agent)
    seen = await talk.stream()
    assert seen[-1].name == "error"
    assert "Agent 'default/lonely' has no LLM provider" in seen[-1].data["error"]


async def test_a_deleted_provider_is_an_error_that_names_it(talks: Talks) -> None:
    talk = await talks([words(1)], provider={"name": "Acme"})
    admin = await talks.as_("admin")
    path = f"/api/v1/llm-providers/{talk.agent.llm_provider_id}"
    assert (await admin.delete(path)).status_code == 204
    seen = await talk.stream()
    assert (seen[-1].name, "'Acme'" in seen[-1].data["error"]) == ("error", True)


async def test_a_chat_outlives_its_agent_without_prompt_and_tools(talks: Talks) -> None:
    talk = await talks([words(1)], system_prompt="Be brief.", enabled_functions=["a/*"])
    await make_provider(
        talks.context, talks.llm.openai_url, is_default=True, default_model="words-50"
    )
    admin = await talks.as_("admin")
    path = f"/api/v1/agents/default/{talk.agent.name}"
    assert (await admin.delete(path)).status_code == 204
    assert text_of(await talk.stream()) == words(50).text
    assert [m["role"] for m in sent(talks)["messages"]] == ["user"]
    assert "tools" not in sent(talks)
    assert (await talk.detail())["agent_name"] == talk.agent.name


@pytest.mark.parametrize("wire", ["anthropic", "ollama", "mistral"])
async def test_other_providers_get_the_same_conversation(talks: Talks, wire: str) -> None:
    talk = await talks(
        [words(3)],
        system_prompt="Short.",
        provider={"provider_type": wire},
        temperature=0.3,
    )
    if wire != "mistral":
        admin = await talks.as_("admin")
        path = f"/api/v1/llm-providers/{talk.agent.llm_provider_id}"
        await admin.patch(path, json={"api_endpoint": talks.llm.url})
    assert text_of(await talk.stream()) == words(3).text
    body = sent(talks)
    assert 0.3 in (body.get("temperature"), body.get("options", {}).get("temperature"))
    assert talks.llm.requests[-1].wire == ("openai" if wire == "mistral" else wire)
