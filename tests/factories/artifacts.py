"""What code may import, and the files that it wrote."""

from uuid import UUID

from sinas.context import AppContext
from sinas.models import Artifact, Chat, Dependency


async def make_artifact(
    context: AppContext,
    chat: Chat,
    name: str = "file.txt",
    content: bytes = b"text",
    media_type: str = "text/plain",
    execution_id: UUID | None = None,
) -> Artifact:
    """A file of `chat`."""
    async with context.unit() as unit:
        row = Artifact(
            user_id=chat.user_id,
            chat_id=chat.id,
            execution_id=execution_id,
            name=name,
            media_type=media_type,
            size_bytes=len(content),
            content=content,
        )
        unit.session.add(row)
    return row


async def make_dependency(
    context: AppContext, package_name: str = "old", version: str | None = None
) -> Dependency:
    """An approved package. Nothing is built."""
    async with context.unit() as unit:
        row = Dependency(package_name=package_name, version=version)
        unit.session.add(row)
    return row
