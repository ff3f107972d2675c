"""One of everything, owned by one user, and how to call each operation on it."""

from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import httpx
from sqlalchemy import text

from sinas.context import AppContext
from sinas.kit.time import utcnow
from sinas.models import ExecutionStatus, ToolCall, ToolCallStatus, TurnStatus, User
from sinas.queue.job import Queue
from sinas.queue.lease import living_workers
from tests.contract.routes import Operation
from tests.factories.artifacts import make_artifact, make_dependency
from tests.factories.batches import make_batch
from tests.factories.chats import make_agent, make_chat, make_message, make_turn
from tests.factories.connectors import make_connector
from tests.factories.databases import make_annotation, make_connection, make_query
from tests.factories.files import make_collection, make_file
from tests.factories.functions import make_execution, make_function
from tests.factories.identity import make_api_key, make_role
from tests.factories.llm import make_provider
from tests.factories.memory import make_skill, make_state, make_store
from tests.factories.schedules import make_schedule
from tests.factories.secrets import make_secret
from tests.factories.templates import make_template
from tests.factories.triggers import make_trigger
from tests.factories.usage import make_budget
from tests.factories.webhooks import make_delivery, make_webhook

# In every text that is the owner's alone; found in somebody else's answer, it is a leak.
MARK = "4f1c-only-for-its-owner"
NAMESPACE = "world"
SCHEMA: dict[str, Any] = {"type": "object", "properties": {}}
CODE = f"def handler(input_data, context):\n    return {{'mark': '{MARK}'}}\n"
# With a space in front: what begins with a brace is filled in.
DOCUMENT = ' {"openapi": "3.0.3", "info": {"title": "T", "version": "1"}, "paths": {}}'

MAIL = {"to": "someone@example.com", "variables": {}}

