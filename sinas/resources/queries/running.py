"""Running a query: input checked, the caller's identity put in, the result made JSON."""

import asyncio
import time
from dataclasses import dataclass

import structlog

from sinas.auth.principal import Principal
from sinas.databases.base import DatabaseTarget, Limits, Statement, UnreachableError
from sinas.databases.json_values import json_rows
from sinas.databases.pools import DatabasePools
from sinas.errors import BadRequestError, FieldError, ForbiddenError, UpstreamError
from sinas.kit.json_text import NotJsonError, encode
from sinas.kit.json_types import JsonObject, JsonValue
from sinas.kit.jsonschema import Violation, compile_schema
from sinas.models import Query, QueryOperation
from sinas.resources.queries.schemas import QueryOutcome

log = structlog.get_logger(__name__)

INJECTED = ("user_id", "user_email")
_INLINE_ROWS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A query that this caller may execute, and where."""

    query: Query
    target: DatabaseTarget
    caller: Principal

    async def run(self, pools: DatabasePools, given: JsonObject) -> QueryOutcome:
        """Run it. No transaction of Sinas' own may be open meanwhile.

        Raises:
            BadRequestError: The input breaks the schema, or the result does; or the database
                refused the statement.
            ForbiddenError: It would change something through a connection that is read-only.
            StatementTimeoutError: The time limit passed.
            UpstreamError: The database gives no connection.
        """
        query = self.query
        is_read = query.operation is QueryOperation.READ
        if self.target.read_only and not is_read:
            raise ForbiddenError(f"The database connection '{self.target.name}' is read-only.")
        statement = Statement(query.sql, self._values(given))
        limits = Limits(rows=query.max_rows, seconds=query.timeout_ms / 1000)
        began = time.monotonic()
        try:
            async with pools.database(self.target) as database:
                if is_read:
                    result = await database.read(statement, limits)
                else:
                    result = await database.write([statement], limits)
        except UnreachableError as error:
            # Where it is, and as whom it is reached, is not for everybody who may execute.
            log.warning("queries.unreachable", connection=self.target.name, error=error.message)
            raise UpstreamError(
                "The query's database cannot be reached; the test of its connection says why."
            ) from error
        data = json_rows(result) if is_read or result.columns else None
        if is_read and query.output_schema and data is not None:
            await _check_output(query.output_schema, data)
        return QueryOutcome(
            success=True,
            operation=query.operation,
            data=data,
            row_count=None if data is None else len(data),
            affected_rows=result.affected,
            duration_ms=round((time.monotonic() - began) * 1000),
            truncated=result.is_cut,
        )

    def _values(self, given: JsonObject) -> JsonObject:
        """The parameters' values; who calls is never what the input says."""
        try:
            encode(given)
        except NotJsonError as error:
            raise BadRequestError(f"Input validation error: the input {error}") from None
        own: JsonObject = {"user_id": str(self.caller.user_id), "user_email": self.caller.email}
        values = given | own
        schema = self.query.input_schema
        if schema:
            known = schema.get("properties")
            # A schema that knows nothing of them must not refuse them.
            named = known if isinstance(known, dict) else {}
            shown = {
                name: value for name, value in values.items() if name not in own or name in named
            }
            if violations := compile_schema(schema).violations(shown):
                raise BadRequestError(
                    f"Input validation error: {_said(violations[0])}",
                    [FieldError(_path("input", each), each.message) for each in violations],
                )
        return values


async def _check_output(schema: JsonObject, rows: list[JsonObject]) -> None:
    is_long = len(rows) > _INLINE_ROWS or compile_schema(schema).is_costly
    found = await asyncio.to_thread(_broken, schema, rows) if is_long else _broken(schema, rows)
    if found is not None:
        raise BadRequestError(f"The result breaks the query's output_schema: {found}")


def _broken(schema: JsonObject, rows: list[JsonObject]) -> str | None:
    compiled = compile_schema(schema)
    whole: list[JsonValue] = [*rows]
    values: list[JsonValue] = [whole] if schema.get("type") == "array" else whole
    for place, value in enumerate(values):
        if violations := compiled.violations(value):
            where = "" if value is whole else f"row {place + 1}: "
            return f"{where}{_said(violations[0])}"
    return None


def _said(violation: Violation) -> str:
    path = ".".join(map(str, violation.path))
    return f"{path}: {violation.message}" if path else violation.message


def _path(start: str, violation: Violation) -> str:
    return ".".join((start, *map(str, violation.path)))
