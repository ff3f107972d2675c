"""The protocol, without a sandbox."""

import json

import pytest

from sinas.sandbox.base import Crashed, OutOfMemory, Raised, Returned, TimedOut
from sinas.sandbox.runner import protocol
from sinas.sandbox.wire import (
    Ended,
    Limits,
    Output,
    decode_output,
    outcome_of_answer,
    outcome_of_end,
)

LIMITS = Limits(1000, 10, 64, memory_error_is_limit=False)
OUTPUT = Output(stdout="o", stderr="e", duration_ms=5)


def test_lines_are_cut_wherever_they_arrive() -> None:
    lines = protocol.Lines()
    data = protocol.line("ping") + protocol.line("kill", id=7)
    messages = [message for byte in data for message in lines.feed(bytes([byte]))]
    assert messages == [{"op": "ping"}, {"op": "kill", "id": 7}]


@pytest.mark.parametrize("data", [b"[1]\n", b"{\n", b"x" * (protocol.MAX_LINE_BYTES + 1)])
def test_broken_lines_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - JSONDecodeError included
        protocol.Lines().feed(data)


def test_returned_and_raised() -> None:
    answer = json.dumps({"kind": "returned", "deprecation": None, "value": [1]}).encode()
    assert outcome_of_answer(answer, OUTPUT, LIMITS) == Returned(
        value=[1], stdout="o", stderr="e", duration_ms=5
    )
    raised = {
        "kind": "raised",
        "type": "MemoryError",
        "error": "MemoryError",
        "traceback": "t",
        "deprecation": None,
    }
    assert isinstance(outcome_of_answer(json.dumps(raised).encode(), OUTPUT, LIMITS), Raised)
    by_address_space = Limits(1000, 10, 64, memory_error_is_limit=True)
    outcome = outcome_of_answer(json.dumps(raised).encode(), OUTPUT, by_address_space)
    assert isinstance(outcome, OutOfMemory)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b'{"kind": "ended", "deprecation": null}',
        b'{"kind": "returned", "deprecation": null}',
        b"\xff",
        b"[" * 200_000,
    ],
)
def test_an_answer_is_not_trusted(answer: bytes) -> None:
    outcome = outcome_of_answer(answer, OUTPUT, LIMITS)
    assert isinstance(outcome, Crashed)
    assert outcome.stdout == "o"


@pytest.mark.parametrize(
    ("cause", "code", "oom", "expected"),
    [
        (protocol.TIMED_OUT, 0, True, TimedOut),
        (protocol.SIGNALLED, 9, True, OutOfMemory),
        (protocol.SIGNALLED, 11, False, Crashed),
        (protocol.EXITED, protocol.EXIT_NO_MEMORY, False, OutOfMemory),
        (protocol.EXITED, 1, False, Crashed),
        (protocol.KILLED, 0, False, Crashed),
    ],
)
def test_ends_without_an_answer(cause: str, code: int, oom: bool, expected: type) -> None:
    ended = Ended(cause=cause, code=code, oom=oom, clean=True)
    assert type(outcome_of_end(ended, 3.0, OUTPUT, LIMITS)) is expected


def test_output_is_cut_with_a_note() -> None:
    assert decode_output(b"short", 10) == "short"
    assert decode_output(b"\xff", 10) == "\N{REPLACEMENT CHARACTER}"
    assert decode_output(b"x" * 11, 10) == "x" * 10 + "\n[output cut at 10 bytes]"
