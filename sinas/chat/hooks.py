"""Hooks: functions that see messages before the model or after it, and may change or stop them.

Each runs once for a message, whatever dies meanwhile: the call's key names turn, message and
place, and a second call with the same key finds the first one's answer. For an answer the key
names its text too: a successor's model may say something else, which nobody has seen yet.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final
from uuid import UUID, uuid5

import orjson
from sqlalchemy import select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import aliased

from sinas.chat.journal import Journal, Subject
from sinas.context import AppContext
from sinas.kit.json_text import storable
from sinas.kit.json_types import JsonObject, JsonValue
from sinas.models import HookRewrite, Message
from sinas.tools.hooks import HookCall, HookRunner

BLOCKED: Final = "Message blocked by hook"
_WAIT_SECONDS: Final = 300.0
_earlier_reply = aliased(Message)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What hooks made of a text.

    Attributes:
        text: What is to be stored: the text, changed or not, or the reply instead of it.
        is_blocked: Whether the message stops here.
        reply_id: The message that the reply to a blocked one becomes.
    """

    text: str
    is_blocked: bool = False
    reply_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class _Fired:
    """An asynchronous hook, and the text it was shown."""

    call: HookCall
    text: str


@dataclass(frozen=True, slots=True)
class MessageHooks:
    """The hooks of one turn."""

    app: AppContext
    runner: HookRunner | None
    journal: Journal
    subject: Subject
    _checked: set[UUID] = field(default_factory=set)

    @property
    def holds_back(self) -> bool:
        """Whether clients get no text of a final answer before it has passed."""
        return any(
            hook.get("hold_back") and not hook.get("async") for hook in self._on("assistant")
        )

    async def user(self) -> tuple[Verdict | None, bool]:
        """Show new messages of the user to the hooks.

        What stops the turn, if one did, and whether messages were changed.
        """
        hooks = self._on("user")
        if not hooks or self.runner is None:
            return None, False
        changed = False
        for message_id, content in await self._messages():
            if message_id in self._checked:
                continue
            self._checked.add(message_id)
            text = content or ""
            verdict, fired = await self._pass(hooks, "user", text, str(message_id))
            await self._fire(fired)
            if verdict.is_blocked:
                reply_id = uuid5(message_id, "reply")
                if not await self._withhold(message_id, reply_id):
                    return replace(verdict, reply_id=reply_id), changed
            elif verdict.text != text:
                changed = True
                await self._rewrite(message_id, content=storable(verdict.text))
        return None, changed

    async def assistant(self, text: str, message_id: UUID) -> str:
        """Show a final answer to the hooks before it is stored as that message; what becomes of it.

        What asynchronous hooks return rewrites the message when they have ended, unless another
        hook has changed it since they were shown it.
        """
        hooks = self._on("assistant")
        if not hooks or self.runner is None:
            return text
        digest = hashlib.sha256(text.encode(errors="backslashreplace")).hexdigest()[:32]
        place = f"{self.journal.turn.rounds}:{digest}"
        verdict, fired = await self._pass(hooks, "assistant", text, place)
        await self._fire(fired, message_id, None if verdict.is_blocked else verdict.text)
        return verdict.text

    def _on(self, role: str) -> Sequence[dict[str, Any]]:
        agent = self.subject.agent
        hooks: Any = (agent.hooks if agent else None) or {}
        return hooks.get(f"on_{role}_message") or ()

    async def _messages(self) -> Sequence[tuple[UUID, str | None]]:
        """What the user said in this turn."""
        statement = (
            select(Message.id, Message.content)
            .where(Message.turn_id == self.journal.turn.id, Message.role == "user")
            .order_by(Message.seq)
        )
        async with self.app.statement_sessions() as session:
            return [(key, content) for key, content in await session.execute(statement)]

    async def _pass(
        self, hooks: Sequence[dict[str, Any]], role: str, text: str, place: str
    ) -> tuple[Verdict, list[_Fired]]:
        """What synchronous hooks make of a text, and the others up to where it was stopped."""
        assert self.runner is not None
        fired: list[_Fired] = []
        for position, hook in enumerate(hooks):
            key = f"hook:{self.journal.turn.id}:{role}:{place}:{position}"
            call = self._call(hook["function"], role, text, key)
            if hook.get("async"):
                fired.append(_Fired(call, text))
                continue
            answer = await self.runner.ask(call, _WAIT_SECONDS)
            if answer.failure is None:
                verdict = verdict_of(answer.value, text)
            elif hook.get("on_timeout") == "block":
                verdict = Verdict(f"Message blocked: hook '{call.function}' failed.", True)
            else:
                continue
            if verdict.is_blocked:
                return verdict, fired
            text = verdict.text
        return Verdict(text), fired

    async def _fire(
        self, fired: Sequence[_Fired], message_id: UUID | None = None, text: str | None = None
    ) -> None:
        """Start asynchronous hooks; those that saw `text` may rewrite the message."""
        if not fired or self.runner is None:
            return
        async with self.app.unit() as unit:
            for one in fired:
                execution_id = await self.runner.fire(unit, one.call)
                if execution_id is None or message_id is None or one.text != text:
                    continue
                row = insert(HookRewrite).values(
                    execution_id=execution_id,
                    message_id=message_id,
                    turn_id=self.journal.turn.id,
                )
                await unit.session.execute(
                    row.on_conflict_do_update(
                        index_elements=["execution_id"], set_={"message_id": message_id}
                    )
                )

    async def _rewrite(self, message_id: UUID, **columns: Any) -> None:
        async with self.app.statement_unit() as unit:
            await unit.session.execute(
                update(Message).where(Message.id == message_id).values(**columns)
            )

    async def _withhold(self, message_id: UUID, reply_id: UUID) -> bool:
        """Keep a message from the model for ever. Whether its reply is stored already."""
        is_answered = select(_earlier_reply.id).where(_earlier_reply.id == reply_id).exists()
        statement = (
            update(Message)
            .where(Message.id == message_id)
            .values(is_blocked=True)
            .returning(is_answered)
        )
        async with self.app.statement_unit() as unit:
            return bool((await unit.session.execute(statement)).scalar())

    def _call(self, function: str, role: str, text: str, key: str) -> HookCall:
        chat, principal = self.subject.chat, self.subject.principal
        payload: JsonObject = {
            "message": {"role": role, "content": storable(text)},
            "chat_id": str(chat.id),
            "agent": {"namespace": chat.agent_namespace, "name": chat.agent_name},
            "session_key": chat.session_key,
            "user_id": str(principal.user_id),
        }
        return HookCall(
            function=function, principal=principal, chat_id=chat.id, payload=payload, key=key
        )


def verdict_of(value: JsonValue, text: str) -> Verdict:
    """What a hook's return value means for a text."""
    if not isinstance(value, dict):
        return Verdict(text)
    if value.get("block"):
        reply = value.get("reply")
        return Verdict(reply if isinstance(reply, str) and reply else BLOCKED, True)
    match value.get("content"):
        case str() as content:
            return Verdict(content)
        case list() | dict() as content:  # parts of a message, or structured output
            return Verdict(orjson.dumps(content).decode())
        case _:
            return Verdict(text)
