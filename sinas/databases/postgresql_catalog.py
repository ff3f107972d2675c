"""What PostgreSQL's catalogs say, as the connection's role may see it."""

from typing import Final

from sinas.databases.base import Catalog

_SCHEMAS: Final = """
SELECT nspname AS schema_name FROM pg_catalog.pg_namespace
WHERE nspname NOT LIKE 'pg\\_%' AND nspname <> 'information_schema'
  AND pg_catalog.has_schema_privilege(oid, 'USAGE')
ORDER BY nspname"""
_TABLES: Final = """
SELECT c.relname AS table_name,
  CASE c.relkind WHEN 'f' THEN 'FOREIGN' WHEN 'v' THEN 'VIEW' WHEN 'm' THEN 'MATERIALIZED VIEW'
    ELSE 'BASE TABLE' END AS table_type,
  greatest(c.reltuples, 0)::bigint AS estimated_rows,
  pg_catalog.pg_total_relation_size(c.oid) AS size_bytes
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = :schema AND c.relkind IN ('r', 'p', 'f', 'v', 'm')
  AND pg_catalog.has_table_privilege(c.oid, 'SELECT')
ORDER BY c.relname"""
_COLUMNS: Final = """
SELECT c.column_name, c.data_type, c.udt_name, c.is_nullable,
  c.column_default, c.character_maximum_length, c.numeric_precision, c.numeric_scale,
  c.ordinal_position,
  EXISTS (
    SELECT FROM pg_catalog.pg_constraint k
    JOIN pg_catalog.pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = ANY (k.conkey)
    WHERE k.contype = 'p' AND a.attname = c.column_name AND k.conrelid =
      pg_catalog.to_regclass(pg_catalog.format('%I.%I', c.table_schema, c.table_name))
  ) AS is_primary_key
FROM information_schema.columns c
WHERE c.table_schema = :schema AND c.table_name = :table
ORDER BY c.ordinal_position"""
_CONSTRAINTS: Final = """
SELECT k.conname AS constraint_name,
  CASE k.contype WHEN 'p' THEN 'PRIMARY KEY' WHEN 'f' THEN 'FOREIGN KEY' WHEN 'u' THEN 'UNIQUE'
    WHEN 'c' THEN 'CHECK' WHEN 'n' THEN 'NOT NULL' WHEN 'x' THEN 'EXCLUDE'
    ELSE k.contype::text END AS constraint_type,
  ARRAY(SELECT a.attname::text FROM unnest(k.conkey) WITH ORDINALITY u(num, pos)
    JOIN pg_catalog.pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = u.num
    ORDER BY u.pos) AS columns,
  pg_catalog.pg_get_constraintdef(k.oid) AS definition,
  rn.nspname AS ref_schema, r.relname AS ref_table,
  ARRAY(SELECT a.attname::text FROM unnest(k.confkey) WITH ORDINALITY u(num, pos)
    JOIN pg_catalog.pg_attribute a ON a.attrelid = k.confrelid AND a.attnum = u.num
    ORDER BY u.pos) AS ref_columns
FROM pg_catalog.pg_constraint k
JOIN pg_catalog.pg_class c ON c.oid = k.conrelid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_catalog.pg_class r ON r.oid = k.confrelid
LEFT JOIN pg_catalog.pg_namespace rn ON rn.oid = r.relnamespace
WHERE n.nspname = :schema AND c.relname = :table
ORDER BY k.conname"""
_INDEXES: Final = """
SELECT indexname AS index_name, indexdef AS definition FROM pg_catalog.pg_indexes
WHERE schemaname = :schema AND tablename = :table ORDER BY indexname"""
_VIEWS: Final = """
SELECT viewname AS view_name, definition AS view_definition FROM pg_catalog.pg_views
WHERE schemaname = :schema AND pg_catalog.has_table_privilege(
  pg_catalog.format('%I.%I', schemaname, viewname), 'SELECT')
ORDER BY viewname"""

CATALOG: Final = Catalog(
    own_schema="public",
    schemas=_SCHEMAS,
    tables=_TABLES,
    columns=_COLUMNS,
    constraints=_CONSTRAINTS,
    indexes=_INDEXES,
    views=_VIEWS,
)
