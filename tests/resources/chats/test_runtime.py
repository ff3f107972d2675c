"""Creating, listing, changing and sending, over HTTP."""

from __future__ import annotations

import base64
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest
from sqlalchemy import func, select, update

from sinas.models import Chat, Message
from tests.chat.support import Talks
from tests.factories.chats import make_agent, make_chat, make_message
from tests.support.llm_script import Answer, words

if TYPE_CHECKING:
    from sinas.context import AppContext
    from tests.fixtures.client import SignIn

CHAT_FIELDS = {
    "id", "user_id", "user_email", "agent_id", "agent_namespace", "agent_name", "title",
    "archived", "session_key", "expires_at", "keep_alive", "active_channel_id", "created_at",
    "updated_at", "last_message_at",
}  # fmt: skip
MESSAGE_FIELDS = {
    "id", "chat_id", "role", "content", "tool_calls", "tool_call_id", "name", "created_at"
}  # fmt: skip
INPUT_SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "n": {"type": "integer"}},
    "required": ["name"],
}


class TestCreating:
    async def test_a_new_chat(self, context: AppContext, as_: SignIn) -> None:
        client = await as_()
        agent = await make_agent(context, await as_.user(), namespace="shop", name="helper")
        response = await client.post("/agents/shop/helper/chats", json={})
        assert response.status_code == 200
        body = response.json()
        assert set(body) == CHAT_FIELDS
        assert body["title"] == "Chat with shop/helper"
        assert body["agent_id"] == str(agent.id)
        assert (body["agent_namespace"], body["agent_name"]) == ("shop", "helper")
        assert body["user_email"] == "user@example.com"
        assert body["last_message_at"] is body["keep_alive"] is body["session_key"] is None
        assert (await client.post("/agents/shop/helper/chats")).status_code == 200

    async def test_options_and_the_agents_defaults(self, context: AppContext, as_: SignIn) -> None:
        client = await as_()
        await make_agent(
            context,
            await as_.user(),
            name="a",
            default_keep_alive=True,
            default_job_timeout=42,
        )
        path = "/agents/default/a/chats"
        assert (await client.post(path, json={})).json()["keep_alive"] is True
        body = {"title": "T", "keep_alive": False, "expires_in": 60, "job_timeout": 7}
        chat = (await client.post(path, json=body)).json()
        assert (chat["title"], chat["keep_alive"]) == ("T", False)
        assert chat["expires_at"] > chat["created_at"]
        async with context.sessions() as session:
            found = await session.scalars(select(Chat.job_timeout).order_by(Chat.created_at))
            assert list(found) == [42, 7]

    @pytest.mark.parametrize(
        ("given", "status", "says"),
        [
            ({"name": "Ann"}, 200, ""),
            ({"name": "Ann", "n": "3"}, 200, ""),
            ({}, 400, "Input validation failed: "),
            ({"name": "Ann", "n": "many"}, 400, "Input validation failed: "),
            (None, 200, ""),
        ],
    )
    async def test_input_is_checked_and_coerced(
        self, context: AppContext, as_: SignIn, given: Any, status: int, says: str
    ) -> None:
        client = await as_()
        await make_agent(context, await as_.user(), name="a", input_schema=INPUT_SCHEMA)
        response = await client.post("/agents/default/a/chats", json={"input": given})
        assert response.status_code == status
        async with context.sessions() as session:
            stored = await session.scalar(select(Chat.agent_input))
        if status != 200:
            assert response.json()["detail"].startswith(says)
            assert stored is None
        elif given and "n" in given:
            assert stored == {"name": "Ann", "n": 3}
        else:
            assert stored == (given or {})

    @pytest.mark.parametrize(
        "body",
        [
            {"expires_in": 0},
            {"job_timeout": -1},
            {"keep_alive": "often"},
            {"input": []},
            {"titel": "x"},
            {"expires_in": 10**30},
        ],
    )
    async def test_bad_bodies(self, context: AppContext, as_: SignIn, body: Any) -> None:
        client = await as_()
        await make_agent(context, await as_.user(), name="a")
        response = await client.post("/agents/default/a/chats", json=body)
        assert response.status_code == 422
        assert next(iter(body)) in response.json()["detail"]

    async def test_agents_that_cannot_be_talked_to(self, context: AppContext, as_: SignIn) -> None:
        client, nobody = await as_(), await as_("nobody")
        await make_agent(context, await as_.user(), name="off", is_active=False)
        await make_agent(context, await as_.user(), name="on")
        assert (await client.post("/agents/default/off/chats", json={})).status_code == 404
        assert (await client.post("/agents/default/none/chats", json={})).status_code == 404
        refused = await nobody.post("/agents/default/on/chats", json={})
        assert refused.status_code == 403
        assert refused.json()["detail"] == "Not authorized to chat with agent 'default/on'"
        # Whether it exists is not told to those who may not chat with it.
        assert (await nobody.post("/agents/default/none/chats", json={})).status_code == 403

    async def test_api_keys_chat_within_their_limits(
        self, context: AppContext, as_: SignIn
    ) -> None:
        await make_agent(context, await as_.user(), namespace="shop", name="a")
        await make_agent(context, await as_.user(), namespace="home", name="a")
        client = await as_.key("user", ["sinas.agents/shop/*.chat:all"])
        assert (await client.post("/agents/shop/a/chats", json={})).status_code == 200
        assert (await client.post("/agents/home/a/chats", json={})).status_code == 403


