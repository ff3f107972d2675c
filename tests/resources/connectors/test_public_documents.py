"""Large public OpenAPI documents: every operation they describe can be offered and called."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from sinas.egress.urls import parse_url
from sinas.kit.jsonschema import Schema
from sinas.resources.connectors.openapi.documents import take
from sinas.resources.connectors.requests import prepare
from sinas.resources.connectors.schemas import OperationConfig
from tests.resources.connectors.conftest import Made, Make
from tests.support.documents import DOCUMENTS, document
from tests.support.outside import Outside

if TYPE_CHECKING:
    from tests.fixtures.client import SignIn

METHODS = ("get", "put", "post", "delete", "patch", "head", "options")
# As much as a model can be asked to read for one tool.
MOST_BYTES = 150_000


def sample(schema: dict[str, Any]) -> Any:
    """A value a schema takes, with what is required in it."""
    if "default" in schema:
        return schema["default"]
    if "enum" in schema:
        return schema["enum"][0]
    for key in ("anyOf", "allOf"):
        if key in schema and "type" not in schema:
            return sample(schema[key][0])
    return by_type(schema)


def by_type(schema: dict[str, Any]) -> Any:
    kind = schema.get("type")
    match kind[0] if isinstance(kind, list) else kind:
        case "object":
            properties = schema.get("properties", {})
            return {key: sample(properties.get(key, {})) for key in schema.get("required", ())}
        case "array":
            return [sample(schema["items"])] * max(1, schema.get("minItems", 1))
        case "integer" | "number":
            return schema.get("minimum", 1)
        case "boolean":
            return True
        case _ if schema.get("contentEncoding") == "base64":
            return "AAAA"
        case _:
            return "x" * max(1, schema.get("minLength", 1))


def references(schema: Any) -> list[str]:
    """What is left of OpenAPI in a schema; a property may be called `$ref`."""
    if isinstance(schema, list):
        return [found for item in schema for found in references(item)]
    if not isinstance(schema, dict):
        return []
    named = schema.get("properties", {})
    inner = [*named.values(), *(v for k, v in schema.items() if k not in DATA)]
    own = [key for key in ("$ref", "nullable", "discriminator") if key in schema]
    return own + [found for each in inner for found in references(each)]


DATA = {"properties", "default", "enum", "const"}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_operation_is_usable(name: str) -> None:
    content = document(name)
    described = orjson.loads(content)
    expected = sum(1 for item in described["paths"].values() for key in item if key in METHODS)
    found = take(content, None)
    assert len(found.operations) == expected > 100
    assert len({operation["name"] for operation in found.operations}) == expected
    assert found.title
    unmatched = []
    for operation in found.operations:
        assert OperationConfig.model_validate(operation).stored() == operation
        schema = operation["parameters"]
        assert len(orjson.dumps(schema)) <= MOST_BYTES
        assert references(schema) == []
        assert all(re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", key) for key in schema["properties"])
        given = {key: sample(schema["properties"][key]) for key in schema.get("required", ())}
        if Schema(schema).violations(given) and b'"pattern"' not in orjson.dumps(schema):
            # The little generator above does not know patterns, nor all combinations.
            unmatched.append(operation["name"])
        prepared = prepare(operation, given, ())
        assert "{" not in prepared.path
        assert prepared.path.startswith("/")
        assert prepared.path.count("/") == operation["path"].partition("?")[0].count("/")
        parse_url(f"https://api.example.com{prepared.path}")
    assert len(unmatched) <= expected * 0.05, unmatched


async def imported(make: Make, name: str, service: Outside, *operations: str) -> Made:
    made = await make(operations=[])
    body = {"spec": document(name), "operations": list(operations) or None, "apply": True}
    answer = await made.client.post(f"{made.path}/import-openapi", json=body)
    assert answer.status_code == 200, answer.text
    assert answer.json()["applied"] == len(answer.json()["operations"]) > 0
    return made


async def test_github_by_its_address(make: Make, service: Outside, as_: SignIn) -> None:
    made = await make(operations=[])
    content = document("github").encode()
    service.answers = [b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(content), content)]
    body = {"spec_url": f"{service.url}/api.json", "apply": True}
    answer = await made.client.post(f"{made.path}/import-openapi", json=body)
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert (found["applied"], found["spec_base_url"]) == (845, "https://api.github.com")
    stored = (await made.client.get(made.path)).json()
    assert stored["operations"] == found["operations"]
    result = await made.test(
        {"owner": "a/b", "repo": "r", "title": "T", "labels": ["x", {"name": "y"}]},
        operation="issues_create",
    )
    assert result.json()["status_code"] == 200, result.text
    seen = service.received[-1]
    assert (seen.method, seen.target) == ("POST", "/repos/a%2Fb/r/issues")
    assert seen.json() == {"title": "T", "labels": ["x", {"name": "y"}]}
    listed = {"owner": "a", "repo": "r", "state": "open", "per_page": "5"}
    result = await made.test(listed, operation="issues_list_for_repo")
    assert result.json()["status_code"] == 200, result.text
    assert service.received[-1].target == "/repos/a/r/issues?state=open&per_page=5"


async def test_stripe_speaks_forms(make: Make, service: Outside) -> None:
    made = await imported(make, "stripe", service, "post_customers", "get_customers")
    answer = await made.test(
        {
            "email": "a@b.c",
            "expand": ["sources"],
            "metadata": {"order id": "7"},
            "address": {"line1": "Main & 1st"},
        },
        operation="post_customers",
    )
    assert answer.json()["status_code"] == 200, answer.text
    seen = service.received[-1]
    assert (seen.method, seen.target) == ("POST", "/v1/customers")
    assert seen.headers["content-type"] == "application/x-www-form-urlencoded"
    assert sorted(seen.body.decode().split("&")) == [
        "address%5Bline1%5D=Main%20%26%201st",
        "email=a%40b.c",
        "expand%5B0%5D=sources",
        "metadata%5Border%20id%5D=7",
    ]
    answer = await made.test({"created": {"gt": 5}, "limit": 3}, operation="get_customers")
    assert answer.json()["status_code"] == 200, answer.text
    assert set(service.received[-1].target.partition("?")[2].split("&")) == {
        "created%5Bgt%5D=5",
        "limit=3",
    }
