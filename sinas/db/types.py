"""Column types of PostgreSQL that SQLAlchemy has no class for."""

from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import BindParameter, ColumnElement, Dialect, Text, cast
from sqlalchemy.types import UserDefinedType
from typing_extensions import override


class HalfVec(UserDefinedType[Sequence[float]]):
    """pgvector's `halfvec`: 16 bits a number, as many numbers as each row has.

    Half the room of `vector` in table and index; what is lost is far below what tells meanings
    apart. pgvector's own Python library has such a class, and imports NumPy, which would be a
    fifth of an idle API's memory.
    """

    cache_ok = True

    @override
    def get_col_spec(self, **_: Any) -> str:
        return "halfvec"

    @override
    def bind_processor(self, dialect: Dialect) -> Callable[[Sequence[float] | None], str | None]:
        return vector_text

    @override
    def bind_expression(self, bindvalue: BindParameter[Any]) -> ColumnElement[Any]:
        # As text on the wire: the driver knows nothing of the type.
        return cast(cast(bindvalue, Text), self)


def vector_text(numbers: Sequence[float] | None) -> str | None:
    """A vector as pgvector reads it."""
    if numbers is None:
        return None
    return "[" + ",".join(f"{number:.5g}" for number in numbers) + "]"
