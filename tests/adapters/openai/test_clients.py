"""Other clients of OpenAI's API: its Node SDK, and litellm."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.adapters.openai.support import HELLO, Clients
from tests.support.llm_script import Answer

if TYPE_CHECKING:
    from sinas.llm.litellm_client import LitellmClient

NODE = Path(__file__).parents[1] / "node"
pytestmark = pytest.mark.usefixtures("agent_worker")


@pytest.fixture(scope="session")
async def node_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The smoke test with its dependency installed as its lock file says."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("NOT TESTED: OpenAI's Node SDK (needs node and npm, version 20 or newer)")
    folder = tmp_path_factory.mktemp("node") / "smoke"
    shutil.copytree(NODE, folder)
    await run(folder, "npm", "ci", "--ignore-scripts", "--prefer-offline")
    return folder


async def run(folder: Path, *command: str, **variables: str) -> str:
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=folder,
        env={**os.environ, **variables},  # noqa: TID251 - of a foreign program
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(50):
        out, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    return out.decode()


async def test_the_node_sdk(clients: Clients, node_folder: Path) -> None:
    await clients.provider(config={"models": ["tool-echo", "cut", "held"]})
    await clients.agent()
    clients.llm.script("cut", [Answer(chunks=("a", "b"), cut_after=1)])
    clients.llm.script("held", [Answer(chunks=("a", "b"), hold_after=1)])

    out = await run(
        node_folder,
        "node",
        "smoke.mjs",
        ADAPTER_URL=clients.url,
        ADAPTER_KEY=await clients.key(),
    )

    seen: dict[str, Any] = json.loads(out)
    assert {"agent:shop/bot", "mine/echo", "mine/tool-echo"} <= set(seen["models"])
    assert seen["retrieved"] == "agent:shop/bot"
    for model in ("mine/echo", "agent:shop/bot"):
        found = seen[model]
        assert {found[name] for name in ("whole", "streamed", "runner")} == {"good morning"}
        assert found["reason"] == "stop"
        assert found["tokens"] > 0
        assert found["request"]
        assert (found["chat"] is None) == (model == "mine/echo")
    assert seen["tool"] == "look"
    assert seen["errors"] == {
        "model": ["NotFoundError", 404, "model_not_found", "model"],
        "body": ["BadRequestError", 400, "invalid_value", "temperature"],
        "tools": ["BadRequestError", 400, "unsupported_parameter", "tools"],
        "key": ["AuthenticationError", 401, "invalid_api_key"],
        "stream": ["APIError", "upstream_error"],
    }
    held = next(r for r in clients.llm.requests if r.model == "held")
    async with asyncio.timeout(5):
        await held.disconnected.wait()


@pytest.mark.filterwarnings("ignore:Accessing the 'model_:DeprecationWarning")
async def test_litellm(clients: Clients, through_litellm: LitellmClient) -> None:
    """A gateway in front of Sinas."""
    await clients.provider()
    await clients.agent()
    key = await clients.key()

    arguments: dict[str, Any] = {
        "messages": HELLO,
        "api_base": clients.url,
        "api_key": key,
        "max_retries": 0,
    }

    async def ask(litellm: Any) -> Any:
        for model in ("openai/mine/echo", "openai/agent:shop/bot"):
            whole = await litellm.acompletion(model=model, **arguments)
            stream = await litellm.acompletion(model=model, **arguments, stream=True)
            text = "".join([c.choices[0].delta.content or "" async for c in stream])
            yield whole.choices[0].message.content, text, whole.usage.total_tokens
        try:
            await litellm.acompletion(model="openai/agent:shop/nobody", **arguments)
        except litellm.NotFoundError as error:
            yield error.status_code

    seen = [each async for each in through_litellm.thread().carry(ask, 30)]

    *answers, status = seen
    assert [answer[:2] for answer in answers] == [("hello", "hello")] * 2
    assert all(answer[2] > 0 for answer in answers)
    assert status == 404
