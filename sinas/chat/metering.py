"""The meter of one turn: what its model calls used, what is stored of it, what may still be spent."""

from dataclasses import asdict

from sinas.chat import events
from sinas.chat.accounting import Spent, call_record, check_budgets
from sinas.chat.answer import TurnUsage
from sinas.chat.journal import Subject
from sinas.context import AppContext
from sinas.kit.json_types import JsonObject
from sinas.llm.base import ModelRequest, Usage
from sinas.models import Turn


class Meter:
    """Counts from where the turn's row stands."""

    def __init__(self, app: AppContext, turn: Turn) -> None:
        self._app = app
        self._turn = turn
        self._usage = TurnUsage.read(turn.usage)
        self._calls: list[JsonObject] = []
        self._agent: tuple[str | None, str | None] = (None, None)
        self._config: JsonObject = {}
        self._has_budgets = False
        self._warned: set[str] = set()

    def open(self, subject: Subject) -> None:
        """Learn whose calls will be counted."""
        self._agent = subject.chat.agent_namespace, subject.chat.agent_name
        self._config = subject.provider.config if subject.provider else {}
        self._has_budgets = subject.has_budgets

    async def allow(self) -> list[events.Event]:
        """Whether the next call may be made; warnings that were not given yet.

        Raises:
            BudgetExceededError: A budget is spent.
        """
        if not self._has_budgets:
            return []
        namespace, name = self._agent
        agent = (namespace, name) if namespace and name else None
        async with self._app.statement_sessions() as session:
            nearly = await check_budgets(session, self._turn.user_id, agent)
        fresh = [one for one in nearly if f"{one.budget}:{one.unit}" not in self._warned]
        self._warned |= {f"{one.budget}:{one.unit}" for one in fresh}
        return [
            events.budget_warning(**{**asdict(one), "resets_at": one.resets_at.isoformat()})
            for one in fresh
        ]

    def count(
        self,
        request: ModelRequest,
        usage: Usage | None,
        *,
        duration_ms: int,
        error_code: str | None = None,
    ) -> None:
        """Note a call that has ended."""
        call = call_record(
            request.provider,
            self._config,
            request.model,
            usage,
            duration_ms=duration_ms,
            error_code=error_code,
        )
        self._calls.append(call)
        if error_code is not None:
            self._usage.errors += 1
        else:
            cost = call["cost_usd"]
            self._usage.add(usage, None if cost is None else str(cost))

    def spent(self) -> Spent:
        """For the next write of the journal; `written` says that it happened."""
        return Spent(usage=self._usage.dump(), calls=tuple(self._calls), agent=self._agent)

    def written(self) -> None:
        """What `spent` answered is stored: never again."""
        self._calls.clear()
