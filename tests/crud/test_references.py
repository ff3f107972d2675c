"""References with wildcards: which rows they name, and which of them counts."""

import pytest

from sinas.context import AppContext
from sinas.crud.references import closest, matching
from sinas.models import Store
from tests.factories.memory import make_store


@pytest.mark.parametrize(
    ("references", "places"),
    [
        (["a/b"], (0,)),
        (["a/c", "b/b"], ()),
        (["a/*"], (0,)),
        (["*/*"], (0,)),
        (["*/*", "a/*", "a/b"], (2,)),
        (["*/*", "a/*"], (1,)),
        (["a/b", "a/*", "a/b"], (0, 2)),
        (["*/b"], ()),
        ([], ()),
    ],
)
def test_the_most_specific_ones(references: list[str], places: tuple[int, ...]) -> None:
    assert closest(references, "a", "b") == places


async def test_rows_that_are_named(context: AppContext) -> None:
    for namespace, name in (("a", "x"), ("a", "y"), ("b", "x")):
        await make_store(context, None, namespace=namespace, name=name)

    async def named(*references: str) -> list[str]:
        statement = Store.__table__.select().where(matching(Store, references))
        async with context.sessions() as session:
            rows = (await session.execute(statement)).all()
        return sorted(f"{row.namespace}/{row.name}" for row in rows)

    assert await named() == []
    assert await named("a/x", "b/y") == ["a/x"]
    assert await named("a/*") == ["a/x", "a/y"]
    assert await named("b/*", "a/y") == ["a/y", "b/x"]
    assert await named("*/*") == ["a/x", "a/y", "b/x"]
