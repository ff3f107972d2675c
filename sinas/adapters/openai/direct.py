"""Completions by providers' own models: asked as the client asked, answered as they answer."""

import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from starlette.responses import Response
from starlette.types import Receive

from sinas.adapters.openai.chunks import error_events
from sinas.adapters.openai.errors import BadParameterError, body_of, internal
from sinas.adapters.openai.streaming import EventStream
from sinas.auth.principal import Principal
from sinas.chat.accounting import call_record, check_budgets, record_direct
from sinas.context import AppContext
from sinas.errors import SinasError
from sinas.kit.json_types import JsonObject
from sinas.llm.base import Usage
from sinas.llm.direct import DirectRequest
from sinas.resources.llm_providers.use import Offer
from sinas.web.leaving import ClientGoneError, while_connected

# Without a stream a provider is silent until its answer is whole; OpenAI's SDK waits as long.
_WHOLE_SECONDS: Final = 600.0
_GONE: Final = 499  # nobody reads it; access logs do


async def complete_directly(
    context: AppContext, principal: Principal, receive: Receive, body: JsonObject, offer: Offer
) -> Response:
    """The provider's answer. What it used is recorded beside it.

    Raises:
        BudgetExceededError: The caller's budget, or everybody's, is spent.
        BadParameterError: What this side needs to know of the body is wrong; the rest is the
            provider's to judge.
        UpstreamError: The provider refused or failed before its answer began.
    """
    request = _request(context, body, offer)
    async with context.statement_sessions() as session:
        await check_budgets(session, principal.user_id, None)
    meter = _Meter(context, principal.user_id, offer, time.monotonic())
    try:
        answer = await while_connected(receive, context.llm.complete(request))
    except ClientGoneError:
        return Response(status_code=_GONE)
    except SinasError as error:
        meter.note(None, error.code)
        raise
    if answer.pieces is None:
        meter.note(answer.usage)
        return Response(answer.whole, media_type="application/json")
    told = _told(answer.pieces, lambda code: meter.note(answer.usage, code))
    return EventStream(told, keep_alive_seconds=context.settings.chat.ping_seconds)


@dataclass(frozen=True, slots=True)
class _Meter:
    """Notes one call, off the way of its answer."""

    context: AppContext
    user_id: UUID
    offer: Offer
    began: float

    def note(self, usage: Usage | None, error_code: str | None = None) -> None:
        call = call_record(
            self.offer.provider,
            self.offer.config,
            self.offer.model,
            usage,
            duration_ms=int((time.monotonic() - self.began) * 1000),
            error_code=error_code,
        )
        work = record_direct(self.context, self.user_id, call)
        self.context.background.spawn("usage.record", work)


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


async def _told(
    pieces: AsyncGenerator[bytes, None], note: Callable[[str | None], None]
) -> AsyncGenerator[bytes, None]:
    """The stream; where it breaks, an error event in its place. `note` is told how it ended."""
    code = None
    try:
        async with aclosing(pieces):
            async for piece in pieces:
                yield piece
    except SinasError as error:
        code = error.code
        # An empty line first: the last one may be of an event that is not complete.
        yield b"\n" + error_events(body_of(error))
    except Exception as error:  # noqa: BLE001 - a stream always ends with an event
        code = "internal"
        yield b"\n" + error_events(internal(error))
    finally:
        note(code)
