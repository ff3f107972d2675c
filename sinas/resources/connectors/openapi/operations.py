"""From one operation of a document to one of a connector."""

import re
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote

import orjson
from pydantic import ValidationError

from sinas.errors import InvalidInputError
from sinas.kit.json_text import NotJsonError, encode
from sinas.kit.jsonschema import BadSchemaError, check_schema
from sinas.resources.connectors.checks import MAX_PARAMETERS_BYTES, check_operations
from sinas.resources.connectors.openapi.names import argument_name
from sinas.resources.connectors.openapi.reading import DocumentError
from sinas.resources.connectors.openapi.references import References
from sinas.resources.connectors.openapi.schemas import Schemas
from sinas.resources.connectors.schemas import OperationConfig

_PLACE = re.compile(r"\{([^{}]+)\}")
# The document does not say them here (OpenAPI, Parameter Object): body and `auth` do.
_NO_HEADERS: Final = frozenset({"accept", "content-type", "authorization"})
_FORMS: Final = ("application/x-www-form-urlencoded", "multipart/form-data")
_MAX_DESCRIPTION_CHARS: Final = 1024
_CONTENT_TYPE = re.compile(r"[A-Za-z0-9!#$&^_.+-]+/[A-Za-z0-9!#$&^_.+-]+")


