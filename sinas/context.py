"""AppContext: everything that lives as long as the process, opened and closed in one place."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeAlias
from uuid import UUID

import structlog
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker

from sinas.auth.authenticate import Authenticator
from sinas.auth.tokens import TokenSigner
from sinas.databases.pools import DatabasePools
from sinas.db.direct import DirectStatements
from sinas.db.engine import open_engine
from sinas.db.unit import Unit, unit_of_work
from sinas.egress.client import GuardedClient
from sinas.egress.policy import EgressPolicy
from sinas.errors import ConfigurationError
from sinas.kit.crypto import Cipher
from sinas.llm.client import LlmClient
from sinas.queue.client import JobQueue
from sinas.queue.running import RunningTasks
from sinas.queue.signals import Signals
from sinas.sandbox.base import Sandbox
from sinas.sandbox.environments import Environments
from sinas.search.embedding.base import Embedder
from sinas.search.embedding.opening import open_embedder
from sinas.settings import Settings
from sinas.storage.base import Storage
from sinas.storage.opening import open_storage
from sinas.tools.base import InstructionsProvider, ToolProvider
from sinas.tools.hooks import HookRunner
from sinas.tracing.opening import open_tracer
from sinas.tracing.spans import Tracer

log = structlog.get_logger(__name__)

# Published when a job of that id ended: execution ids and turn ids.
JOB_DONE_PREFIX = "sinas:job:done:"
# Published to make the worker of a turn stop it.
TURN_STOP_PREFIX = "sinas:turn:stop:"
# Published when an execution was cancelled: its worker kills the code.
EXECUTION_CANCEL_PREFIX = "sinas:execution:cancel:"
# Published when somebody answered what an execution's `input()` asks.
EXECUTION_ANSWER_PREFIX = "sinas:execution:answer:"
# Published when a database connection was changed or deleted: its pools are closed.
DATABASE_CHANGED_PREFIX = "sinas:database:changed:"
_SIGNAL_PREFIXES = (
    DATABASE_CHANGED_PREFIX,
    JOB_DONE_PREFIX,
    TURN_STOP_PREFIX,
    EXECUTION_CANCEL_PREFIX,
    EXECUTION_ANSWER_PREFIX,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class AppContext:
    """Handed to whoever needs more than one transaction: endpoints, jobs, sweeps, commands."""

    settings: Settings
    engine: AsyncEngine
    sessions: async_sessionmaker[AsyncSession]
    autocommit: AsyncEngine
    statement_sessions: async_sessionmaker[AsyncSession]
    direct: DirectStatements
    redis: Redis
    queue: JobQueue
    signals: Signals
    authenticator: Authenticator
    signer: TokenSigner
    cipher: Cipher
    llm: LlmClient
    http: GuardedClient
    embedder: Embedder | None
    databases: DatabasePools
    storage: Storage
    background: "Background"
    tracer: Tracer

    def unit(self) -> AbstractAsyncContextManager[Unit]:
        """A new transaction: commits at the end of the block, rolls back when it raises."""
        return unit_of_work(self.sessions, self.queue)

    def statement_unit(self) -> AbstractAsyncContextManager[Unit]:
        """As `unit`, for work whose only write is one statement: without BEGIN and COMMIT.

        Two round trips less. What was written stays when the block raises afterwards; jobs and
        actions are dropped then all the same.
        """
        return unit_of_work(self.statement_sessions, self.queue, self.direct)


def open_redis(url: str) -> Redis:
    """A client that retries once connections broke, with a pool that does not run dry.

    Raises:
        ConfigurationError: No URL.
    """
    if not url:
        raise ConfigurationError("REDIS_URL is not set; set it to redis://host:6379/0.")
    client: Redis = Redis.from_url(
        url,
        retry=Retry(ExponentialBackoff(cap=0.5, base=0.05), 3),
        retry_on_error=[RedisConnectionError],
        socket_connect_timeout=5,
    )
    return client


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerContext:
    """What every job body gets first.

    Attributes:
        worker_id: This process's lease; rows it works on carry it as `lease_owner`.
        sandbox: Where user code runs; None in workers that run none.
        environments: Packages that user code can import; None likewise.
        tools: Providers of what agents may call.
        hooks: What runs the functions of message hooks.
        instructions: Providers of what their system messages say besides, in order.
        lease_lost: Set when other workers may have taken this one's work over.
        running: Which task works on which execution.
        abandon: What ends the work of tool calls, by their keys, whose turn ended before them.
    """

    app: AppContext
    worker_id: UUID
    lease_lost: asyncio.Event
    sandbox: Sandbox | None = None
    environments: Environments | None = None
    tools: tuple[ToolProvider, ...] = ()
    hooks: HookRunner | None = None
    instructions: tuple[InstructionsProvider, ...] = ()
    running: RunningTasks = field(default_factory=RunningTasks)
    abandon: tuple["Abandon", ...] = ()


Abandon: TypeAlias = Callable[[AppContext, Sequence[str]], Awaitable[None]]


class Background:
    """Work that runs beside requests. An error in it is logged and ends nothing else."""

    def __init__(self, group: asyncio.TaskGroup) -> None:
        self._group = group
        self._tasks: set[asyncio.Task[None]] = set()

    def spawn(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        """Start `work`. It is cancelled when the process stops: what must happen is a job."""
        task = self._group.create_task(_logged(name, work), name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def cancel(self) -> None:
        """End all of it."""
        for task in tuple(self._tasks):
            task.cancel()


async def _logged(name: str, work: Coroutine[Any, Any, None]) -> None:
    try:
        await work
    except Exception:
        log.exception("background.failed", work=name)


async def _forget_changed(signals: Signals, databases: DatabasePools) -> None:
    """Close pools of connections that any process changed.

    A missed message costs little: a pool is compared with its row before every use.
    """
    async with signals.watch(DATABASE_CHANGED_PREFIX) as changed:
        while True:
            if message := await changed.get():
                await databases.forget(UUID(message.decode()))


@asynccontextmanager
async def open_context(settings: Settings) -> AsyncIterator[AppContext]:
    """Open everything, hand it out, close it in reverse order."""
    engine = open_engine(settings.database)
    autocommit = engine.execution_options(isolation_level="AUTOCOMMIT")
    redis = open_redis(settings.redis.url)
    signer = TokenSigner(settings.auth.secret_key.get_secret_value())
    tracer = open_tracer(settings.telemetry)
    llm = LlmClient(tracer)
    http = GuardedClient(EgressPolicy.of(settings))
    embedder = open_embedder(settings.search)
    databases = DatabasePools()
    storage = open_storage(settings)
    signals = Signals(redis, prefixes=_SIGNAL_PREFIXES)
    try:
        async with asyncio.TaskGroup() as group:
            background = Background(group)
            background.spawn("signals", signals.run())
            background.spawn("databases", databases.sweep())
            background.spawn("databases.changed", _forget_changed(signals, databases))
            try:
                yield AppContext(
                    settings=settings,
                    engine=engine,
                    sessions=async_sessionmaker(engine, expire_on_commit=False),
                    autocommit=autocommit,
                    statement_sessions=async_sessionmaker(autocommit, expire_on_commit=False),
                    direct=DirectStatements(engine),
                    redis=redis,
                    queue=JobQueue(redis),
                    signals=signals,
                    authenticator=Authenticator(engine, signer),
                    signer=signer,
                    cipher=Cipher(settings.auth.encryption_key.get_secret_value()),
                    llm=llm,
                    http=http,
                    embedder=embedder,
                    databases=databases,
                    storage=storage,
                    background=background,
                    tracer=tracer,
                )
            finally:
                background.cancel()
    finally:
        if embedder is not None:
            await embedder.aclose()
        await databases.aclose()
        await storage.aclose()
        await http.aclose()
        await llm.aclose()
        await redis.aclose()
        await engine.dispose()
        await tracer.aclose()
