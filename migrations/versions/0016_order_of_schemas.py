"""JSON Schemas keep the order of their properties, in which models write and people read.

Revision ID: 0016
Revises: 0015
"""

from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

# Tables, their columns, and the default that there was. It goes: the application has it, and the
# check that models and database agree cannot compare JSON.
_COLUMNS = (
    ("agents", "input_schema", "'{}'"),
    ("agents", "output_schema", "'{}'"),
    ("functions", "input_schema", None),
    ("functions", "output_schema", None),
    ("function_versions", "input_schema", None),
    ("function_versions", "output_schema", None),
    ("queries", "input_schema", "'{}'"),
    ("queries", "output_schema", "'{}'"),
    ("templates", "variable_schema", "'{}'"),
    ("turns", "overrides", None),
)


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    for table, column, default in _COLUMNS:
        if default is not None:
            op.execute(f"ALTER TABLE {table} ALTER COLUMN {column} DROP DEFAULT")
        op.execute(f"ALTER TABLE {table} ALTER COLUMN {column} TYPE json USING {column}::json")


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    for table, column, default in _COLUMNS:
        op.execute(f"ALTER TABLE {table} ALTER COLUMN {column} TYPE jsonb USING {column}::jsonb")
        if default is not None:
            op.execute(f"ALTER TABLE {table} ALTER COLUMN {column} SET DEFAULT {default}")
