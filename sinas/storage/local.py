"""A directory. What is written has another name until it is complete and on the disk."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Final

from sinas.storage.base import PIECE_BYTES, ContentMissingError, Reading, StorageError

# Of files that are being written; their directory is cleaned by `delete`.
_PART: Final = ".part"


class LocalStorage:
    """Files under a directory, two levels deep."""

    def __init__(self, root: Path) -> None:
        self._root = root

    async def write(self, key: str, pieces: AsyncIterator[bytes]) -> None:
        """As `Storage.write`."""
        path = self._path(key)
        part = path.with_suffix(_PART)
        try:
            file = await asyncio.to_thread(_create, part)
            try:
                await _copy(pieces, file)
                await asyncio.to_thread(_sync, file)
            finally:
                await asyncio.to_thread(file.close)
            await asyncio.to_thread(_publish, part, path)
        except OSError as error:
            raise _failure(error) from error

    async def open(self, key: str, start: int = 0, length: int | None = None) -> Reading:
        """As `Storage.open`."""
        try:
            file = await asyncio.to_thread(_open_at, self._path(key), start)
        except FileNotFoundError as error:
            raise ContentMissingError("The content of this file is gone.") from error
        except OSError as error:
            raise _failure(error) from error
        return _LocalReading(file, length)

    async def delete(self, key: str) -> None:
        """As `Storage.delete`."""
        path = self._path(key)
        try:
            await asyncio.to_thread(_remove, path, path.with_suffix(_PART))
        except OSError as error:
            raise _failure(error) from error

    async def aclose(self) -> None:
        """Nothing is open."""

    def _path(self, key: str) -> Path:
        if not key.isalnum():
            raise ValueError(f"{key!r} is no key")
        # The last digits: the first ones of a UUIDv7 are the time, the same for days.
        return self._root / key[-2:] / key[-4:-2] / key


class _LocalReading:
    def __init__(self, file: BinaryIO, length: int | None) -> None:
        self._file = file
        self._left = length

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while self._left is None or self._left > 0:
            size = PIECE_BYTES if self._left is None else min(PIECE_BYTES, self._left)
            try:
                piece = await asyncio.to_thread(self._file.read, size)
            except OSError as error:
                raise _failure(error) from error
            if not piece:
                return
            if self._left is not None:
                self._left -= len(piece)
            yield piece

    async def aclose(self) -> None:
        # Closing what was only read waits for no disk.
        self._file.close()


async def _copy(pieces: AsyncIterator[bytes], file: BinaryIO) -> None:
    """In large pieces: a change of threads costs more than writing a small one."""
    waiting = bytearray()
    async for piece in pieces:
        waiting += piece
        if len(waiting) >= PIECE_BYTES:
            await asyncio.to_thread(file.write, bytes(waiting))
            waiting.clear()
    if waiting:
        await asyncio.to_thread(file.write, bytes(waiting))


def _create(path: Path) -> BinaryIO:
    path.parent.mkdir(parents=True, exist_ok=True)
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")


def _open_at(path: Path, start: int) -> BinaryIO:
    file = path.open("rb", buffering=0)
    try:
        file.seek(start)
    except BaseException:
        file.close()
        raise
    return file


def _sync(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def _publish(part: Path, path: Path) -> None:
    part.rename(path)
    # The directories, too: their entries could be lost although the file's bytes are not.
    for folder in (path.parent, path.parent.parent, path.parent.parent.parent):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _remove(*paths: Path) -> None:
    for path in paths:
        with suppress(FileNotFoundError):
            path.unlink()


def _failure(error: OSError) -> StorageError:
    what = error.strerror or type(error).__name__
    return StorageError(f"The storage of files does not work: {what}.", retry_after_seconds=30)
