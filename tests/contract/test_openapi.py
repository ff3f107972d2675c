"""The three OpenAPI documents and their pages, as clients and browsers get them."""

import re
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from tests.contract.routes import Operation, applications, operations

MOUNTS = ["", "/api/v1", "/adapters/openai"]


def faults(found: list[Operation], check: Any) -> list[str]:
    return [operation.name for operation in found if not check(operation.spec)]


@pytest.fixture
def found(app: FastAPI) -> list[Operation]:
    found = list(operations(app))
    assert len(found) > 40
    return found


def test_every_operation_says_what_it_does(found: list[Operation]) -> None:
    """Fix: write a docstring; its text is the description."""
    assert faults(found, lambda spec: spec.get("summary") and spec.get("description")) == []


def test_every_operation_documents_its_errors(found: list[Operation]) -> None:
    """Reason: generated clients know only what is documented. Fix: give the router
    `responses=PROBLEM_RESPONSES`.
    """
    wanted = {"401", "403", "404", "422"}
    closed = [operation for operation in found if not operation.is_public]
    assert faults(closed, lambda spec: wanted <= spec["responses"].keys()) == []
    public = [operation for operation in found if operation.is_public]
    assert faults(public, lambda spec: any(s[0] in "45" for s in spec["responses"])) == []


def test_every_closed_operation_says_how_to_sign_in(found: list[Operation]) -> None:
    """Fix: give the router `dependencies=CREDENTIALS`."""
    closed = [operation for operation in found if not operation.is_public]
    assert faults(closed, lambda spec: spec.get("security")) == []


def test_operation_ids_are_unique_in_each_document(found: list[Operation]) -> None:
    for mount in MOUNTS:
        names = [o.spec["operationId"] for o in found if o.mount == mount]
        assert len(names) == len(set(names))


def test_every_success_has_a_schema(found: list[Operation]) -> None:
    """Fix: annotate what the handler returns, or give `response_model`."""

    def has_schema(spec: dict[str, Any]) -> bool:
        successes = {c: r for c, r in spec["responses"].items() if c.startswith("2")}
        return bool(successes) and all(
            status == "204" or any(kind.get("schema") for kind in answer["content"].values())
            for status, answer in successes.items()
        )

    streams = {"text/event-stream"}
    plain = [
        operation
        for operation in found
        if not any(
            streams & set(r.get("content", {})) for r in operation.spec["responses"].values()
        )
    ]
    assert faults(plain, has_schema) == []


@pytest.mark.parametrize("mount", MOUNTS)
async def test_each_document_lists_only_its_own_operations(
    app: FastAPI, client: httpx.AsyncClient, mount: str
) -> None:
    document = (await client.get(f"{mount}/openapi.json")).json()
    ours = {operation.path for operation in operations(app) if operation.mount == mount}
    assert set(document["paths"]) == ours
    assert not any(path.startswith(("/api/v1", "/adapters", "/docs")) for path in ours)
    titles = {application.title for application in applications(app).values()}
    assert len(titles) == 3


@pytest.mark.parametrize("mount", MOUNTS)
async def test_every_reference_in_a_document_leads_somewhere(
    client: httpx.AsyncClient, mount: str
) -> None:
    answer = await client.get(f"{mount}/openapi.json")
    document = answer.json()
    for reference in set(re.findall(r'"\$ref": ?"([^"]+)"', answer.text)):
        target: Any = document
        for part in reference.removeprefix("#/").split("/"):
            target = target[part]


@pytest.mark.parametrize("mount", MOUNTS)
async def test_the_page_loads_everything_from_here(client: httpx.AsyncClient, mount: str) -> None:
    """It works without a network, and tells no third party who looks."""
    page = await client.get(f"{mount}/docs")
    assert page.status_code == 200
    assert page.headers["content-type"].startswith("text/html")
    assert re.findall(r"(?:https?:)?//[^\s\"'<>]+", page.text) == []
    addresses = re.findall(r"(?:src|href)=\"([^\"]+)\"", page.text)
    assert len(addresses) >= 3
    for address in [*addresses, *re.findall(r"url: '([^']+)'", page.text)]:
        answer = await client.get(address)
        assert answer.status_code == 200, address
        assert answer.content
    assert f"url: '{mount}/openapi.json'" in page.text


async def test_the_pages_styles_load_nothing_else(client: httpx.AsyncClient) -> None:
    styles = await client.get("/static/swagger/swagger-ui.css")
    assert re.findall(r"url\((?!['\"]?data:)[^)]*\)|@import", styles.text) == []
