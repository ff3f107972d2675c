"""SQL of jobs. A job has no table of its own: the row that causes it is the job."""

from uuid import UUID

from sqlalchemy import ColumnElement, Row, select, true
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute

from sinas.auth.principal import Principal
from sinas.models import Chat, Execution, Message, Turn


class JobRepository:
    """Executions and turns, as one caller may see them."""

    def __init__(self, session: AsyncSession, principal: Principal) -> None:
        self._session = session
        self._principal = principal

    async def execution(self, job_id: UUID) -> Execution | None:
        """The execution of that id."""
        return await self._session.scalar(
            select(Execution).where(Execution.id == job_id, self._visible(Execution.user_id))
        )

    async def turn(self, job_id: UUID) -> Row[Turn, str | None, str | None, str | None] | None:
        """The turn of that id with its agent's name and its reply's text."""
        statement = (
            select(Turn, Chat.agent_namespace, Chat.agent_name, Message.content)
            .join(Chat, Chat.id == Turn.chat_id)
            .outerjoin(Message, Message.id == Turn.reply_message_id)
            .where(Turn.id == job_id, self._visible(Turn.user_id))
        )
        return (await self._session.execute(statement)).first()

    def _visible(self, owner: InstrumentedAttribute[UUID]) -> ColumnElement[bool]:
        if self._principal.can("sinas.system.read:all"):
            return true()
        return owner == self._principal.user_id
