"""Hooks: functions that see messages before the model or after it, and may change or stop them.

Each runs once for a message, whatever dies meanwhile: the call's key names turn, message and
place, and a second call with the same key finds the first one's answer.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

from sqlalchemy import select, update
from sqlalchemy.dialects.postgresql import insert

from sinas.chat.journal import Journal, Subject
from sinas.context import AppContext
from sinas.kit.json_text import storable
from sinas.kit.json_types import JsonObject, JsonValue
from sinas.models import HookRewrite, Message
from sinas.tools.hooks import HookCall, HookRunner

BLOCKED: Final = "Message blocked by hook"
_WAIT_SECONDS: Final = 300.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """What hooks made of a text.

    Attributes:
        text: What is to be stored: the text, changed or not, or the reply instead of it.
        is_blocked: Whether the message stops here.
    """

    text: str
    is_blocked: bool = False


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
        statement = (
            select(Message.id, Message.content)
            .where(Message.turn_id == self.journal.turn.id, Message.role == "user")
            .order_by(Message.seq)
        )
        async with self.app.statement_sessions() as session:
            messages = (await session.execute(statement)).all()
        changed = False
        for message_id, content in messages:
            if message_id in self._checked:
                continue
            self._checked.add(message_id)
            text = content or ""
            verdict = await self._pass(hooks, "user", text, str(message_id))
            if verdict.is_blocked:
                return verdict, changed
            if verdict.text != text:
                changed = True
                async with self.app.statement_unit() as unit:
                    await unit.session.execute(
                        update(Message)
                        .where(Message.id == message_id)
                        .values(content=storable(verdict.text))
                    )
        return None, changed

    async def assistant(self, text: str, message_id: UUID) -> Verdict:
        """Show a final answer to the hooks before it is stored as that message.

        What asynchronous ones return rewrites the message when they have ended.
        """
        hooks = self._on("assistant")
        if not hooks or self.runner is None:
            return Verdict(text)
        place = f"{self.journal.turn.rounds}"
        verdict = await self._pass(hooks, "assistant", text, place, message_id)
        return Verdict(verdict.text)

    def _on(self, role: str) -> Sequence[dict[str, Any]]:
        agent = self.subject.agent
        hooks: Any = (agent.hooks if agent else None) or {}
        return hooks.get(f"on_{role}_message") or ()

    async def _pass(
        self,
        hooks: Sequence[dict[str, Any]],
        role: str,
        text: str,
        place: str,
        message_id: UUID | None = None,
    ) -> Verdict:
        assert self.runner is not None
        for position, hook in enumerate(hooks):
            key = f"hook:{self.journal.turn.id}:{role}:{place}:{position}"
            call = self._call(hook["function"], role, text, key)
            if hook.get("async"):
                await self._fire(self.runner, call, message_id)
                continue
            answer = await self.runner.ask(call, _WAIT_SECONDS)
            if answer.failure is not None:
                if hook.get("on_timeout") == "block":
                    return Verdict(f"Message blocked: hook '{call.function}' failed.", True)
                continue
            verdict = verdict_of(answer.value, text)
            if verdict.is_blocked:
                return verdict
            text = verdict.text
        return Verdict(text)

    async def _fire(self, runner: HookRunner, call: HookCall, message_id: UUID | None) -> None:
        async with self.app.unit() as unit:
            execution_id = await runner.fire(unit, call)
            if execution_id is None or message_id is None:
                return
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

    def _call(self, function: str, role: str, text: str, key: str) -> HookCall:
        chat, principal = self.subject.chat, self.subject.principal
        payload: JsonObject = {
            "message": {"role": role, "content": text},
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
    if value.get("block") is True:
        reply = value.get("reply")
        return Verdict(reply if isinstance(reply, str) and reply else BLOCKED, True)
    content = value.get("content")
    return Verdict(content if isinstance(content, str) else text)