# A body each operation accepts. `{owner}` and the like are filled from the world's parameters.
BODIES: dict[tuple[str, str], dict[str, Any]] = {
    ("POST", "/api/v1/agents"): {"namespace": NAMESPACE, "name": "new"},
    ("POST", "/api/v1/api-keys"): {"name": "new"},
    ("POST", "/api/v1/budgets"): {"name": "new", "limit_tokens": 1000},
    ("POST", "/api/v1/collections"): {"namespace": NAMESPACE, "name": "new"},
    ("POST", "/api/v1/connectors"): {
        "namespace": NAMESPACE,
        "name": "new",
        "base_url": "https://example.com",
    },
    ("POST", "/api/v1/connectors/parse-openapi"): {"spec": DOCUMENT},
    ("POST", "/api/v1/connectors/{namespace}/{name}/import-openapi"): {"spec": DOCUMENT},
    ("POST", "/api/v1/connectors/{namespace}/{name}/test/{operation_name}"): {"parameters": {}},
    ("POST", "/api/v1/containers/scale"): {"target": 1},
    ("POST", "/api/v1/dependencies"): {"package_name": "new"},
    ("POST", "/api/v1/database-connections"): {
        "name": "new",
        "connection_type": "postgresql",
        "host": "127.0.0.1",
        "port": 1,
        "database": "new",
        "username": "new",
    },
    ("POST", "/api/v1/database-connections/test"): {
        "connection_type": "postgresql",
        "host": "127.0.0.1",
        "port": 1,
        "database": "new",
        "username": "new",
    },
    ("POST", "/api/v1/database-connections/{name}/tables"): {
        "table_name": "users",
        "columns": [{"name": "a", "type": "int"}],
        "if_not_exists": True,
    },
    ("PATCH", "/api/v1/database-connections/{name}/tables/{table}"): {
        "rename_columns": {"nowhere": "b"}
    },
    ("POST", "/api/v1/database-connections/{name}/views"): {"name": "users", "sql": "SELECT 1"},
    ("POST", "/api/v1/database-connections/{name}/tables/{table}/rows"): {"rows": [{"nowhere": 1}]},
    ("PATCH", "/api/v1/database-connections/{name}/tables/{table}/rows"): {
        "where": {"nowhere": 1},
        "set_values": {"nowhere": 1},
    },
    ("DELETE", "/api/v1/database-connections/{name}/tables/{table}/rows"): {
        "where": {"nowhere": 1}
    },
    ("PUT", "/api/v1/database-connections/{name}/annotations"): {
        "annotations": [{"table_name": "new", "description": "new"}]
    },
    ("POST", "/api/v1/queries"): {
        "namespace": NAMESPACE,
        "name": "new",
        "database_connection_id": "{connection_id}",
        "operation": "read",
        "sql": "SELECT 1",
    },
    ("POST", "/api/v1/functions"): {
        "namespace": NAMESPACE,
        "name": "new",
        "code": CODE,
        "input_schema": SCHEMA,
        "output_schema": SCHEMA,
    },
    ("POST", "/api/v1/llm-providers"): {"name": "new", "provider_type": "openai"},
    ("POST", "/api/v1/roles"): {"name": "new"},
    ("POST", "/api/v1/roles/{name}/members"): {"user_id": "{user_id}"},
    ("POST", "/api/v1/roles/{name}/permissions"): {
        "permission_key": "sinas.agents.read:own",
        "permission_value": True,
    },
    ("POST", "/api/v1/database-triggers"): {
        "name": "new",
        "database_connection_id": "{connection_id}",
        "table_name": "users",
        "function_namespace": NAMESPACE,
        "function_name": "function",
        "poll_column": "created_at",
    },
    ("POST", "/api/v1/database-triggers/{name}/reset"): {"position": "now"},
    ("POST", "/api/v1/schedules"): {
        "name": "new",
        "target_namespace": NAMESPACE,
        "target_name": "function",
        "cron_expression": "0 9 * * *",
    },
    ("POST", "/api/v1/secrets"): {"name": "NEW", "value": "x", "visibility": "private"},
    ("POST", "/api/v1/skills"): {
        "namespace": NAMESPACE,
        "name": "new",
        "description": "Text",
        "content": "Text",
    },
    ("POST", "/api/v1/stores"): {"namespace": NAMESPACE, "name": "new"},
    ("POST", "/api/v1/templates"): {
        "namespace": NAMESPACE,
        "name": "new",
        "html_content": "<p>Text</p>",
    },
    ("POST", "/templates/{namespace}/{name}/email"): MAIL,
    ("POST", "/templates/{template_id}/send"): MAIL,
    ("POST", "/api/v1/users"): {"email": "new@example.com"},
    ("POST", "/api/v1/webhooks"): {
        "path": "new",
        "function_namespace": NAMESPACE,
        "function_name": "function",
    },
    ("POST", "/api/v1/workers/scale"): {"target_count": 1},
    ("POST", "/agents/{namespace}/{agent_name}/chats/batch"): {"inputs": [{"message": "hello"}]},
    ("POST", "/adapters/openai/v1/chat/completions"): {
        "model": f"agent:{NAMESPACE}/agent",
        "messages": [{"role": "user", "content": "hello"}],
    },
    ("POST", "/agents/{namespace}/{agent_name}/invoke"): {"message": "hello"},
    ("POST", "/chats/{chat_id}/messages"): {"content": "hello"},
    ("POST", "/chats/{chat_id}/messages/stream"): {"content": "hello"},
    ("POST", "/chats/{chat_id}/approve-tool/{tool_call_id}"): {"approved": False},
    ("POST", "/chats/{chat_id}/pending-input/{tool_call_id}"): {"answer": "x"},
    ("POST", "/executions/{execution_id}/continue"): {"input": {"value": "hello"}},
    ("POST", "/files/{namespace}/{collection}"): {
        "name": "new.txt",
        "content_base64": "aGVsbG8=",
        "content_type": "text/plain",
    },
    ("PATCH", "/files/{namespace}/{collection}/{filename}"): {"file_metadata": {}},
    ("POST", "/functions/{namespace}/{name}/execute/batch"): {"inputs": [{}]},
    ("POST", "/states"): {"namespace": NAMESPACE, "key": "new", "value": 1},
    ("POST", "/stores/{namespace}/{name}/states"): {"key": "new", "value": 1},
    ("POST", "/auth/check-permissions"): {"permissions": ["sinas.agents.read:own"]},
    ("POST", "/auth/login"): {"email": "owner@example.com"},
    ("POST", "/auth/external-auth"): {"token": "a.b.c"},
    ("POST", "/auth/verify-otp"): {"session_id": str(uuid4()), "otp_code": "000000"},
    ("POST", "/auth/refresh"): {"refresh_token": "none"},
    ("POST", "/auth/logout"): {"refresh_token": "none"},
}
QUERIES: dict[tuple[str, str], dict[str, str]] = {
    ("DELETE", "/api/v1/roles/{name}/permissions"): {"permission_key": "sinas.agents.read:own"},
    ("DELETE", "/api/v1/secrets/{name}"): {"visibility": "private"},
}


