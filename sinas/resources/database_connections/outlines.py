"""What agents are told of a database: the catalog in fewer words, without what is empty."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from sinas.kit.json_types import JsonObject

# `CREATE UNIQUE INDEX i ON s.t USING btree (a, lower(b) DESC)`: what is in the first brackets.
_KEYS = re.compile(r"\(((?:[^()]|\([^()]*\))*)\)")
_COMMAS = re.compile(r",\s*(?![^(]*\))")


def tables_outline(connection: str, schema: str, tables: Sequence[Mapping[str, Any]]) -> JsonObject:
    """The tables and views of a schema."""
    told: list[Any] = [
        {
            "schema": schema,
            "table": each["table_name"],
            "type": each["table_type"],
            "approximate_rows": each["estimated_rows"],
            **_annotation(each),
        }
        for each in tables
    ]
    return {"connectionName": connection, "tables": told, "count": len(told)}


def table_outline(connection: str, table: Mapping[str, Any]) -> JsonObject:
    """Columns, indexes and foreign keys of a table."""
    return {
        "connectionName": connection,
        "schema": table["schema_name"],
        "table": table["table_name"],
        **_annotation(table),
        "columns": [_column(each) for each in table["columns"]],
        "indexes": _indexes(table),
        "foreign_keys": _foreign_keys(table["constraints"]),
    }


def _column(column: Mapping[str, Any]) -> JsonObject:
    found = {
        "default": column["column_default"],
        "max_length": column["character_maximum_length"],
        "precision": column["numeric_precision"],
        "scale": column["numeric_scale"],
    }
    return {
        "name": column["column_name"],
        "type": column["data_type"],
        "udt": column["udt_name"],
        "nullable": column["is_nullable"] == "YES",
        "primary_key": column["is_primary_key"],
        **{name: value for name, value in found.items() if value is not None},
        **_annotation(column),
    }


def _indexes(table: Mapping[str, Any]) -> list[Any]:
    primary = {
        each["constraint_name"]
        for each in table["constraints"]
        if each["constraint_type"] == "PRIMARY KEY"
    }
    return [
        {
            "name": each["index_name"],
            "columns": _keys(each["definition"]),
            "unique": "UNIQUE" in each["definition"] or each["index_name"] in primary,
            "primary": each["index_name"] in primary or "PRIMARY KEY" in each["definition"],
        }
        for each in table["indexes"]
    ]


def _keys(definition: str) -> list[str]:
    found = _KEYS.search(definition)
    return _COMMAS.split(found.group(1)) if found else []


def _foreign_keys(constraints: Sequence[Mapping[str, Any]]) -> list[Any]:
    return [
        {
            "column": column,
            "references": f"{each['ref_schema']}.{each['ref_table']}.{target}",
            "constraint": each["constraint_name"],
        }
        for each in constraints
        if each["constraint_type"] == "FOREIGN KEY"
        for column, target in zip(each["columns"], each["ref_columns"] or (), strict=False)
    ]


def _annotation(said: Mapping[str, Any]) -> JsonObject:
    words = {name: said[name] for name in ("display_name", "description") if said[name]}
    return {"annotation": words} if words else {}
