"""Jobs of the index: one file, and what makes sure that no file is forgotten."""

from datetime import timedelta
from uuid import UUID

from sqlalchemy import ColumnElement, Select, func, or_, select, update

from sinas.context import AppContext, WorkerContext
from sinas.db.unit import Unit
from sinas.models import File, FileIndex
from sinas.queue.job import Queue, Sweep, job
from sinas.queue.lanes import INDEX
from sinas.resources.files.index_rows import give_up, make_due, signature
from sinas.resources.files.indexing import Indexer
from sinas.resources.files.storage import content_of

_BATCH = 200


@job("files.index", queue=Queue.FUNCTIONS, timeout=timedelta(minutes=60))
async def index(worker: WorkerContext, file_id: str) -> None:
    """Make the text and the chunks of a file's current version, when that is due."""
    await Indexer(worker.app, content_of(worker.app)).run(UUID(file_id))


async def index_soon(unit: Unit, file_id: UUID) -> None:
    """In the transaction that makes a file's version: have it indexed after the commit."""
    await make_due(unit.session, file_id)
    _enqueue(unit, file_id)


def _enqueue(unit: Unit, file_id: UUID) -> None:
    index.enqueue_in(unit, INDEX, f"files.index:{file_id}", timedelta(0), str(file_id))


async def sweep_due(context: AppContext) -> None:
    """Begin again what is due: its job was lost, its worker died, or its pause is over."""
    due = (
        select(FileIndex.file_id)
        .where(FileIndex.due_at <= func.now())
        .order_by(FileIndex.due_at)
        .limit(_BATCH)
    )
    async with context.unit() as unit:
        await give_up(unit.session)
        for file_id in (await unit.session.scalars(due)).all():
            _enqueue(unit, file_id)


async def sweep_outdated(context: AppContext) -> None:
    """Make due what has no index, and what other readers, languages or models have made."""
    made_with = signature(context.settings.search, context.embedder)
    while True:
        async with context.unit() as unit:
            missing = (await unit.session.scalars(_missing())).all()
            for file_id in missing:
                await make_due(unit.session, file_id)
            old = await unit.session.scalars(
                update(FileIndex)
                .where(FileIndex.file_id.in_(_outdated(made_with)))
                .values(due_at=func.now(), attempts=0)
                .returning(FileIndex.file_id)
                .execution_options(synchronize_session=False)
            )
            if len(missing) + len(old.all()) < _BATCH:
                return


def _missing() -> Select[UUID]:
    has_none: ColumnElement[bool] = or_(
        FileIndex.file_id.is_(None), FileIndex.version != File.current_version
    )
    return (
        select(File.id)
        .outerjoin(FileIndex, FileIndex.file_id == File.id)
        .where(has_none)
        .limit(_BATCH)
        .with_for_update(of=File, skip_locked=True)
    )


def _outdated(made_with: str) -> Select[UUID]:
    # The text and the chunks there are stay until the new ones replace them.
    return (
        select(FileIndex.file_id)
        .where(FileIndex.due_at.is_(None), FileIndex.signature != made_with)
        .limit(_BATCH)
        .with_for_update(skip_locked=True)
    )


SWEEPS = (
    Sweep(name="files.index_due", every=timedelta(seconds=15), work=sweep_due),
    Sweep(name="files.index_outdated", every=timedelta(minutes=10), work=sweep_outdated),
)