class TestReading:
    async def test_detail_has_messages_in_order(self, talks: Talks, agent_worker: object) -> None:
        talk = await talks([words(2)])
        await talk.stream("one")
        await talk.stream("two")
        detail = await talk.detail()
        assert set(detail) == CHAT_FIELDS | {"messages", "pending_approvals", "pending_inputs"}
        assert all(set(m) == MESSAGE_FIELDS for m in detail["messages"])
        assert [m["role"] for m in detail["messages"]] == ["user", "assistant"] * 2
        assert detail["last_message_at"] >= detail["messages"][-1]["created_at"][:19]

    async def test_other_peoples_chats_do_not_exist(self, talks: Talks) -> None:
        talk = await talks([words(1)])
        stranger = await talks.as_("stranger")
        path = f"/chats/{talk.chat_id}"
        assert (await stranger.get(path)).status_code == 404
        assert (await stranger.put(path, json={"title": "mine"})).status_code == 404
        assert (await stranger.delete(path)).status_code == 404
        send = await stranger.post(f"{path}/messages", json={"content": "x"})
        assert send.status_code == 403
        assert (await stranger.get("/chats")).json() == []
        # Nor for an admin.
        admin = await talks.as_("admin")
        assert (await admin.get(path)).status_code == 404

    async def test_unknown_ids(self, as_: SignIn) -> None:
        client = await as_()
        unknown = "/chats/00000000-0000-7000-8000-000000000000"
        for method, path, body in [
            ("GET", unknown, None),
            ("PUT", unknown, {"title": "x"}),
            ("DELETE", unknown, None),
            ("POST", f"{unknown}/messages", {"content": "x"}),
            ("POST", f"{unknown}/messages/stream", {"content": "x"}),
            ("GET", f"{unknown}/stream/x", None),
            ("POST", f"{unknown}/approve-tool/x", {"approved": True}),
        ]:
            response = await client.request(method, path, json=body)
            assert (response.status_code, path) == (404, path)
        assert (await client.get("/chats/not-a-uuid")).status_code == 422


