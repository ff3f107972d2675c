"""Connectors, written through the models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sinas.models import Connector, ConnectorOperation

if TYPE_CHECKING:
    from sinas.context import AppContext
    from sinas.models import User


async def make_connector(
    context: AppContext,
    owner: User,
    *,
    base_url: str = "https://connector.invalid",
    operations: Sequence[str] = ("do",),
    auth: dict[str, Any] | None = None,
    **columns: Any,
) -> Connector:
    """An active connector with operations that take nothing, each at the path of its name."""
    row = Connector(
        user_id=owner.id,
        base_url=base_url,
        auth=auth or {"type": "none"},
        addressed_by=owner.id,
        operation_rows=[
            ConnectorOperation(
                position=place,
                name=name,
                config={
                    "name": name,
                    "method": "GET",
                    "path": f"/{name}",
                    "description": None,
                    "parameters": {},
                    "request_body_mapping": "json",
                    "response_mapping": "json",
                },
            )
            for place, name in enumerate(operations)
        ],
        **columns,
    )
    async with context.unit() as unit:
        unit.session.add(row)
    return row
