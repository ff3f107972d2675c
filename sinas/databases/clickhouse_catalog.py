"""What ClickHouse's `system` tables say, as the connection's user may see it."""

from typing import Final

from sinas.databases.base import Catalog

_SCHEMAS: Final = """
SELECT name AS schema_name FROM system.databases
WHERE lower(name) NOT IN ('system', 'information_schema')
ORDER BY name"""
_TABLES: Final = """
SELECT name AS table_name,
  multiIf(engine = 'MaterializedView', 'MATERIALIZED VIEW', endsWith(engine, 'View'), 'VIEW',
    engine = 'Dictionary', 'DICTIONARY', 'BASE TABLE') AS table_type,
  toInt64(coalesce(total_rows, 0)) AS estimated_rows,
  toInt64(coalesce(total_bytes, 0)) AS size_bytes
FROM system.tables
WHERE database = :schema AND NOT is_temporary AND NOT startsWith(name, '.inner')
ORDER BY name"""
_COLUMNS: Final = """
SELECT name AS column_name, type AS data_type,
  extract(type, '^(?:LowCardinality\\\\(|Nullable\\\\()*([A-Za-z0-9]+)') AS udt_name,
  if(match(type, '^(LowCardinality\\\\()?Nullable\\\\('), 'YES', 'NO') AS is_nullable,
  nullIf(trimBoth(concat(if(default_kind IN ('', 'DEFAULT'), '', default_kind), ' ',
    default_expression)), '') AS column_default,
  character_octet_length AS character_maximum_length, numeric_precision, numeric_scale,
  position AS ordinal_position,
  is_in_primary_key::Bool AS is_primary_key
FROM system.columns
WHERE database = :schema AND table = :table
ORDER BY position"""
# What a table is sorted and divided by is what makes reading it quick or slow. It is in the
# place of indexes and not of constraints: none of it is unique.
_INDEXES: Final = """
SELECT index_name, definition FROM (
  SELECT 1 AS place, 'primary key' AS index_name,
    concat('PRIMARY KEY (', primary_key, ')') AS definition
  FROM system.tables WHERE database = :schema AND name = :table AND primary_key <> ''
  UNION ALL
  SELECT 2, 'sorting key', concat('ORDER BY (', sorting_key, ')')
  FROM system.tables WHERE database = :schema AND name = :table AND sorting_key <> ''
  UNION ALL
  SELECT 3, 'partition key', concat('PARTITION BY ', partition_key)
  FROM system.tables WHERE database = :schema AND name = :table AND partition_key <> ''
  UNION ALL
  SELECT 4, name, concat('INDEX ', name, ' ', expr, ' TYPE ', type, ' GRANULARITY ',
    toString(granularity))
  FROM system.data_skipping_indices WHERE database = :schema AND table = :table
)
ORDER BY place, index_name"""
_VIEWS: Final = """
SELECT name AS view_name, if(as_select = '', create_table_query, as_select) AS view_definition
FROM system.tables
WHERE database = :schema AND endsWith(engine, 'View')
ORDER BY name"""


def catalog_of(database: str) -> Catalog:
    """Its schemas are ClickHouse's databases; the connection's own is the one meant unnamed."""
    return Catalog(
        own_schema=database,
        schemas=_SCHEMAS,
        tables=_TABLES,
        columns=_COLUMNS,
        constraints=None,
        indexes=_INDEXES,
        views=_VIEWS,
    )
