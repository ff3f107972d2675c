"""What an embedder does."""

from collections.abc import Sequence
from typing import Protocol, TypeAlias

Vector: TypeAlias = Sequence[float]


class Embedder(Protocol):
    """Turns texts into vectors of length 1.

    Attributes:
        model: Names the model for ever; vectors of two models cannot be compared.
        dimensions: Numbers in a vector.
        batch: How many texts to hand over at once.
    """

    model: str
    dimensions: int
    batch: int

    async def embed(self, texts: Sequence[str]) -> list[Vector]:
        """The vectors of `texts`, in order.

        Raises:
            UnavailableError: The model cannot be started, or did not answer.
            UpstreamError: The provider answered badly.
        """
        ...

    async def aclose(self) -> None:
        """Free what it holds."""
        ...
