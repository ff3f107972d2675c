"""Completions by agents: a turn as every other, told in OpenAI's words."""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, replace
from uuid import UUID

from starlette.responses import JSONResponse, Response
from starlette.types import Receive

from sinas.adapters.openai.chunks import AnswerText, Completion, error_events, waiting_text
from sinas.adapters.openai.errors import BadParameterError, body_of, internal
from sinas.adapters.openai.schemas import ChatCompletionRequest, SinasState
from sinas.adapters.openai.streaming import EventStream
from sinas.adapters.openai.transcript import request_of, session_of, transcript_of
from sinas.auth.principal import Principal
from sinas.chat.answer import difference
from sinas.chat.follow import Ping, follow
from sinas.chat.stopping import stop_turn
from sinas.chat.structured import is_wanted
from sinas.context import AppContext
from sinas.db.unit import Unit
from sinas.errors import DeadlineError, SinasError
from sinas.kit.json_types import JsonObject
from sinas.models import Agent, TurnStatus
from sinas.resources.chats.transcripts import Begun, TranscriptService
from sinas.resources.chats.waiting import QUEUE_SECONDS, Ended, failure_of, read_turn
from sinas.web.leaving import ClientGoneError, while_connected

NEW_CHAT = "new"
_GONE = 499  # nobody reads it; access logs do


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentCall:
    """A completion to be made by an agent.

    Attributes:
        chat: The `X-Chat-ID` header: a chat to continue, or `new` for none whatever else is said.
    """

    context: AppContext
    principal: Principal
    receive: Receive
    request: ChatCompletionRequest
    chat: str | None
    model: str

    @classmethod
    def of(
        cls,
        context: AppContext,
        principal: Principal,
        receive: Receive,
        body: JsonObject,
        chat: str | None,
        model: str,
    ) -> "AgentCall":
        """The call a body asks for.

        Raises:
            BadParameterError: The body is wrong.
        """
        return cls(
            context=context,
            principal=principal,
            receive=receive,
            request=request_of(body),
            chat=chat,
            model=model,
        )

    async def begin(self, unit: Unit, agent: Agent) -> Begun:
        """Queue the turn, in the chat the request means.

        Raises:
            BadParameterError: The request is wrong, or wants what agents cannot do.
            NotFoundError: There is no chat of that id with this agent.
            ForbiddenError: The session is somebody else's.
        """
        transcript = transcript_of(self.request)
        session = session_of(self.request, self.principal.user_id)
        service = TranscriptService(self.context, unit, self.principal)
        if self.chat and self.chat != NEW_CHAT:
            begun = await service.in_chat(agent, _chat_id(self.chat), transcript)
        elif session is not None and not self.chat:
            begun = await service.in_session(agent, session, transcript)
        else:
            begun = await service.in_new_chat(agent, transcript)
        wanted = transcript.overrides.output_schema
        return replace(begun, has_form=bool(wanted) or is_wanted(agent.output_schema))

    async def answer(self, begun: Begun) -> Response:
        """Follow the turn once its unit has committed."""
        options = self.request.stream_options
        completion = Completion(
            turn_id=begun.turn_id,
            model=self.model,
            created=int(time.time()),
            has_usage=bool(options and options.include_usage),
        )
        headers = {"X-Chat-ID": str(begun.chat_id)}
        if self.request.stream:
            return EventStream(
                self._stream(begun, completion),
                keep_alive_seconds=self.context.settings.chat.ping_seconds,
                headers=headers,
                on_leave=None if begun.keep_alive else lambda: self._stop(begun.turn_id),
            )
        try:
            whole = await while_connected(self.receive, self._whole(begun, completion))
        except ClientGoneError:
            if not begun.keep_alive:
                await self._stop(begun.turn_id)
            return Response(status_code=_GONE)
        return JSONResponse(whole, headers=headers)

    async def _whole(self, begun: Begun, completion: Completion) -> JsonObject:
        text = AnswerText()
        try:
            async with asyncio.timeout(begun.seconds + QUEUE_SECONDS):
                async with aclosing(self._pieces(begun, text)) as pieces:
                    async for _ in pieces:
                        pass
        except TimeoutError as error:
            ended = await read_turn(self.context, begun.turn_id)
            if ended.turn.status is not TurnStatus.DELEGATED:
                raise DeadlineError("Agent execution timed out") from error
        else:
            ended = await read_turn(self.context, begun.turn_id)
        if ended.turn.status is TurnStatus.FAILED:
            raise failure_of(ended.turn)
        said = ended.reply
        if ended.state != "completed":
            said = "\n\n".join(filter(None, [said, waiting_text(ended.approvals, ended.questions)]))
        usage = difference(ended.usage, begun.usage_before)
        found = completion.whole(said, text.finish_reason, usage, _state(begun, ended))
        return found.model_dump(
            mode="json", exclude={"choices": {"__all__": {"message": {"tool_calls"}}}}
        )

    async def _stream(self, begun: Begun, completion: Completion) -> AsyncGenerator[bytes, None]:
        text = AnswerText(fixed=begun.has_form)
        yield completion.begin()
        try:
            async with aclosing(self._pieces(begun, text)) as pieces:
                async for piece in pieces:
                    yield completion.text(piece)
            ended = await read_turn(self.context, begun.turn_id)
            if ended.turn.status is TurnStatus.FAILED:
                raise failure_of(ended.turn)  # noqa: TRY301 - told as any other
            if ended.state != "completed":
                text.begin_another()
                waiting = waiting_text(ended.approvals, ended.questions)
                yield completion.text(text.add(waiting))
            usage = difference(ended.usage, begun.usage_before)
            yield completion.end(text.finish_reason, _state(begun, ended), usage)
        except SinasError as error:
            yield error_events(body_of(error))
        except Exception as error:  # noqa: BLE001 - a stream always ends with an event
            yield error_events(internal(error))

    async def _pieces(self, begun: Begun, text: AnswerText) -> AsyncGenerator[str, None]:
        """The text as it comes, until the turn ends or waits for people."""
        if begun.channel_id is None:
            return
        # From the beginning: the turn may have said something before this began to listen.
        async with follow(self.context, begun.chat_id, begun.channel_id, "0") as entries:
            async for entry in entries:
                if not isinstance(entry, Ping) and (piece := text.take(entry)):
                    yield piece

    async def _stop(self, turn_id: UUID) -> None:
        async with self.context.unit() as unit:
            await stop_turn(unit, turn_id)


def _state(begun: Begun, ended: Ended) -> SinasState:
    return SinasState(
        status="completed" if ended.state == "injected" else ended.state,
        chat_id=begun.chat_id,
        channel_id=None if ended.state == "completed" else ended.turn.channel_id,
        pending_approvals=ended.approvals,
        pending_inputs=ended.questions,
    )


def _chat_id(given: str) -> UUID:
    try:
        return UUID(given)
    except ValueError as error:
        raise BadParameterError("X-Chat-ID", "must be the id of a chat, or 'new'") from error
