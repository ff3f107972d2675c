"""Completions by providers' own models: asked as the client asked, answered as they answer."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Final

from starlette.responses import Response
from starlette.types import Receive

from sinas.adapters.openai.chunks import error_events
from sinas.adapters.openai.errors import BadParameterError, body_of, internal
from sinas.adapters.openai.streaming import ClientGoneError, EventStream, while_connected
from sinas.context import AppContext
from sinas.errors import SinasError
from sinas.kit.json_types import JsonObject
from sinas.llm.direct import DirectRequest
from sinas.resources.llm_providers.use import Offer

# Without a stream a provider is silent until its answer is whole; OpenAI's SDK waits as long.
_WHOLE_SECONDS: Final = 600.0
_GONE: Final = 499  # nobody reads it; access logs do


async def complete_directly(
    context: AppContext, receive: Receive, body: JsonObject, offer: Offer
) -> Response:
    """The provider's answer.

    Raises:
        BadParameterError: What this side needs to know of the body is wrong; the rest is the
            provider's to judge.
        UpstreamError: The provider refused or failed before its answer began.
    """
    request = _request(context, body, offer)
    try:
        answer = await while_connected(receive, context.llm.complete(request))
    except ClientGoneError:
        return Response(status_code=_GONE)
    if answer.pieces is None:
        return Response(answer.whole, media_type="application/json")
    return EventStream(_told(answer.pieces), keep_alive_seconds=context.settings.chat.ping_seconds)


def _request(context: AppContext, body: JsonObject, offer: Offer) -> DirectRequest:
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise BadParameterError("messages", "a list with at least one message is needed")
    for number, message in enumerate(messages):
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise BadParameterError(f"messages[{number}].role", "a role is needed")
    if not isinstance(body.get("stream", False), bool | None):
        raise BadParameterError("stream", "must be true or false")
    silence = context.settings.chat.llm_timeout_seconds
    is_stream = body.get("stream") is True
    return DirectRequest(
        provider=offer.provider,
        model=offer.model,
        body={name: value for name, value in body.items() if name != "sinas"},
        timeout_seconds=silence if is_stream else max(silence, _WHOLE_SECONDS),
    )


async def _told(pieces: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    """The stream; where it breaks, an error event in its place."""
    try:
        async with aclosing(pieces):
            async for piece in pieces:
                yield piece
    except SinasError as error:
        # An empty line first: the last one may be of an event that is not complete.
        yield b"\n" + error_events(body_of(error))
    except Exception as error:  # noqa: BLE001 - a stream always ends with an event
        yield b"\n" + error_events(internal(error))