class TestChanging:
    async def test_rename_archive_restore(self, talks: Talks) -> None:
        talk = await talks()
        path = f"/chats/{talk.chat_id}"
        renamed = (await talk.client.put(path, json={"title": "New"})).json()
        assert set(renamed) == CHAT_FIELDS
        assert (renamed["title"], renamed["archived"]) == ("New", False)
        assert renamed["updated_at"] >= talk.chat["updated_at"]
        assert (await talk.client.put(path, json={"archived": True})).json()["archived"]
        assert (await talk.client.get("/chats")).json() == []
        listed = (await talk.client.get("/chats?include_archived=true")).json()
        assert [c["title"] for c in listed] == ["New"]
        restored = (await talk.client.put(path, json={"archived": False})).json()
        assert (restored["archived"], restored["title"]) == (False, "New")
        assert (await talk.client.put(path, json={"titel": "x"})).status_code == 422
        assert (await talk.client.put(path, json={"title": 7})).status_code == 422

    async def test_delete_archives_and_keeps_messages(
        self, talks: Talks, agent_worker: object
    ) -> None:
        talk = await talks([words(2)])
        await talk.stream()
        path = f"/chats/{talk.chat_id}"
        assert (await talk.client.delete(path)).status_code == 204
        detail = await talk.detail()
        assert detail["archived"] is True
        assert len(detail["messages"]) == 2
        assert (await talk.client.get("/chats")).json() == []

    async def test_expired_chats_are_invisible_and_then_gone(
        self, talks: Talks, context: AppContext
    ) -> None:
        from sinas.resources.chats.jobs import purge

        talk = await talks([words(1)], chat={"expires_in": 60})
        kept = await talks.open(talk.client, talk.agent, {"expires_in": 60})
        row = await make_chat(context, await talks.as_.user(), None)
        await make_message(context, row)
        async with context.unit() as unit:
            await unit.session.execute(
                update(Chat)
                .where(Chat.id.in_([talk.chat_id, row.id]))
                .values(expires_at=func.now() - timedelta(seconds=1))
            )
        assert (await talk.client.get(f"/chats/{talk.chat_id}")).status_code == 404
        assert (await talk.send()).status_code == 404
        assert [c["id"] for c in (await talk.client.get("/chats")).json()] == [kept.chat_id]
        await purge(context)
        async with context.sessions() as session:
            assert list(await session.scalars(select(Chat.id))) == [UUID(kept.chat_id)]
            assert await session.scalar(select(func.count()).select_from(Message)) == 0


