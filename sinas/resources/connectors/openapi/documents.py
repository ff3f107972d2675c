"""From a document to everything that is taken from it."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final
from urllib.parse import urljoin

from openapi_pydantic.v3 import v3_0, v3_1
from pydantic import ValidationError

from sinas.kit.json_types import JsonObject
from sinas.resources.connectors.checks import check_base_url
from sinas.resources.connectors.openapi.names import operation_name
from sinas.resources.connectors.openapi.operations import OperationBuilder, SchemaChecks
from sinas.resources.connectors.openapi.reading import DocumentError, read
from sinas.resources.connectors.openapi.references import References

_METHODS: Final = ("get", "post", "put", "patch", "delete", "head", "options")
_MAX_FAULTS: Final = 10
_MAX_WARNINGS: Final = 200
_MAX_WARNING_CHARS: Final = 300


@dataclass(kw_only=True)
class Found:
    """What a document describes."""

    operations: list[dict[str, Any]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    title: str | None = None
    description: str | None = None
    base_url: str | None = None

    def as_json(self) -> dict[str, Any]:
        """For the way between processes."""
        return asdict(self)


def take(text: str, source_url: str | None) -> Found:
    """What the document in `text` describes.

    Args:
        text: JSON or YAML.
        source_url: Where it came from; relative addresses in it are meant from there.

    Raises:
        DocumentError: It is no OpenAPI document of 3.0 or 3.1.
    """
    document = read(text)
    _check_version(document)
    found = Found()
    found.warnings += _faults(document)
    info = document.get("info")
    if isinstance(info, dict):
        found.title = _text(info.get("title"))
        found.description = _text(info.get("description"))
    found.base_url = _server(document.get("servers"), source_url)
    if found.base_url is None:
        found.warnings.append("The document names no address; set the connector's base_url.")
    _take_operations(document, source_url, found)
    found.warnings += _sign_in(document)
    if len(found.warnings) > _MAX_WARNINGS:
        more = len(found.warnings) - _MAX_WARNINGS
        found.warnings = [*found.warnings[:_MAX_WARNINGS], f"And {more} more."]
    return found


def _check_version(document: JsonObject) -> None:
    version = document.get("openapi")
    if "swagger" in document:
        raise DocumentError(
            "The document is of Swagger 2.0; convert it to OpenAPI 3, which most tools can do."
        )
    if not isinstance(version, str | int | float) or not str(version).startswith(("3.0", "3.1")):
        raise DocumentError(f"The document is no OpenAPI 3.0 or 3.1: its `openapi` is {version!r}.")
    if not isinstance(document.get("paths"), dict):
        raise DocumentError("The document has no `paths`, and so no operations.")


def _faults(document: JsonObject) -> list[str]:
    """Where the document breaks OpenAPI. What is usable is taken all the same."""
    model = v3_1.OpenAPI if str(document["openapi"]).startswith("3.1") else v3_0.OpenAPI
    try:
        model.model_validate(document)
    except ValidationError as error:
        faults = error.errors(include_url=False, include_input=False)
        return [
            f"{'.'.join(map(str, one['loc']))}: {one['msg']}"[:_MAX_WARNING_CHARS]
            for one in faults[:_MAX_FAULTS]
        ]
    return []


def _take_operations(document: JsonObject, source_url: str | None, found: Found) -> None:
    references, checks = References(document), SchemaChecks()
    taken: set[str] = set()
    for path, item, method, operation in _described(document, references, found.warnings):
        name = operation_name(operation.get("operationId"), method, path, taken)
        builder = OperationBuilder(references, checks, name, method, path)
        servers = operation.get("servers") or item.get("servers")
        elsewhere = _server(servers, source_url) if servers else None
        base_url = elsewhere if elsewhere != found.base_url else None
        try:
            config = builder.build(item, operation, base_url)
        except (DocumentError, RecursionError) as error:
            found.warnings.append(f"{method.upper()} {path} is left out: {error}")
            continue
        taken.add(name)
        if base_url is not None:
            builder.warnings.append(f"it is at another address, {base_url}")
        found.operations.append(config)
        found.warnings += [f"{name}: {warning}" for warning in builder.warnings]


def _described(
    document: JsonObject, references: References, warnings: list[str]
) -> Iterator[tuple[str, Mapping[str, Any], str, Mapping[str, Any]]]:
    paths = document["paths"]
    assert isinstance(paths, dict)
    for path, told in paths.items():
        if path.startswith("x-"):
            continue
        try:
            item = references.followed(told)
        except DocumentError as error:
            warnings.append(f"{path} is left out: {error}")
            continue
        if "trace" in item:
            warnings.append(f"TRACE {path} is left out: connectors do not send it")
        for method in _METHODS:
            operation = item.get(method)
            if isinstance(operation, dict):
                yield path, item, method, operation


def _server(servers: Any, source_url: str | None) -> str | None:
    """The first address that is one."""
    for server in servers if isinstance(servers, list) else []:
        if not isinstance(server, dict) or not isinstance(server.get("url"), str):
            continue
        url: str = server["url"]
        variables = server.get("variables")
        for name, variable in variables.items() if isinstance(variables, dict) else ():
            if isinstance(variable, dict):
                url = url.replace(f"{{{name}}}", str(variable.get("default", "")))
        if source_url is not None:
            url = urljoin(source_url, url)
        try:
            return check_base_url(url.rstrip("/"))
        except ValueError:
            continue
    return None


def _sign_in(document: JsonObject) -> list[str]:
    """What the document says of signing in, for whoever sets `auth`."""
    components = document.get("components")
    schemes = components.get("securitySchemes") if isinstance(components, dict) else None
    said = []
    for name, scheme in schemes.items() if isinstance(schemes, dict) else ():
        if isinstance(scheme, dict) and (told := _auth(scheme)):
            said.append(f"{name} ({told})")
    return [f"The service wants to be signed in to: {', '.join(said)}; set auth."] if said else []


def _auth(scheme: Mapping[str, Any]) -> str | None:
    match scheme.get("type"):
        case "http" if str(scheme.get("scheme")).lower() in ("bearer", "basic"):
            return f"auth.type {str(scheme['scheme']).lower()}"
        case "apiKey" if scheme.get("in") in ("header", "query"):
            field_name = "header" if scheme["in"] == "header" else "param_name"
            return f"auth.type api_key, position {scheme['in']}, {field_name} {scheme.get('name')}"
        case "oauth2":
            return "OAuth 2.0: auth.type oauth2_authorization_code or oauth2_client_credentials"
        case _:
            return None


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None
