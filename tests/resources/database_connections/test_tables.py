"""Tables, views and rows: what is given never becomes SQL."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.factories.databases import make_connection

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import httpx

    from sinas.context import AppContext
    from tests.fixtures.client import SignIn

PATH = "/api/v1/database-connections/here"
EVIL = 'x"; DROP TABLE probe; --'
COLUMNS = [
    {"name": "id", "type": "serial", "primary_key": True},
    {"name": "word", "type": "varchar(20)", "default": "'it''s :x'", "nullable": False},
    {"name": "n", "type": "numeric(6, 2)", "default": 1.5},
    {"name": EVIL, "type": "timestamp (3) with time zone", "default": "now()"},
    {"name": "tags", "type": "text[]"},
]


@pytest.fixture
async def admin(context: AppContext, as_: SignIn) -> AsyncIterator[httpx.AsyncClient]:
    """With a connection, and a table in its database."""
    await make_connection(context, name="here")
    await make_connection(context, name="reading", read_only=True)
    admin = await as_("admin")
    made = await admin.post(f"{PATH}/tables", json={"table_name": "probe", "columns": COLUMNS})
    assert made.status_code == 201, made.text
    yield admin
    await admin.delete(f"{PATH}/tables/probe", params={"cascade": True})


async def delete(client: httpx.AsyncClient, path: str, body: Any) -> httpx.Response:
    return await client.request("DELETE", path, json=body)


async def test_a_table_is_made_changed_and_removed(admin: httpx.AsyncClient) -> None:
    table = (await admin.get(f"{PATH}/tables/probe")).json()
    assert [(c["column_name"], c["is_nullable"]) for c in table["columns"]] == [
        ("id", "NO"),
        ("word", "NO"),
        ("n", "YES"),
        (EVIL, "YES"),
        ("tags", "YES"),
    ]
    changed = await admin.patch(
        f"{PATH}/tables/probe",
        json={
            "drop_columns": ["tags"],
            "rename_columns": {"n": "amount"},
            "add_columns": [{"name": "seen", "type": "boolean", "default": False}],
        },
    )
    assert [c["column_name"] for c in changed.json()["columns"]] == [
        "id",
        "word",
        "amount",
        EVIL,
        "seen",
    ]
    assert (await admin.patch(f"{PATH}/tables/probe", json={})).status_code == 400
    assert (await admin.delete(f"{PATH}/tables/probe")).status_code == 204
    assert (await admin.delete(f"{PATH}/tables/probe")).status_code == 400


@pytest.mark.parametrize(
    "column",
    [
        {"type": "int); DROP TABLE probe; --"},
        {"type": "int DEFAULT pg_read_file('/etc/passwd')"},
        {"type": "int REFERENCES users"},
        {"type": "regclass"},
        {"type": "numeric(1,2,3)"},
        {"type": ""},
        {"type": "int", "default": "1); DROP TABLE probe; --"},
        {"type": "text", "default": "pg_read_file('/etc/passwd')"},
        {"type": "text", "default": "'a' || 'b'"},
        {"type": "text", "default": "'a\\' , b'"},
        {"type": "text", "default": "(SELECT 1)"},
        {"type": "int", "name": "a\x00b"},
        {"type": "int", "name": "é" * 40},
    ],
)
async def test_no_sql_in_types_defaults_or_names(
    admin: httpx.AsyncClient, column: dict[str, Any]
) -> None:
    body = {"add_columns": [{"name": "a"} | column]}
    assert (await admin.patch(f"{PATH}/tables/probe", json=body)).status_code == 400
    assert (await admin.get(f"{PATH}/tables/probe")).status_code == 200


async def test_rows(admin: httpx.AsyncClient) -> None:
    rows = f"{PATH}/tables/probe/rows"
    evil = "'); DROP TABLE x"
    body = {"rows": [{"word": evil}, {"n": "2.25", "tags": ["a", "b"]}, {"word": "z", "n": None}]}
    inserted = (await admin.post(rows, json=body)).json()
    assert inserted["count"] == 3
    assert [(row["word"], row["n"], row["tags"]) for row in inserted["inserted"]] == [
        (evil, "1.50", None),
        ("it's :x", "2.25", ["a", "b"]),
        ("z", None, None),
    ]

    async def listed(*filters: dict[str, Any], **parameters: Any) -> tuple[list[str], int]:
        query = {"filters": json.dumps(filters), "sort_by": "word", **parameters}
        page = (await admin.get(rows, params=query)).json()
        return [row["word"] for row in page["rows"]], page["total_count"]

    assert await listed() == ([evil, "it's :x", "z"], 3)
    assert await listed(sort_order="desc", limit=1, offset=1) == (["it's :x"], 3)
    assert await listed({"column": "word", "value": evil}) == ([evil], 1)
    assert await listed({"column": "n", "operator": ">", "value": 2}) == (["it's :x"], 1)
    assert await listed({"column": "n", "operator": "IS NULL"}) == (["z"], 1)
    assert await listed({"column": "word", "operator": "ILIKE", "value": "Z%"}) == (["z"], 1)
    updated = await admin.patch(rows, json={"where": {"n": None}, "set_values": {"word": "y"}})
    assert updated.json() == {"affected_rows": 1}
    assert (await delete(admin, rows, {"where": {"word": evil}})).json() == {"affected_rows": 1}
    assert await listed() == (["it's :x", "y"], 2)


@pytest.mark.parametrize(
    "query",
    [
        {"filters": "nonsense"},
        {"filters": '[{"column": "word", "operator": "; DROP", "value": 1}]'},
        {"filters": '[{"column": "x\\" OR 1=1 --", "value": 1}]'},
        {"filters": '[{"column": "id", "value": "many"}]'},
        {"filters": '[{"column": "word", "value": "a\\u0000b"}]'},
        {"sort_by": "word; DROP TABLE probe"},
        {"schema": 'public"."probe'},
    ],
)
async def test_no_sql_in_what_rows_are_asked_for(
    admin: httpx.AsyncClient, query: dict[str, str]
) -> None:
    assert (await admin.get(f"{PATH}/tables/probe/rows", params=query)).status_code == 400
    assert (await admin.get(f"{PATH}/tables/probe/rows")).status_code == 200


async def test_rows_are_changed_by_what_is_named_only(admin: httpx.AsyncClient) -> None:
    rows = f"{PATH}/tables/probe/rows"
    bodies: list[dict[str, Any]] = [{"where": {}}, {}, {"where": {"word": "a"}, "more": 1}]
    for body in bodies:
        assert (await delete(admin, rows, body)).status_code == 422
    assert (await admin.post(rows, json={"rows": [{}]})).status_code == 422
    assert (await delete(admin, rows, {"where": {'a" = 1 OR "b': 1}})).status_code == 400
    half = await admin.post(rows, json={"rows": [{"word": "a"}, {"word": "x" * 21}]})
    assert half.status_code == 400
    assert (await admin.get(rows)).json()["total_count"] == 0


async def test_pages_of_rows_are_in_the_order_of_the_key(admin: httpx.AsyncClient) -> None:
    rows = f"{PATH}/tables/probe/rows"
    made = await admin.post(rows, json={"rows": [{"word": word} for word in "abcd"]})
    assert made.status_code == 201, made.text
    # Without an order, PostgreSQL tells a changed row last.
    changed = await admin.patch(rows, json={"where": {"word": "a"}, "set_values": {"word": "x"}})
    assert changed.json() == {"affected_rows": 1}

    async def words(**asked: Any) -> list[str]:
        answer = await admin.get(rows, params=asked)
        assert answer.status_code == 200, answer.text
        return [row["word"] for row in answer.json()["rows"]]

    assert await words() == ["x", "b", "c", "d"]
    assert await words(limit=2) + await words(limit=2, offset=2) == ["x", "b", "c", "d"]
    assert await words(sort_order="desc") == ["d", "c", "b", "x"]
    assert await words(sort_by="word") == ["b", "c", "d", "x"]


async def test_a_value_that_does_not_fit_is_told_with_its_column(admin: httpx.AsyncClient) -> None:
    rows = f"{PATH}/tables/probe/rows"
    condition = '[{"column": "n", "operator": "=", "value": "many"}]'
    answers = [
        await admin.post(rows, json={"rows": [{"word": "a", "n": 1}, {"word": "b", "n": "many"}]}),
        await admin.patch(rows, json={"where": {"id": 1}, "set_values": {"n": "many"}}),
        await delete(admin, rows, {"where": {"n": "many"}}),
        await admin.get(rows, params={"filters": condition}),
    ]
    for answer in answers:
        assert answer.status_code == 400
        assert answer.json()["detail"] == "The value of 'n' must be a number."


async def test_views(admin: httpx.AsyncClient) -> None:
    view = {"name": "seen", "sql": "SELECT id FROM probe WHERE word <> ';';"}
    assert (await admin.post(f"{PATH}/views", json=view)).status_code == 201
    assert (await admin.post(f"{PATH}/views", json=view)).status_code == 400
    assert (await admin.post(f"{PATH}/views", json=view | {"or_replace": True})).status_code == 201
    for sql in ("SELECT 1; DROP TABLE probe", "DROP TABLE probe", "SELECT :a", "-- nothing"):
        refused = await admin.post(f"{PATH}/views", json={"name": "evil", "sql": sql})
        assert refused.status_code == 400
    assert (await admin.delete(f"{PATH}/tables/probe")).status_code == 400
    assert (await admin.delete(f"{PATH}/views/seen")).status_code == 204


async def test_a_read_only_connection_is_looked_at_only(admin: httpx.AsyncClient) -> None:
    path = "/api/v1/database-connections/reading"
    table = {"table_name": "t", "columns": [{"name": "a", "type": "int"}]}
    assert (await admin.post(f"{path}/tables", json=table)).status_code == 403
    rows = await admin.post(f"{path}/tables/probe/rows", json={"rows": [{"word": "a"}]})
    assert rows.status_code == 403
    assert (await admin.get(f"{path}/tables/probe/rows")).status_code == 200
    said = {"annotations": [{"table_name": "probe", "description": "x"}]}
    assert (await admin.put(f"{path}/annotations", json=said)).status_code == 200


async def test_dropping_needs_a_right_of_its_own(as_: SignIn, admin: httpx.AsyncClient) -> None:
    key = await as_.key(
        "admin", ["sinas.database_connections.schema:all", "sinas.database_connections.data:all"]
    )
    dropping = {"drop_columns": ["n"]}
    assert (await key.patch(f"{PATH}/tables/probe", json=dropping)).status_code == 403
    assert (await key.delete(f"{PATH}/tables/probe")).status_code == 403
    adding = {"add_columns": [{"name": "m", "type": "int"}]}
    assert (await key.patch(f"{PATH}/tables/probe", json=adding)).status_code == 200
