"""An agent's configured parameters of a tool: defaults the model may change, values it may not.

Forms of one parameter, as agents are configured: a plain value or `{"value": v}` is a default;
`{"value": v, "locked": true}` is fixed and hidden from the model. Texts are templates over the
chat's input.
"""

from copy import deepcopy
from dataclasses import dataclass

import structlog

from sinas.kit.json_types import JsonObject, JsonValue
from sinas.kit.templates import TemplateError, render

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfiguredParameters:
    """Parameters of one tool in one chat, rendered.

    Attributes:
        defaults: Used where the model gives nothing. One whose template fails is not here:
            the model has to give the parameter then.
        locked: Always used, whatever the model gives.
        hidden: Names of all fixed parameters, the failed ones included.
        failure: Why a fixed value could not be rendered; the tool must not run then.
    """

    defaults: JsonObject
    locked: JsonObject
    hidden: frozenset[str]
    failure: str | None = None

    def arguments(self, given: JsonObject) -> JsonObject:
        """The final arguments: given ones, missing ones filled in, fixed ones overwritten."""
        return deepcopy(self.defaults) | given | deepcopy(self.locked)

    def schema(self, full: JsonObject) -> JsonObject:
        """The tool's schema as the model sees it: without fixed parameters, with defaults.

        `full` belongs to a loaded row and is not touched.
        """
        if full.get("type") != "object":
            return {"type": "object", "properties": {}}
        shown = deepcopy({key: value for key, value in full.items() if key != "$schema"})
        properties = shown.get("properties")
        if not isinstance(properties, dict):
            shown["properties"] = properties = {}
        for name in self.hidden:
            properties.pop(name, None)
        for name, value in self.defaults.items():
            described = properties.get(name)
            if isinstance(described, dict):
                described["default"] = deepcopy(value)
        required = shown.get("required")
        if isinstance(required, list):
            optional = self.hidden | self.defaults.keys()
            shown["required"] = [name for name in required if name not in optional]
        return shown


def configured(parameters: JsonValue, variables: JsonObject) -> ConfiguredParameters:
    """Render the configuration of one tool. `parameters` is null or an object per parameter."""
    defaults: JsonObject = {}
    locked: JsonObject = {}
    hidden: set[str] = set()
    failure = None
    for name, entry in parameters.items() if isinstance(parameters, dict) else ():
        value, is_locked = _taken_apart(entry)
        if is_locked:
            hidden.add(name)
        try:
            rendered = render(value, variables) if isinstance(value, str) else value
        except TemplateError as error:
            if is_locked:
                failure = f"The fixed value of '{name}' cannot be made: {error.message}"
            else:
                log.warning("tools.default_not_rendered", parameter=name, error=error.message)
        else:
            (locked if is_locked else defaults)[name] = rendered
    return ConfiguredParameters(
        defaults=defaults, locked=locked, hidden=frozenset(hidden), failure=failure
    )


def _taken_apart(entry: JsonValue) -> tuple[JsonValue, bool]:
    if isinstance(entry, dict) and "value" in entry and entry.keys() <= {"value", "locked"}:
        return entry["value"], entry.get("locked") is True
    return entry, False
