"""Nobody gains rights: not by keys, not by other people's chats, not by sub-agents."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson
import pytest
from sqlalchemy import select

from sinas.models import Chat, Execution, TurnStatus
from tests.chat.support import Seen, Talk, Talks, text_of
from tests.chat.test_questions import answered
from tests.chat.test_sub_agents import ASK, ended, helper, results, turns
from tests.factories.functions import make_function
from tests.support.llm_script import Answer, Call

if TYPE_CHECKING:
    import httpx

pytestmark = pytest.mark.usefixtures("agent_worker", "function_worker")
FINAL = Answer(chunks=("the ", "end"))
DANGER = Call("shop__danger", '{"x": 1}', id="call_0")
QUESTION = Call("ask_user", '{"question": "Which one?"}', id="call_0")
CHAT_ONLY = ["sinas.agents/*/*.chat:all"]


async def dangerous(talks: Talks, **agent: Any) -> Talk:
    owner = await talks.as_.user()
    await make_function(
        talks.context, owner, namespace="shop", name="danger", requires_approval=True
    )
    agent.setdefault("enabled_functions", ["shop/*"])
    return await talks([Answer(calls=(DANGER,)), FINAL], **agent)


async def decide(client: httpx.AsyncClient, talk: Talk, **body: Any) -> httpx.Response:
    path = f"/chats/{talk.chat_id}/approve-tool/call_0"
    return await client.post(path, json={"approved": True, **body})


async def test_a_limited_key_may_approve_but_not_change_arguments(talks: Talks) -> None:
    talk = await dangerous(talks)
    await talk.stream()
    key = await talks.as_.key("user", CHAT_ONLY)
    refused = await decide(key, talk, arguments={"x": 2})
    assert refused.status_code == 403
    assert "arguments" in refused.json()["detail"]
    assert (await decide(key, talk)).status_code == 202
    assert (await talk.idle()).status is TurnStatus.COMPLETED
    async with talks.context.sessions() as session:
        assert await session.scalar(select(Execution.input_data)) == {"x": 1}


async def test_the_key_that_began_the_turn_may_change_arguments(talks: Talks) -> None:
    talk = await dangerous(talks)
    key = await talks.as_.key("user", CHAT_ONLY)
    await key.post(f"/chats/{talk.chat_id}/messages", json={"content": "go"})
    assert (await decide(key, talk, arguments={"x": 2})).status_code == 202
    assert (await talk.idle()).status is TurnStatus.COMPLETED


async def test_changed_arguments_do_not_reach_locked_parameters(talks: Talks) -> None:
    locked = {"shop/danger": {"x": {"value": 7, "locked": True}}}
    talk = await dangerous(talks, function_parameters=locked)
    await talk.stream()
    assert (await talk.decide("call_0", approved=True, arguments={"x": 2, "y": 3})).is_success
    assert (await talk.idle()).status is TurnStatus.COMPLETED
    async with talks.context.sessions() as session:
        assert await session.scalar(select(Execution.input_data)) == {"x": 7, "y": 3}


async def test_changed_arguments_of_a_sub_agents_call_do_not_reach_other_chats(
    talks: Talks,
) -> None:
    """A foreign `_chat_id` is refused, whoever put it there."""
    await helper(talks, [FINAL])
    stranger = await talks(model="echo", who="stranger")
    talk = await talks(
        [Answer(calls=(ASK,)), FINAL],
        enabled_agents=["team/*"],
        tool_approvals={"default": "ask"},
    )
    await talk.stream()
    changed = {"prompt": "x", "_chat_id": stranger.chat_id}
    await talk.decide("call_0", approved=True, arguments=changed)
    assert (await talk.idle()).status is TurnStatus.COMPLETED
    (result,) = [orjson.loads(c or "") for role, c in await talk.messages() if role == "tool"]
    assert result["error"] == "not_found"
    assert await stranger.messages() == []


async def reading(talks: Talks, call_id: str, client: httpx.AsyncClient | None = None) -> Any:
    """What another conversation's agent gets for a result's id."""
    arguments = orjson.dumps({"tool_call_id": call_id}).decode()
    owner = await talks.as_.user()
    await make_function(talks.context, owner, namespace="shop", name="other")
    talk = await talks(
        [Answer(calls=(Call("retrieve_tool_result", arguments),)), FINAL],
        namespace="mine",
        enabled_functions=["shop/other"],
    )
    path = f"/chats/{talk.chat_id}/messages/stream"
    answer = await (client or talk.client).post(path, json={"content": "read"})
    assert answer.status_code == 200
    (result,) = [orjson.loads(c or "") for role, c in await talk.messages() if role == "tool"]
    return result


async def secret(talks: Talks, who: str = "user") -> None:
    code = "def handler(input_data, context):\n    return 'secret'\n"
    await make_function(
        talks.context, await talks.as_.user(who), code, namespace="shop", name="secret"
    )
    call = Answer(calls=(Call("shop__secret", id="call_secret"),))
    talk = await talks([call, FINAL], who=who, enabled_functions=["shop/secret"])
    await talk.stream()


async def test_results_of_other_chats_can_be_read_by_their_user_alone(talks: Talks) -> None:
    await secret(talks)
    assert (await reading(talks, "call_secret"))["result"] == "secret"


async def test_results_of_other_people_cannot_be_read(talks: Talks) -> None:
    await secret(talks, "stranger")
    assert (await reading(talks, "call_secret"))["error"] == "Tool result not found"


async def test_a_limited_key_reads_no_results_of_agents_it_may_not_speak_to(talks: Talks) -> None:
    await secret(talks)
    key = await talks.as_.key("user", ["sinas.agents/mine/*.chat:all"])
    assert (await reading(talks, "call_secret", key))["error"] == "Tool result not found"


async def test_strangers_reach_nothing_of_a_sub_agent(talks: Talks) -> None:
    await helper(talks, [Answer(calls=(QUESTION,)), FINAL], system_tools=["askUser"])
    talk = await talks([Answer(calls=(ASK,)), FINAL], enabled_agents=["team/*"])
    await talk.stream()
    (asked,) = (await talk.detail())["pending_inputs"]
    stranger = await talks.as_("stranger")
    call_id = asked["tool_call_id"]
    async with talks.context.sessions() as session:
        chats = list((await session.execute(select(Chat.id, Chat.active_channel_id))).all())
    assert len(chats) == 2
    for chat_id, channel_id in chats:
        base = f"/chats/{chat_id}"
        assert (await stranger.get(base)).status_code == 404
        assert (await stranger.get(f"{base}/pending-input")).status_code == 404
        assert (await stranger.get(f"{base}/stream/{channel_id}")).status_code == 403
        for path, body in (
            (f"pending-input/{call_id}", {"answer": "x"}),
            (f"approve-tool/{call_id}", {"approved": True}),
            ("stop", {}),
            ("messages", {"content": "x"}),
        ):
            assert (await stranger.post(f"{base}/{path}", json=body)).status_code == 403
    assert (await stranger.get("/approvals")).json() == []
    assert [t.status for t in await turns(talks)] == [TurnStatus.WAITING] * 2


async def continuing(talks: Talks, chat_id: str) -> list[Seen]:
    """A conversation whose agent goes on with a chat of the helper's."""
    arguments = orjson.dumps({"prompt": "and now?", "_chat_id": chat_id}).decode()
    call = Call("call_agent_team__helper", arguments, id="call_0")
    talk = await talks([Answer(calls=(call,)), FINAL], enabled_agents=["team/*"])
    seen = await talk.stream()
    if seen[-1].data == {"status": "suspended"}:
        (waiting,) = (await talk.detail())["pending_inputs"]
        (asked,) = [e.data for e in seen if e.name == "input_required"]
        assert waiting["tool_call_id"] == asked["tool_call_id"]
        answer = await answered(talk, waiting["tool_call_id"], wait=True)
        assert answer.json()["reply"] == "the end"
    return seen