@dataclass(frozen=True, slots=True)
class World:
    """Values of path parameters: `by_prefix` for those that mean different things."""

    parameters: dict[str, str]
    by_prefix: dict[str, dict[str, str]]

    def values(self, operation: Operation) -> dict[str, str]:
        values = dict(self.parameters)
        for prefix, special in self.by_prefix.items():
            if f"{operation.mount}{operation.path}".startswith(prefix):
                values |= special
        return values

    async def call(self, client: httpx.AsyncClient, operation: Operation) -> httpx.Response:
        """Call one operation on the world's rows."""
        values = self.values(operation)
        key = (operation.method, f"{operation.mount}{operation.path}")
        body = BODIES.get(key, {})
        filled = {
            name: value.format(**values) if isinstance(value, str) and value[:1] == "{" else value
            for name, value in body.items()
        }
        return await client.request(
            operation.method,
            f"{operation.mount}{operation.path.format(**values)}",
            params=QUERIES.get(key),
            json=filled if "requestBody" in operation.spec else None,
        )


def nowhere() -> World:
    """The parameters of rows that do not exist."""
    ids = (
        *("artifact_id", "chat_id", "dependency_id", "execution_id", "job_id", "key_id"),
        *(
            "connection_id",
            "provider_id",
            "user_id",
            "batch_id",
            "budget_id",
            "delivery_id",
            "state_id",
            "template_id",
        ),
    )
    names = (
        "namespace",
        "name",
        "container_name",
        "agent_name",
        "channel_id",
        "tool_call_id",
        "path",
        "key",
        "model_id",
        "table",
        "view",
        "collection",
        "filename",
        "token",
        "operation_name",
    )
    return World({**{key: str(uuid4()) for key in ids}, **dict.fromkeys(names, "nowhere")}, {})


async def _some_container(context: AppContext) -> str:
    """A sandbox of a function worker, if one runs."""
    async with context.sessions() as session:
        worker = await session.scalar(living_workers(Queue.FUNCTIONS))
    if worker is None:
        return "nowhere"
    sandbox: Any = worker.info["sandbox"]
    return str(sandbox["idle"][0]["name"])


