"""The same manners for every resource: status codes, duplicates, partial updates, visibility.

Handlers are written by hand in each slice; this is what keeps them alike. A new resource with a
collection under /api/v1 needs a `Sample`.
"""

from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from fastapi import FastAPI

from sinas.context import AppContext
from tests.contract.routes import operations
from tests.contract.samples import CONNECTION_ID, FUNCTION_NAME, SAMPLES, Sample
from tests.factories.databases import make_connection
from tests.factories.functions import make_function
from tests.fixtures.client import SignIn
from tests.fixtures.database import QueryCounter

pytestmark = pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.name)
CHANGES_BY_ITSELF = {"updated_at"}
MAY_BEGIN_INACTIVE = {
    "budgets",
    "connectors",
    "database_connections",
    "database triggers",
    "functions",
    "queries",
    "schedules",
    "skills",
    "templates",
    "webhooks",
}


@pytest.fixture(autouse=True)
async def named(context: AppContext, as_: SignIn, sample: Sample) -> None:
    """What the sample's own fields name."""
    if sample.create.get("database_connection_id") == CONNECTION_ID:
        await make_connection(context, id=UUID(CONNECTION_ID))
    if sample.create.get("function_name") == FUNCTION_NAME:
        await make_function(context, await as_.user(sample.actor), name=FUNCTION_NAME)


@pytest.fixture
async def actor(as_: SignIn, sample: Sample) -> httpx.AsyncClient:
    return await as_(sample.actor)


@pytest.fixture
async def row(actor: httpx.AsyncClient, sample: Sample) -> dict[str, Any]:
    answer = await actor.post(sample.collection, json=dict(sample.create))
    assert answer.status_code == 201, answer.text
    created: dict[str, Any] = answer.json()
    return created


def missing_path(sample: Sample, *, update: bool = False) -> str:
    nowhere = {"namespace": "no", "name": "where", "path": "no/where", "id": str(uuid4())}
    return sample.path(nowhere, update=update)


def mutations(sample: Sample, row: dict[str, Any] | None) -> list[tuple[str, str, Any]]:
    """Method, path and body of the operations that change `row`, or one that is not there."""
    path = missing_path(sample, update=True) if row is None else sample.path(row, update=True)
    change = [] if sample.change is None else [(sample.method, path, dict(sample.change))]
    return [*change, ("DELETE", path, None)]


async def test_created_then_read_then_listed(
    actor: httpx.AsyncClient, sample: Sample, row: dict[str, Any]
) -> None:
    for name, value in sample.create.items():
        if name not in sample.secret:
            assert row[name] == value, name
    read = await actor.get(sample.path(row))
    assert read.status_code == 200
    common = read.json().keys() & row.keys()
    assert {"id", "created_at"} <= common
    assert {key: read.json()[key] for key in common} == {key: row[key] for key in common}
    listed = (await actor.get(sample.collection)).json()
    assert [entry["id"] for entry in listed].count(row["id"]) == 1
    for text in (read.text, str(listed), str(row)):
        assert not any(str(sample.create[name]) in text for name in sample.secret)


async def test_a_duplicate(actor: httpx.AsyncClient, sample: Sample, row: dict[str, Any]) -> None:
    before = (await actor.get(sample.collection)).json()
    answer = await actor.post(sample.collection, json=dict(sample.create))
    assert answer.status_code == sample.duplicate, answer.text
    if sample.duplicate != 201:
        assert "already" in answer.json()["detail"]
        assert (await actor.get(sample.collection)).json() == before


async def test_an_update_leaves_what_it_does_not_name(
    actor: httpx.AsyncClient, sample: Sample, row: dict[str, Any]
) -> None:
    path = sample.path(row, update=True)
    if sample.change is None:
        assert (await actor.request(sample.method, path, json={})).status_code == 405
        return
    before = (await actor.get(sample.path(row))).json()
    answer = await actor.request(sample.method, path, json=dict(sample.change))
    assert answer.status_code == 200, answer.text
    after = answer.json()
    for name in before.keys() & after.keys() - CHANGES_BY_ITSELF:
        assert after[name] == sample.change.get(name, before[name]), name
    empty = await actor.request(sample.method, path, json={})
    assert empty.status_code == 200, empty.text
    unchanged = after.keys() - CHANGES_BY_ITSELF
    assert {k: empty.json()[k] for k in unchanged} == {k: after[k] for k in unchanged}


