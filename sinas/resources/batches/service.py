"""Rules of batches: how one is accepted, what its status is, and who may end it."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

from sinas.auth.principal import Principal
from sinas.chat.stopping import stop_batch
from sinas.db.unit import Unit
from sinas.egress.callbacks import check_callback_url
from sinas.errors import FieldError, ForbiddenError, InvalidInputError, NotFoundError
from sinas.kit.ids import uuid7
from sinas.kit.time import utcnow
from sinas.models import Batch, BatchKind, CallbackStatus, ExecutionStatus, TriggerType
from sinas.resources.batches.children import of_execution, turns_of
from sinas.resources.batches.repository import BatchRepository, Counts, counts_of
from sinas.resources.batches.schemas import (
    BatchCancelled,
    BatchExecution,
    BatchRead,
    BatchStatus,
    BatchSubmit,
    BatchSubmitted,
    BatchTarget,
    ChatBatchSubmit,
)
from sinas.resources.executions.service import ExecutionService, Trigger
from sinas.resources.functions.service import FunctionService
from sinas.settings import FunctionSettings

DEFAULT_PREFIX = "batch"


class BatchService:
    """Batches of one caller, in one transaction."""

    def __init__(self, unit: Unit, principal: Principal, limits: FunctionSettings) -> None:
        self.unit = unit
        self.principal = principal
        self.limits = limits
        self.rows = BatchRepository(unit.session, principal)

    async def submit(self, namespace: str, name: str, data: BatchSubmit) -> BatchSubmitted:
        """Record a call for each input and queue them after the commit.

        An input that breaks the function's schema is a failed execution; the others go on.

        Raises:
            ForbiddenError: No execute grant for the name; the same whether it exists or not.
            NotFoundError: No such function, or it is inactive.
            BadRequestError: A URL may not be called back.
            InvalidInputError: Too many inputs, or one that cannot be stored.
            PayloadTooLargeError: An input is too large.
        """
        batch = await self.add(BatchKind.FUNCTION, namespace, name, data)
        functions = FunctionService(self.unit, self.principal, self.limits)
        started = await functions.start_many(
            namespace,
            name,
            [(given, _trigger(batch, data, number)) for number, given in enumerate(data.inputs)],
        )
        failed = sum(1 for each in started if each.errors)
        counts = Counts(queued=batch.total - failed, failed=failed)
        return BatchSubmitted(
            batch_id=batch.id,
            execution_ids=[each.execution_id for each in started],
            total=batch.total,
            status=status_of(batch, counts),
        )

    async def get(self, batch_id: UUID) -> BatchRead:
        """One batch with its counts.

        Raises:
            NotFoundError: Absent, or somebody else's.
        """
        batch = await self._found(batch_id)
        return describe(batch, await counts_of(self.unit.session, batch))

    async def add(
        self, kind: BatchKind, namespace: str, name: str, data: BatchSubmit | ChatBatchSubmit
    ) -> Batch:
        """Record a batch that has nothing in it yet.

        Raises:
            BadRequestError: A URL may not be called back.
            InvalidInputError: Too many inputs.
        """
        self._check(data)
        batch = Batch(
            id=uuid7(),
            user_id=self.principal.user_id,
            access=self.principal.limit_map,
            kind=kind,
            target_namespace=namespace,
            target_name=name,
            total=len(data.inputs),
            trigger_id_prefix=data.trigger_id_prefix,
            callback_url=data.batch_callback_url,
            callback_status=CallbackStatus.PENDING if data.batch_callback_url else None,
        )
        self.rows.add(batch)
        # Before its executions or turns, which point at it.
        await self.unit.session.flush()
        return batch

    async def executions(
        self, batch_id: UUID, *, status: ExecutionStatus | None, offset: int, limit: int
    ) -> Sequence[BatchExecution]:
        """The batch's executions or turns, in the order of their inputs.

        Raises:
            NotFoundError: Absent, or somebody else's.
        """
        batch = await self._found(batch_id)
        if batch.kind is BatchKind.AGENT:
            return await turns_of(
                self.unit.session, batch.id, status=status, offset=offset, limit=limit
            )
        found = await ExecutionService(self.unit, self.principal).of_batch(
            batch.id, status=status, skip=offset, limit=limit
        )
        return [of_execution(row) for row in found]

    async def cancel(self, batch_id: UUID) -> BatchCancelled:
        """Cancel what has not ended; running code, and what an agent does, is stopped.

        Raises:
            NotFoundError: Absent, or somebody else's.
            ForbiddenError: Visible, but not the caller's to change.
        """
        batch = await self.rows.by_id(batch_id, "update")
        if batch is None:
            await self._found(batch_id)
            raise ForbiddenError(f"Not authorized to cancel batch '{batch_id}'.")
        if batch.kind is BatchKind.AGENT:
            cancelled = await stop_batch(self.unit, batch.id)
        else:
            cancelled = await ExecutionService(self.unit, self.principal).cancel_batch(batch.id)
        if cancelled:
            batch.cancelled_at = utcnow()
        counts = await counts_of(self.unit.session, batch)
        return BatchCancelled(
            batch_id=batch.id, status=status_of(batch, counts), cancelled_children=len(cancelled)
        )

    def _check(self, data: BatchSubmit | ChatBatchSubmit) -> None:
        most = self.limits.max_batch_size
        if len(data.inputs) > most:
            message = f"must have at most {most} entries (MAX_BATCH_SIZE)"
            raise InvalidInputError(f"inputs {message}", [FieldError("inputs", message)])
        for field in ("callback_url", "batch_callback_url"):
            if (url := getattr(data, field)) is not None:
                check_callback_url(self.limits.callback_url_hosts, url, field)

    async def _found(self, batch_id: UUID) -> Batch:
        batch = await self.rows.by_id(batch_id)
        if batch is None:
            raise NotFoundError(f"Batch '{batch_id}' not found")
        return batch


def _trigger(batch: Batch, data: BatchSubmit, number: int) -> Trigger:
    return Trigger(
        type=TriggerType.API,
        id=f"{data.trigger_id_prefix or DEFAULT_PREFIX}:{number}",
        background=True,
        delay=timedelta(seconds=data.delay_seconds or 0),
        callback_url=data.callback_url,
        batch_id=batch.id,
    )


def status_of(batch: Batch, counts: Counts) -> BatchStatus:
    """The batch's status by its executions' ones."""
    if not counts.has_ended:
        has_begun = counts.queued < batch.total
        return "running" if has_begun else "queued"
    if counts.cancelled and batch.cancelled_at is not None:
        return "cancelled"
    if counts.completed == batch.total:
        return "completed"
    return "partial" if counts.completed else "failed"


def describe(batch: Batch, counts: Counts) -> BatchRead:
    """What is told of a batch."""
    numbers: dict[str, Any] = {
        name: getattr(counts, name)
        for name in ("completed", "failed", "running", "queued", "cancelled")
    }
    return BatchRead(
        batch_id=batch.id,
        kind=batch.kind,
        target=BatchTarget(namespace=batch.target_namespace, name=batch.target_name),
        user_id=batch.user_id,
        total=batch.total,
        **numbers,
        status=status_of(batch, counts),
        started_at=batch.created_at,
        finished_at=counts.last_end if counts.has_ended else None,
        trigger_id_prefix=batch.trigger_id_prefix,
        execution_mode="queue",
        callback_status=batch.callback_status,
        callback_response_code=batch.callback_response_code,
    )
