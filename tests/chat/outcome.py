"""How a turn ended, and what is wrong with that."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from sinas.models import Execution, Message, ToolCall, Turn
from tests.chat.dying import Death
from tests.chat.support import Seen, text_of

# Call ids of sub-agents are made unique.
_NESTED_ID = re.compile(r"(call_\d)_[0-9a-f]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One turn after its end, without ids that differ from turn to turn.

    Attributes:
        deaths: How its first worker ended, and any others that died.
        state: What is stored of it and of sub-agents' turns, and the last question to its model.
        live: What a client saw that followed from before the first death to the end.
        replay: What a client sees that comes afterwards.
        asked: Requests to models, by model.
        effects: How often the code of each execution had its effect.
    """

    deaths: list[Death]
    state: dict[str, Any]
    live: list[Seen]
    replay: list[Seen]
    asked: Counter[str]
    effects: list[int]


async def read_state(session: AsyncSession, chat_id: UUID) -> dict[str, Any]:
    """What is stored of a chat. Fences, generations and takeovers may differ; nothing else may."""
    turns = await session.scalars(select(Turn).where(Turn.chat_id == chat_id))
    calls = await session.scalars(select(ToolCall).where(ToolCall.chat_id == chat_id))
    executions = await session.scalars(select(Execution).where(Execution.chat_id == chat_id))
    messages = await session.scalars(
        select(Message).where(Message.chat_id == chat_id).order_by(Message.seq)
    )
    said = [[m.role, m.content, m.tool_calls, m.tool_call_id, m.name] for m in messages]
    return {
        "turns": [[t.status, t.rounds, t.usage, t.error, t.lease_owner] for t in turns],
        "messages": _in_order_of_calls(said),
        "calls": sorted([c.call_id, c.name, c.arguments, c.status, c.result] for c in calls),
        "executions": sorted(
            [e.tool_call_id, e.function_name, e.status, e.attempt, e.output_data]
            for e in executions
        ),
    }


def _in_order_of_calls(said: Sequence[list[Any]]) -> list[list[Any]]:
    """Results of one round are stored as they come: put them in the order of their ids."""
    ordered: list[list[Any]] = []
    results: list[list[Any]] = []
    for line in said:
        if line[0] == "tool":
            results.append(line)
        else:
            ordered += [*sorted(results, key=lambda result: str(result[3])), line]
            results = []
    return ordered + results


def plain(value: Any, chats: Sequence[UUID]) -> Any:
    """A JSON value with chats as numbers, and call ids as the model chose them."""
    text = orjson.dumps(value).decode()
    for number, chat_id in enumerate(chats):
        text = text.replace(str(chat_id), f"chat {number}")
    return orjson.loads(_NESTED_ID.sub(r"\1", text))


def plain_events(seen: Sequence[Seen], chats: Sequence[UUID]) -> list[Seen]:
    """Events likewise."""
    return [Seen(e.id, e.name, plain(e.data, chats)) for e in seen]


def faults_of(found: Outcome, whole: Outcome) -> list[str]:
    """What is wrong with a turn whose workers died, against one that was left alone."""
    faults = [
        f"{part}: {found.state[part]}, expected {expected}"
        for part, expected in whole.state.items()
        if found.state[part] != expected
    ]
    for who, seen in (("live", found.live), ("replay", found.replay)):
        faults += [f"{who} {fault}" for fault in _faults_of_stream(seen, found, whole)]
    if found.effects != whole.effects or set(found.effects) != {1}:
        faults.append(f"effects {found.effects}, expected {whole.effects}")
    again = found.asked - whole.asked
    # An answer that is complained about is stored with its successor only.
    lost = 1 + whole.asked.total() - _answers(whole)
    if again.total() > lost * sum(1 for death in found.deaths if death.code):
        faults.append(f"models were asked again more often than workers died: {again}")
    return faults


def _answers(found: Outcome) -> int:
    return sum(line[0] == "assistant" for chat in found.state["chats"] for line in chat["messages"])


def _faults_of_stream(seen: Sequence[Seen], found: Outcome, whole: Outcome) -> list[str]:
    faults = []
    stored = [_text_of(chat) for chat in found.state["chats"]]
    expected = (whole.replay, _inner(whole.replay))
    for shown, model, text in zip((seen, _inner(seen)), expected, stored, strict=False):
        if text_of(shown) != text:
            faults.append(f"shows {text_of(shown)!r}, stored is {text!r}")
        if (calls := _calls(shown)) != _calls(model):
            faults.append(f"shows calls {calls}, expected {_calls(model)}")
    # Of a sub-agent's end nothing but the result of its call is sure to be told above.
    ends = [event.data for event in seen if event.name in ("done", "error")]
    if ends != [{"status": "completed"}] or seen[-1].name != "done":
        faults.append(f"ends with {ends} and {seen[-1:]}")
    return faults


def _inner(seen: Sequence[Seen]) -> list[Seen]:
    """What the stream shows of a sub-agent's."""
    return [Seen(e.id, e.data["event"], e.data["data"]) for e in seen if e.name == "sub_agent"]


def _text_of(chat: dict[str, Any]) -> str:
    return "".join(line[1] or "" for line in chat["messages"] if line[0] == "assistant")


def _calls(seen: Sequence[Seen]) -> list[tuple[str, str, str]]:
    """What is said of calls, in no order: those of one round run side by side."""
    return sorted(
        (e.name, e.data["tool_call_id"], e.data.get("result") or e.data["arguments"])
        for e in seen
        if e.name in ("tool_start", "tool_end")
    )
