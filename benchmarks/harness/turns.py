"""Chat turns over HTTP, as the rows measure them."""

import orjson

from benchmarks.harness.http import Answer, Connection, Server
from benchmarks.harness.load import WorkFailedError


async def new_chat(server: Server, agent: str) -> str:
    """The path to which a new chat's messages are posted for a stream."""
    chat = await server.call("POST", f"/agents/bench/{agent}/chats", {})
    return f"/chats/{chat['id']}/messages/stream"


async def new_chats(server: Server, agent: str, count: int) -> list[str]:
    """One chat per client: turns of one chat run one after the other."""
    return [await new_chat(server, agent) for _ in range(count)]


async def run_turn(connection: Connection, path: str) -> Answer:
    """One streamed turn.

    Raises:
        WorkFailedError: It did not end with a completed `done`.
    """
    answer = await connection.request("POST", path, {"content": "go"})
    if answer.status != 200:
        raise WorkFailedError(f"status {answer.status}: {answer.body[:200]!r}")
    last = ("", "")
    for _, name, data in answer.events():
        last = (name, data)
    if last[0] != "done":
        raise WorkFailedError(f"the stream ended with {last}")
    return answer


def first_content(answer: Answer) -> float:
    """When the first event with text arrived (monotonic clock, seconds).

    Raises:
        WorkFailedError: None did.
    """
    for at, name, data in answer.events():
        if name == "message" and orjson.loads(data).get("content"):
            return at
    raise WorkFailedError("no event carried text")


def text_of(answer: Answer) -> str:
    """The text a client shows at the end: a `reset` makes it forget what came before."""
    text = ""
    for _, name, data in answer.events():
        if name == "reset":
            text = ""
        elif name == "message":
            text += orjson.loads(data).get("content") or ""
    return text
