"""Completions of providers with a wire of their own: litellm's OpenAI format, tidied.

Of a request only OpenAI's own parameters are passed on: names that litellm knows besides would
steer it (`api_base` could send the key to a host of the caller's).
"""

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import aclosing
from typing import Any, Final

import orjson

from sinas.errors import UpstreamError
from sinas.llm.direct import DONE_EVENT, DirectAnswer, DirectRequest, encoded, event_of
from sinas.llm.failures import RefusedError, broken, cut, failure
from sinas.llm.litellm_client import (
    ANTHROPIC_MAX_TOKENS,
    PREFIXES,
    TIMER_SLACK_SECONDS,
    LitellmClient,
    base_of,
    failure_of,
    provider_finished,
)
from sinas.llm.openai_chunks import Foreign, usage_of

# fmt: off
_PASSED: Final = frozenset({
    "audio", "frequency_penalty", "logit_bias", "logprobs", "max_completion_tokens", "max_tokens",
    "modalities", "n", "parallel_tool_calls", "prediction", "presence_penalty",
    "reasoning_effort", "response_format", "seed", "stop", "temperature", "thinking",
    "tool_choice", "tools", "top_logprobs", "top_p", "user", "web_search_options",
})
# fmt: on
# What a client would look for in the answer: refused where a provider has nothing like it. All
# else that a provider lacks (`seed`, penalties, …) only tunes and is left out, as other
# compatible servers do.
_LOOKED_FOR: Final = ("n", "logprobs", "top_logprobs", "response_format", "tools")


class LitellmDirect:
    """On the thread of a `LitellmClient`."""

    def __init__(self, client: LitellmClient) -> None:
        self._client = client

    async def ask(self, request: DirectRequest) -> DirectAnswer:
        """Ask, and return when the provider has begun to answer.

        Raises:
            RefusedError: The provider, or litellm for it, refused the request.
            UpstreamError: It could not be reached, or sent something else.
        """
        answer = DirectAnswer()
        items = self._items(request)
        first = await anext(items)
        if not request.is_stream:
            await items.aclose()
            answer.whole, answer.usage = orjson.dumps(first), usage_of(first.get("usage"))
            return answer
        answer.pieces = _pieces(request, first, items, answer)
        return answer

    async def _items(self, request: DirectRequest) -> AsyncGenerator[Foreign, None]:
        """The completion, or its chunks as they come."""
        started = False
        items = self._client.thread().carry(
            lambda litellm: _asked(litellm, request), request.timeout_seconds
        )
        try:
            async with aclosing(items):
                async for item in items:
                    started = True
                    yield item
        except TimeoutError as error:
            raise broken(request, error, started=started) from error
        except (UpstreamError, ImportError):
            raise
        except Exception as error:
            raise failure_of(request, error, started=started) from error
        if not started:
            raise failure(request, "sent an empty response")


async def _asked(litellm: Any, request: DirectRequest) -> AsyncGenerator[Foreign, None]:
    """On litellm's thread: the completion, or its chunks without litellm's own additions."""
    arguments = arguments_of(request)
    _check(litellm, request, arguments)
    answer = await litellm.acompletion(**arguments)
    if not request.is_stream:
        yield _tidy_completion(answer.model_dump(exclude_none=True))
        return
    positions: dict[object, int] = {}
    try:
        async for chunk in answer:
            tidy = _tidy_chunk(chunk.model_dump(exclude_none=True), positions)
            if any(c.get("finish_reason") for c in tidy["choices"]) and not provider_finished(
                answer
            ):
                # litellm ends every stream with a "stop" of its own, also one that was cut.
                raise cut(request)
            yield tidy
    finally:
        close: Callable[[], Awaitable[None]] | None = getattr(answer, "aclose", None)
        if close is not None:
            await close()