class TestListing:
    async def some(self, context: AppContext, as_: SignIn, count: int = 7) -> list[str]:
        """Titles of new chats, newest first."""
        user = await as_.user()
        for number in range(count):
            await make_chat(context, user, None, title=f"chat {number}")
        return [f"chat {number}" for number in reversed(range(count))]

    async def test_all_at_once_has_no_headers(self, context: AppContext, as_: SignIn) -> None:
        client = await as_()
        titles = await self.some(context, as_)
        response = await client.get("/chats")
        assert [c["title"] for c in response.json()] == titles
        assert all(set(c) == CHAT_FIELDS for c in response.json())
        assert "x-next-cursor" not in response.headers
        assert "x-truncated" not in response.headers

    async def test_pages_follow_each_other(self, context: AppContext, as_: SignIn) -> None:
        client = await as_()
        titles = await self.some(context, as_)
        found: list[str] = []
        params: dict[str, Any] = {"limit": 3}
        sizes = []
        while True:
            response = await client.get("/chats", params=params)
            found += [c["title"] for c in response.json()]
            sizes.append(len(response.json()))
            if (cursor := response.headers.get("x-next-cursor")) is None:
                break
            assert "x-truncated" not in response.headers
            params = {"limit": 3, "cursor": cursor}
        assert found == titles
        assert sizes == [3, 3, 1]

    async def test_a_cursor_stays_where_it_was(self, context: AppContext, as_: SignIn) -> None:
        client = await as_()
        titles = await self.some(context, as_)
        first = await client.get("/chats?limit=3")
        seen = [c["title"] for c in first.json()]
        # One that was seen moves up, a new one comes, the one the cursor stands on goes.
        await client.put(f"/chats/{first.json()[1]['id']}", json={"title": "moved"})
        await make_chat(context, await as_.user(), None, title="new")
        await client.delete(f"/chats/{first.json()[2]['id']}")
        rest = await client.get("/chats", params={"cursor": first.headers["x-next-cursor"]})
        assert seen + [c["title"] for c in rest.json()] == titles

    async def test_equal_times_are_told_apart(self, context: AppContext, as_: SignIn) -> None:
        client = await as_()
        await self.some(context, as_)
        async with context.unit() as unit:
            await unit.session.execute(update(Chat).values(updated_at=func.now()))
        ids: list[str] = []
        params: dict[str, Any] = {"limit": 2}
        while params:
            response = await client.get("/chats", params=params)
            ids += [c["id"] for c in response.json()]
            cursor = response.headers.get("x-next-cursor")
            params = {"limit": 2, "cursor": cursor} if cursor else {}
        assert len(ids) == len(set(ids)) == 7

    async def test_the_cap_is_announced(
        self, context: AppContext, as_: SignIn, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(vars(context.settings.chat), "chats_unpaginated_max", 5)
        client = await as_()
        titles = await self.some(context, as_)
        response = await client.get("/chats")
        assert [c["title"] for c in response.json()] == titles[:5]
        assert response.headers["x-truncated"] == "true"
        rest = await client.get("/chats", params={"cursor": response.headers["x-next-cursor"]})
        assert [c["title"] for c in rest.json()] == titles[5:]

    @pytest.mark.parametrize(
        ("query", "expected"),
        [("ALPHA", ["alpha 100%", "Alphabet"]), ("100%", ["alpha 100%"]), ("_", []), ("x", [])],
    )
    async def test_search_by_title(
        self, context: AppContext, as_: SignIn, query: str, expected: list[str]
    ) -> None:
        client = await as_()
        for title in ("beta", "Alphabet", "alpha 100%"):
            await make_chat(context, await as_.user(), None, title=title)
        response = await client.get("/chats", params={"q": query})
        assert [c["title"] for c in response.json()] == expected

    @pytest.mark.parametrize(
        "cursor",
        [
            "nonsense",
            "\u00fc",
            base64.urlsafe_b64encode(b"2026-01-01T00:00:00|x").decode(),
            base64.urlsafe_b64encode(
                b"2026-01-01T00:00:00|00000000-0000-7000-8000-000000000000"
            ).decode(),
            base64.urlsafe_b64encode(
                b"0001-01-01T00:00:00+23:59|00000000-0000-7000-8000-000000000000"
            ).decode(),
        ],
    )
    async def test_a_cursor_that_is_none(self, as_: SignIn, cursor: str) -> None:
        client = await as_()
        response = await client.get("/chats", params={"cursor": cursor})
        assert response.status_code == 422
        assert "X-Next-Cursor" in response.json()["detail"]

    @pytest.mark.parametrize("limit", ["0", "201", "-1", "x"])
    async def test_bad_limits(self, as_: SignIn, limit: str) -> None:
        client = await as_()
        assert (await client.get(f"/chats?limit={limit}")).status_code == 422

    async def test_one_statement_whatever_the_number(
        self, context: AppContext, as_: SignIn, query_counter: Any
    ) -> None:
        client = await as_()
        await self.some(context, as_, 30)
        await client.get("/chats")
        with query_counter() as queries:
            await client.get("/chats")
        assert queries.count <= 2, queries.statements


class TestSending:
    pytestmark = pytest.mark.usefixtures("agent_worker")

    async def test_the_answer_is_the_message(self, talks: Talks) -> None:
        talk = await talks([words(3)])
        response = await talk.send("hi")
        assert response.status_code == 200
        body = response.json()
        assert set(body) == MESSAGE_FIELDS | {
            "status", "pending_inputs", "pending_approvals", "channel_id", "usage"
        }  # fmt: skip
        assert (body["role"], body["content"]) == ("assistant", words(3).text)
        assert (body["status"], body["pending_inputs"], body["channel_id"]) == (
            "completed",
            [],
            None,
        )
        stored = (await talk.detail())["messages"][-1]
        assert {key: body[key] for key in MESSAGE_FIELDS} == stored

    async def test_a_restart_of_redis_does_not_lose_the_answer(self, talks: Talks) -> None:
        talk = await talks([Answer(chunks=("one ", "two"), delay=0.05)])
        await talk.context.redis.client_kill_filter(_type="pubsub", skipme=False)
        assert (await talk.send()).json()["content"] == "one two"

    async def test_an_agent_that_is_switched_off_does_not_answer(self, talks: Talks) -> None:
        talk = await talks([words(1)])
        path = f"/api/v1/agents/default/{talk.agent.name}"
        await talk.client.put(path, json={"is_active": False})
        answer = await talk.send()
        assert (answer.status_code, answer.json()["code"]) == (409, "conflict"), answer.text
        assert await talk.messages() == []
        await talk.client.put(path, json={"is_active": True})
        assert (await talk.send()).status_code == 200

    async def test_archived_chats_can_be_talked_in(self, talks: Talks) -> None:
        talk = await talks([words(1)])
        await talk.client.delete(f"/chats/{talk.chat_id}")
        assert (await talk.send()).status_code == 200