async def build(context: AppContext, owner: User, *, endpoint: str | None = None) -> World:
    """Make one of everything for `owner`; models answer at `endpoint`."""
    provider = await make_provider(context, endpoint, config={"note": MARK})
    agent = await make_agent(
        context, owner, provider=provider, namespace=NAMESPACE, name="agent", model="echo"
    )
    function = await make_function(
        context, owner, CODE, namespace=NAMESPACE, name="function", description=MARK
    )
    chat = await make_chat(context, owner, agent, title=MARK)
    turn = await make_turn(
        context,
        chat,
        TurnStatus.COMPLETED,
        error=MARK,
        finished_at=utcnow(),
        channel_id=f"c-{MARK}",
    )
    message = await make_message(context, chat, "assistant", MARK, turn_id=turn.id)
    async with context.unit() as unit:
        unit.session.add(
            ToolCall(
                turn_id=turn.id,
                chat_id=chat.id,
                message_id=message.id,
                user_id=owner.id,
                position=0,
                call_id="call-1",
                name="tool",
                arguments="{}",
                description=MARK,
                status=ToolCallStatus.DONE,
            )
        )
    execution = await make_execution(
        context,
        function,
        status=ExecutionStatus.COMPLETED,
        input_data={"note": MARK},
        output_data=MARK,
        chat_id=chat.id,
        completed_at=utcnow(),
    )
    schedule = await make_schedule(context, owner, function, description=MARK)
    secret = await make_secret(context, owner, MARK, name="WORLDS", description=MARK)
    batch = await make_batch(context, function, trigger_id_prefix=MARK)
    webhook = await make_webhook(
        context, owner, function, path="worlds/hook", description=MARK, requires_auth=True
    )
    delivery = await make_delivery(context, webhook, query=MARK)
    dead = await make_execution(
        context,
        function,
        status=ExecutionStatus.FAILED,
        input_data={"note": MARK},
        error=MARK,
        completed_at=utcnow(),
        dead_lettered_at=utcnow(),
    )
    budget = await make_budget(context)
    artifact = await make_artifact(context, chat, MARK, MARK.encode())
    dependency = await make_dependency(context)
    connection = await make_connection(context, name="worlds-database")
    trigger = await make_trigger(context, owner, connection, function, error_message=MARK)
    # A table of its own: the connection leads to the platform's database, and one is dropped.
    async with context.unit() as unit:
        await unit.session.execute(text("CREATE TABLE IF NOT EXISTS worlds_table (a int)"))
    await make_annotation(context, connection, "worlds_table", description=MARK)
    query = await make_query(
        context, owner, connection, f"SELECT '{MARK}' AS mark", namespace=NAMESPACE, name="query"
    )
    skill = await make_skill(context, owner, MARK, namespace=NAMESPACE, name="skill")
    # As `/states` makes it; other users keep states in it too.
    store = await make_store(context, owner, namespace=NAMESPACE, name="default", description=MARK)
    state = await make_state(context, store, owner, "key", {"note": MARK})
    collection = await make_collection(context, owner, namespace=NAMESPACE, name="files")
    file = await make_file(context, collection, owner, "note.txt", MARK.encode())
    template = await make_template(
        context, owner, MARK, namespace=NAMESPACE, name="template", description=MARK
    )
    connector = await make_connector(
        context, owner, namespace=NAMESPACE, name="connector", description=MARK
    )
    role = await make_role(context, ["sinas.agents.read:own"], name="worlds-role")
    key, _ = await make_api_key(context, owner, permissions={f"custom.{MARK}.read:own": True})
    return World(
        {
            "namespace": NAMESPACE,
            "agent_name": agent.name,
            "model_id": f"agent:{NAMESPACE}/{agent.name}",
            "artifact_id": str(artifact.id),
            "chat_id": str(chat.id),
            "dependency_id": str(dependency.id),
            "channel_id": turn.channel_id,
            "tool_call_id": "call-1",
            "execution_id": str(execution.id),
            "job_id": str(execution.id),
            "key_id": str(key.id),
            "provider_id": str(provider.id),
            "user_id": str(owner.id),
            "batch_id": str(batch.id),
            "budget_id": str(budget.id),
            "delivery_id": str(delivery.id),
            "path": webhook.path,
            "key": state.key,
            "collection": collection.name,
            "filename": file.name,
            # Without a signature: who has an address that is signed needs no other right.
            "token": str(file.id),
            "operation_name": "do",
            "state_id": str(state.id),
            "template_id": str(template.id),
            "connection_id": str(connection.id),
            "table": "worlds_table",
            "view": "no-view",
            "container_name": await _some_container(context),
            "name": "nowhere",
        },
        {
            "/api/v1/agents": {"name": agent.name},
            "/api/v1/database-connections": {"name": connection.name},
            "/api/v1/collections": {"name": collection.name},
            "/api/v1/connectors": {"name": connector.name},
            "/api/v1/functions": {"name": function.name},
            "/functions": {"name": function.name},
            "/api/v1/llm-providers": {"name": provider.name},
            "/api/v1/queries": {"name": query.name},
            "/queries": {"name": query.name},
            "/api/v1/queue/dlq": {"job_id": str(dead.id)},
            "/api/v1/roles": {"name": role.name},
            "/api/v1/database-triggers": {"name": trigger.name},
            "/api/v1/schedules": {"name": schedule.name},
            "/api/v1/secrets": {"name": secret.name},
            "/api/v1/skills": {"name": skill.name},
            "/api/v1/stores": {"name": store.name},
            "/stores": {"name": store.name},
            "/api/v1/templates": {"name": template.name},
            "/templates": {"name": template.name},
        },
    )
