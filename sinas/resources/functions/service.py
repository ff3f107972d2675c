"""Rules of functions: saving them, and accepting calls."""

import asyncio
from collections.abc import Sequence
from typing import Any, ClassVar
from uuid import UUID

from typing_extensions import override

from sinas.auth.principal import Principal
from sinas.crud.service import CrudService
from sinas.db.unit import Unit
from sinas.errors import FieldError, ForbiddenError, InvalidInputError, NotFoundError
from sinas.kit.json_types import JsonObject
from sinas.models import Function, FunctionVersion
from sinas.resources.executions.service import ExecutionService, Started, Trigger
from sinas.resources.functions.checks import check_code, check_function_schema
from sinas.resources.functions.repository import FunctionRepository, callable_by_name
from sinas.resources.functions.schemas import FunctionCreate, FunctionUpdate
from sinas.settings import FunctionSettings

_SHARED_POOL = "sinas.functions.shared_pool:all"


class FunctionService(CrudService[Function, FunctionCreate, FunctionUpdate]):
    """Functions of one caller, in one transaction."""

    repository = FunctionRepository
    rows: FunctionRepository
    noun: ClassVar[str] = "function"

    def __init__(self, unit: Unit, principal: Principal, limits: FunctionSettings) -> None:
        super().__init__(unit, principal)
        self.limits = limits

    async def discover(self, *, skip: int, limit: int) -> Sequence[Function]:
        """Active functions the caller may read, by name."""
        return await self.rows.active_page(skip=skip, limit=limit)

    async def versions(self, namespace: str, name: str) -> Sequence[FunctionVersion]:
        """Versions of one function, newest first.

        Raises:
            NotFoundError: Absent, or not visible to the caller.
        """
        return await self.rows.versions((await self.get(namespace, name)).id)

    @override
    async def create(self, data: FunctionCreate) -> Function:
        """A new function, owned by the caller, with version 1.

        Raises:
            ForbiddenError: No create grant for the name, or none for the shared pool.
            DuplicateError: The name is taken.
            InvalidInputError: Code or schemas cannot be used; the field is named.
        """
        function = await super().create(data)
        self._add_version(function, 1)
        return function

    @override
    async def update(self, namespace: str, name: str, data: FunctionUpdate) -> Function:
        """Change the given fields; code, changed or not, makes a new version.

        Raises:
            NotFoundError: Absent, or not visible.
            ForbiddenError: No update grant, no create grant for the new name, or none for the
                shared pool.
            DuplicateError: The new name is taken.
            InvalidInputError: Code or schemas cannot be used; the field is named.
        """
        function = await super().update(namespace, name, data)
        if data.code is not None:
            self._add_version(function, await self.rows.next_version(function.id))
        return function

    @override
    async def check(self, values: dict[str, Any], row: Function | None) -> None:
        if row is not None:
            self._check_rename(values, row)
        if self._is_about_trust(values, row):
            self.principal.require(_SHARED_POOL)
        timeout = values.get("timeout")
        if timeout is not None and timeout > self.limits.max_timeout:
            message = f"must be at most {self.limits.max_timeout} seconds"
            raise InvalidInputError(f"timeout {message}", [FieldError("timeout", message)])
        # A thread: code and schemas can be large, and a schema's trial run can take a second.
        await asyncio.to_thread(_check_content, values)

    def _is_about_trust(self, values: dict[str, Any], row: Function | None) -> bool:
        """Whether code comes into the shared pool, or what it gets of secrets there changes.

        What runs there was looked at by whoever may put it there, not only by its owner.
        """
        if not values.get("shared_pool", row is not None and row.shared_pool):
            return False
        if row is None or not row.shared_pool:
            return True
        return any(
            key in values and values[key] != getattr(row, key)
            for key in ("code", "enabled_secrets")
        )

    async def start(
        self,
        namespace: str,
        name: str,
        given: JsonObject,
        trigger: Trigger,
        execution_id: UUID | None = None,
    ) -> Started:
        """Accept a call as `ExecutionService.start` does. Who owns the function does not matter.

        Raises:
            ForbiddenError: No execute grant for the name; the same whether it exists or not.
            NotFoundError: No such function, or it is inactive.
        """
        self.principal.require(f"sinas.functions/{namespace}/{name}.execute:own")
        function = await self.executable(namespace, name)
        return await self.start_function(function, given, trigger, execution_id)

    async def executable(self, namespace: str, name: str) -> Function:
        """An active function, whoever owns it, without its code.

        Raises:
            NotFoundError: No such function, or it is inactive.
        """
        function = await callable_by_name(self.unit, namespace, name)
        if function is None:
            raise self.missing(namespace, name)
        return function

    async def start_many(
        self, namespace: str, name: str, calls: Sequence[tuple[JsonObject, Trigger]]
    ) -> Sequence[Started]:
        """Accept many calls of a function, as `ExecutionService.start_many` does.

        Raises:
            ForbiddenError: No execute grant for the name; the same whether it exists or not.
            NotFoundError: No such function, or it is inactive.
        """
        self.principal.require(f"sinas.functions/{namespace}/{name}.execute:own")
        function = await self.executable(namespace, name)
        executions = ExecutionService(self.unit, self.principal)
        return await executions.start_many(function, calls, self.limits)

    async def start_function(
        self, function: Function, given: JsonObject, trigger: Trigger, execution_id: UUID | None
    ) -> Started:
        """Accept a call of a function whose use was checked already."""
        executions = ExecutionService(self.unit, self.principal)
        return await executions.start(function, given, trigger, self.limits, execution_id)

    @override
    def missing(self, namespace: str, name: str) -> NotFoundError:
        return NotFoundError(f"Function '{namespace}/{name}' not found")

    def _check_rename(self, values: dict[str, Any], row: Function) -> None:
        namespace = values.get("namespace", row.namespace)
        name = values.get("name", row.name)
        renamed = (namespace, name) != (row.namespace, row.name)
        if renamed and not self.principal.can_create("functions", namespace, name):
            raise ForbiddenError(
                f"Not authorized to rename to '{namespace}/{name}': this needs "
                f"'sinas.functions/{namespace}/{name}.create:own'."
            )

    def _add_version(self, function: Function, number: int) -> None:
        self.unit.session.add(
            FunctionVersion(
                function_id=function.id,
                version=number,
                code=function.code,
                input_schema=function.input_schema,
                output_schema=function.output_schema,
                created_by=self.principal.user_id,
            )
        )


def _check_content(values: dict[str, Any]) -> None:
    if (code := values.get("code")) is not None:
        check_code(code)
    for field in ("input_schema", "output_schema"):
        if (schema := values.get(field)) is not None:
            check_function_schema(field, schema)
