"""Calling functions: a short transaction to accept the call, then a wait that holds nothing."""

from dataclasses import dataclass
from uuid import UUID

from sinas.auth.principal import Principal
from sinas.context import AppContext
from sinas.kit.ids import uuid7
from sinas.kit.json_types import JsonObject
from sinas.resources.executions.events import ExecutionEnd, channel, wait_for_end
from sinas.resources.executions.service import RejectedInputError, Started, Trigger
from sinas.resources.functions.service import FunctionService


@dataclass(frozen=True, slots=True)
class FunctionCalls:
    """Calls by one caller."""

    context: AppContext
    principal: Principal

    async def start(
        self,
        namespace: str,
        name: str,
        given: JsonObject,
        trigger: Trigger,
        *,
        execution_id: UUID | None = None,
        must_own: bool = False,
        is_granted: bool = False,
    ) -> Started:
        """Accept a call; on return it is committed and queued.

        Args:
            namespace: Of the function.
            name: Of the function.
            given: The input.
            trigger: What causes the call.
            execution_id: The id to give it, for callers that listen for its end already.
            must_own: Whether an `:own` grant counts only for the caller's own functions.
            is_granted: Whether somebody else has decided that it may run, whatever the caller's
                grants.

        Raises:
            RejectedInputError: The input breaks the schema; the attempt is on record.
            ForbiddenError: No grant.
            NotFoundError: No such function, or it is inactive.
            PayloadTooLargeError: The input is too large; nothing is on record.
            InvalidInputError: The trigger's `client_key` was used with another input.
            TooDeepError: The caller is code at the end of the longest chain that is allowed.
        """
        # One insert is all that is written, and it is the last thing to happen.
        async with self.context.statement_unit() as unit:
            functions = FunctionService(unit, self.principal, self.context.settings.function)
            if is_granted:
                function = await functions.executable(namespace, name)
                started = await functions.start_function(function, given, trigger, execution_id)
            elif must_own:
                function = await functions.executable(namespace, name)
                scope = "own" if function.user_id == self.principal.user_id else "all"
                self.principal.require(f"sinas.functions/{namespace}/{name}.execute:{scope}")
                started = await functions.start_function(function, given, trigger, execution_id)
            else:
                started = await functions.start(namespace, name, given, trigger, execution_id)
        if started.errors:
            raise RejectedInputError(started.execution_id, started.errors)
        return started

    async def run(
        self,
        namespace: str,
        name: str,
        given: JsonObject,
        trigger: Trigger,
        *,
        execution_id: UUID | None = None,
        wait_seconds: float | None = None,
        must_own: bool = False,
        is_granted: bool = False,
    ) -> tuple[UUID, ExecutionEnd | None]:
        """Accept a call and wait for its end: the execution's id, and its end if it came.

        `wait_seconds` limits only the wait; without it the wait is as long as the call and
        its queueing may take. The id is another one than `execution_id` when the
        trigger's key has an execution already. Raises as `start` does.
        """
        execution_id = execution_id or uuid7()
        # Listening begins before the commit, so that no end can be missed.
        async with self.context.signals.listen(channel(execution_id)) as listener:
            started = await self.start(
                namespace,
                name,
                given,
                trigger,
                execution_id=execution_id,
                must_own=must_own,
                is_granted=is_granted,
            )
            seconds = wait_seconds or started.patience_seconds(self.context.settings)
            if started.is_new:
                return execution_id, await wait_for_end(
                    self.context, listener, execution_id, seconds
                )
        async with self.context.signals.listen(channel(started.execution_id)) as listener:
            return started.execution_id, await wait_for_end(
                self.context, listener, started.execution_id, seconds, look_first=True
            )
