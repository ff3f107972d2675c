"""A function whose effect can be counted: each time it runs, it makes an agent of another name."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING
from uuid import UUID

from sqlalchemy import select

if TYPE_CHECKING:
    from sinas.context import AppContext

# It sleeps for `seconds` after its effect.
CODE = """\
import json, time, urllib.request

def handler(input_data, context):
    name = "e" + context["execution_id"].replace("-", "") + "_" + uuid.uuid4().hex
    body = json.dumps({"namespace": "effect", "name": name}).encode()
    headers = {"Authorization": "Bearer " + context["access_token"],
               "Content-Type": "application/json"}
    where = context["api_url"] + "/api/v1/agents"
    urllib.request.urlopen(urllib.request.Request(where, body, headers)).read()
    time.sleep(input_data.get("seconds", 0.4))
    return {"found": 7}
"""


async def effects(context: AppContext) -> Counter[UUID]:
    """How often the code of each execution had its effect."""
    from sinas.models import Agent

    async with context.sessions() as session:
        names = await session.scalars(select(Agent.name).where(Agent.namespace == "effect"))
        return Counter(UUID(name[1:33]) for name in names)
