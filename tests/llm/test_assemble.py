import pytest

from sinas.llm.assemble import ToolCall, ToolCallAssembler, TurnText
from sinas.llm.base import Delta, ToolCallDelta, Usage


def piece(
    index: int | None, id_: str | None = None, name: str | None = None, arguments: str = ""
) -> ToolCallDelta:
    return ToolCallDelta(index, id_, name, arguments)


CASES = {
    "id and name only in the first delta": (
        [piece(0, "a", "f"), piece(0, None, None, '{"x"'), piece(0, None, None, ":1}")],
        [("a", "f", '{"x":1}')],
    ),
    "whole call in one delta": ([piece(0, "a", "f", "{}")], [("a", "f", "{}")]),
    "two calls interleaved": (
        [piece(0, "a", "f", "1"), piece(1, "b", "g", "2"), piece(0, arguments="3")],
        [("a", "f", "13"), ("b", "g", "2")],
    ),
    "a later id loses": (
        [piece(0, "a", "f", "1"), piece(0, "z", None, "2")],
        [("a", "f", "12")],
    ),
    "a later name is not appended": (
        [piece(0, "a", "f", "1"), piece(0, "a", "f", "2")],
        [("a", "f", "12")],
    ),
    "id and name come late": (
        [piece(0, None, None, "{"), piece(0, "a", "f", "}")],
        [("a", "f", "{}")],
    ),
    "the same id twice": (
        [piece(0, "call_0", "f", "1"), piece(1, "call_0", "f", "2"), piece(2, "call_0", "f", "3")],
        [("call_0", "f", "1"), ("call_0_2", "f", "2"), ("call_0_3", "f", "3")],
    ),
    "a suffix that is taken": (
        [piece(0, "a_2", "f"), piece(1, "a", "f"), piece(2, "a", "f")],
        [("a_2", "f", "{}"), ("a", "f", "{}"), ("a_3", "f", "{}")],
    ),
    "every call has index 0": (
        [piece(0, "a", "f", "1"), piece(0, "b", "g", "2"), piece(0, None, None, "3")],
        [("a", "f", "1"), ("b", "g", "23")],
    ),
    "no index, ids tell": (
        [piece(None, "a", "f", "1"), piece(None, "b", "g", "2"), piece(None, None, None, "3")],
        [("a", "f", "1"), ("b", "g", "23")],
    ),
    "no index, id repeated in every delta": (
        [piece(None, "a", "f", "1"), piece(None, "a", None, "2"), piece(None, "b", "g", "3")],
        [("a", "f", "12"), ("b", "g", "3")],
    ),
    "no index, whole calls with one id": (
        [piece(None, "call_0", "f", "1"), piece(None, "call_0", "f", "2")],
        [("call_0", "f", "1"), ("call_0_2", "f", "2")],
    ),
    "no index, a different id in later deltas": (
        [piece(None, "a", "f", "1"), piece(None, "a_1", None, "2")],
        [("a", "f", "12")],
    ),
    "no arguments at all": ([piece(0, "a", "f")], [("a", "f", "{}")]),
    "broken arguments stay as they are": ([piece(0, "a", "f", '{"x')], [("a", "f", '{"x')]),
    "no name": ([piece(0, "a", None, "{}")], []),
    "indexes with gaps": (
        [piece(3, "a", "f", "1"), piece(7, "b", "g", "2")],
        [("a", "f", "1"), ("b", "g", "2")],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_deltas_become_calls(name: str) -> None:
    deltas, expected = CASES[name]
    assembler = ToolCallAssembler()

    for delta in deltas:
        assembler.add(delta)

    assert assembler.calls() == tuple(ToolCall(*call) for call in expected)


@pytest.mark.parametrize("index", [True, False])
def test_missing_ids_are_made_unique_and_stay(index: bool) -> None:
    assembler = ToolCallAssembler()
    for number in range(3):
        assembler.add(piece(number if index else None, None, "f", f"{number}"))

    calls = assembler.calls()

    assert [call.arguments for call in calls] == ["0", "1", "2"]
    assert len({call.id for call in calls}) == 3
    assert all(call.id.startswith("call_") for call in calls)
    assert assembler.calls() == calls


def test_turn_text_gathers_everything() -> None:
    usage = Usage(1, 2, 3)
    turn = TurnText()

    for delta in (
        Delta(),
        Delta(thinking="hm"),
        Delta(content="a"),
        Delta(content="b", tool_calls=(piece(0, "x", "f", "{}"),)),
        Delta(finish_reason="tool_calls"),
        Delta(usage=usage),
    ):
        turn.add(delta)

    assert (turn.content, turn.thinking, turn.finish_reason) == ("ab", "hm", "tool_calls")
    assert turn.usage == usage
    assert turn.tool_calls() == (ToolCall("x", "f", "{}"),)
    assert not turn.is_empty


@pytest.mark.parametrize("content", [None, "", " \n"])
def test_turn_without_text_and_calls_is_empty(content: str | None) -> None:
    turn = TurnText()
    turn.add(Delta(content=content, finish_reason="stop"))

    assert turn.is_empty
