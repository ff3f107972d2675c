"""Queries as tools of agents."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncSession

from sinas.context import AppContext
from sinas.databases.parameters import Dialect, dialect_of, parse
from sinas.errors import ForbiddenError, InvalidInputError, NotFoundError, SinasError
from sinas.kit.json_types import JsonObject, JsonValue
from sinas.models import Agent, Query, QueryOperation
from sinas.resources.database_connections.service import connection_types
from sinas.resources.queries.repository import QueryRepository
from sinas.resources.queries.running import INJECTED
from sinas.resources.queries.service import QueryService
from sinas.tools.base import Call, Failed, Ok, Retry, Tool, ToolContext, ToolResult
from sinas.tools.names import fitting
from sinas.tools.parameters import ConfiguredParameters, configured

_FAILED = "Query failed"


class QueryTools:
    """Offers an agent's enabled queries that the caller may execute."""

    kind = "query"

    def __init__(self, context: AppContext) -> None:
        self._context = context

    async def offer(
        self, agent: Agent, context: ToolContext, session: AsyncSession
    ) -> Sequence[Tool]:
        """One tool for each active query the agent enables, by two statements at most."""
        references = [str(reference) for reference in agent.enabled_queries]
        repository = QueryRepository(session, context.principal)
        tools: dict[str, Tool] = {}
        queries = await repository.active_matching(references)
        unknown = {each.database_connection_id for each in queries if not each.input_schema}
        types = await connection_types(session, unknown) if unknown else {}
        for query in queries:
            key = f"{query.namespace}/{query.name}"
            parameters = configured(agent.query_parameters.get(key), context.agent_input)
            name = fitting(f"query_{query.namespace}__{query.name}", key, taken=tools)
            dialect = dialect_of(types.get(query.database_connection_id, ""))
            tools[name] = _tool(
                name, query, dialect, parameters, _Run(self._context, context, query, parameters)
            )
        return tuple(tools.values())


def _tool(
    name: str, query: Query, dialect: Dialect, parameters: ConfiguredParameters, run: "_Run"
) -> Tool:
    key = f"{query.namespace}/{query.name}"
    return Tool(
        name=name,
        description=query.description or f"Runs the query {key}.",
        parameters=_shown(parameters.schema(_schema(query, dialect))),
        run=run,
        status_key=f"query:{key}",
        status=f"Running query {query.name.replace('_', ' ').strip()}",
        resource=(query.namespace, query.name),
        # Reading twice changes nothing; a change may not be made twice.
        resumable=query.operation is QueryOperation.READ,
    )


def _schema(query: Query, dialect: Dialect) -> JsonObject:
    """The query's own, or one that names the parameters of its text."""
    if query.input_schema:
        return {"type": "object"} | query.input_schema
    names = dict.fromkeys(parse(query.sql, dialect).names)
    properties: dict[str, JsonValue] = {name: {} for name in names}
    return {"type": "object", "properties": properties}


def _shown(schema: JsonObject) -> JsonObject:
    """Without what the server puts in."""
    properties = schema.get("properties")
    if isinstance(properties, dict):
        for name in INJECTED:
            properties.pop(name, None)
    required = schema.get("required")
    if isinstance(required, list):
        schema["required"] = [name for name in required if name not in INJECTED]
    return schema


@dataclass(frozen=True, slots=True)
class _Run:
    app: AppContext
    context: ToolContext
    query: Query
    parameters: ConfiguredParameters

    async def __call__(self, call: Call) -> ToolResult:
        if self.parameters.failure is not None:
            return Failed(_FAILED, self.parameters.failure)
        try:
            # Looked up again: the caller's rights, or the query, may have changed since.
            async with self.app.statement_unit() as unit:
                service = QueryService(unit, self.context.principal)
                prepared = await service.prepared(
                    self.query.namespace, self.query.name, self.app.cipher
                )
            outcome = await prepared.run(
                self.app.databases, self.parameters.arguments(call.arguments)
            )
        except ForbiddenError as error:
            return Failed("Permission denied", error.message)
        except NotFoundError as error:
            return Failed("Query not found", error.message)
        except InvalidInputError as error:
            return Retry(error.message)
        except SinasError as error:
            return Failed(_FAILED, error.message)
        return Ok(outcome.model_dump(mode="json"))
