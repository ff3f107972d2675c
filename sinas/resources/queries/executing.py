"""The operation both APIs have: run a query for a client that waits."""

import json
from typing import Annotated

from fastapi import Depends, Request, Response

from sinas.auth.principal import Principal
from sinas.resources.queries.schemas import QueryExecute
from sinas.resources.queries.service import QueryService
from sinas.web.deps import Context, permitted
from sinas.web.leaving import ClientGoneError, while_connected

_CLIENT_GONE = 499


class Executor:
    """Runs queries for the client of one request, who may run some."""

    def __init__(
        self,
        request: Request,
        context: Context,
        principal: Annotated[Principal, Depends(permitted("queries", "execute"))],
    ) -> None:
        self._request = request
        self._context = context
        self._principal = principal

    async def run(self, namespace: str, name: str, data: QueryExecute) -> Response:
        """The answer, as JSON made here: validating every cell again would cost more than SQL."""
        context = self._context
        async with context.statement_unit() as unit:
            service = QueryService(unit, self._principal)
            prepared = await service.prepared(namespace, name, context.cipher)
        work = prepared.run(context.databases, data.input)
        try:
            outcome = await while_connected(self._request.receive, work)
        except ClientGoneError:
            return Response(status_code=_CLIENT_GONE)
        # Not orjson: JSON columns may hold integers beyond 64 bits.
        body = json.dumps(dict(outcome), ensure_ascii=False)
        return Response(body, media_type="application/json")


Executing = Annotated[Executor, Depends()]
