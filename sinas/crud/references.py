"""References to resources by name, as agents hold them: `ns/name`, `ns/*` or `*/*`."""

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import ColumnElement, and_, false, or_, true

from sinas.db.base import Base

_ANY = "*"


def matching(model: type[Base], references: Iterable[str]) -> ColumnElement[bool]:
    """SQL: rows of a namespaced model that any of the references names."""
    columns: Any = model
    wanted = []
    for reference in references:
        namespace, _, name = reference.partition("/")
        parts = ((columns.namespace, namespace), (columns.name, name))
        wanted.append(and_(true(), *(column == part for column, part in parts if part != _ANY)))
    return or_(false(), *wanted)


def closest(references: Sequence[str], namespace: str, name: str) -> tuple[int, ...]:
    """Places of the references that name a row, of those only the most specific ones.

    So `sales/notes` is an exception to `sales/*`, and that one to `*/*`.
    """
    for wanted in (f"{namespace}/{name}", f"{namespace}/{_ANY}", f"{_ANY}/{_ANY}"):
        if places := tuple(place for place, held in enumerate(references) if held == wanted):
            return places
    return ()
