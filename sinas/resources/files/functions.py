"""Functions of a collection: what approves a content, and what is told of a new version."""

import base64
import binascii
from collections.abc import AsyncIterator
from dataclasses import dataclass
from uuid import UUID

import structlog

from sinas.auth.principal import Principal
from sinas.context import AppContext
from sinas.db.unit import Unit
from sinas.errors import BadRequestError, FieldError, SinasError, UpstreamError
from sinas.kit.ids import uuid7
from sinas.kit.json_types import JsonObject, JsonValue
from sinas.models import Collection, ExecutionStatus, File, FileVersion, TriggerType
from sinas.resources.executions.events import ExecutionEnd, channel, wait_for_end
from sinas.resources.executions.service import Started, Trigger, rejection
from sinas.resources.files.blobs import Draft, Written, too_large
from sinas.resources.functions.service import FunctionService

log = structlog.get_logger(__name__)

# What JSON needs around the content.
_ENVELOPE_BYTES = 64 * 1024


class FilterFailedError(UpstreamError):
    """The content filter gave no answer: nothing is stored without one."""

    code = "content_filter_failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Approved:
    """What a content filter let through.

    Attributes:
        metadata: To be laid over the file's own.
        execution_id: Of the filter; None where there is none.
    """

    written: Written
    metadata: JsonObject
    execution_id: UUID | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """What a filter is told of a content, besides the content."""

    name: str
    content_type: str
    metadata: JsonObject


class ContentFilter:
    """The filter of one collection, run as the uploader.

    Whoever wrote the collection chose the function; that is its permission.
    """

    def __init__(self, context: AppContext, principal: Principal, collection: Collection) -> None:
        self._context = context
        self._principal = principal
        self._collection = collection

    async def ask(self, draft: Draft, written: Written, upload: Upload) -> Approved:
        """Have a content judged; what comes back is what may be stored.

        Raises:
            BadRequestError: It is refused.
            FilterFailedError: The filter is gone, fails, or answers with nothing it may.
            PayloadTooLargeError: The content, or the one in its place, is too large.
        """
        function = self._collection.content_filter_function
        if function is None:
            return Approved(written=written, metadata={})
        content = await self._content(written)
        execution_id, end = await self._run(function, self._payload(content, upload, written))
        answer = _answer_of(function, end)
        if not answer.get("approved", True):
            reason = answer.get("reason")
            text = reason if isinstance(reason, str) and reason.strip() else "no reason given"
            message = f"The content filter refused the file: {text}"
            raise BadRequestError(message, [FieldError("content_base64", text)])
        metadata = answer.get("metadata") or {}
        if not isinstance(metadata, dict):
            raise _failed(function, "its `metadata` is no object")
        if (modified := answer.get("modified_content")) is not None:
            written = await self._replaced(draft, function, modified)
        return Approved(written=written, metadata=metadata, execution_id=execution_id)

    async def _content(self, written: Written) -> bytes:
        limits = self._context.settings.function
        most = (limits.max_input_bytes - _ENVELOPE_BYTES) // 4 * 3
        if written.size_bytes > most:
            error = too_large(most)
            error.message = (
                f"The file has {written.size_bytes} bytes; the collection's content filter takes "
                f"at most {most} (FUNCTION_MAX_INPUT_BYTES)."
            )
            raise error
        reading = await self._context.storage.open(written.blob_id.hex)
        try:
            return b"".join([piece async for piece in reading])
        finally:
            await reading.aclose()

    def _payload(self, content: bytes, upload: Upload, written: Written) -> JsonObject:
        return {
            "content_base64": base64.b64encode(content).decode(),
            "namespace": self._collection.namespace,
            "collection": self._collection.name,
            "filename": upload.name,
            "content_type": upload.content_type,
            "size_bytes": written.size_bytes,
            "user_metadata": upload.metadata,
            "user_id": str(self._principal.user_id),
        }

    async def _run(self, function: str, payload: JsonObject) -> tuple[UUID, ExecutionEnd | None]:
        namespace, _, name = function.partition("/")
        trigger = Trigger(
            type=TriggerType.MANUAL,
            id=f"content-filter:{self._collection.namespace}/{self._collection.name}",
        )
        execution_id = uuid7()
        limits = self._context.settings.function
        # Listening begins before the commit, so that no end can be missed.
        async with self._context.signals.listen(channel(execution_id)) as listener:
            try:
                async with self._context.statement_unit() as unit:
                    functions = FunctionService(unit, self._principal, limits)
                    called = await functions.executable(namespace, name)
                    started = await functions.start_function(called, payload, trigger, execution_id)
            except SinasError as error:
                raise _failed(function, error.message) from error
            if started.errors:
                raise _failed(function, rejection(started.errors))
            seconds = started.patience_seconds(self._context.settings)
            end = await wait_for_end(self._context, listener, execution_id, seconds)
            return execution_id, end

    async def _replaced(self, draft: Draft, function: str, content: JsonValue) -> Written:
        if not isinstance(content, str):
            raise _failed(function, "its `modified_content` is no text")
        try:
            data = base64.b64decode(content, validate=True)
        except (binascii.Error, ValueError) as error:
            raise _failed(function, "its `modified_content` is not base64") from error

        async def pieces() -> AsyncIterator[bytes]:
            yield data

        return await draft.write(pieces(), self._collection.max_file_size_mb * 1024 * 1024)


async def tell_of_upload(
    context: AppContext,
    unit: Unit,
    principal: Principal,
    collection: Collection,
    file: File,
    version: FileVersion,
) -> None:
    """Have the collection's post-upload function called once the version is committed.

    A function that cannot be called is logged: the file is stored all the same.
    """
    function = collection.post_upload_function
    if function is None:
        return
    namespace, _, name = function.partition("/")
    where = f"{collection.namespace}/{collection.name}"
    payload: JsonObject = {
        "file_id": str(file.id),
        "namespace": collection.namespace,
        "collection": collection.name,
        "filename": file.name,
        "version": version.version_number,
        "file_path": f"{where}/{file.name}",
        "user_id": str(principal.user_id),
        "metadata": file.file_metadata,
    }
    trigger = Trigger(type=TriggerType.MANUAL, id=f"post-upload:{where}", background=True)
    functions = FunctionService(unit, principal, context.settings.function)
    try:
        called = await functions.executable(namespace, name)
        started: Started = await functions.start_function(called, payload, trigger, None)
    except SinasError as error:
        reason = error.message
    else:
        reason = rejection(started.errors) if started.errors else ""
    if reason:
        log.warning("files.post_upload_failed", function=function, collection=where, reason=reason)


def _answer_of(function: str, end: ExecutionEnd | None) -> JsonObject:
    if end is None:
        raise _failed(function, "it did not end in time")
    if end.status is not ExecutionStatus.COMPLETED:
        raise _failed(function, end.error or f"it is {end.status.lower()}")
    if not isinstance(end.result, dict):
        raise _failed(function, "it returned no object")
    return end.result


def _failed(function: str, why: str) -> FilterFailedError:
    return FilterFailedError(f"The content filter '{function}' failed, so nothing is stored: {why}")