async def test_a_chat_of_ones_own_that_a_sub_agent_goes_on_with_asks_at_the_top(
    talks: Talks,
) -> None:
    agent = await helper(talks, [Answer(calls=(QUESTION,)), FINAL], system_tools=["askUser"])
    own = await talks.open(await talks.as_(), agent)
    seen = await continuing(talks, own.chat_id)
    assert seen[-1].data == {"status": "suspended"}


async def test_a_chat_that_waits_for_the_call_is_not_gone_on_with(talks: Talks) -> None:
    """Each would wait for the other, for ever."""
    ping = await helper(talks, [], "ping", enabled_agents=["team/pong"])
    await helper(talks, [], "pong", enabled_agents=["team/ping"])
    talk = await talks.open(await talks.as_(), ping)
    back = orjson.dumps({"prompt": "you", "_chat_id": talk.chat_id}).decode()
    pong = Call("call_agent_team__pong", '{"prompt": "p"}')
    talks.llm.script("ping", [Answer(calls=(pong,)), FINAL], by="round")
    talks.llm.script(
        "pong", [Answer(calls=(Call("call_agent_team__ping", back),)), FINAL], by="round"
    )
    seen = await talk.stream()
    assert text_of(seen) == "the end"
    inner = [
        e.data["data"] for e in seen if e.name == "sub_agent" and e.data["event"] == "tool_end"
    ]
    assert "waits for this call" in orjson.loads(inner[0]["result"])["message"]
    assert results(seen)[0]["response"] == "the end"


