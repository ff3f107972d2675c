"""Columns of indexes, read off their definitions."""

from __future__ import annotations

from typing import Any

import pytest

from sinas.resources.database_connections.outlines import table_outline

TABLE: dict[str, Any] = {
    "table_name": "t",
    "schema_name": "s",
    "display_name": None,
    "description": None,
    "columns": [],
    "constraints": [],
}


@pytest.mark.parametrize(
    ("definition", "columns", "unique"),
    [
        ("CREATE INDEX i ON s.t USING btree (a)", ["a"], False),
        ("CREATE UNIQUE INDEX i ON s.t USING btree (a, b DESC)", ["a", "b DESC"], True),
        (
            "CREATE INDEX i ON s.t USING btree (lower(a), coalesce(b, c)) WHERE (a > 1)",
            ["lower(a)", "coalesce(b, c)"],
            False,
        ),
        ("BTREE (total, shop)", ["total", "shop"], False),
        ("nothing", [], False),
    ],
)
def test_indexes(definition: str, columns: list[str], *, unique: bool) -> None:
    index = {"index_name": "i", "definition": definition}
    told = table_outline("c", {**TABLE, "indexes": [index]})
    assert told["indexes"] == [
        {"name": "i", "columns": columns, "unique": unique, "primary": False}
    ]
