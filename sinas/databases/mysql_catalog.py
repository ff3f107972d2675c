"""What `information_schema` says, as the connection's role may see it. A schema is a database."""

import re
from typing import Final

from sinas.databases.base import Catalog

_SCHEMAS: Final = """
SELECT schema_name AS schema_name FROM information_schema.schemata
WHERE schema_name NOT IN ('information_schema', 'performance_schema', 'mysql', 'sys')
ORDER BY schema_name"""
_TABLES: Final = """
SELECT table_name AS table_name, table_type AS table_type,
  cast(coalesce(table_rows, 0) AS unsigned) AS estimated_rows,
  cast(coalesce(data_length, 0) + coalesce(index_length, 0) AS unsigned) AS size_bytes
FROM information_schema.tables
WHERE table_schema = :schema AND table_type <> 'SEQUENCE'
ORDER BY table_name"""
_COLUMNS: Final = """
SELECT column_name AS column_name, data_type AS data_type,
  cast(column_type AS char) AS udt_name,
  is_nullable AS is_nullable,
  cast(column_default AS char) AS column_default,
  character_maximum_length AS character_maximum_length,
  numeric_precision AS numeric_precision, numeric_scale AS numeric_scale,
  ordinal_position AS ordinal_position,
  if(column_key = 'PRI', 'true', 'false') AS is_primary_key
FROM information_schema.columns
WHERE table_schema = :schema AND table_name = :table
ORDER BY ordinal_position"""
_CONSTRAINTS: Final = """
SELECT c.constraint_name AS constraint_name, c.constraint_type AS constraint_type,
  concat('[', coalesce(group_concat(json_quote(k.column_name)
    ORDER BY k.ordinal_position SEPARATOR ', '), ''), ']') AS columns,
  concat(c.constraint_type, ' (', coalesce({clause} group_concat(k.column_name
    ORDER BY k.ordinal_position SEPARATOR ', '), ''), ')', coalesce(concat(' REFERENCES ',
    max(k.referenced_table_schema), '.', max(k.referenced_table_name), ' (',
    group_concat(k.referenced_column_name ORDER BY k.ordinal_position SEPARATOR ', '),
    ') ON UPDATE ', max(r.update_rule), ' ON DELETE ', max(r.delete_rule)), '')) AS definition,
  max(k.referenced_table_schema) AS ref_schema, max(k.referenced_table_name) AS ref_table,
  concat('[', coalesce(group_concat(json_quote(k.referenced_column_name)
    ORDER BY k.ordinal_position SEPARATOR ', '), ''), ']') AS ref_columns
FROM information_schema.table_constraints c
LEFT JOIN information_schema.key_column_usage k
  ON k.constraint_schema = c.constraint_schema AND k.constraint_name = c.constraint_name
    AND k.table_schema = c.table_schema AND k.table_name = c.table_name
LEFT JOIN information_schema.referential_constraints r
  ON r.constraint_schema = c.constraint_schema AND r.constraint_name = c.constraint_name
    AND r.table_name = c.table_name
{checks}
WHERE c.table_schema = :schema AND c.table_name = :table
GROUP BY c.constraint_name, c.constraint_type
ORDER BY c.constraint_name"""
_CHECKS: Final = """
LEFT JOIN information_schema.check_constraints h
  ON c.constraint_type = 'CHECK' AND h.constraint_schema = c.constraint_schema
    AND h.constraint_name = c.constraint_name"""
_INDEXES: Final = """
SELECT index_name AS index_name, concat(if(max(non_unique) = 0, 'UNIQUE ', ''), max(index_type),
  ' (', group_concat(concat(coalesce(column_name, '(expression)'),
    coalesce(concat('(', sub_part, ')'), ''), if(collation = 'D', ' DESC', ''))
    ORDER BY seq_in_index SEPARATOR ', '), ')') AS definition
FROM information_schema.statistics
WHERE table_schema = :schema AND table_name = :table
GROUP BY index_name ORDER BY index_name"""
_VIEWS: Final = """
SELECT table_name AS view_name, cast(view_definition AS char) AS view_definition
FROM information_schema.views WHERE table_schema = :schema ORDER BY table_name"""


def catalog_for(database: str, version: str) -> Catalog:
    """The statements for a server of this version."""
    return Catalog(
        own_schema=database,
        schemas=_SCHEMAS,
        tables=_TABLES,
        columns=_COLUMNS,
        constraints=_constraints(version),
        indexes=_INDEXES,
        views=_VIEWS,
        json_columns=frozenset({"is_primary_key", "columns", "ref_columns"}),
    )


def _constraints(version: str) -> str:
    """In MariaDB the name of a check is unique in its table only; MySQL before 8.0.16 has none."""
    if "MariaDB" in version:
        checks = f"{_CHECKS} AND h.table_name = c.table_name"
    elif _is_since(version, (8, 0, 16)):
        checks = _CHECKS
    else:
        return _CONSTRAINTS.format(clause="", checks="")
    return _CONSTRAINTS.format(clause="max(h.check_clause), ", checks=checks)


def _is_since(version: str, least: tuple[int, int, int]) -> bool:
    numbers = re.match(r"(\d+)\.(\d+)\.(\d+)", version)
    return numbers is not None and tuple(map(int, numbers.groups())) >= least
