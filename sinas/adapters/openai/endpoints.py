"""The operations of the OpenAI adapter."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Request
from starlette.responses import Response

from sinas.adapters.openai.completions import complete
from sinas.adapters.openai.models import ModelService
from sinas.adapters.openai.schemas import (
    ChatCompletion,
    ChatCompletionChunk,
    ChatCompletionRequest,
    Model,
    ModelList,
    error_responses,
)
from sinas.web.deps import CREDENTIALS, Caller, Context, InUnit

router = APIRouter(
    prefix="/v1", tags=["openai"], responses=error_responses(), dependencies=CREDENTIALS
)

_REF = "#/components/schemas/"
# Described by hand: FastAPI would check the body against it, and build it anew, for providers
# that know more than we do.
_REQUEST_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": {"$ref": f"{_REF}{ChatCompletionRequest.__name__}"}}
        },
    }
}
_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The completion, or with `stream` its chunks and `data: [DONE]`.",
        "model": ChatCompletion,
        "headers": {
            "X-Chat-ID": {
                "description": "Of an agent's answer: the chat it is in.",
                "schema": {"type": "string", "format": "uuid"},
            }
        },
        "content": {
            "text/event-stream": {"schema": {"$ref": f"{_REF}{ChatCompletionChunk.__name__}"}}
        },
    }
}
# Schemas that only references name.
DESCRIBED = (ChatCompletionRequest, ChatCompletionChunk)


async def _models(context: Context, unit: InUnit, principal: Caller) -> ModelService:
    return ModelService(context, unit, principal)


_models.permission = "authenticated"  # type: ignore[attr-defined]
Models = Annotated[ModelService, Depends(_models)]
ChatId = Annotated[
    str | None,
    Header(
        alias="X-Chat-ID",
        description="With an agent: a chat to continue, or `new` for a new one in any case.",
    ),
]


@router.post(
    "/chat/completions",
    openapi_extra=_REQUEST_BODY,
    responses=_ANSWERS,
    response_class=Response,
)
async def create_chat_completion(
    request: Request, principal: Caller, context: Context, chat_id: ChatId = None
) -> Response:
    """Answer a conversation, by an agent or by a provider's model.

    An agent's tools run here and are not seen. A provider's model gets the request as it is,
    with tools, `response_format` and whatever else it knows, and answers for itself.
    """
    return await complete(context, principal, request, chat_id)


@router.get("/models")
async def list_models(models: Models) -> ModelList:
    """List what the caller may use: agents as `agent:namespace/name`, models as `provider/model`."""
    return ModelList(data=await models.listing())


@router.get("/models/{model_id:path}")
async def get_model(model_id: str, models: Models) -> Model:
    """Get one of them, by its name or by one without prefix: `namespace/name`, or `model`."""
    return await models.get(model_id)
