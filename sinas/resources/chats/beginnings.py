"""What a chat begins with: its agent's input, and the agent's initial messages."""

import asyncio
from typing import Any
from uuid import UUID

import structlog

from sinas.errors import BadRequestError, FieldError
from sinas.kit.ids import uuid7
from sinas.kit.json_types import JsonObject
from sinas.kit.jsonschema import compile_schema
from sinas.kit.templates import MAX_KEPT_CHARS, TemplateError, render
from sinas.models import Agent

log = structlog.get_logger(__name__)


def validated_input(agent: Agent, given: JsonObject | None) -> JsonObject:
    """The input as the chat keeps it. Not checked where none is given, or no schema is set.

    What is left out of one that is given has the default of the schema's property, as templates
    would otherwise ask for what is not there.

    Raises:
        BadRequestError: It does not match the agent's input schema.
    """
    if given is None or not agent.input_schema:
        return given or {}
    schema = compile_schema(agent.input_schema)
    coerced = schema.coerce(given)
    violations = schema.violations(coerced)
    if violations:
        errors = [
            FieldError(".".join(["input", *(str(p) for p in v.path)]), v.message)
            for v in violations
        ]
        raise BadRequestError(f"Input validation failed: {violations[0].message}", errors)
    return (_defaults(agent.input_schema) if coerced else {}) | coerced


def _defaults(schema: JsonObject) -> JsonObject:
    properties = schema.get("properties")
    if not isinstance(properties, dict):
        return {}
    return {
        name: each["default"]
        for name, each in properties.items()
        if isinstance(each, dict) and "default" in each
    }


def chat_columns(
    agent: Agent,
    user_id: UUID,
    agent_input: JsonObject,
    *,
    keep_alive: bool | None = None,
    job_timeout: int | None = None,
    **others: Any,
) -> dict[str, Any]:
    """Columns of a new chat: what is not given is the agent's own setting."""
    return {
        "id": uuid7(),
        "user_id": user_id,
        "agent_id": agent.id,
        "agent_namespace": agent.namespace,
        "agent_name": agent.name,
        "agent_input": agent_input,
        "archived": False,
        "keep_alive": agent.default_keep_alive or None if keep_alive is None else keep_alive,
        "job_timeout": job_timeout or agent.default_job_timeout,
        **others,
    }


async def initial_messages(
    agent: Agent, chat_id: UUID, agent_input: JsonObject
) -> list[dict[str, Any]]:
    """Columns of the messages a new chat has before anybody said anything, in order."""
    return [
        {
            "id": uuid7(),
            "chat_id": chat_id,
            "role": message["role"],
            "content": await _filled(message["content"], agent_input),
        }
        for message in agent.initial_messages or []
    ]


async def _filled(content: str, agent_input: JsonObject) -> str:
    """An initial message; as it is where the chat's input does not fit its template."""
    if not agent_input:
        return content
    try:
        if len(content) > MAX_KEPT_CHARS:
            return await asyncio.to_thread(render, content, agent_input)
        return render(content, agent_input)
    except TemplateError as error:
        log.warning("chats.initial_message_not_rendered", error=error.message)
        return content