async def test_what_was_read_can_be_sent_back(
    actor: httpx.AsyncClient, sample: Sample, row: dict[str, Any]
) -> None:
    if sample.change is None:
        return
    before = (await actor.get(sample.path(row))).json()
    body = {key: value for key, value in before.items() if key not in sample.fixed}
    answer = await actor.request(sample.method, sample.path(row, update=True), json=body)
    assert answer.status_code == 200, answer.text
    after = (await actor.get(sample.path(row))).json()
    kept = before.keys() - CHANGES_BY_ITSELF
    assert {key: after[key] for key in kept} == {key: before[key] for key in kept}


async def test_one_can_be_made_inactive(actor: httpx.AsyncClient, sample: Sample) -> None:
    answer = await actor.post(sample.collection, json={**sample.create, "is_active": False})
    if answer.status_code == 422:
        assert "is_active: There is no such field" in answer.json()["detail"]
        assert sample.name not in MAY_BEGIN_INACTIVE
        return
    assert answer.status_code == 201, answer.text
    assert answer.json()["is_active"] is False
    assert sample.name in MAY_BEGIN_INACTIVE


async def test_deleted_is_gone(
    actor: httpx.AsyncClient, sample: Sample, row: dict[str, Any]
) -> None:
    path = sample.path(row, update=True)
    answer = await actor.delete(path)
    assert (answer.status_code, answer.content) == (204, b"")
    assert (await actor.get(sample.path(row))).status_code == sample.gone
    if sample.gone == 404:
        again = await actor.delete(path)
        assert again.status_code == 404
        for method, where, body in mutations(sample, row):
            assert (await actor.request(method, where, json=body)).status_code == 404
        listed = (await actor.get(sample.collection)).json()
        assert row["id"] not in [entry["id"] for entry in listed]


async def test_a_freed_name_can_be_taken_again(
    actor: httpx.AsyncClient, sample: Sample, row: dict[str, Any]
) -> None:
    await actor.delete(sample.path(row, update=True))
    answer = await actor.post(sample.collection, json=dict(sample.create))
    assert answer.status_code == 201, answer.text
    assert (answer.json()["id"] == row["id"]) is sample.comes_back


async def test_what_is_not_there(actor: httpx.AsyncClient, sample: Sample) -> None:
    answer = await actor.get(missing_path(sample))
    assert answer.status_code == 404
    assert answer.json()["code"] == "not_found"
    for method, path, body in mutations(sample, None):
        assert (await actor.request(method, path, json=body)).status_code == 404, method


@pytest.mark.parametrize("odd", ["%00", "%20", "%F0%9F%92%A9", "..%2f..", "x" * 3000, "null"])
async def test_odd_names_in_a_path(actor: httpx.AsyncClient, sample: Sample, odd: str) -> None:
    path = f"{sample.collection}/{sample.item.replace('{namespace}', odd)}"
    path = path.replace("{name}", odd).replace("{id}", odd).replace("{path}", odd)
    answer = await actor.get(path)
    assert answer.status_code in (404, 422), answer.text


async def test_unknown_fields_are_refused_by_name(
    actor: httpx.AsyncClient, sample: Sample, row: dict[str, Any]
) -> None:
    answer = await actor.post(sample.collection, json={**sample.create, "surprise": 1})
    assert answer.status_code == 422
    assert [entry["field"] for entry in answer.json()["errors"]] == ["surprise"]
    if sample.change is not None:
        path = sample.path(row, update=True)
        answer = await actor.request(sample.method, path, json={"surprise": 1})
        assert answer.status_code == 422
        assert "surprise" in answer.json()["detail"]


async def test_required_fields(actor: httpx.AsyncClient, sample: Sample) -> None:
    answer = await actor.post(sample.collection, json={})
    assert answer.status_code == 422
    assert {entry["field"] for entry in answer.json()["errors"]} >= set(sample.required)
    for name in sample.required:
        body = {key: value for key, value in sample.create.items() if key != name}
        assert (await actor.post(sample.collection, json=body)).status_code == 422
        assert (
            await actor.post(sample.collection, json={**sample.create, name: None})
        ).status_code == 422
    assert await created(actor, sample) == []


async def created(actor: httpx.AsyncClient, sample: Sample) -> list[Any]:
    """Rows of the sample's own name."""
    key = sample.required[0]
    listed = (await actor.get(sample.collection)).json()
    return [entry for entry in listed if entry[key] == sample.create[key]]


