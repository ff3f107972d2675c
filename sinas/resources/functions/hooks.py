"""Functions as hooks: run for a message, as the chat's user, without a grant of theirs."""

from dataclasses import dataclass
from uuid import UUID

import structlog

from sinas.context import AppContext
from sinas.db.unit import Unit
from sinas.errors import SinasError
from sinas.models import ExecutionStatus, TriggerType
from sinas.resources.executions.service import Trigger, rejection
from sinas.resources.functions.calls import FunctionCalls
from sinas.resources.functions.service import FunctionService
from sinas.tools.hooks import HookAnswer, HookCall

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class FunctionHooks:
    """Implements `HookRunner`. Whoever wrote the agent chose the function; that is its permission."""

    context: AppContext

    async def ask(self, call: HookCall, seconds: float) -> HookAnswer:
        """Run it and wait for its answer, at most `seconds`."""
        namespace, _, name = call.function.partition("/")
        calls = FunctionCalls(self.context, call.principal)
        try:
            _, end = await calls.run(
                namespace,
                name,
                call.payload,
                _trigger(call),
                wait_seconds=seconds,
                is_granted=True,
            )
        except SinasError as error:
            return _failed(call, error.message)
        if end is None:
            return _failed(call, f"It did not end within {seconds:g} s.")
        if end.status is not ExecutionStatus.COMPLETED:
            return _failed(call, end.error or f"It is {end.status.lower()}.")
        return HookAnswer(end.result)

    async def fire(self, unit: Unit, call: HookCall) -> UUID | None:
        """Start it once `unit` commits; its execution's id, None when it cannot be started."""
        namespace, _, name = call.function.partition("/")
        functions = FunctionService(unit, call.principal, self.context.settings.function)
        try:
            function = await functions.executable(namespace, name)
            trigger = _trigger(call, background=True)
            started = await functions.start_function(function, call.payload, trigger, None)
        except SinasError as error:
            _failed(call, error.message)
            return None
        if started.errors:
            _failed(call, rejection(started.errors))
            return None
        return started.execution_id


def _trigger(call: HookCall, *, background: bool = False) -> Trigger:
    return Trigger(
        type=TriggerType.HOOK,
        id=f"hook:{call.function}",
        chat_id=call.chat_id,
        idempotency_key=call.key,
        background=background,
    )


def _failed(call: HookCall, failure: str) -> HookAnswer:
    log.warning("hooks.failed", function=call.function, chat_id=str(call.chat_id), reason=failure)
    return HookAnswer(failure=failure)
