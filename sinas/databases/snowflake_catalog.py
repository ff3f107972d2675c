"""What INFORMATION_SCHEMA of the connection's database says, as its role may see it."""

from typing import Final

from sinas.databases.base import Catalog

# In quotes: other names would come in capitals.
_SCHEMAS: Final = """
SELECT schema_name AS "schema_name" FROM information_schema.schemata
WHERE schema_name <> 'INFORMATION_SCHEMA'
ORDER BY schema_name"""
_TABLES: Final = """
SELECT table_name AS "table_name", table_type AS "table_type",
  coalesce(row_count, 0) AS "estimated_rows", coalesce(bytes, 0) AS "size_bytes"
FROM information_schema.tables
WHERE table_schema = :schema
ORDER BY table_name"""
# Which columns a key has is in no view of INFORMATION_SCHEMA.
_COLUMNS: Final = """
SELECT column_name AS "column_name", data_type AS "data_type", data_type AS "udt_name",
  is_nullable AS "is_nullable", column_default AS "column_default",
  character_maximum_length AS "character_maximum_length",
  numeric_precision AS "numeric_precision", numeric_scale AS "numeric_scale",
  ordinal_position AS "ordinal_position", FALSE AS "is_primary_key"
FROM information_schema.columns
WHERE table_schema = :schema AND table_name = :table
ORDER BY ordinal_position"""
_VIEWS: Final = """
SELECT table_name AS "view_name", view_definition AS "view_definition"
FROM information_schema.views
WHERE table_schema = :schema
ORDER BY table_name"""


def catalog_of(schema: str) -> Catalog:
    """Names are as Snowflake keeps them: in capitals where they were not quoted."""
    return Catalog(
        own_schema=schema,
        schemas=_SCHEMAS,
        tables=_TABLES,
        columns=_COLUMNS,
        constraints=None,
        indexes=None,
        views=_VIEWS,
    )
