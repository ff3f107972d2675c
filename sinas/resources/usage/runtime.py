"""Runtime operations of usage."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends
from sqlalchemy import select

from sinas.crud.schema import LimitQuery, SkipQuery
from sinas.models import Turn
from sinas.resources.chats.service import ChatService
from sinas.resources.usage.schemas import TurnUsageRead
from sinas.web.deps import CREDENTIALS, authenticated
from sinas.web.problems import PROBLEM_RESPONSES

router = APIRouter(tags=["usage"], responses=PROBLEM_RESPONSES, dependencies=CREDENTIALS)


@router.get("/chats/{chat_id}/usage")
async def get_chat_usage(
    chat_id: UUID,
    chats: Annotated[ChatService, Depends(authenticated(ChatService))],
    skip: SkipQuery = 0,
    limit: LimitQuery = 100,
) -> list[TurnUsageRead]:
    """List what each turn of a chat used, newest first."""
    await chats.get(chat_id)
    statement = (
        select(Turn.id, Turn.created_at, Turn.status, Turn.usage)
        .where(Turn.chat_id == chat_id)
        .order_by(Turn.seq.desc())
        .offset(skip)
        .limit(limit)
    )
    return [
        TurnUsageRead(turn_id=key, created_at=created_at, status=status, usage=usage)
        for key, created_at, status, usage in (await chats.unit.session.execute(statement)).all()
    ]
