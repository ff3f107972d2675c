"""Turns whose workers die at a given step, each in a chat of its own."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import orjson
from sqlalchemy import func, or_, select, update

from sinas.models import Chat, Execution, ExecutionStatus, Message, Turn, TurnStatus
from tests.chat.dying import Death, Order
from tests.chat.outcome import Outcome, plain, plain_events, read_state
from tests.chat.support import Talk
from tests.factories.chats import make_chat
from tests.fixtures.state import in_own_task
from tests.support.effects import effects

if TYPE_CHECKING:
    from sinas.context import AppContext
    from sinas.models import User
    from sinas.settings import Settings
    from sinas.worker import RunningWorker
    from tests.support.llm_upstream import LlmUpstream

_ROOT = Path(__file__).parents[2]
_PATIENCE_SECONDS = 30
_PAUSE_SECONDS = 0.02
_OFTEN = timedelta(seconds=2)
_LONG_AGO = timedelta(seconds=10)


class DyingWorkers:
    """The process that forks them over the tests' own database and Redis.

    See `tests.chat.dying`. What workers say goes to `log`.
    """

    def __init__(self, settings: Settings, log: Path) -> None:
        self._settings = settings
        self._log = log
        self._process: asyncio.subprocess.Process | None = None

    async def run(self, turn_id: UUID, die_at: int) -> Death:
        """Have one worker run a turn until it dies (0: until nothing is left to do)."""
        order = Order(
            database_url=self._settings.database.url,
            redis_url=self._settings.redis.url,
            data_dir=str(self._settings.core.data_dir),
            turn_id=str(turn_id),
            die_at=die_at,
        )
        process = self._process = self._process or await self._start()
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(orjson.dumps(asdict(order)) + b"\n")
            death = Death(**orjson.loads(await process.stdout.readline()))
        except BaseException:
            await self.stop()  # a worker that goes on would be in the next test's way
            raise
        assert death.code in Death.EXPECTED, self._log.read_text()
        return death

    async def stop(self) -> None:
        """Kill it, and the worker that it may wait for."""
        process, self._process = self._process, None
        if process is not None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()

    async def _start(self) -> asyncio.subprocess.Process:
        with self._log.open("ab") as output:
            return await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "tests.chat.dying"),
                cwd=_ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
                start_new_session=True,
            )


@dataclass(frozen=True, slots=True)
class Stage:
    """Where turns are played. `talk` names their agent and their client."""

    talk: Talk
    user: User
    workers: DyingWorkers
    llm: LlmUpstream

    @property
    def context(self) -> AppContext:
        return self.talk.context

    async def play(self, *deaths: int) -> Outcome:
        """One turn. For each of `deaths` a worker ends before that step; one that lives follows."""
        self.llm.requests.clear()
        turn = await self._begin()
        talk = Talk(self.context, self.talk.client, {"id": str(turn.chat_id)}, self.talk.agent)
        async with asyncio.timeout(_PATIENCE_SECONDS), asyncio.TaskGroup() as group:
            following = group.create_task(talk.replay(turn.channel_id))
            died = [await self.workers.run(turn.id, deaths[0] if deaths else 0)]
            if died[0].code:
                sweeping = group.create_task(self._sweep(turn))
                died += [await self.workers.run(turn.id, die_at) for die_at in deaths[1:]]
                await self._end(turn)
                sweeping.cancel()
        chats = await self._chats(turn.chat_id)
        return Outcome(
            deaths=died,
            state=plain(await self._state(chats), chats),
            live=plain_events(following.result(), chats),
            replay=plain_events(await talk.replay(turn.channel_id), chats),
            asked=Counter(request.model for request in self.llm.requests),
            effects=await self._effects(chats),
        )

    async def _begin(self) -> Turn:
        from sinas.chat.pushing import push_turn

        chat = await make_chat(self.context, self.user, self.talk.agent)
        async with self.context.unit() as unit:
            turn = Turn(
                chat_id=chat.id,
                user_id=self.user.id,
                channel_id=f"channel-{chat.id}",
                status=TurnStatus.QUEUED,
                timeout_seconds=60,
            )
            unit.session.add(turn)
            await unit.session.flush()
            unit.session.add(Message(chat_id=chat.id, role="user", content="go", turn_id=turn.id))
            push_turn(unit, turn)
        return turn

    async def _sweep(self, turn: Turn) -> None:
        """What the scheduler does, without its pauses."""
        from sinas.registry import RESOURCES

        sweeps = [each for one in RESOURCES for each in one.sweeps if each.every <= _OFTEN]
        while True:
            await self._age(turn)
            for sweep in sweeps:
                await sweep.run(self.context)
            await asyncio.sleep(_PAUSE_SECONDS)

    async def _age(self, turn: Turn) -> None:
        """Let what is queued have waited for longer than any push takes."""
        of_tree = select(Chat.id).where(_tree(turn.chat_id))
        queued: tuple[tuple[Any, Any], ...] = (
            (Turn, TurnStatus.QUEUED),
            (Execution, ExecutionStatus.PENDING),
        )
        async with self.context.statement_unit() as unit:
            for table, status in queued:
                await unit.session.execute(
                    update(table)
                    .where(table.chat_id.in_(of_tree), table.status == status)
                    .values(queued_at=func.clock_timestamp() - _LONG_AGO)
                    .execution_options(synchronize_session=False)
                )

    async def _end(self, turn: Turn) -> None:
        """Have a worker that lives bring it to its end."""
        from sinas.worker import open_worker

        async with in_own_task(open_worker("agents", self.context)) as worker:
            while not await self._is_over(turn, worker):
                await asyncio.sleep(_PAUSE_SECONDS)

    async def _is_over(self, turn: Turn, worker: RunningWorker) -> bool:
        async with self.context.statement_sessions() as session:
            statuses = await session.scalars(
                select(Turn.status).join(Chat, Chat.id == Turn.chat_id).where(_tree(turn.chat_id))
            )
            is_over = all(status == TurnStatus.COMPLETED for status in statuses)
        return is_over and not worker.queue_worker.tasks

    async def _chats(self, chat_id: UUID) -> Sequence[UUID]:
        """The chat and those of its sub-agents."""
        async with self.context.statement_sessions() as session:
            statement = select(Chat.id).where(_tree(chat_id)).order_by(Chat.created_at)
            return (await session.scalars(statement)).all()

    async def _effects(self, chats: Sequence[UUID]) -> list[int]:
        had = await effects(self.context)
        async with self.context.statement_sessions() as session:
            statement = select(Execution.id).where(Execution.chat_id.in_(chats))
            return [had[key] for key in (await session.scalars(statement)).all()]

    async def _state(self, chats: Sequence[UUID]) -> dict[str, Any]:
        async with self.context.statement_sessions() as session:
            stored = [await read_state(session, chat_id) for chat_id in chats]
        model = self.talk.agent.model
        asked = [each.body["messages"] for each in self.llm.requests if each.model == model]
        return {"chats": stored, "asked last": asked[-1]}


def _tree(chat_id: UUID) -> Any:
    return or_(Chat.id == chat_id, Chat.root_chat_id == chat_id)
