"""Many chats with one agent at once, each with one message to answer."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import insert, select

from sinas.auth.principal import Principal
from sinas.chat.pushing import push_turn_row
from sinas.db.unit import Unit
from sinas.errors import BadRequestError
from sinas.kit.ids import uuid7
from sinas.kit.json_types import JsonObject
from sinas.kit.time import utcnow
from sinas.models import Agent, Batch, CallbackStatus, Chat, Execution, Message, Turn, TurnStatus
from sinas.queue.lanes import agent_lane
from sinas.resources.chats.beginnings import chat_columns, initial_messages, validated_input
from sinas.settings import Settings
from sinas.tracing.spans import current_span


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """One of the chats.

    Attributes:
        error: Why the input was rejected; None when the turn is queued.
    """

    chat_id: UUID
    turn_id: UUID
    error: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ManyChats:
    """Opens the chats of a batch, for one caller.

    Attributes:
        prefix: The turn of input i has the trigger id `<prefix>:<i>`.
        delay: How long after now the turns may start at the earliest.
        callback_url: Told how each turn ended; checked by whoever accepts it.
    """

    unit: Unit
    principal: Principal
    settings: Settings
    batch: Batch
    prefix: str
    delay: timedelta = timedelta(0)
    callback_url: str | None = None

    async def open(
        self, agent: Agent, said: Sequence[tuple[JsonObject | None, str]]
    ) -> list[Opened]:
        """Record the chats, in four statements for all, and queue their turns after the commit.

        One chat for each agent input and message (as it is stored), in their order, which is
        that of the turns' ids, too. Input that breaks the agent's schema is a failed turn in a
        chat without input; the others go on.
        """
        # Sorted, so that the order of the ids is that of the messages.
        keys = sorted(uuid7() for _ in said)
        chats: list[dict[str, Any]] = []
        turns: list[dict[str, Any]] = []
        before: list[dict[str, Any]] = []
        asked: list[dict[str, Any]] = []
        parent = await self._parent()
        for number, (key, (given, content)) in enumerate(zip(keys, said, strict=True)):
            agent_input, error = _checked(agent, given)
            turn = self._turn(agent, key, number, error) | {"parent_execution_id": parent}
            chat = chat_columns(
                agent,
                self.principal.user_id,
                agent_input,
                title=f"batch:{self.batch.id}:{number}",
                active_channel_id=turn["channel_id"],
                last_message_at=utcnow(),
            )
            turn["chat_id"] = chat["id"]
            chats.append(chat)
            turns.append(turn)
            before += await initial_messages(agent, chat["id"], agent_input)
            asked.append(_asked(turn, content))
            # Others wait on this loop, and there may be a thousand.
            await asyncio.sleep(0)
        for model, rows in ((Chat, chats), (Turn, turns), (Message, before), (Message, asked)):
            if rows:
                await self.unit.session.execute(insert(model), rows)
        self._queue(turns)
        return [
            Opened(chat_id=turn["chat_id"], turn_id=turn["id"], error=turn["error"])
            for turn in turns
        ]

    async def _parent(self) -> UUID | None:
        """The execution whose code asks, unless it is gone by now."""
        key = self.principal.execution_id
        if key is None:
            return None
        return await self.unit.session.scalar(select(Execution.id).where(Execution.id == key))

    def _turn(self, agent: Agent, key: UUID, number: int, error: str | None) -> dict[str, Any]:
        now = utcnow()
        return {
            "id": key,
            "user_id": self.principal.user_id,
            "access": self.principal.limit_map,
            "lane": agent_lane(
                self.settings.function, depth=self.principal.depth, is_in_batch=True
            ),
            "channel_id": str(uuid4()),
            # Nobody follows it, so nobody's leaving may stop it.
            "keep_alive": True,
            "timeout_seconds": agent.default_job_timeout or self.settings.chat.agent_job_timeout,
            "batch_id": self.batch.id,
            "trigger_id": f"{self.prefix}:{number}",
            "callback_url": self.callback_url,
            "callback_status": CallbackStatus.PENDING if self.callback_url else None,
            "traceparent": current_span().traceparent,
            "status": TurnStatus.FAILED if error else TurnStatus.QUEUED,
            "error": error,
            "error_code": BadRequestError.code if error else None,
            "queued_at": now + self.delay,
            "finished_at": now if error else None,
        }

    def _queue(self, turns: Sequence[dict[str, Any]]) -> None:
        for turn in turns:
            if turn["error"] is None:
                push_turn_row(self.unit, turn["id"], 0, turn["lane"], self.delay)


def _checked(agent: Agent, given: JsonObject | None) -> tuple[JsonObject, str | None]:
    try:
        return validated_input(agent, given), None
    except BadRequestError as error:
        return {}, error.message


def _asked(turn: dict[str, Any], content: str) -> dict[str, Any]:
    return {
        "id": uuid7(),
        "chat_id": turn["chat_id"],
        "turn_id": turn["id"],
        "role": "user",
        "content": content,
    }
