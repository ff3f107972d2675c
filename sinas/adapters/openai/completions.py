"""One request for a completion: who is meant, and what they answer."""

import orjson
from fastapi import Request
from starlette.responses import Response

from sinas.adapters.openai.agents import AgentCall
from sinas.adapters.openai.direct import complete_directly
from sinas.adapters.openai.errors import BadParameterError
from sinas.adapters.openai.models import ModelService, agent_model
from sinas.auth.principal import Principal
from sinas.context import AppContext
from sinas.kit.json_types import JsonObject
from sinas.models import Agent


async def complete(
    context: AppContext, principal: Principal, request: Request, chat: str | None
) -> Response:
    """The answer, whole or as a stream. `chat` is the `X-Chat-ID` header.

    Raises:
        BadParameterError: The body is wrong.
        ModelNotFoundError: No such model, or none the caller may use.
        ForbiddenError: No grant that could cover that model.
        UpstreamError: The provider refused or failed before its answer began.
    """
    body = await _body_of(request)
    name = _name_of(body)
    async with context.statement_unit() as unit:
        found = await ModelService(context, unit, principal).find(name)
    if not isinstance(found, Agent):
        return await complete_directly(context, principal, request.receive, body, found)
    model = name or agent_model(found)
    call = AgentCall.of(context, principal, request.receive, body, chat, model)
    async with context.unit() as unit:
        begun = await call.begin(unit, found)
    return await call.answer(begun)


async def _body_of(request: Request) -> JsonObject:
    try:
        body = orjson.loads(await request.body())
    except orjson.JSONDecodeError as error:
        raise BadParameterError("body", f"not valid JSON: {error}") from error
    if not isinstance(body, dict):
        raise BadParameterError("body", "a JSON object is needed")
    return body


def _name_of(body: JsonObject) -> str | None:
    name = body.get("model")
    if name is not None and not isinstance(name, str):
        raise BadParameterError("model", "must be a text")
    return name
