"""The tools of `databaseIntrospection`: what tables there are, and what is in them."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy.ext.asyncio import AsyncSession

from sinas.context import AppContext
from sinas.errors import SinasError
from sinas.kit.json_types import JsonObject, JsonValue
from sinas.models import Agent
from sinas.resources.database_connections.browsing import Browser
from sinas.resources.database_connections.outlines import table_outline, tables_outline
from sinas.resources.database_connections.service import DatabaseConnectionService
from sinas.tools.base import Call, Failed, Ok, Retry, Tool, ToolContext, ToolResult

CAPABILITY: Final = "databaseIntrospection"
_PERMISSION: Final = "sinas.database_connections.schema:all"
_Look = Callable[[Browser, JsonObject], Awaitable[JsonValue]]


class IntrospectionTools:
    """Offers them for the connections that `system_tools` lists, to callers who may browse."""

    kind = "database"

    def __init__(self, context: AppContext) -> None:
        self._context = context

    async def offer(
        self,
        agent: Agent,
        context: ToolContext,
        session: AsyncSession,  # noqa: ARG002 - connections are looked up when they are called
    ) -> Sequence[Tool]:
        """Both tools, or none where nothing is listed."""
        names = _listed(agent)
        if not names or not context.principal.can(_PERMISSION):
            return ()
        return (
            _tool(
                "sinas_db_list_tables",
                f"Lists the tables and views of a database. Databases: {', '.join(names)}.",
                _parameters(names),
                _Run(self._context, context, names, _list_tables),
            ),
            _tool(
                "sinas_db_describe_table",
                "Describes columns, keys and indexes of a table.",
                _parameters(names, "table"),
                _Run(self._context, context, names, _describe_table),
            ),
        )


def _listed(agent: Agent) -> tuple[str, ...]:
    names = [
        str(name)
        for one in agent.system_tools
        if isinstance(one, dict) and one.get("name") == CAPABILITY
        for name in one.get("connections") or ()
    ]
    return tuple(dict.fromkeys(names))


def _parameters(names: Sequence[str], *more: str) -> JsonObject:
    return {
        "type": "object",
        "properties": {
            "connectionName": {"type": "string", "enum": [*names]},
            "schema": {
                "type": "string",
                "description": "The connection's own where none is given.",
            },
            **{name: {"type": "string"} for name in more},
        },
        "required": ["connectionName", *more],
    }


def _tool(name: str, description: str, parameters: JsonObject, run: "_Run") -> Tool:
    return Tool(
        name=name,
        description=description,
        parameters=parameters,
        run=run,
        status_key=name,
        status="Looking at the database",
        resource=("sinas", name.removeprefix("sinas_")),
        resumable=True,
    )


async def _list_tables(browser: Browser, arguments: JsonObject) -> JsonValue:
    schema = _schema(arguments) or await browser.own_schema()
    return tables_outline(_connection(arguments), schema, await browser.tables(schema))


async def _describe_table(browser: Browser, arguments: JsonObject) -> JsonValue:
    table = await browser.table(_schema(arguments), str(arguments.get("table", "")))
    return table_outline(_connection(arguments), table)


def _connection(arguments: JsonObject) -> str:
    return str(arguments["connectionName"])


def _schema(arguments: JsonObject) -> str | None:
    schema = arguments.get("schema")
    return str(schema) if schema else None


@dataclass(frozen=True, slots=True)
class _Run:
    app: AppContext
    context: ToolContext
    names: tuple[str, ...]
    look: _Look

    async def __call__(self, call: Call) -> ToolResult:
        name = call.arguments.get("connectionName")
        if name not in self.names:
            return Retry(f"`connectionName` must be one of: {', '.join(self.names)}.")
        try:
            async with self.app.statement_unit() as unit:
                service = DatabaseConnectionService(unit, self.context.principal, self.app.cipher)
                row = await service.by_name(str(name))
                said = await service.annotations(str(name))
                browser = Browser(self.app.databases, service.target(row), said)
            return Ok(await self.look(browser, call.arguments))
        except SinasError as error:
            return Failed("Database not readable", error.message)
