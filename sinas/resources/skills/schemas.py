"""Bodies of the skill operations."""

from typing import Annotated
from uuid import UUID

from pydantic import Field

from sinas.crud.schema import Change, Input, Stamped

Identifier = Annotated[
    str, Field(min_length=1, max_length=255, pattern=r"^[a-zA-Z][a-zA-Z0-9_-]*$")
]
Description = Annotated[
    str,
    Field(
        min_length=1,
        max_length=4096,
        description="What it is good for: agents decide by it whether to load the skill.",
    ),
]
Content = Annotated[str, Field(min_length=1, description="The instructions, in Markdown.")]


class SkillCreate(Input):
    """A new skill."""

    namespace: Identifier = "default"
    name: Identifier
    description: Description
    content: Content
    is_active: bool = True


class SkillUpdate(Change):
    """Fields to change; null is as if left out."""

    namespace: Identifier | None = None
    name: Identifier | None = None
    description: Description | None = None
    content: Content | None = None
    is_active: bool | None = None


class SkillRead(Stamped):
    """A skill."""

    user_id: UUID
    namespace: str
    name: str
    description: str
    content: str
    is_active: bool
