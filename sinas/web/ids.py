"""Ids in paths that clients know as text."""

from typing import Annotated
from uuid import UUID

from pydantic import BeforeValidator

from sinas.errors import NotFoundError


def _known(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise NotFoundError(f"There is nothing with the id '{text}'.") from None


# What is no UUID is the id of nothing: as absent as one that is.
TextId = Annotated[UUID, BeforeValidator(_known, json_schema_input_type=str)]