async def test_always_allow_counts_for_the_sub_agents_next_chat(talks: Talks) -> None:
    owner = await talks.as_.user()
    await make_function(
        talks.context, owner, namespace="shop", name="danger", requires_approval=True
    )
    await helper(talks, [Answer(calls=(DANGER,)), FINAL], enabled_functions=["shop/*"])
    talk = await talks(
        [Answer(calls=(ASK,)), FINAL], enabled_agents=["team/*"], enabled_functions=["shop/*"]
    )
    await talk.stream()
    (waiting,) = (await talk.detail())["pending_approvals"]
    await talk.decide(waiting["tool_call_id"], approved=True, always_allow=True)
    assert await ended(talks) == [TurnStatus.COMPLETED] * 2
    assert (await talk.stream("again"))[-1].data == {"status": "completed"}
    # For that agent in that conversation alone.
    talks.llm.script("scripted", [Answer(calls=(DANGER,)), FINAL], by="round")
    assert (await talk.stream("you"))[-1].data == {"status": "suspended"}
    talks.llm.script("scripted", [Answer(calls=(ASK,)), FINAL], by="round")
    other = await talks.open(talk.client, talk.agent)
    assert (await other.stream())[-1].data == {"status": "suspended"}


@pytest.mark.parametrize("text", ["a\x00b", "\ud800"])
async def test_answers_and_arguments_that_cannot_be_stored(talks: Talks, text: str) -> None:
    """Text as clients may send it; never a fault of the server."""
    talk = await dangerous(talks, system_tools=["askUser"])
    await talk.stream()
    body = orjson.loads(b"{}") | {"approved": True}
    raw = orjson.dumps(body)[:-1] + b', "arguments": {"x": "' + _escaped(text) + b'"}}'
    headers = {"content-type": "application/json"}
    path = f"/chats/{talk.chat_id}/approve-tool/call_0"
    assert (await talk.client.post(path, content=raw, headers=headers)).status_code == 422
    asking = await talks([Answer(calls=(QUESTION,)), FINAL], system_tools=["askUser"])
    await asking.stream()
    path = f"/chats/{asking.chat_id}/pending-input/call_0"
    raw = b'{"answer": "' + _escaped(text) + b'"}'
    answer = await asking.client.post(path, content=raw, headers=headers)
    assert answer.status_code in (202, 422), answer.text


def _escaped(text: str) -> bytes:
    return "".join(f"\\u{ord(letter):04x}" for letter in text).encode()
