"""What the API says of an artifact."""

from datetime import datetime
from uuid import UUID

from pydantic import computed_field

from sinas.crud.schema import Output
from sinas.resources.artifacts.service import url


class ArtifactRead(Output):
    """A file that code wrote. `name` is its path below the code's working directory."""

    id: UUID
    chat_id: UUID
    execution_id: UUID | None
    name: str
    media_type: str
    size_bytes: int
    created_at: datetime

    @computed_field  # type: ignore[prop-decorator]
    @property
    def url(self) -> str:
        """Where it can be fetched, by its chat's owner."""
        return url(self.chat_id, self.id)
