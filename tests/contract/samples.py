"""One sample per resource with management operations: what `test_crud` needs to know of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

# There is one of this id, and a function of this name, while a sample that names it is tested.
CONNECTION_ID = "0192f0c0-0000-7000-8000-000000000001"
FUNCTION_NAME = "on_change"
SCHEMA: dict[str, Any] = {"type": "object", "properties": {"x": {"type": "integer"}}}


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """How one resource is created, found and changed.

    Attributes:
        actor: Who may do everything with it: "user" for what users own, else "admin".
        item: Path below the collection, from the answer of the creation.
        change: An update, or None where there is none.
        update_item: Path of the update and deletion, where it differs from `item`.
        duplicate: Status of a second creation, 201 where names need not be unique.
        wrong: Fields with a value of the wrong type, range or form, each 422.
        secret: Fields of the creation that no answer ever carries.
        seen_by_others: Whether the default role Users reads everybody's.
        gone: Status of a read after the deletion.
        comes_back: Whether creating it again after the deletion revives the same row.
    """

    name: str
    collection: str
    actor: Literal["user", "admin"]
    item: str
    create: Mapping[str, Any]
    change: Mapping[str, Any] | None
    wrong: tuple[tuple[str, Any], ...]
    method: Literal["PUT", "PATCH"] = "PUT"
    update_item: str | None = None
    duplicate: int = 400
    secret: tuple[str, ...] = ()
    seen_by_others: bool = False
    gone: int = 404
    comes_back: bool = False
    required: tuple[str, ...] = field(default=("name",))

    def path(self, row: Mapping[str, Any], *, update: bool = False) -> str:
        template = self.update_item if update and self.update_item else self.item
        return f"{self.collection}/{template.format(**row)}"


SAMPLES = (
    Sample(
        name="agents",
        collection="/api/v1/agents",
        actor="user",
        item="{namespace}/{name}",
        create={
            "namespace": "sales",
            "name": "helper",
            "description": "Helps",
            "system_prompt": "Be kind.",
            "temperature": 0.2,
            "enabled_functions": ["sales/lookup"],
            "input_schema": SCHEMA,
        },
        change={"description": "Helps more"},
        wrong=(
            ("name", "a/b"),
            ("name", 7),
            ("namespace", ""),
            ("temperature", "warm"),
            ("temperature", -1),
            ("max_tokens", 0),
            ("max_tokens", 2**40),
            ("enabled_functions", "sales/lookup"),
            ("enabled_functions", ["no-namespace"]),
            ("input_schema", {"type": "nonsense"}),
            ("llm_provider_id", "not-a-uuid"),
            ("is_default", "perhaps"),
        ),
        seen_by_others=True,
    ),
    Sample(
        name="collections",
        collection="/api/v1/collections",
        actor="user",
        item="{namespace}/{name}",
        create={
            "namespace": "sales",
            "name": "offers",
            "metadata_schema": SCHEMA,
            "content_filter_function": "sales/check",
            "max_file_size_mb": 5,
            "allowed_content_types": ["image/*"],
            "is_public": True,
        },
        change={"max_total_size_gb": 3},
        wrong=(
            ("name", "a/b"),
            ("name", "x" * 101),
            ("namespace", "serve"),
            ("metadata_schema", {"type": "nonsense"}),
            ("metadata_schema", []),
            ("content_filter_function", "no-namespace"),
            ("post_upload_function", "a/b/c"),
            ("max_file_size_mb", 0),
            ("max_file_size_mb", 1001),
            ("max_total_size_gb", 2**40),
            ("allowed_content_types", ["image"]),
            ("is_public", "perhaps"),
        ),
    ),
    Sample(
        name="api_keys",
        collection="/api/v1/api-keys",
        actor="user",
        item="{id}",
        create={"name": "ci", "permissions": {"sinas.users.read:own": True}},
        change=None,
        duplicate=201,
        wrong=(
            ("name", ""),
            ("name", "x" * 256),
            ("permissions", ["sinas.users.read:own"]),
            ("permissions", {"sinas.users.read:own": "perhaps"}),
            ("expires_at", "tomorrow"),
        ),
        gone=200,  # revoked keys stay to be looked at
    ),
    Sample(
        name="functions",
        collection="/api/v1/functions",
        actor="user",
        item="{namespace}/{name}",
        create={
            "namespace": "sales",
            "name": "lookup",
            "description": "Looks up",
            "code": "def handler(input_data, context):\n    return {}\n",
            "input_schema": SCHEMA,
            "output_schema": SCHEMA,
            "timeout": 20,
        },
        change={"description": "Looks up more"},
        required=("name", "code"),
        wrong=(
            ("name", "with space"),
            ("name", "a/b"),
            ("code", 7),
            ("input_schema", "{}"),
            ("timeout", 0),
            ("timeout", "soon"),
            ("shared_pool", "perhaps"),
        ),
    ),
    Sample(
        name="budgets",
        collection="/api/v1/budgets",
        actor="admin",
        item="{id}",
        method="PATCH",
        create={"name": "sales", "agent": "sales/*", "limit_tokens": 1000},
        change={"limit_tokens": 2000},
        wrong=(
            ("agent", "no-namespace"),
            ("limit_tokens", 0),
            ("limit_usd", -1),
            ("warn_at", 2),
            ("user_id", "not-a-uuid"),
        ),
    ),
    Sample(
        name="database_connections",
        collection="/api/v1/database-connections",
        actor="admin",
        item="{name}",
        update_item="{id}",
        method="PATCH",
        create={
            "name": "warehouse",
            "connection_type": "postgresql",
            "host": "db.example.com",
            "port": 5432,
            "database": "sales",
            "username": "reader",
            "password": "hunter2-hunter2",
            "ssl_mode": "verify-full",
            "config": {"max_pool_size": 4},
            "read_only": True,
        },
        change={"database": "stock"},
        secret=("password",),
        required=("name", "connection_type", "host", "port", "database", "username"),
        wrong=(
            ("name", ""),
            ("name", "a/b"),
            ("connection_type", "oracle"),
            ("host", "/var/run/postgresql"),
            ("host", "a b"),
            ("port", 0),
            ("port", 2**40),
            ("database", ""),
            ("database", "a\x00b"),
            ("username", 7),
            ("ssl_mode", "perhaps"),
            ("config", {"max_pool_size": 0}),
            ("config", {"max_pool_size": 10**9}),
            ("config", {"min_pool_size": 5, "max_pool_size": 2}),
            ("config", {"dsn": "x"}),
            ("read_only", "perhaps"),
        ),
    ),
    Sample(
        name="llm_providers",
        collection="/api/v1/llm-providers",
        actor="admin",
        item="{name}",
        update_item="{id}",
        method="PATCH",
        create={
            "name": "openai",
            "provider_type": "openai",
            "api_key": "sk-hunter2",
            "api_endpoint": "https://api.example.com/v1",
            "default_model": "m",
        },
        change={"default_model": "n"},
        secret=("api_key",),
        required=("name", "provider_type"),
        wrong=(
            ("name", ""),
            ("provider_type", "abacus"),
            ("api_endpoint", "ftp://example.com"),
            ("api_endpoint", "nonsense"),
            ("config", "{}"),
            ("is_default", "perhaps"),
        ),
    ),
    Sample(
        name="database triggers",
        collection="/api/v1/database-triggers",
        actor="admin",
        item="{name}",
        method="PATCH",
        create={
            "name": "new users",
            "database_connection_id": CONNECTION_ID,
            "schema_name": "public",
            "table_name": "users",
            "operations": ["INSERT", "UPDATE"],
            "function_namespace": "default",
            "function_name": FUNCTION_NAME,
            "poll_column": "created_at",
            "poll_interval_seconds": 5,
            "batch_size": 50,
        },
        change={"batch_size": 7},
        required=(
            "name",
            "database_connection_id",
            "table_name",
            "function_name",
            "poll_column",
        ),
        wrong=(
            ("name", "a/b"),
            ("name", ""),
            ("name", 7),
            ("database_connection_id", "main"),
            ("schema_name", ""),
            ("table_name", ""),
            ("operations", []),
            ("operations", ["DELETE"]),
            ("operations", "INSERT"),
            ("function_name", ""),
            ("poll_column", ""),
            ("poll_interval_seconds", 0),
            ("poll_interval_seconds", 3601),
            ("batch_size", 0),
            ("batch_size", 10_001),
        ),
    ),
    Sample(
        name="queries",
        collection="/api/v1/queries",
        actor="admin",  # the default role Users makes none
        item="{namespace}/{name}",
        create={
            "namespace": "sales",
            "name": "orders",
            "description": "Orders of a day",
            "database_connection_id": CONNECTION_ID,
            "operation": "read",
            "sql": "SELECT * FROM orders WHERE day = :day",
            "input_schema": SCHEMA,
            "output_schema": SCHEMA,
            "timeout_ms": 1000,
            "max_rows": 10,
        },
        change={"sql": "SELECT * FROM orders"},
        required=("name", "database_connection_id", "operation", "sql"),
        wrong=(
            ("name", "a/b"),
            ("name", 7),
            ("namespace", ""),
            ("database_connection_id", "not-a-uuid"),
            ("operation", "perhaps"),
            ("sql", ""),
            ("sql", "SELECT 'a\x00b'"),
            ("input_schema", {"type": "nonsense"}),
            ("output_schema", "{}"),
            ("timeout_ms", 0),
            ("timeout_ms", 2**40),
            ("max_rows", 0),
            ("max_rows", 2**40),
        ),
    ),
    Sample(
        name="roles",
        collection="/api/v1/roles",
        actor="admin",
        item="{name}",
        method="PATCH",
        create={"name": "Editors", "description": "Edit", "email_domain": "example.org"},
        change={"description": "Edit more"},
        wrong=(("name", ""), ("name", 7), ("description", 7), ("email_domain", "not a domain")),
    ),
    Sample(
        name="schedules",
        collection="/api/v1/schedules",
        actor="user",
        item="{name}",
        method="PATCH",
        create={
            "name": "every morning",
            "schedule_type": "agent",
            "target_namespace": "default",
            "target_name": "default",
            "description": "Greets",
            "cron_expression": "0 9 * * MON-FRI",
            "timezone": "Europe/Berlin",
            "input_data": {"x": 1},
            "content": "Good morning",
        },
        change={"description": "Greets again"},
        required=("name", "target_name", "cron_expression"),
        wrong=(
            ("name", "a/b"),
            ("name", ""),
            ("name", 7),
            ("schedule_type", "pipeline"),
            ("target_namespace", "a-b"),
            ("target_name", ""),
            ("cron_expression", "@hourly"),
            ("cron_expression", "0 0 9 * * *"),
            ("cron_expression", "61 * * * *"),
            ("timezone", "Mars/Base"),
            ("input_data", "{}"),
            ("content", ""),
            ("allow_overlap", "perhaps"),
        ),
    ),
    Sample(
        name="secrets",
        collection="/api/v1/secrets",
        actor="admin",  # of shared ones; private ones are in the slice's own tests
        item="{name}",
        create={"name": "API_KEY", "value": "hunter2-hunter2", "description": "Weather"},
        change={"description": "Wind"},
        duplicate=201,  # storing again replaces the value
        secret=("value",),
        seen_by_others=True,
        required=("name", "value"),
        wrong=(
            ("name", "with-hyphen"),
            ("name", 7),
            ("value", ""),
            ("value", 7),
            ("description", 7),
            ("visibility", "public"),
        ),
    ),
    Sample(
        name="skills",
        collection="/api/v1/skills",
        actor="user",
        item="{namespace}/{name}",
        create={
            "namespace": "sales",
            "name": "return-policy",
            "description": "How returns work",
            "content": "# Returns\n\nWithin 30 days.",
        },
        change={"content": "# Returns\n\nWithin 60 days."},
        required=("name", "description", "content"),
        wrong=(
            ("name", "a/b"),
            ("name", "1st"),
            ("name", "x" * 256),
            ("name", 7),
            ("namespace", ""),
            ("description", ""),
            ("description", 7),
            ("content", ""),
            ("content", ["text"]),
        ),
    ),
    Sample(
        name="stores",
        collection="/api/v1/stores",
        actor="user",
        item="{namespace}/{name}",
        create={
            "namespace": "sales",
            "name": "notes",
            "description": "Notes",
            "schema": SCHEMA,
            "strict": True,
            "default_visibility": "shared",
        },
        change={"description": "More notes"},
        wrong=(
            ("name", "a/b"),
            ("name", "1st"),
            ("name", "x" * 101),
            ("namespace", "y" * 101),
            ("description", 7),
            ("schema", "{}"),
            ("schema", {"properties": {"x": {"type": "nonsense"}}}),
            ("strict", "perhaps"),
            ("default_visibility", "public"),
            ("encrypted", "perhaps"),
        ),
    ),
    Sample(
        name="users",
        collection="/api/v1/users",
        actor="admin",
        item="{id}",
        method="PATCH",
        create={"email": "someone@example.org"},
        change={"is_active": False},
        duplicate=409,
        gone=200,  # deactivated: others' records point at the row
        comes_back=True,
        required=("email",),
        wrong=(("email", "nobody"), ("email", 7), ("email", "")),
    ),
    Sample(
        name="webhooks",
        collection="/api/v1/webhooks",
        actor="user",
        item="{path}",
        method="PATCH",
        create={
            "path": "orders/new",
            "target_type": "agent",
            "agent_namespace": "default",
            "agent_name": "default",
            "http_method": "PUT",
            "description": "Takes orders",
            "default_values": {"x": 1},
            "requires_auth": False,
            "response_mode": "async",
            "dedup": {"key": "$.id", "ttl_seconds": 60},
            "message_template": "Order {{ id }}",
        },
        change={"description": "Takes more orders"},
        required=("path",),
        wrong=(
            ("path", "with space"),
            ("path", ""),
            ("path", 7),
            ("target_type", "pipeline"),
            ("agent_name", ""),
            ("http_method", "HEAD"),
            ("default_values", "{}"),
            ("requires_auth", "perhaps"),
            ("response_mode", "raw"),
            ("dedup", {"key": "id"}),
            ("signature", {"secret": "KEY"}),
            ("message_template", "{{ id"),
        ),
    ),
)
