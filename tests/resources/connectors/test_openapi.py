"""OpenAPI documents: what is made of them, what is refused, and who may."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson
import pytest

from sinas.resources.connectors.openapi.documents import Found, take
from sinas.resources.connectors.openapi.reading import DocumentError
from tests.resources.connectors.conftest import PATH, Make
from tests.support.outside import Outside, redirect, reply

if TYPE_CHECKING:
    from tests.fixtures.client import SignIn

SERVER = {"url": "https://api.example.com/v1/"}
TEXT = {"type": "string"}
OK = {"responses": {"200": {"description": "Fine"}}}


def document(paths: dict[str, Any], version: str = "3.0.3", **more: Any) -> str:
    whole = {
        "openapi": version,
        "info": {"title": "Shop", "version": "1", "description": "Sells"},
        "servers": [SERVER],
        "paths": paths,
        **more,
    }
    return orjson.dumps(whole).decode()


def one(operation: dict[str, Any], path: str = "/x", **more: Any) -> dict[str, Any]:
    found = take(document({path: {"post": {**OK, **operation}}}, **more), None)
    [made] = found.operations
    assert found.warnings == []
    return made


def body(schema: Any, kind: str = "application/json", **more: Any) -> dict[str, Any]:
    return {"requestBody": {"required": True, "content": {kind: {"schema": schema, **more}}}}


def parameter(name: str, where: str = "query", **more: Any) -> dict[str, Any]:
    return {"name": name, "in": where, "schema": TEXT, **more}


def test_an_operation() -> None:
    made = one(
        {
            "operationId": "Shop.listOrders-byUser",
            "summary": "Orders",
            "description": "Of a user.",
            "parameters": [
                parameter("user-id", "path", required=True, description="Who"),
                parameter("page"),
                parameter("X-Trace", "header"),
                parameter("Authorization", "header"),
                parameter("sid", "cookie"),
                parameter("filter", style="deepObject", explode=True),
                parameter("ids", style="form", explode=False),
                {"name": "q", "in": "query", "content": {"application/json": {"schema": {}}}},
            ],
            **body({"type": "object", "properties": {"note": TEXT}, "required": ["note"]}),
        },
        "/users/{user-id}/orders",
    )
    assert made == {
        "name": "shop_list_orders_by_user",
        "method": "POST",
        "path": "/users/{{user-id}}/orders",
        "description": "Orders\n\nOf a user.",
        "parameters": {
            "type": "object",
            "properties": {
                "user-id": {"type": "string", "description": "Who"},
                **dict.fromkeys(["page", "X-Trace", "sid", "filter", "ids"], TEXT),
                "q": {},
                "note": TEXT,
            },
            "required": ["user-id", "note"],
        },
        "request_body_mapping": "path_and_json",
        "response_mapping": "json",
        "bindings": {
            "page": {"in": "query"},
            "X-Trace": {"in": "header"},
            "sid": {"in": "cookie"},
            "filter": {"in": "query", "style": "deepObject"},
            "ids": {"in": "query", "explode": False},
            "q": {"in": "query", "style": "json"},
        },
    }


def test_what_a_document_says_of_itself() -> None:
    schemes = {
        "a": {"type": "http", "scheme": "Bearer"},
        "b": {"type": "apiKey", "in": "query", "name": "key"},
        "c": {"type": "oauth2", "flows": {}},
    }
    found = take(document({}, components={"securitySchemes": schemes}), None)
    assert (found.title, found.description) == ("Shop", "Sells")
    assert found.base_url == "https://api.example.com/v1"
    [said] = found.warnings
    assert "auth.type bearer" in said
    assert "auth.type api_key, position query, param_name key" in said


def test_names_are_unique_and_made_where_there_are_none() -> None:
    paths = {
        "/a/{id}": {"get": OK, "put": {**OK, "operationId": "same"}},
        "/b": {"get": {**OK, "operationId": "same"}, "post": {**OK, "operationId": "Same!"}},
        "/2": {"get": {**OK, "operationId": "2nd"}, "post": {**OK, "operationId": "日本"}},
        "/c": {"get": {**OK, "operationId": "x" * 150}, "post": {**OK, "operationId": "x" * 140}},
    }
    names = [made["name"] for made in take(document(paths), None).operations]
    assert names == [
        *("get_a_id", "same", "same_2", "same_3", "get_2nd", "post_2"),
        *("x" * 100, "x" * 98 + "_2"),
    ]


def test_arguments_of_one_name_are_told_apart() -> None:
    made = one(
        {
            "parameters": [
                *(parameter("id", "path", required=True), parameter("id"), parameter("a[b] c")),
                parameter("id", "header"),
            ],
            **body({"type": "object", "properties": {"id": TEXT, "query_id": TEXT}}),
        },
        "/x/{id}",
    )
    assert made["bindings"] == {
        "query_id": {"in": "query", "name": "id"},
        "a_b_c": {"in": "query", "name": "a[b] c"},
        "header_id": {"in": "header", "name": "id"},
        "body_id": {"in": "body", "name": "id"},
        "body_query_id": {"in": "body", "name": "query_id"},
    }
    assert made["path"] == "/x/{{id}}"


def test_references_circles_and_parts() -> None:
    schemas = {
        "Node": {
            "type": "object",
            "description": "A node",
            "properties": {
                "name": {"$ref": "#/components/schemas/Name"},
                "next": {"$ref": "#/components/schemas/Node"},
                "all": {"type": "array", "items": {"$ref": "#/components/schemas/Node"}},
            },
        },
        "Name": {**TEXT, "nullable": True, "example": "n"},
        "Base": {"type": "object", "properties": {"id": TEXT}, "required": ["id"]},
        "Mixed": {
            "allOf": [
                {"$ref": "#/components/schemas/Base"},
                {"type": "object", "properties": {"node": {"$ref": "#/components/schemas/Node"}}},
                {"required": ["node"]},
            ]
        },
    }
    parameters = {"Page": parameter("page")}
    bodies = {"Mixed": body({"$ref": "#/components/schemas/Mixed"})["requestBody"]}
    operation = {
        "parameters": [{"$ref": "#/components/parameters/Page"}],
        "requestBody": {"$ref": "#/components/requestBodies/Mixed"},
    }
    components = {"schemas": schemas, "parameters": parameters, "requestBodies": bodies}
    found = take(document({"/x": {"post": {**OK, **operation}}}, components=components), None)
    open_node = {"type": "object", "description": "A node"}
    assert found.operations[0]["parameters"] == {
        "type": "object",
        "properties": {
            "page": TEXT,
            "id": TEXT,
            "node": {
                "type": "object",
                "description": "A node",
                "properties": {
                    "name": {"type": ["string", "null"]},
                    "next": open_node,
                    "all": {"type": "array", "items": open_node},
                },
            },
        },
        "required": ["id", "node"],
    }
    assert found.warnings == ["post_x: schemas that contain themselves are left open inside"]


@pytest.mark.parametrize(
    ("told", "made"),
    [
        ({"type": "integer", "minimum": 1, "exclusiveMinimum": True}, {"exclusiveMinimum": 1}),
        ({"type": "integer", "minimum": 1, "exclusiveMinimum": False}, {"minimum": 1}),
        ({"type": "integer", "exclusiveMaximum": 5}, {"exclusiveMaximum": 5}),
        ({"type": "integer", "enum": [1], "nullable": True}, {"enum": [1, None]}),
        ({"type": ["integer", "null"]}, {}),
        ({"type": "integer", "xml": {}, "x-a": 1, "example": 2}, {}),
        ({"type": "integer", "pattern": "(?<"}, {}),
    ],
)
def test_keywords(told: dict[str, Any], made: dict[str, Any]) -> None:
    version = (
        "3.1.0" if set(told) & {"exclusiveMaximum"} or isinstance(told["type"], list) else "3.0.3"
    )
    whole = body({"type": "object", "properties": {"n": told}})
    schema = one(whole, version=version)["parameters"]
    assert {k: v for k, v in schema["properties"]["n"].items() if k != "type"} == made


def test_more_keywords() -> None:
    properties = {
        "any": {"oneOf": [TEXT, {"type": "integer"}]},
        "list": {"type": "array"},
        "given": {"type": "string", "readOnly": True},
        "map": {"type": "object", "additionalProperties": TEXT},
        "$ref": {"type": "string"},
    }
    whole = {"type": "object", "properties": properties, "required": ["given", "any"]}
    made = one(body(whole), version="3.1.0")["parameters"]
    assert made["properties"] == {
        "any": {"anyOf": [TEXT, {"type": "integer"}]},
        "list": {"type": "array", "items": {}},
        "map": {"type": "object", "additionalProperties": TEXT},
        "ref": TEXT,
    }
    assert made["required"] == ["any"]


@pytest.mark.parametrize(
    ("kind", "schema", "sent"),
    [
        ("application/json", {"type": "array", "items": TEXT}, {"body_argument": "body"}),
        ("application/json", {"anyOf": [TEXT]}, {"body_argument": "body"}),
        ("application/merge-patch+json", {"type": "object", "properties": {"a": TEXT}}, {}),
        ("*/*", {"type": "object", "properties": {"a": TEXT}}, {}),
        ("text/csv", TEXT, {"body_argument": "body"}),
        ("application/octet-stream", {**TEXT, "format": "binary"}, {"body_argument": "body"}),
        ("multipart/form-data", {"properties": {"f": {**TEXT, "format": "binary"}}}, {}),
    ],
)
def test_bodies(kind: str, schema: Any, sent: dict[str, Any]) -> None:
    made = one(body(schema, kind))
    assert made.get("body_argument") == sent.get("body_argument")
    expected = "application/json" if kind == "*/*" else kind
    assert made.get("content_type", "application/json") == expected
    is_file = "octet" in kind or "multipart" in kind
    [argument] = made["parameters"]["properties"].values()
    assert (argument.get("contentEncoding") == "base64") is is_file


def test_servers() -> None:
    variables = {"region": {"default": "eu"}, "port": {"default": "443"}}
    servers = [{"url": "https://{region}.example.com:{port}", "variables": variables}]
    assert take(document({}, servers=servers), None).base_url == "https://eu.example.com:443"
    relative = document({}, servers=[{"url": "/v2"}])
    source = "https://shop.example.com/docs/api.json"
    assert take(relative, source).base_url == "https://shop.example.com/v2"
    assert "set the connector's base_url" in str(take(relative, None).warnings)
    uploads = {"servers": [{"url": "https://uploads.example.com"}], **OK}
    found = take(document({"/x": {"post": uploads, "get": OK}}), None)
    assert found.warnings == ["post_x: it is at another address, https://uploads.example.com"]
    by_method = {made["method"]: made.get("base_url") for made in found.operations}
    assert by_method == {"GET": None, "POST": "https://uploads.example.com"}


def test_what_is_left_out_is_said() -> None:
    paths = {
        "/bad": {"get": {**OK, "parameters": [{"$ref": "#/components/parameters/None"}]}},
        "/out": {"get": {**OK, "parameters": [{"$ref": "https://example.com/p.json"}]}},
        "/hash#x": {"get": OK},
        "/../up": {"get": OK},
        "/trace": {"trace": OK},
        "/good/{id}": {"get": {**OK, "parameters": [parameter("gone", "path", required=True)]}},
    }
    found = take(document(paths), None)
    assert [made["path"] for made in found.operations] == ["/good/{{id}}"]
    assert found.operations[0]["parameters"]["required"] == ["id"]
    text = "\n".join(found.warnings)
    for said in ("GET /bad is", "GET /out is", "GET /hash#x is", "GET /../up is", "TRACE /trace"):
        assert said in text
    assert "leads out of the document" in text


def test_a_faulty_document_gives_what_is_usable() -> None:
    found = take(document({"/x": {"get": {"responses": 7}, "post": OK}}, info={}), None)
    assert len(found.operations) == 2
    assert any(warning.startswith("info") for warning in found.warnings)


YAML = """
openapi: 3.1.0
info: {title: Shop, version: 2024-01-01}
servers: [{url: https://api.example.com}]
paths:
  /x:
    get:
      operationId: on
      parameters:
        - &limit {name: no, in: query, schema: {type: integer, enum: [1, 2]}}
      responses: {200: {description: fine}}
    post:
      parameters: [*limit]
      responses: {200: {description: fine}}
"""


def test_yaml_is_read_as_json_knows_it() -> None:
    found = take(YAML, None)
    assert found.warnings == []
    assert [made["name"] for made in found.operations] == ["on", "post_x"]
    assert all("no" in made["parameters"]["properties"] for made in found.operations)


# Crashes libyaml, and with it the process that reads documents, which is another one.
DEEP = "[" * 100_000
BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{chr(98 + n)}: &{chr(98 + n)} [{','.join(['*' + chr(97 + n)] * 9)}]\n" for n in range(9)
)
REFUSED = {
    "empty": "",
    "a text": "hello",
    "a list": "[1]",
    "no version": "{}",
    "swagger": '{"swagger": "2.0", "paths": {}}',
    "version 2": '{"openapi": "2.0.0", "paths": {}}',
    "version 4": '{"openapi": "4.0.0", "paths": {}}',
    "no paths": '{"openapi": "3.0.0"}',
    "broken JSON": '{"openapi": "3.0.0",',
    "broken YAML": "a: b: c",
    "code": "!!python/object/apply:os.system ['true']",
    "aliases without end": "&a [*a]",
    "a bomb": BOMB,
    "a NUL": "a: \x00",
}


@pytest.mark.parametrize("text", REFUSED.values(), ids=REFUSED)
def test_what_is_no_document(text: str) -> None:
    with pytest.raises((DocumentError, RecursionError)):
        take(text, None)


def test_huge_schemas_are_left_open() -> None:
    schemas = {
        f"S{n}": {
            "type": "object",
            "properties": {f"p{k}": {"$ref": f"#/components/schemas/S{n + 1}"} for k in range(20)},
        }
        for n in range(30)
    }
    schemas["S30"] = {"type": "string"}
    operation = {**OK, **body({"$ref": "#/components/schemas/S0"})}
    found: Found = take(
        document({"/x": {"post": operation}}, components={"schemas": schemas}), None
    )
    assert len(found.operations[0]["parameters"]["properties"]) == 20
    assert len(orjson.dumps(found.operations[0])) < 50_000
    assert "left open" in str(found.warnings)


async def test_parse_and_import(make: Make, as_: SignIn) -> None:
    made = await make()
    spec = document({"/a": {"get": {**OK, "operationId": "do"}}, "/b": {"get": OK}})
    parsed = (await made.client.post(f"{PATH}/parse-openapi", json={"spec": spec})).json()
    assert parsed == {
        "operations": parsed["operations"],
        "warnings": [],
        "applied": 0,
        "spec_title": "Shop",
        "spec_description": "Sells",
        "spec_base_url": "https://api.example.com/v1",
    }
    assert [one["name"] for one in parsed["operations"]] == ["do", "get_b"]
    path = f"{made.path}/import-openapi"
    looked = await made.client.post(path, json={"spec": spec})
    assert looked.json() == parsed
    assert (await made.client.get(made.path)).json() == made.body
    some = {"spec": spec, "operations": ["get_b"], "apply": True}
    assert (await made.client.post(path, json=some)).json()["applied"] == 1
    stored = (await made.client.get(made.path)).json()
    assert [one["name"] for one in stored["operations"]] == ["do", "get_b"]
    assert stored["operations"][0]["path"] == "/do"
    assert stored["updated_at"] > made.body["updated_at"]
    assert (await made.client.post(path, json={"spec": spec, "apply": True})).json()["applied"] == 2
    stored = (await made.client.get(made.path)).json()
    assert [one["path"] for one in stored["operations"]] == ["/a", "/b"]


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"spec": "{}", "spec_url": "https://example.com"},
        {"spec": "hello"},
        {"spec": DEEP},
        {"spec": document({}), "operations": ["none"]},
    ],
)
async def test_what_cannot_be_imported(make: Make, wrong: dict[str, Any]) -> None:
    made = await make()
    answer = await made.client.post(f"{made.path}/import-openapi", json={**wrong, "apply": True})
    assert answer.status_code == 400, answer.text
    assert len(answer.json()["detail"]) < 300
    assert (await made.client.get(made.path)).json() == made.body


async def test_who_may(make: Make, service: Outside, as_: SignIn) -> None:
    made = await make()
    body = {"spec_url": service.url, "apply": True}
    guest, other = await as_("guest"), await as_("other")
    assert (await guest.post(f"{PATH}/parse-openapi", json=body)).status_code == 403
    reader = await as_.key("user", ["sinas.connectors/*/*.read:own"])
    path = f"{made.path}/import-openapi"
    assert (await reader.post(path, json=body)).status_code == 403
    assert (await other.post(path, json=body)).status_code == 404
    assert service.received == []


async def test_by_its_address(make: Make, service: Outside) -> None:
    made = await make()
    path = f"{PATH}/parse-openapi"
    relative = document({"/x": {"get": OK}}, servers=[{"url": "v3"}])
    service.answers = [redirect("/moved"), reply(b"\xef\xbb\xbf" + relative.encode())]
    found = (await made.client.post(path, json={"spec_url": f"{service.url}/d/api"})).json()
    assert found["spec_base_url"] == f"{service.url}/d/v3"
    for answer, told in (
        (reply({}, 404), "status 404"),
        (reply(b"nonsense"), "no object"),
        (redirect("/again"), "redirects more than"),
        (b"nonsense\r\n\r\n", "did not answer in HTTP"),
    ):
        service.answer = answer
        refused = await made.client.post(path, json={"spec_url": service.url})
        assert refused.status_code == 400, refused.text
        assert told in refused.json()["detail"]
