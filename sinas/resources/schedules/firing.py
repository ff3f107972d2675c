"""Starting what a schedule names, as its owner, with the rights the owner holds then."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sinas.auth.principal import Principal
from sinas.context import AppContext
from sinas.db.unit import Unit
from sinas.errors import ConflictError, UnauthenticatedError
from sinas.models import Schedule, TargetType, TriggerType
from sinas.resources.chats.schemas import ChatCreate
from sinas.resources.chats.service import ChatService
from sinas.resources.executions.service import Trigger, rejection
from sinas.resources.functions.service import FunctionService


async def start(
    context: AppContext, unit: Unit, schedule: Schedule, now: datetime
) -> dict[str, Any]:
    """Queue one run; what to note of it in the schedule's row.

    Raises:
        SinasError: The owner may not, or what is to be started cannot be; nothing is queued.
    """
    owner = await _owner(context, schedule)
    if schedule.schedule_type is TargetType.FUNCTION:
        functions = FunctionService(unit, owner, context.settings.function)
        started = await functions.start(
            schedule.target_namespace,
            schedule.target_name,
            schedule.input_data,
            Trigger(type=TriggerType.SCHEDULE, id=str(schedule.id), background=True),
        )
        found: dict[str, Any] = {"last_execution_id": started.execution_id}
        error = rejection(started.errors) if started.errors else None
    else:
        found = {
            "last_chat_id": await _start_chat(context, ChatService(unit, owner), schedule, now)
        }
        error = None
    return {"last_run": now, "last_error": error, **found}


async def _start_chat(
    context: AppContext, chats: ChatService, schedule: Schedule, now: datetime
) -> UUID:
    chat = await chats.create(
        schedule.target_namespace,
        schedule.target_name,
        # Kept alive: nobody follows the turn, so nobody's leaving may stop it.
        ChatCreate(
            input=schedule.input_data,
            title=f"{schedule.name} — {now.astimezone(UTC):%Y-%m-%d %H:%M}",
            keep_alive=True,
        ),
    )
    await chats.send(chat.id, schedule.content or "", context.settings)
    return chat.id


async def _owner(context: AppContext, schedule: Schedule) -> Principal:
    try:
        return await context.authenticator.by_user(schedule.user_id, schedule.access)
    except UnauthenticatedError as error:
        raise ConflictError("The owner of this schedule was deactivated.") from error
