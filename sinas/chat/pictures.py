"""Pictures that tools made, for models to see.

A tool result names files by id; here the pictures among them are read for one prompt. They are
stored once, as artifacts, and never in a message.
"""

import base64
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final
from uuid import UUID

import orjson
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from sinas.chat.prompt import Line, Picture
from sinas.models import Artifact

# What providers take of one picture; larger ones stay files that are only named.
_MAX_BYTES: Final = 4 * 1024 * 1024
_TYPES: Final = ("image/png", "image/jpeg", "image/gif", "image/webp")
# Each costs tokens in every round from then on.
_NEWEST: Final = 5


async def with_pictures(
    session: AsyncSession, chat_id: UUID, history: Sequence[Line]
) -> list[Line]:
    """The history with the newest pictures of its tool results; a query only if there are any."""
    wanted: dict[UUID, int] = {}
    for position in reversed(range(len(history))):
        for key in reversed(_named_in(history[position])):
            if len(wanted) < _NEWEST:
                wanted.setdefault(key, position)
    lines = list(history)
    if not wanted:
        return lines
    rows = await session.execute(
        select(Artifact.id, Artifact.name, Artifact.media_type, Artifact.content).where(
            Artifact.id.in_(wanted),
            # A tool may name what it likes: only what belongs to this chat is shown.
            Artifact.chat_id == chat_id,
            Artifact.media_type.in_(_TYPES),
            Artifact.size_bytes <= _MAX_BYTES,
        )
    )
    found = {row.id: row for row in rows}
    for key, position in reversed(wanted.items()):  # as the results name them
        if row := found.get(key):
            data = base64.b64encode(row.content).decode()
            picture = Picture(name=row.name, url=f"data:{row.media_type};base64,{data}")
            shown = (*lines[position].pictures, picture)
            lines[position] = replace(lines[position], pictures=shown)
    return lines


def _named_in(line: Line) -> list[UUID]:
    """Ids of the pictures that a tool result names."""
    if line.role != "tool" or not line.content or '"image/' not in line.content:
        return []
    try:
        result: Any = orjson.loads(line.content)
        return [
            UUID(file["id"])
            for file in result["files"]
            if file.get("media_type") in _TYPES and "id" in file
        ]
    except (ValueError, KeyError, TypeError, AttributeError):
        return []  # some other result that speaks of images
