"""litellm behind our protocol: official OpenAI, Anthropic, Ollama and Mistral, with their quirks."""

import ast
import asyncio
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import aclosing
from typing import Any, Final

import httpx
import orjson
from typing_extensions import override

from sinas.errors import UpstreamError
from sinas.llm.base import Delta, LanguageModel, ModelRequest, Provider
from sinas.llm.failures import (
    Asked,
    broken,
    cut,
    failure,
    message_in,
    message_of,
    refused,
    shorten,
)
from sinas.llm.litellm_thread import LitellmThread
from sinas.llm.openai_chunks import delta_of

PREFIXES: Final = {
    "openai": "openai/",
    "anthropic": "anthropic/",
    "mistral": "mistral/",
    "ollama": "ollama_chat/",  # "ollama/" would use /api/generate, which has no tools
}
_ENDPOINTS: Final = {
    "mistral": "https://api.mistral.ai/v1",
    "ollama": "http://localhost:11434",
}
# What litellm appends itself.
_SUFFIXES: Final = {"anthropic": ("/v1/messages", "/v1"), "ollama": ("/api/chat", "/api", "/v1")}
ANTHROPIC_MAX_TOKENS: Final = 16_384
# litellm's own timer must not be the one that fires: its errors do not tell silence from cuts.
TIMER_SLACK_SECONDS: Final = 30.0
# fmt: off
_OWN_PARAMETERS: Final = frozenset({
    "model", "messages", "stream", "stream_options", "tools", "timeout", "api_base", "base_url",
    "api_key", "api_version", "organization", "headers", "extra_headers", "extra_body",
    "deployment_id", "model_list", "max_retries", "num_retries", "drop_params", "functions",
    "function_call",
})
# fmt: on
_WORDS: Final = re.compile(r"Exception - (.*?)(?: Original exception: .*)?$", re.DOTALL)
_LITELLM_PREFIX: Final = re.compile(r"^(?:litellm\.)?\w+Error: ")
_OPENAI_REPR: Final = re.compile(r"^Error code: \d+ - (\{.*\})$", re.DOTALL)
_BYTES_REPR: Final = re.compile(r"""^b(['"])(.*)\1$""", re.DOTALL)


class LitellmClient(LanguageModel):
    """Usage is the provider's where it counts, else litellm's estimate."""

    def __init__(self) -> None:
        self._thread: LitellmThread | None = None

    @override
    async def stream(self, request: ModelRequest) -> AsyncGenerator[Delta, None]:
        has_started = False
        deltas = self.thread().carry(
            lambda litellm: _deltas(litellm, request), request.timeout_seconds
        )
        try:
            async with aclosing(deltas):
                async for delta in deltas:
                    has_started = True
                    yield delta
        except TimeoutError as error:
            raise broken(request, error, started=has_started) from error
        except (UpstreamError, ImportError):
            raise
        except Exception as error:
            raise failure_of(request, error, started=has_started) from error

    def thread(self) -> LitellmThread:
        """The thread litellm runs on, started on first use."""
        if self._thread is None:
            self._thread = LitellmThread()
        return self._thread

    @override
    async def aclose(self) -> None:
        thread, self._thread = self._thread, None
        if thread is not None:
            await asyncio.to_thread(thread.stop)


async def _deltas(litellm: Any, request: ModelRequest) -> AsyncGenerator[Delta, None]:
    from litellm.types.utils import all_litellm_params  # noqa: PLC0415 - see _import_litellm

    answer = await litellm.acompletion(**arguments_of(request, frozenset(all_litellm_params)))
    has_started = False
    try:
        async for chunk in answer:
            delta = delta_of(chunk.model_dump())
            if delta is None:
                continue
            if delta.finish_reason and not provider_finished(answer):
                # litellm ends every stream with a "stop" of its own, also one that was cut.
                raise (
                    cut(request)
                    if has_started
                    else failure(request, "sent something that is not a chat completion")
                )
            has_started = True
            yield delta
    finally:
        close: Callable[[], Awaitable[None]] | None = getattr(answer, "aclose", None)
        if close is not None:
            await close()


def provider_finished(answer: object) -> bool:
    """Whether the end of litellm's stream was the provider's."""
    return bool(
        getattr(answer, "received_finish_reason", True)
        or getattr(answer, "intermittent_finish_reason", None)
    )


