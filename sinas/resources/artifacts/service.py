"""Rules of artifacts: they belong to a chat, only its owner reads them, nobody changes them."""

import mimetypes
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import defer

from sinas.auth.principal import Principal
from sinas.db.unit import Unit
from sinas.errors import NotFoundError
from sinas.kit.ids import uuid7
from sinas.kit.json_text import storable
from sinas.kit.json_types import JsonObject
from sinas.models import Artifact
from sinas.resources.chats.service import ChatService

# What is recognised by its first bytes, whatever it is called: these are shown to models.
_IMAGES = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
)
_PLAIN = "application/octet-stream"


@dataclass(frozen=True, slots=True, kw_only=True)
class NewArtifact:
    """A file that is about to be stored."""

    user_id: UUID
    chat_id: UUID
    execution_id: UUID | None
    name: str
    content: bytes = field(repr=False)
    id: UUID = field(default_factory=uuid7)

    @property
    def reference(self) -> JsonObject:
        """What is told of it in place of its content."""
        return {
            "id": str(self.id),
            "name": self.name,
            "media_type": media_type(self.name, self.content),
            "size_bytes": len(self.content),
            "url": url(self.chat_id, self.id),
        }


def url(chat_id: UUID, artifact_id: UUID) -> str:
    """Where its owner fetches it."""
    return f"/chats/{chat_id}/artifacts/{artifact_id}"


def media_type(name: str, content: bytes) -> str:
    """By content for images, by name for the rest."""
    for start, kind in _IMAGES:
        if content.startswith(start):
            return kind
    if content.startswith(b"RIFF") and content[8:12] == b"WEBP":
        return "image/webp"
    guessed = mimetypes.guess_type(name, strict=False)[0] or _PLAIN
    is_claim = guessed in {kind for _, kind in _IMAGES} | {"image/webp"}
    return _PLAIN if is_claim else guessed


async def store(session: AsyncSession, artifacts: Sequence[NewArtifact]) -> None:
    """Store files in the caller's transaction; those that are there already stay."""
    rows = [
        asdict(one)
        | {"media_type": media_type(one.name, one.content), "size_bytes": len(one.content)}
        for one in artifacts
    ]
    await session.execute(insert(Artifact).on_conflict_do_nothing(index_elements=["id"]), rows)


def named(name: str) -> str:
    """A file's name as it can be stored."""
    return storable(name)


class ArtifactService:
    """Artifacts of the caller's chats."""

    def __init__(self, unit: Unit, principal: Principal) -> None:
        self.session = unit.session
        self.chats = ChatService(unit, principal)

    async def page(self, chat_id: UUID, *, skip: int, limit: int) -> Sequence[Artifact]:
        """A chat's artifacts without their contents, newest first.

        Raises:
            NotFoundError: The chat is absent, expired, or somebody else's.
        """
        await self.chats.get(chat_id)
        statement = (
            select(Artifact)
            .options(defer(Artifact.content))
            .where(Artifact.chat_id == chat_id)
            .order_by(Artifact.created_at.desc(), Artifact.id.desc())
            .offset(skip)
            .limit(limit)
        )
        return (await self.session.scalars(statement)).all()

    async def get(self, chat_id: UUID, artifact_id: UUID) -> Artifact:
        """One artifact with its content.

        Raises:
            NotFoundError: It, or the chat, is absent or somebody else's.
        """
        await self.chats.get(chat_id)
        row = await self.session.scalar(
            select(Artifact).where(Artifact.id == artifact_id, Artifact.chat_id == chat_id)
        )
        if row is None:
            raise NotFoundError("Artifact not found")
        return row
