"""Arguments of the store tools, read leniently: models write them."""

from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from sinas.kit.json_types import JsonObject, JsonValue
from sinas.models import StateVisibility
from sinas.resources.stores.state_schemas import Key, Tags
from sinas.tools.base import Retry

MAX_KEYS = 200
MAX_STATES = 100

A = TypeVar("A", bound=BaseModel)


def _as_list(value: Any) -> Any:
    """One text with commas is a list to many models."""
    if isinstance(value, str):
        return [tag.strip() for tag in value.split(",") if tag.strip()]
    return [] if value is None else value


def _at_most(limit: int) -> BeforeValidator:
    return BeforeValidator(lambda value: min(value, limit) if isinstance(value, int) else value)


WantedTags = Annotated[Tags, BeforeValidator(_as_list)]


class _Arguments(BaseModel):
    model_config = ConfigDict(extra="ignore")


class ListKeys(_Arguments):
    """Of `list_state_keys`."""

    store: str | None = None
    tags: WantedTags = []
    search: str | None = None
    limit: Annotated[int, Field(ge=1), _at_most(MAX_KEYS)] = 50


class Retrieve(_Arguments):
    """Of `retrieve_state`."""

    store: str | None = None
    key: str | None = None
    tags: WantedTags = []
    search: str | None = None
    limit: Annotated[int, Field(ge=1), _at_most(MAX_STATES)] = 10


class Save(_Arguments):
    """Of `save_state`."""

    store: str
    key: Key
    value: JsonValue
    description: str | None = None
    tags: WantedTags | None = None
    visibility: StateVisibility | None = None


class Delete(_Arguments):
    """Of `delete_state`."""

    store: str
    key: Key


def parsed(model: type[A], arguments: JsonObject) -> A | Retry:
    """The arguments, or what is wrong with them in words for a model."""
    try:
        return model.model_validate(arguments)
    except ValidationError as error:
        faults = (
            f"{'.'.join(map(str, each['loc']))}: {each['msg'].removeprefix('Value error, ')}"
            for each in error.errors()
        )
        return Retry("; ".join(faults))