def arguments_of(request: ModelRequest, control: frozenset[str]) -> dict[str, Any]:
    """Arguments of `litellm.acompletion`.

    Args:
        request: What to ask.
        control: Names that steer litellm itself. They are taken out of `extra`, which an
            agent's author writes: `api_base` there would send the key to a host of theirs.
    """
    provider = request.provider
    arguments: dict[str, Any] = {"tool_choice": "auto"} if request.tools else {}
    arguments |= {
        key: value
        for key, value in request.extra.items()
        if key not in control and key not in _OWN_PARAMETERS and not key.startswith("_")
    }
    arguments |= {
        "model": PREFIXES[provider.type] + request.model,
        # It edits messages in place.
        "messages": orjson.loads(orjson.dumps(request.messages)),
        "stream": True,
        "stream_options": {"include_usage": True},
        "timeout": request.timeout_seconds + TIMER_SLACK_SECONDS,
        "api_base": base_of(provider),
        "drop_params": True,
        "num_retries": 0,
        "max_retries": 0,
        # Offered tools would otherwise make it import the `mcp` package.
        "_skip_mcp_handler": True,
    }
    if request.tools:
        arguments["tools"] = orjson.loads(orjson.dumps(request.tools))
    if request.temperature is not None:
        arguments["temperature"] = request.temperature
    if request.response_format is not None:
        arguments["response_format"] = request.response_format
    max_tokens = request.max_tokens
    if max_tokens is None and provider.type == "anthropic":
        max_tokens = ANTHROPIC_MAX_TOKENS
    if max_tokens is not None:
        arguments["max_tokens"] = max_tokens
    if provider.api_key or provider.type != "ollama":
        # Without one litellm would take whatever key its environment holds.
        arguments["api_key"] = provider.api_key or "none"
    return arguments


def base_of(provider: Provider) -> str | None:
    """The base URL litellm takes; None for the one it knows."""
    endpoint = provider.endpoint or _ENDPOINTS.get(provider.type)
    if endpoint is None:
        return None
    base = endpoint.strip().rstrip("/")
    for suffix in _SUFFIXES.get(provider.type, ()):
        base = base.removesuffix(suffix)
    return base


def failure_of(request: Asked, error: Exception, *, started: bool) -> UpstreamError:
    """What litellm raised, in the provider's words."""
    links = list(_chain(error))
    for link in links:
        if isinstance(link, httpx.TransportError):
            return broken(request, link, started=started)
    for link in links:
        if isinstance(link, ValueError) and "JSON" in type(link).__name__:
            return failure(request, f"sent something that is not JSON: {shorten(str(link))}")
    original = getattr(error, "original_exception", None) or error
    words = shorten(_words_of(original)) or type(original).__name__
    status = getattr(original, "status_code", None)
    if started:
        what = f"reported an error in the middle of its answer: {words}"
        return failure(request, what, status=status)
    if isinstance(status, int) and type(original).__name__ != "APIConnectionError":
        return refused(request, status, words, retry_after=_retry_after(links))
    return failure(request, f"could not be asked: {words}")


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error and all it came from, each once, outermost first."""
    todo: list[object] = [error]
    seen: set[int] = set()
    while todo:
        link = todo.pop(0)
        if isinstance(link, BaseException) and id(link) not in seen:
            seen.add(id(link))
            yield link
            todo += [getattr(link, "original_exception", None), link.__cause__, link.__context__]


def _words_of(error: BaseException) -> str:
    """The provider's words inside a litellm message."""
    text = str(getattr(error, "message", error))
    match = _WORDS.search(text)
    text = match[1] if match else text
    while (shorter := _LITELLM_PREFIX.sub("", text)) != text:
        text = shorter
    text = re.sub(r"\.? Handle with `litellm\.\w+`\.?$", "", text)
    if match := _BYTES_REPR.match(text):
        text = match[2]
    if match := _OPENAI_REPR.match(text):
        try:
            return message_in(ast.literal_eval(match[1]))
        except (ValueError, SyntaxError):
            return text
    return message_of(text)


def _retry_after(links: list[BaseException]) -> str | None:
    for link in links:
        response = getattr(link, "response", None)
        for headers in (getattr(link, "headers", None), getattr(response, "headers", None)):
            if headers and (value := headers.get("retry-after")):
                return str(value)
    return None
