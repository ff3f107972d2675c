"""Turns of batches: nobody is there to approve what they, or their sub-agents, want to do."""

from collections.abc import Sequence
from typing import Final

from sqlalchemy import Uuid, bindparam, text
from sqlalchemy.ext.asyncio import AsyncSession

from sinas.errors import ConflictError
from sinas.models import Turn

_IN_BATCH: Final = text(
    """
    WITH RECURSIVE above AS (
        SELECT batch_id, parent_call_id FROM turns WHERE id = :turn_id
        UNION ALL
        SELECT turns.batch_id, turns.parent_call_id
        FROM above
        JOIN tool_calls ON tool_calls.id = above.parent_call_id
        JOIN turns ON turns.id = tool_calls.turn_id
    )
    SELECT EXISTS (SELECT FROM above WHERE batch_id IS NOT NULL)
    """
).bindparams(bindparam("turn_id", type_=Uuid()))


async def require_attended(session: AsyncSession, turn: Turn, asked: Sequence[str]) -> None:
    """Raise unless people can be asked about tool calls of this turn.

    Args:
        session: One query, of turns that were called by other agents only.
        turn: Whose calls they are.
        asked: Names of the tools that need an approval.

    Raises:
        ConflictError: The turn, or one that it works for, is part of a batch.
    """
    is_in_batch = turn.batch_id is not None
    if not is_in_batch and turn.parent_call_id is not None:
        is_in_batch = bool(await session.scalar(_IN_BATCH, {"turn_id": turn.id}))
    if is_in_batch:
        names = ", ".join(f"'{name}'" for name in dict.fromkeys(asked))
        raise ConflictError(
            f"The agent called {names}, which needs a person's approval, and in a batch nobody "
            "is asked; let it run without approval (tool_approvals), or send this message in a "
            "chat of its own."
        )
