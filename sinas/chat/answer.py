"""One model call: its deltas to the channel, its whole answer back."""

import asyncio
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Final

from sinas.chat import events
from sinas.chat.channel import ChannelWriter, Emitted
from sinas.kit.json_types import JsonObject
from sinas.llm.assemble import TurnText
from sinas.llm.base import Delta, ModelRequest, Usage
from sinas.llm.client import LlmClient
from sinas.llm.failures import failure
from sinas.settings import ChatSettings

_COUNTED: Final = (
    "calls",
    "prompt_tokens",
    "completion_tokens",
    "total_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "unpriced_calls",
    "errors",
)


@dataclass(slots=True)
class TurnUsage:
    """Tokens and calls of a turn so far, in the shape answers carry them."""

    calls: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    errors: int = 0
    unpriced_calls: int = 0
    cost_usd: Decimal = Decimal(0)

    @classmethod
    def read(cls, stored: JsonObject) -> "TurnUsage":
        """Go on counting from a stored value."""
        counts = {name: int(str(stored.get(name, 0))) for name in _COUNTED}
        return cls(**counts, cost_usd=Decimal(str(stored.get("cost_usd") or 0)))

    def add(self, usage: Usage | None, cost: str | None = None) -> None:
        """Count one finished call; `cost` in USD, None where nobody knows it."""
        self.calls += 1
        if cost is None:
            self.unpriced_calls += 1
        else:
            self.cost_usd += Decimal(cost)
        if usage is not None:
            self.prompt_tokens += usage.prompt_tokens
            self.completion_tokens += usage.completion_tokens
            self.total_tokens += usage.total_tokens
            self.cache_read_tokens += usage.cache_read_tokens
            self.cache_write_tokens += usage.cache_write_tokens

    def dump(self) -> JsonObject:
        """As stored and answered. The cost is null when no call had a price."""
        counted: JsonObject = {name: getattr(self, name) for name in _COUNTED}
        priced = self.calls > self.unpriced_calls
        return {**counted, "cost_usd": float(self.cost_usd) if priced else None}


@dataclass(slots=True)
class Replay:
    """Text that a dead worker already showed for this round.

    As long as the new answer repeats it, nothing is sent twice; where it differs, clients are
    told to forget the old text and get the new one whole.
    """

    emitted: Emitted
    _seen: list[str] = field(default_factory=list)
    _over: bool = False

    @property
    def is_over(self) -> bool:
        """Whether deltas go straight out."""
        return self._over or not self.emitted.partial

    def take(self, writer: ChannelWriter, delta: Delta) -> None:
        """Send what of `delta` the clients do not have yet."""
        if delta.content is None and not delta.tool_calls and delta.finish_reason is None:
            return
        self._seen.append(delta.content or "")
        text = "".join(self._seen)
        shown = self.emitted.text
        ends = bool(delta.tool_calls) or delta.finish_reason is not None
        if self.emitted.has_calls or not _agree(shown, text) or (ends and len(text) < len(shown)):
            writer.take_back(self.emitted.partial)
            _put(writer, Delta(text or None, delta.tool_calls, delta.finish_reason))
            self._over = True
        elif len(text) > len(shown) or ends:
            _put(writer, Delta(text[len(shown) :] or None, delta.tool_calls, delta.finish_reason))
            self._over = True

    def close(self, writer: ChannelWriter) -> None:
        """The answer has ended without a word that it would: make clients have all of it."""
        text = "".join(self._seen)
        if self.is_over or (text == self.emitted.text and not self.emitted.has_calls):
            return
        writer.take_back(self.emitted.partial)
        _put(writer, Delta(text or None))
        self._over = True


def _agree(shown: str, text: str) -> bool:
    return shown.startswith(text) or text.startswith(shown)


def _put(writer: ChannelWriter, delta: Delta) -> None:
    if (event := events.chunk(delta)) is not None:
        writer.put(event)


async def stream_answer(
    llm: LlmClient,
    request: ModelRequest,
    writer: ChannelWriter,
    replay: Replay,
    answer: TurnText,
    limits: ChatSettings,
) -> None:
    """Ask the model; every delta goes to `writer` and into `answer`.

    When this is cancelled or raises, `answer` holds what came until then.

    Raises:
        UpstreamError: The provider failed; see `LanguageModel.stream`. Or its answer is longer,
            or makes more tool calls, than `limits` allow.
    """
    stream = llm.stream(request)
    try:
        async for delta in stream:
            answer.add(delta)
            _require_within(limits, request, answer)
            if replay.is_over:
                _put(writer, delta)
            else:
                replay.take(writer, delta)
        replay.close(writer)
    finally:
        close = getattr(stream, "aclose", None)
        if close is not None:
            # Also when cancelled: the provider must not go on generating for nobody.
            await asyncio.shield(close())


def _require_within(limits: ChatSettings, request: ModelRequest, answer: TurnText) -> None:
    if answer.call_count > limits.max_tool_calls:
        what = f"made more than {limits.max_tool_calls} tool calls in one answer (MAX_TOOL_CALLS)"
    elif answer.size > limits.llm_max_answer_chars:
        most = limits.llm_max_answer_chars
        what = f"answered with more than {most} characters (LLM_MAX_ANSWER_CHARS)"
    else:
        return
    raise failure(request, what)


def difference(after: JsonObject, before: JsonObject) -> JsonObject:
    """What a turn used between two states of its usage."""
    found: JsonObject = {}
    for name, value in after.items():
        earlier = before.get(name)
        is_number = isinstance(value, int | float) and isinstance(earlier, int | float)
        found[name] = value - earlier if is_number else value  # type: ignore[operator]
    return found