def arguments_of(request: DirectRequest) -> dict[str, Any]:
    """Arguments of `litellm.acompletion`."""
    provider, body = request.provider, request.body
    # A copy: litellm edits what it is given in place.
    given = orjson.loads(encoded(body))
    arguments: dict[str, Any] = {
        name: value for name, value in given.items() if name in _PASSED and value is not None
    }
    arguments |= {
        "model": PREFIXES[provider.type] + request.model,
        "messages": given["messages"],
        "stream": request.is_stream,
        "timeout": request.timeout_seconds + TIMER_SLACK_SECONDS,
        "api_base": base_of(provider),
        "drop_params": True,
        "num_retries": 0,
        "max_retries": 0,
        # Offered tools would otherwise make it import the `mcp` package.
        "_skip_mcp_handler": True,
    }
    if request.is_stream:
        arguments["stream_options"] = {"include_usage": True}
    has_limit = {"max_tokens", "max_completion_tokens"} & arguments.keys()
    if provider.type == "anthropic" and not has_limit:
        arguments["max_tokens"] = ANTHROPIC_MAX_TOKENS
    if provider.api_key or provider.type != "ollama":
        # Without one litellm would take whatever key its environment holds.
        arguments["api_key"] = provider.api_key or "none"
    return arguments


def _check(litellm: Any, request: DirectRequest, arguments: dict[str, Any]) -> None:
    """Refuse what a client would miss in the answer.

    Raises:
        RefusedError: 400, naming the parameter.
    """
    kind = PREFIXES[request.provider.type].rstrip("/")
    known = litellm.get_supported_openai_params(request.model, custom_llm_provider=kind) or ()
    for name in _LOOKED_FOR:
        if name in known or not _asks_for_more(name, arguments.get(name)):
            continue
        words = f"LLM provider '{request.provider.name}' has no '{name}' ({kind})."
        raise RefusedError(
            words,
            status=400,
            retry_after=None,
            details={"param": name, "code": "unsupported_parameter"},
        )


def _asks_for_more(name: str, value: object) -> bool:
    return bool(value) and value != {"type": "text"} and not (name == "n" and value == 1)


async def _pieces(
    request: DirectRequest,
    first: Foreign,
    rest: AsyncGenerator[Foreign, None],
    answer: DirectAnswer,
) -> AsyncGenerator[bytes, None]:
    async with aclosing(rest):
        for event in _events(request, first, answer):
            yield event
        async for chunk in rest:
            for event in _events(request, chunk, answer):
                yield event
    yield DONE_EVENT


def _events(request: DirectRequest, chunk: Foreign, answer: DirectAnswer) -> Iterator[bytes]:
    """A chunk, its usage in one of its own, as OpenAI sends them."""
    usage = chunk.pop("usage", None)
    if usage is not None:
        answer.usage = usage_of(usage) or answer.usage
    if usage is None or any(_says_something(choice) for choice in chunk["choices"]):
        yield event_of({**chunk, "usage": None} if request.wants_usage else chunk)
    if usage is not None and request.wants_usage:
        yield event_of({**chunk, "choices": [], "usage": usage})


def _says_something(choice: Foreign) -> bool:
    return bool(choice.get("delta") or choice.get("finish_reason"))


def _tidy_completion(completion: Foreign) -> Foreign:
    for choice in completion.get("choices", ()):
        message = choice["message"]
        message.pop("provider_specific_fields", None)
        message.setdefault("content", None)
        for call in message.get("tool_calls") or ():
            call.pop("index", None)
        choice.setdefault("logprobs", None)
    return completion


def _tidy_chunk(chunk: Foreign, positions: dict[object, int]) -> Foreign:
    """Fields in OpenAI's shape; tool calls counted from 0, as clients index lists by them."""
    for choice in chunk["choices"]:
        delta = choice.setdefault("delta", {})
        delta.pop("provider_specific_fields", None)
        choice.setdefault("finish_reason", None)
        for call in delta.get("tool_calls") or ():
            key = (choice.get("index"), call.get("index"))
            call["index"] = positions.setdefault(key, len(positions))
    return chunk
