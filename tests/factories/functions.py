"""Functions and their executions."""

from itertools import count
from typing import Any

from sinas.context import AppContext
from sinas.models import Execution, ExecutionStatus, Function, FunctionVersion, TriggerType, User

_numbers = count(1)
ECHO = "def handler(input_data, context):\n    return input_data\n"


async def make_function(
    context: AppContext,
    owner: User,
    code: str = ECHO,
    *,
    namespace: str = "default",
    name: str | None = None,
    input_schema: dict[str, Any] | None = None,
    output_schema: dict[str, Any] | None = None,
    **columns: Any,
) -> Function:
    """A function of `owner` and its first version."""
    schemas = {"input_schema": input_schema or {}, "output_schema": output_schema or {}}
    async with context.unit() as unit:
        row = Function(
            user_id=owner.id,
            namespace=namespace,
            name=name or f"function_{next(_numbers)}",
            code=code,
            **schemas,
            **columns,
        )
        unit.session.add(row)
        await unit.session.flush()
        unit.session.add(
            FunctionVersion(
                function_id=row.id, version=1, code=code, created_by=owner.id, **schemas
            )
        )
    return row


async def make_execution(
    context: AppContext,
    function: Function,
    *,
    user: User | None = None,
    status: ExecutionStatus = ExecutionStatus.PENDING,
    input_data: dict[str, Any] | None = None,
    **columns: Any,
) -> Execution:
    """A run of `function`, as its owner unless `user` is given. Nothing is queued."""
    async with context.unit() as unit:
        row = Execution(
            user_id=function.user_id if user is None else user.id,
            function_id=function.id,
            function_namespace=function.namespace,
            function_name=function.name,
            trigger_type=columns.pop("trigger_type", TriggerType.API),
            trigger_id=columns.pop("trigger_id", str(function.id)),
            status=status,
            input_data=input_data or {},
            timeout_seconds=columns.pop("timeout_seconds", 30),
            **columns,
        )
        unit.session.add(row)
    return row