class OperationBuilder:
    """Makes one operation."""

    def __init__(
        self, references: References, checks: "SchemaChecks", name: str, method: str, path: str
    ) -> None:
        self._references = references
        self._checks = checks
        self._schemas = Schemas(references)
        self._name = name
        self._method = method
        self._path = path
        self._properties: dict[str, Any] = {}
        self._required: list[str] = []
        self._bindings: dict[str, dict[str, Any]] = {}
        self._arguments: dict[tuple[str, str], str] = {}
        self._body_argument: str | None = None
        self._content_type = "application/json"
        self._takes_more: Any = None
        self.warnings: list[str] = []

    def build(
        self, item: Mapping[str, Any], operation: Mapping[str, Any], base_url: str | None
    ) -> dict[str, Any]:
        """The operation, as it is stored.

        Args:
            item: The path's own object.
            operation: The method's object in it.
            base_url: Where it is, if elsewhere than the others.

        Raises:
            DocumentError: It cannot be called as it is described; the message says why.
        """
        if "#" in self._path:
            raise DocumentError("its path has a fragment, which is never sent")
        has_body = "requestBody" in operation
        for parameter in self._parameters(item, operation):
            self._add_parameter(parameter, has_body=has_body)
        self._add_places()
        if has_body:
            self._add_body(operation["requestBody"])
        description = operation.get("description") or operation.get("summary")
        if operation.get("summary") and operation.get("description"):
            description = f"{operation['summary']}\n\n{operation['description']}"
        parameters: dict[str, Any] = {"type": "object", "properties": self._properties}
        if self._required:
            parameters["required"] = list(dict.fromkeys(self._required))
        if self._takes_more:
            parameters["additionalProperties"] = self._takes_more
        mapping = "json" if has_body else "query"
        self._open_unusable()
        values = {
            "name": self._name,
            "method": self._method.upper(),
            "path": self._template(),
            "description": str(description)[:_MAX_DESCRIPTION_CHARS] if description else None,
            "parameters": parameters,
            "request_body_mapping": f"path_and_{mapping}" if "{{" in self._template() else mapping,
            "response_mapping": "json",
            "bindings": self._bindings,
            "content_type": self._content_type,
            "body_argument": self._body_argument,
            "base_url": base_url,
        }
        self.warnings += self._schemas.notes
        return self._checked(values)

    def _parameters(
        self, item: Mapping[str, Any], operation: Mapping[str, Any]
    ) -> list[dict[str, Any]]:
        """The path's parameters and the operation's, which win."""
        found: dict[tuple[str, str], dict[str, Any]] = {}
        for owner in (item, operation):
            listed = owner.get("parameters")
            for each in listed if isinstance(listed, list) else []:
                parameter = self._references.followed(each)
                where, name = parameter.get("in"), parameter.get("name")
                if isinstance(where, str) and isinstance(name, str) and name:
                    found[where, name] = parameter
        return list(found.values())

    def _add_parameter(self, parameter: Mapping[str, Any], *, has_body: bool) -> None:
        where, wire = parameter["in"], parameter["name"]
        if where == "header" and wire.lower() in _NO_HEADERS:
            return
        if where == "path" and wire not in _PLACE.findall(self._path):
            self.warnings.append(f"the path has no place for the parameter '{wire}'")
            return
        if where not in ("path", "query", "header", "cookie"):
            raise DocumentError(f"there is no place '{where}' for the parameter '{wire}'")
        schema, is_json = self._schema_of(parameter)
        if isinstance(text := parameter.get("description"), str) and text.strip():
            schema["description"] = text[:_MAX_DESCRIPTION_CHARS]
        is_required = where == "path" or parameter.get("required") is True
        name = self._argument(where, wire, schema, required=is_required)
        binding: dict[str, Any] = {"in": where}
        if name != wire and where != "path":
            binding["name"] = wire
        style = "json" if is_json else parameter.get("style")
        if where == "query" and style in ("spaceDelimited", "pipeDelimited", "deepObject", "json"):
            binding["style"] = style
        explode = parameter.get("explode")
        # What is not said means the same here as there.
        if isinstance(explode, bool) and explode is not (where == "query" and style != "json"):
            binding["explode"] = explode
        if len(binding) > 1 or where in ("header", "cookie") or (where == "query" and has_body):
            self._bindings[name] = binding

    def _schema_of(self, parameter: Mapping[str, Any]) -> tuple[dict[str, Any], bool]:
        """A parameter's schema, and whether its value is written as JSON."""
        content = parameter.get("content")
        if isinstance(content, dict) and content:
            kind, media = next(iter(content.items()))
            schema = media.get("schema", {}) if isinstance(media, dict) else {}
            return self._schemas.converted(schema), "json" in str(kind)
        return self._schemas.converted(parameter.get("schema", {})), False

    def _argument(self, where: str, wire: str, schema: dict[str, Any], *, required: bool) -> str:
        name = argument_name(wire, where, self._properties)
        self._arguments[where, wire] = name
        self._properties[name] = schema
        if required:
            self._required.append(name)
        return name

    def _add_places(self) -> None:
        """Arguments for places of the path that the document forgot to describe."""
        for wire in _PLACE.findall(self._path):
            if ("path", wire) not in self._arguments:
                self._argument("path", wire, {"type": "string"}, required=True)

    def _template(self) -> str:
        """The path with the arguments' names; what is odd beside them percent-encoded."""
        pieces = _PLACE.split(self._path)
        return "".join(
            quote(piece, safe="/:@!$&'()*+,;=-._~%?")
            if place % 2 == 0
            else f"{{{{{self._arguments['path', piece]}}}}}"
            for place, piece in enumerate(pieces)
        )

    def _add_body(self, told: Any) -> None:
        body = self._references.followed(told)
        content = body.get("content")
        if not isinstance(content, dict) or not content:
            return
        kind = _preferred([str(key) for key in content])
        media = content.get(kind) if isinstance(content.get(kind), dict) else {}
        assert isinstance(media, dict)
        bare = kind.partition(";")[0].strip()
        is_any = bare.endswith("/*") or not _CONTENT_TYPE.fullmatch(bare)
        self._content_type = "application/json" if is_any else bare
        schema = media.get("schema", {})
        is_required = body.get("required") is True
        is_structured = "json" in self._content_type or self._content_type in _FORMS
        flat = self._schemas.flattened(schema) if is_structured else None
        if flat is not None:
            self._add_members(flat, media.get("encoding"), required=is_required)
            return
        whole = self._schemas.converted(schema)
        if not is_structured and "base64" not in str(whole.get("contentEncoding")):
            whole = {"type": "string", "description": f"A text of the type {bare}."}
        if isinstance(body.get("description"), str):
            whole.setdefault("description", body["description"][:_MAX_DESCRIPTION_CHARS])
        self._body_argument = self._argument("body", "body", whole, required=is_required)
        if self._body_argument != "body":
            self._bindings[self._body_argument] = {"in": "body"}

    def _add_members(self, flat: Mapping[str, Any], encoding: Any, *, required: bool) -> None:
        needed = flat.get("required", []) if required else []
        self._takes_more = flat.get("additionalProperties")
        for wire, schema in flat["properties"].items():
            name = self._argument("body", wire, schema, required=wire in needed)
            binding: dict[str, Any] = {"in": "body"}
            if name != wire:
                binding["name"] = wire
            told = encoding.get(wire) if isinstance(encoding, dict) else None
            style = told.get("style") if isinstance(told, dict) else None
            if style in ("spaceDelimited", "pipeDelimited", "deepObject"):
                binding["style"] = style
            if isinstance(told, dict) and told.get("explode") is False:
                binding["explode"] = False
            if len(binding) > 1:
                self._bindings[name] = binding

    def _checked(self, values: dict[str, Any]) -> dict[str, Any]:
        """Through the same checks as everybody's; a schema that breaks them is left open."""
        try:
            config = OperationConfig.model_validate(values).stored()
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            raise DocumentError(f"{where}: {first['msg']}") from None
        # The schemas were checked one by one; here it is all around them that is.
        names: dict[str, Any] = {name: {} for name in self._properties}
        shell: dict[str, Any] = {**config, "parameters": {"type": "object", "properties": names}}
        try:
            check_operations([shell], {})
            encode(config)
        except InvalidInputError as error:
            raise DocumentError(error.message) from None
        except NotJsonError as error:
            raise DocumentError(f"it {error}") from None
        return config

    def _open_unusable(self) -> None:
        """Leave open what is no valid schema, or too much of one."""
        for name, schema in self._properties.items():
            if (problem := self._checks.problem(schema)) is not None:
                self.warnings.append(f"the schema of '{name}' is left open: {problem}")
                self._properties[name] = _described(schema)
        if len(orjson.dumps(self._properties)) > MAX_PARAMETERS_BYTES:
            self.warnings.append("the schemas of its parameters are too large, and left open")
            for name, schema in self._properties.items():
                self._properties[name] = _described(schema)


class SchemaChecks:
    """Checks schemas; operations share many, and each is checked once."""

    def __init__(self) -> None:
        self._problems: dict[bytes, str | None] = {}

    def problem(self, schema: dict[str, Any]) -> str | None:
        """Why a schema without references cannot be used."""
        try:
            text = orjson.dumps(schema)
        except TypeError:
            return "it cannot be written as JSON"
        if text not in self._problems:
            try:
                check_schema(schema)
            except BadSchemaError as error:
                self._problems[text] = error.message
            else:
                self._problems[text] = None
        return self._problems[text]


def _described(schema: Any) -> dict[str, Any]:
    text = schema.get("description") if isinstance(schema, dict) else None
    encoding = schema.get("contentEncoding") if isinstance(schema, dict) else None
    found = {"description": text} if isinstance(text, str) else {}
    return {**found, "contentEncoding": encoding} if encoding else found


def _preferred(kinds: list[str]) -> str:
    """The content type that is written best."""
    for wanted in ("application/json", "json", *_FORMS):
        for kind in kinds:
            if kind.partition(";")[0].strip() == wanted or (wanted == "json" and "json" in kind):
                return kind
    return kinds[0]