async def test_wrong_values_are_refused_and_change_nothing(
    actor: httpx.AsyncClient, sample: Sample
) -> None:
    for name, value in sample.wrong:
        answer = await actor.post(sample.collection, json={**sample.create, name: value})
        assert answer.status_code == 422, (name, value, answer.text)
        problem = answer.json()
        assert name in problem["detail"], (name, value, problem)
        assert len(problem["detail"]) < 1000
    assert await created(actor, sample) == []
    row = (await actor.post(sample.collection, json=dict(sample.create))).json()
    before = (await actor.get(sample.path(row))).json()
    for name, value in sample.wrong if sample.change is not None else ():
        path = sample.path(row, update=True)
        answer = await actor.request(sample.method, path, json={name: value})
        assert answer.status_code == 422, (name, value, answer.text)
    assert (await actor.get(sample.path(row))).json() == before


async def test_text_that_cannot_be_stored(actor: httpx.AsyncClient, sample: Sample) -> None:
    plain = sample.create.keys() - set(sample.secret)  # those are stored encrypted
    texts = [name for name in plain if isinstance(sample.create[name], str)]
    for name in texts:
        for bad in ("a\x00b", "a\ud800b"):
            body = {**sample.create, name: bad}
            escaped = httpx.Request("POST", "http://x", json={**body, name: "@bad@"}).content
            content = escaped.replace(b"@bad@", b"a\\u%04xb" % ord(bad[1]))
            answer = await actor.post(
                sample.collection, content=content, headers={"content-type": "application/json"}
            )
            assert answer.status_code == 422, (name, bad.encode("unicode_escape"), answer.text)


async def test_others_do_not_see_it(
    as_: SignIn, actor: httpx.AsyncClient, sample: Sample, row: dict[str, Any]
) -> None:
    other = await as_("other")
    listed = await other.get(sample.collection)
    ids = [entry["id"] for entry in listed.json()] if listed.is_success else []
    assert (row["id"] in ids) is sample.seen_by_others
    read = await other.get(sample.path(row))
    absent = await other.get(missing_path(sample))
    if sample.seen_by_others:
        assert read.status_code == 200
        refused = {403}
    else:
        assert read.status_code == absent.status_code
        assert read.status_code in (403, 404)
        refused = {403, 404}
    before = (await actor.get(sample.path(row))).json()
    for method, path, body in mutations(sample, row):
        assert (await other.request(method, path, json=body)).status_code in refused, method
    assert (await actor.get(sample.path(row))).json() == before


async def test_without_the_right_to_create(as_: SignIn, sample: Sample) -> None:
    for client in (await as_("nobody"), await as_("guest"), await as_.key(sample.actor, [])):
        answer = await client.post(sample.collection, json=dict(sample.create))
        assert answer.status_code == 403
        assert "sinas." in answer.json()["detail"]


async def test_pages(actor: httpx.AsyncClient, sample: Sample, row: dict[str, Any]) -> None:
    key = sample.required[0]
    for number in range(3):
        value = str(sample.create[key])
        body = {**sample.create, key: f"n{number}{value}"}
        body.pop("email_domain", None)
        answer = await actor.post(sample.collection, json=body)
        assert answer.status_code == 201, answer.text
    everything = [entry["id"] for entry in (await actor.get(sample.collection)).json()]
    assert len(everything) == len(set(everything)) >= 4
    paged: list[str] = []
    while True:
        answer = await actor.get(sample.collection, params={"skip": len(paged), "limit": 2})
        page = [entry["id"] for entry in answer.json()]
        paged += page
        if len(page) < 2:
            break
    assert paged == everything
    for bad in ({"limit": 0}, {"limit": 100_000}, {"skip": -1}, {"skip": 2**40}, {"limit": "x"}):
        assert (await actor.get(sample.collection, params=bad)).status_code == 422, bad


async def test_a_list_costs_the_same_however_long_it_is(
    actor: httpx.AsyncClient,
    sample: Sample,
    row: dict[str, Any],
    query_counter: QueryCounter,
) -> None:
    await actor.get(sample.collection)
    with query_counter() as short:
        await actor.get(sample.collection)
    key = sample.required[0]
    for number in range(3):
        body = {**sample.create, key: f"n{number}{sample.create[key]}"}
        body.pop("email_domain", None)
        await actor.post(sample.collection, json=body)
    with query_counter() as longer:
        await actor.get(sample.collection)
    assert longer.count == short.count <= 3, longer.statements


def test_every_collection_has_a_sample(shared_app: FastAPI, sample: Sample) -> None:
    """Fix: add a Sample for the new resource to tests/contract/samples.py."""
    collections = {
        f"{o.mount}{o.path}"
        for o in operations(shared_app)
        # Others ask for something to be done.
        if o.method == "POST"
        and "201" in o.spec["responses"]
        and o.mount == "/api/v1"
        and "{" not in o.path
    }
    assert collections == {sample.collection for sample in SAMPLES}
