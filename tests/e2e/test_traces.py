"""One trace over real processes, one of which is killed in the middle."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.e2e.killing import platform
from tests.support.otlp_receiver import OtlpReceiver

if TYPE_CHECKING:
    from tests.fixtures.servers import Servers

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]
MESSAGE = "POST /chats/{chat_id}/messages"


async def test_a_trace_survives_its_worker(servers: Servers, tmp_path: Path) -> None:
    with OtlpReceiver() as receiver:
        endpoint = {"OTEL_ENABLED": "true", "OTEL_EXPORTER_ENDPOINT": receiver.url}
        async with platform(servers, tmp_path, number=12, **endpoint) as running:
            (outcome,) = await running.killed_turns(["words"], 0.4)
            assert outcome.faults == (), running.log("agents")
            assert outcome.takeovers == 1
            chat_id = await running.chat("tools")
            answer = await running.client.post(f"/chats/{chat_id}/messages", json={"content": "go"})
            assert answer.status_code == 200, answer.text
    # Each process has sent what it had when it stopped.
    taken_over = receiver.one(MESSAGE + "/stream")
    (second_run,) = receiver.children(taken_over)  # nobody can tell the first one's end
    assert second_run.attributes["sinas.turn.run"] == 2
    assert receiver.tree(second_run) == ("conversation.turn", [("llm.call", [])])
    with_tool = receiver.named(MESSAGE)[-1]
    assert receiver.tree(with_tool) == (
        MESSAGE,
        [
            (
                "conversation.turn",
                [
                    ("llm.call", []),
                    ("execute_tool shop__find", [("function.job", [])]),
                    ("llm.call", []),
                ],
            )
        ],
    )
