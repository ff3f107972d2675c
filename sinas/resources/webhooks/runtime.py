"""The runtime route of webhooks: what senders call."""

from fastapi import APIRouter, Request, Response

from sinas.context import AppContext
from sinas.models import HttpMethod
from sinas.resources.webhooks.answers import answer
from sinas.resources.webhooks.calls import WebhookCalls
from sinas.resources.webhooks.payload import Incoming, joined_headers
from sinas.web.client_address import client_address
from sinas.web.deps import CREDENTIALS, Context, caller
from sinas.web.problems import PROBLEM_RESPONSES

router = APIRouter(tags=["webhooks"], responses=PROBLEM_RESPONSES, dependencies=CREDENTIALS)

_ANSWER = {
    "description": "What the webhook's `response_mode` says. Accepted calls that nobody waits "
    "for are answered 202.",
    "content": {"application/json": {"schema": {"type": "object"}}},
}


async def call_webhook(path: str, request: Request, context: Context) -> Response:
    """Call a webhook.

    Whether callers sign in, and whether they sign the body, the webhook says. Its function gets
    the body as input (the query for a GET without one), over the webhook's default values, and
    method, path, headers and query in `context["webhook"]`.
    """
    calls = WebhookCalls(context)
    webhook = await calls.find(request.method, path)
    incoming = await _incoming(request, context, path)
    outcome = await calls.call(webhook, incoming, lambda: caller(request, context))
    return answer(request, webhook, outcome)


async def _incoming(request: Request, context: AppContext, path: str) -> Incoming:
    return Incoming(
        method=request.method,
        path=path,
        query=request.scope["query_string"].decode("latin-1"),
        headers=joined_headers(request.headers),
        body=await request.body(),
        client_address=client_address(request, context),
    )


for _method in HttpMethod:
    # One each: the document needs an operation id for every one of them.
    router.add_api_route(
        "/webhooks/{path:path}",
        call_webhook,
        methods=[_method.value],
        operation_id=f"call_webhook_{_method.lower()}",
        response_class=Response,
        responses={200: _ANSWER},
    )
