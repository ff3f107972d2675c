"""`LlmClient`: the one way to a model, whichever provider. Lives as long as the process."""

from collections.abc import AsyncGenerator
from dataclasses import replace
from typing import Final

from typing_extensions import override

from sinas.llm.base import Delta, LanguageModel, ModelRequest, Provider
from sinas.llm.direct import DirectAnswer, DirectRequest
from sinas.llm.litellm_client import LitellmClient
from sinas.llm.litellm_direct import LitellmDirect
from sinas.llm.mistral import mistral_messages
from sinas.llm.openai_wire import OpenAiWire
from sinas.llm.pool import StreamPool
from sinas.llm.relay import OpenAiRelay
from sinas.llm.retrying import retried
from sinas.llm.traced import traced, traced_direct
from sinas.tracing.spans import NO_TRACER, Tracer

_MISTRAL_ENDPOINT: Final = "https://api.mistral.ai/v1"


class LlmClient(LanguageModel):
    """Sends each request through the client that suits its provider.

    - openai with an endpoint: the lean client.
    - mistral: the lean client too. Its wire is OpenAI's, and litellm refuses its document and
      audio parts and hides answers that were cut off.
    - openai without an endpoint, anthropic, ollama: litellm.
    """

    def __init__(self, tracer: Tracer = NO_TRACER) -> None:
        self._tracer = tracer
        pool = StreamPool()
        self._lean = OpenAiWire(pool)
        self._relay = OpenAiRelay(pool)
        self._litellm = LitellmClient()
        self._direct = LitellmDirect(self._litellm)

    @override
    def stream(self, request: ModelRequest) -> AsyncGenerator[Delta, None]:
        return retried(self._attempt, request) if request.max_retries else self._attempt(request)

    def _attempt(self, request: ModelRequest) -> AsyncGenerator[Delta, None]:
        stream = self._stream(request)
        return traced(self._tracer, request, stream) if self._tracer.is_on else stream

    def _stream(self, request: ModelRequest) -> AsyncGenerator[Delta, None]:
        provider = request.provider
        if provider.type == "mistral":
            return self._lean.stream(_for_mistral(request, provider))
        if provider.type == "openai" and provider.endpoint:
            return self._lean.stream(request)
        return self._litellm.stream(request)

    async def complete(self, request: DirectRequest) -> DirectAnswer:
        """A completion in OpenAI's format, as its client asked for it.

        openai: the provider's own bytes, with or without an endpoint. Others: litellm.

        Raises:
            RefusedError: The provider answered with a status that is not 200.
            UpstreamError: It could not be reached, or sent something else.
        """
        way = self._relay if request.provider.type == "openai" else self._direct
        asking = way.ask(request)
        return await (
            traced_direct(self._tracer, request, asking) if self._tracer.is_on else asking
        )

    @override
    async def aclose(self) -> None:
        await self._lean.aclose()
        await self._litellm.aclose()


def _for_mistral(request: ModelRequest, provider: Provider) -> ModelRequest:
    return replace(
        request,
        provider=replace(provider, endpoint=provider.endpoint or _MISTRAL_ENDPOINT),
        messages=mistral_messages(request.messages),
    )
