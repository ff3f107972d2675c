"""Batches."""

from typing import Any

from sinas.context import AppContext
from sinas.models import Batch, BatchKind, Function


async def make_batch(context: AppContext, function: Function, **columns: Any) -> Batch:
    """A batch of calls of `function`, as its owner, without any executions."""
    async with context.unit() as unit:
        row = Batch(
            user_id=function.user_id,
            kind=BatchKind.FUNCTION,
            target_namespace=function.namespace,
            target_name=function.name,
            total=columns.pop("total", 1),
            **columns,
        )
        unit.session.add(row)
    return row
