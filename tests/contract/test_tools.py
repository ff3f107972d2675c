"""What any provider offers a model: names and schemas every upstream accepts."""

import re
from uuid import uuid4

from jsonschema import Draft202012Validator

from sinas.context import AppContext
from sinas.registry import RESOURCES
from sinas.tools.base import ToolContext
from tests.factories.chats import make_agent
from tests.factories.connectors import make_connector
from tests.factories.files import make_collection
from tests.factories.functions import make_function
from tests.factories.identity import make_user
from tests.factories.memory import make_skill, make_store

SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string", "enum": ["Ünna", "b"]}, "n": {"type": "integer"}},
    "required": ["city"],
}


async def test_every_tool_is_callable_by_a_model(context: AppContext) -> None:
    """OpenAI takes names of `[a-zA-Z0-9_-]{1,64}` and a JSON Schema of type object."""
    owner = await make_user(context)
    # As long as names may be, and two that are one when joined.
    odd = [("a", "short"), ("a", "x" * 255), ("y" * 255, "b"), ("a__b", "c"), ("a", "b__c")]
    for namespace, name in odd:
        await make_function(context, owner, namespace=namespace, name=name, input_schema=SCHEMA)
        await make_skill(context, owner, namespace=namespace, name=name)
    await make_store(context, owner, namespace="a", name="notes")
    for namespace, name in odd:
        await make_connector(
            context, owner, namespace=namespace, name=name, operations=("do", "x" * 100)
        )
    for namespace, name in (("a", "x" * 100), ("a_b", "c"), ("a", "b_c")):
        await make_collection(context, owner, namespace=namespace, name=name)
    enabled = [f"{namespace}/{name}" for namespace, name in odd]
    agent = await make_agent(
        context,
        owner,
        enabled_functions=enabled,
        enabled_skills=[{"skill": reference, "preload": False} for reference in enabled],
        enabled_connectors=[{"connector": reference} for reference in enabled],
        enabled_collections=[{"collection": "*/*", "access": "readwrite"}],
        enabled_stores=[{"store": "a/notes", "access": "readwrite"}],
    )
    principal = await context.authenticator.by_user(owner.id)
    call = ToolContext(principal=principal, chat_id=uuid4(), agent_input={})
    providers = [resource.tools(context) for resource in RESOURCES if resource.tools is not None]
    assert len({provider.kind for provider in providers}) == len(providers) > 0
    async with context.unit() as unit:
        tools = [t for p in providers for t in await p.offer(agent, call, unit.session)]
    assert len(tools) >= 4 * len(odd) + 4 + 3 * 5
    assert len({tool.name for tool in tools}) == len(tools)
    for tool in tools:
        assert re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", tool.name), tool.name
        assert tool.description.strip(), tool.name
        assert tool.parameters.get("type") == "object", tool.name
        Draft202012Validator.check_schema(tool.parameters)
        assert tool.schema()["type"] == "function"
