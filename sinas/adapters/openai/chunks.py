"""From a turn's events to OpenAI's completion and its chunks. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

import orjson

from sinas.adapters.openai.schemas import (
    ChatCompletion,
    Choice,
    CompletionMessage,
    CompletionUsage,
    PromptTokensDetails,
    SinasState,
)
from sinas.chat import events
from sinas.chat.channel import Entry
from sinas.llm.direct import DONE_EVENT, event_of
from sinas.resources.chats.schemas import PendingApproval, PendingInput

_REASONS: Final = frozenset({"stop", "length", "content_filter"})
_GAP: Final = "\n\n"


class AnswerText:
    """The text of a turn as a client without tools sees it: all rounds, a blank line between.

    An answer of a `fixed` form has to be all of the text, and clients cannot take back what they
    were sent: it is kept until the turn ends, and only that of the last round.

    Attributes:
        finish_reason: Of the last round.
        error: The sentence the turn failed with; None while it did not.
        is_over: Whether the turn's last event was seen.
    """

    def __init__(self, *, fixed: bool = False) -> None:
        self.finish_reason = "stop"
        self.error: str | None = None
        self.is_over = False
        self._is_fixed = fixed
        self._kept: list[str] = []
        self._has_text = False
        self._needs_gap = False

    def take(self, entry: Entry) -> str:
        """What to add to the text; `""` for nothing."""
        if entry.event == events.MESSAGE:
            return self._message(orjson.loads(entry.data))
        kept = ""
        if entry.event in (events.TOOL_START, events.RESET, events.ROUND_SUSPENDED):
            if entry.event != events.ROUND_SUSPENDED:
                self._kept.clear()
            # What comes next is another text, after a reset in place of the one that was begun.
            self._needs_gap = self._has_text
        elif entry.event == events.ERROR:
            self.error = str(orjson.loads(entry.data).get("error") or "The turn failed.")
        elif entry.event == events.DONE:
            kept = self.add("".join(self._kept))
        self.is_over = self.is_over or entry.event in events.TERMINAL
        return kept

    def _message(self, data: Mapping[str, Any]) -> str:
        if data.get("finish_reason") in _REASONS:
            self.finish_reason = data["finish_reason"]
        text = data.get("content")
        if not isinstance(text, str):
            return ""
        if self._is_fixed:
            self._kept.append(text)
            return ""
        return self.add(text)

    def add(self, text: str) -> str:
        """`text` as it continues what was said."""
        if not text:
            return ""
        gap, self._needs_gap, self._has_text = self._needs_gap, False, True
        return _GAP + text if gap else text

    def begin_another(self) -> None:
        """What is added next is a paragraph of its own."""
        self._needs_gap = self._has_text


@dataclass(frozen=True, slots=True)
class Completion:
    """Makes one completion, whole or in chunks.

    Attributes:
        created: Seconds since 1970.
        model: As the client named it.
        has_usage: Whether the stream ends with a chunk of tokens.
    """

    turn_id: UUID
    model: str
    created: int
    has_usage: bool = False

    @property
    def id(self) -> str:
        """The completion's id, the same in all chunks."""
        return f"chatcmpl-{self.turn_id.hex}"

    def whole(
        self, text: str, finish_reason: str, usage: Mapping[str, Any], state: SinasState
    ) -> ChatCompletion:
        """The completion."""
        choice = Choice(
            index=0,
            message=CompletionMessage(role="assistant", content=text, refusal=None),
            logprobs=None,
            finish_reason=finish_reason,
        )
        return ChatCompletion(
            id=self.id,
            object="chat.completion",
            created=self.created,
            model=self.model,
            choices=[choice],
            usage=usage_of(usage),
            sinas=state,
        )

    def begin(self) -> bytes:
        """The first chunk: who speaks."""
        return self._delta({"role": "assistant", "content": ""})

    def text(self, text: str) -> bytes:
        """A piece of the text."""
        return self._delta({"content": text})

    def end(self, finish_reason: str, state: SinasState, usage: Mapping[str, Any]) -> bytes:
        """The last chunks, and the end mark."""
        last = self._delta({}, finish_reason, sinas=state.model_dump(mode="json"))
        if self.has_usage:
            counted = usage_of(usage).model_dump()
            last += event_of({**self._head(), "choices": [], "usage": counted})
        return last + DONE_EVENT

    def _delta(
        self, delta: dict[str, str], finish_reason: str | None = None, **fields: object
    ) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        usage = {"usage": None} if self.has_usage else {}
        return event_of({**self._head(), "choices": [choice], **usage, **fields})

    def _head(self) -> dict[str, object]:
        return {
            "id": self.id,
            "object": "chat.completion.chunk",
            "created": self.created,
            "model": self.model,
        }


def error_events(error: Mapping[str, Any]) -> bytes:
    """The end of a stream that failed after it began."""
    return event_of({"error": error}) + DONE_EVENT


def usage_of(turn: Mapping[str, Any]) -> CompletionUsage:
    """Tokens of a turn, all its model calls together."""
    return CompletionUsage(
        prompt_tokens=turn.get("prompt_tokens") or 0,
        completion_tokens=turn.get("completion_tokens") or 0,
        total_tokens=turn.get("total_tokens") or 0,
        prompt_tokens_details=PromptTokensDetails(cached_tokens=turn.get("cache_read_tokens") or 0),
    )


def waiting_text(approvals: Sequence[PendingApproval], questions: Sequence[PendingInput]) -> str:
    """What a turn waits for, for people whose client shows nothing but text."""
    parts = []
    for question in questions:
        options = f" ({' / '.join(question.options)})" if question.options else ""
        parts.append(f"{question.question}{options}")
    if approvals:
        names = ", ".join(
            dict.fromkeys(
                f"{each.function_namespace}/{each.function_name}"
                if each.function_namespace
                else each.name
                for each in approvals
            )
        )
        parts.append(f"[Waiting for approval of: {names}]")
    return "\n\n".join(parts) or "[The answer is still being worked on.]"
