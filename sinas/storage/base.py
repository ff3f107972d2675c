"""Storage: bytes under keys, written whole or not at all, and read in pieces."""

from collections.abc import AsyncIterator
from typing import Final, Protocol

from sinas.errors import NotFoundError, UnavailableError

# What is read and written at once: large enough for disks and networks, small beside a process.
PIECE_BYTES: Final = 256 * 1024


class ContentMissingError(NotFoundError):
    """There are no bytes under the key: they were removed, or never written."""


class StorageError(UnavailableError):
    """The storage is full, or cannot be reached."""


class Reading(Protocol):
    """Bytes on their way. Whoever got it closes it."""

    def __aiter__(self) -> AsyncIterator[bytes]:
        """The pieces, once."""
        ...

    async def aclose(self) -> None:
        """Let go of file and connection, read to the end or not."""
        ...


class Storage(Protocol):
    """One place for bytes. Keys are hexadecimal digits; nothing of a user's is in them."""

    async def write(self, key: str, pieces: AsyncIterator[bytes]) -> None:
        """Store all pieces under a new key; on return they outlive a loss of power.

        Memory does not grow with their number. When it raises, also because `pieces` does, there
        is nothing under the key, though perhaps leftovers that `delete` finds.

        Raises:
            StorageError: It is full, or cannot be reached.
        """
        ...

    async def open(self, key: str, start: int = 0, length: int | None = None) -> Reading:
        """The bytes from `start` on, at most `length`.

        Raises:
            ContentMissingError: Nothing is there.
            StorageError: It cannot be reached.
        """
        ...

    async def delete(self, key: str) -> None:
        """Remove what is there under the key, and leftovers of a write that did not end.

        Raises:
            StorageError: It cannot be reached.
        """
        ...

    async def aclose(self) -> None:
        """Close what is open."""
        ...
