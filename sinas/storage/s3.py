"""A bucket of a server that speaks S3. Large contents go there in parts."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, contextmanager, suppress
from typing import Any, Final

from sinas.errors import ConfigurationError
from sinas.settings.files import FileSettings
from sinas.storage.base import PIECE_BYTES, ContentMissingError, Reading, StorageError

# S3 takes 10,000 parts of 5 MiB and more: 80 GB, in memory one part at a time.
_PART_BYTES: Final = 8 * 1024 * 1024
_MISSING: Final = frozenset({"NoSuchKey", "404", "NotFound", "NoSuchUpload"})


class S3Storage:
    """Objects of one bucket. The connection is made on first use."""

    def __init__(self, settings: FileSettings) -> None:
        if not settings.s3_bucket:
            raise ConfigurationError("FILE_STORAGE_S3_BUCKET is not set; s3 needs a bucket.")
        self._settings = settings
        self._bucket = settings.s3_bucket
        self._stack = AsyncExitStack()
        self._client: Any = None
        self._opening = asyncio.Lock()

    async def write(self, key: str, pieces: AsyncIterator[bytes]) -> None:
        """As `Storage.write`."""
        target = self._target(key)
        parts = _in_parts(pieces)
        first = await anext(parts, b"")
        with _failures():
            client = await self._opened()
            if len(first) < _PART_BYTES:
                await client.put_object(**target, Body=first)
                return
            upload = (await client.create_multipart_upload(**target))["UploadId"]
        try:
            await self._write_parts(client, target | {"UploadId": upload}, first, parts)
        except BaseException:
            with _failures():
                await client.abort_multipart_upload(**target, UploadId=upload)
            raise

    async def _write_parts(
        self, client: Any, upload: Mapping[str, str], first: bytes, rest: AsyncIterator[bytes]
    ) -> None:
        done: list[dict[str, Any]] = []
        part = first
        while part:
            number = len(done) + 1
            with _failures():
                answer = await client.upload_part(**upload, PartNumber=number, Body=part)
            done.append({"PartNumber": number, "ETag": answer["ETag"]})
            part = await anext(rest, b"")
        with _failures():
            await client.complete_multipart_upload(**upload, MultipartUpload={"Parts": done})

    async def open(self, key: str, start: int = 0, length: int | None = None) -> Reading:
        """As `Storage.open`."""
        wanted = {}
        if length == 0:
            return _S3Reading(None)
        if start or length is not None:
            last = "" if length is None else start + length - 1
            wanted["Range"] = f"bytes={start}-{last}"
        with _failures():
            client = await self._opened()
            answer = await client.get_object(**self._target(key), **wanted)
        return _S3Reading(answer["Body"])

    async def delete(self, key: str) -> None:
        """As `Storage.delete`."""
        target = self._target(key)
        with _failures():
            client = await self._opened()
        for upload in await self._unfinished(client, target["Key"]):
            # One that has ended meanwhile is no failure, and nor is an object that is not there.
            with suppress(ContentMissingError), _failures():
                await client.abort_multipart_upload(**target, UploadId=upload)
        with suppress(ContentMissingError), _failures():
            await client.delete_object(**target)

    async def _unfinished(self, client: Any, key: str) -> list[str]:
        """Uploads of the key that were begun and neither completed nor aborted."""
        try:
            with _failures():
                found = await client.list_multipart_uploads(Bucket=self._bucket, Prefix=key)
        except ContentMissingError:  # how some servers say that there are none
            return []
        return [upload["UploadId"] for upload in found.get("Uploads") or ()]

    async def aclose(self) -> None:
        """Close the connections."""
        self._client = None
        await self._stack.aclose()

    def _target(self, key: str) -> dict[str, str]:
        return {"Bucket": self._bucket, "Key": f"{self._settings.s3_prefix}{key}"}

    async def _opened(self) -> Any:
        async with self._opening:
            if self._client is None:
                self._client = await self._stack.enter_async_context(_connected(self._settings))
            return self._client


def _connected(settings: FileSettings) -> Any:
    # Half a second and 25 MB, which only installations that use it pay.
    try:
        from aiobotocore.config import AioConfig  # noqa: PLC0415 - see above
        from aiobotocore.session import get_session  # noqa: PLC0415 - see above
    except ImportError as error:
        raise ConfigurationError(
            "FILE_STORAGE_BACKEND=s3 needs more packages: pip install 'sinas-server[s3]'."
        ) from error
    config = AioConfig(
        connect_timeout=10,
        read_timeout=60,
        retries={"max_attempts": 3, "mode": "standard"},
        # Other servers than Amazon's know no bucket names in host names, and few checksums.
        s3={"addressing_style": "path" if settings.s3_endpoint else "auto"},
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
    return get_session().create_client(
        "s3",
        region_name=settings.s3_region,
        endpoint_url=settings.s3_endpoint or None,
        aws_access_key_id=settings.s3_access_key_id or None,
        aws_secret_access_key=settings.s3_secret_access_key.get_secret_value() or None,
        config=config,
    )


class _S3Reading:
    def __init__(self, body: Any) -> None:
        self._body = body

    async def __aiter__(self) -> AsyncIterator[bytes]:
        if self._body is None:
            return
        with _failures():
            async for piece in self._body.iter_chunks(PIECE_BYTES):
                yield piece

    async def aclose(self) -> None:
        if self._body is not None:
            self._body.close()


async def _in_parts(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Pieces joined and cut to the size of a part; the last one may be smaller."""
    waiting = bytearray()
    async for piece in pieces:
        waiting += piece
        while len(waiting) >= _PART_BYTES:
            yield bytes(waiting[:_PART_BYTES])
            del waiting[:_PART_BYTES]
    if waiting:
        yield bytes(waiting)


@contextmanager
def _failures() -> Iterator[None]:
    """What the library raises, in our words. Never its own: they name bucket and endpoint."""
    from botocore.exceptions import (  # noqa: PLC0415 - as above
        BotoCoreError,
        ClientError,
        HTTPClientError,
    )

    try:
        yield
    except ClientError as error:
        code = str(error.response.get("Error", {}).get("Code", ""))
        if code in _MISSING:
            raise ContentMissingError("The content of this file is gone.") from error
        raise StorageError(f"The storage of files refused ({code}).") from error
    except (BotoCoreError, HTTPClientError, OSError) as error:
        raise StorageError("The storage of files cannot be reached.") from error
