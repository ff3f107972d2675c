"""What a model is told of the store tools: descriptions and schemas."""

from collections.abc import Sequence

from sinas.kit.json_types import JsonObject, JsonValue
from sinas.resources.stores.enabled import EnabledStore
from sinas.resources.stores.tool_arguments import MAX_KEYS, MAX_STATES

_MAX_KEYS_SHOWN = 50
_TAGS: JsonObject = {
    "type": "array",
    "items": {"type": "string"},
}
_SEARCH: JsonObject = {"type": "string", "description": "Text in key or description."}


def described(text: str, stores: Sequence[EnabledStore]) -> str:
    """A description with the stores, what they are for and the keys they know."""
    return "\n".join((text, "Stores:", *map(_line, stores)))


def _line(store: EnabledStore) -> str:
    parts = [f"- {store.rules.reference}"]
    if store.description:
        parts.append(f": {store.description}")
    if keys := list(store.rules.known_keys)[:_MAX_KEYS_SHOWN]:
        kind = "only these keys" if store.rules.strict else "known keys"
        parts.append(f" ({kind}: {', '.join(keys)})")
    return "".join(parts)


def list_keys(stores: Sequence[EnabledStore]) -> JsonObject:
    """Parameters of `list_state_keys`."""
    return _parameters(
        {
            "store": _store(stores, "Without it: how many keys each store has, by tag."),
            "tags": {**_TAGS, "description": "Only keys that have all of them."},
            "search": _SEARCH,
            "limit": {"type": "integer", "minimum": 1, "maximum": MAX_KEYS, "default": 50},
        }
    )


def retrieve(stores: Sequence[EnabledStore]) -> JsonObject:
    """Parameters of `retrieve_state`."""
    return _parameters(
        {
            "store": _store(stores, "Without it: all of them."),
            "key": {"type": "string", "description": "Exactly this key."},
            "tags": {**_TAGS, "description": "Only states that have all of them."},
            "search": _SEARCH,
            "limit": {"type": "integer", "minimum": 1, "maximum": MAX_STATES, "default": 10},
        }
    )


def save(stores: Sequence[EnabledStore]) -> JsonObject:
    """Parameters of `save_state`."""
    return _parameters(
        {
            "store": _store(stores, "Where to keep it."),
            "key": {"type": "string", "minLength": 1, "maxLength": 255},
            "value": {"description": "Any JSON."},
            "description": {
                "type": "string",
                "description": "What it is, to find it by later.",
            },
            "tags": {**_TAGS, "description": "In place of those it has."},
            "visibility": {
                "type": "string",
                "enum": ["private", "shared"],
                "description": "`shared` shows it to other users of the store. Left out, it "
                "stays as it is, or is as the store says.",
            },
        },
        "store",
        "key",
        "value",
    )


def delete(stores: Sequence[EnabledStore]) -> JsonObject:
    """Parameters of `delete_state`."""
    return _parameters(
        {
            "store": _store(stores, "Where it is."),
            "key": {"type": "string", "minLength": 1, "maxLength": 255},
        },
        "store",
        "key",
    )


def _store(stores: Sequence[EnabledStore], description: str) -> JsonObject:
    names: list[JsonValue] = [store.rules.reference for store in stores]
    return {"type": "string", "enum": names, "description": description}


def _parameters(properties: dict[str, JsonObject], *required: str) -> JsonObject:
    return {
        "type": "object",
        "properties": {**properties},
        "required": [*required],
    }
