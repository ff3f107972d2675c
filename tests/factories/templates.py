"""Templates, written through the models."""

from itertools import count
from typing import Any

from sinas.context import AppContext
from sinas.models import Template, User

_numbers = count(1)


async def make_template(
    context: AppContext, owner: User | None, html: str = "<p>Hello</p>", **columns: Any
) -> Template:
    """An active template of `owner`."""
    async with context.unit() as unit:
        row = Template(
            user_id=None if owner is None else owner.id,
            namespace=columns.pop("namespace", "default"),
            name=columns.pop("name", None) or f"template-{next(_numbers)}",
            html_content=html,
            **columns,
        )
        unit.session.add(row)
    return row
