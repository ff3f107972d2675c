"""Answers of a fixed form through the adapter: the client gets JSON that it can parse, or an error."""

from __future__ import annotations

from typing import Any

import openai
import orjson
import pytest
from pydantic import BaseModel

from tests.adapters.openai.support import HELLO, Clients
from tests.factories.functions import make_function
from tests.support.llm_script import Answer, Call

pytestmark = pytest.mark.usefixtures("agent_worker", "function_worker")
BOT = "agent:shop/bot"
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"number": {"type": "integer"}},
    "required": ["number"],
}
GOOD = Answer(chunks=('{"number"', ": 7}"))
FENCED = Answer(chunks=("```json\n", '{"number": 7}', "\n```"))
PROSE = Answer(chunks=("It is ", "seven."))
LOOK = Answer(chunks=("Let me look.",), calls=(Call("shop__echo"),))


class Order(BaseModel):
    number: int


async def serving(clients: Clients, *answers: Answer, **agent: Any) -> openai.AsyncOpenAI:
    await clients.agent(model="m", **agent)
    clients.llm.script("m", list(answers), by="call")
    return await clients("user")


async def streamed(client: openai.AsyncOpenAI, **options: Any) -> str:
    stream = await client.chat.completions.create(model=BOT, messages=HELLO, stream=True, **options)
    return "".join([c.choices[0].delta.content or "" async for c in stream if c.choices])


@pytest.mark.parametrize("answers", [(GOOD,), (FENCED,), (PROSE, GOOD), (LOOK, PROSE, FENCED)])
@pytest.mark.parametrize("stream", [True, False])
async def test_the_text_is_the_json_of_the_agents_schema(
    clients: Clients, answers: tuple[Answer, ...], stream: bool
) -> None:
    user = await clients.as_.user("user")
    await make_function(clients.context, user, namespace="shop", name="echo")
    client = await serving(clients, *answers, output_schema=SCHEMA, enabled_functions=["shop/echo"])
    if stream:
        text = await streamed(client)
    else:
        found = await client.chat.completions.create(model=BOT, messages=HELLO)
        text = found.choices[0].message.content or ""
    assert orjson.loads(text) == {"number": 7}


async def test_the_sdk_parses_a_stream(clients: Clients) -> None:
    client = await serving(clients, PROSE, GOOD)
    async with client.chat.completions.stream(
        model=BOT, messages=HELLO, response_format=Order
    ) as stream:
        final = await stream.get_final_completion()
    assert final.choices[0].message.parsed == Order(number=7)


async def test_an_answer_without_the_form_is_an_error(clients: Clients) -> None:
    client = await serving(clients, PROSE, output_schema=SCHEMA)
    with pytest.raises(openai.InternalServerError, match="output_schema") as caught:
        await client.chat.completions.create(model=BOT, messages=HELLO)
    assert caught.value.status_code == 502
    with pytest.raises(openai.APIError, match="output_schema"):
        await streamed(client)


async def test_json_of_any_form_is_checked_too(clients: Clients) -> None:
    client = await serving(clients, PROSE, GOOD)
    found = await client.chat.completions.create(
        model=BOT, messages=HELLO, response_format={"type": "json_object"}
    )
    assert orjson.loads(found.choices[0].message.content or "") == {"number": 7}


async def test_a_hooks_reply_is_the_completion(clients: Clients) -> None:
    await make_function(
        clients.context,
        await clients.as_.user("user"),
        namespace="hooks",
        name="block",
        code="def handler(input_data, context):\n    return {'block': True, 'reply': 'No.'}\n",
        output_schema={},
    )
    client = await serving(clients, GOOD, hooks={"on_user_message": [{"function": "hooks/block"}]})
    found = await client.chat.completions.create(model=BOT, messages=HELLO)
    assert found.choices[0].message.content == "No."
    assert await streamed(client) == "No."
    assert not clients.llm.requests
