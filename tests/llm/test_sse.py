import pytest

from sinas.llm.sse import SseDecoder, SseOverflowError

STREAM = (
    b": comment\n\n"
    b'event: x\nid: 1\ndata: {"a":1}\n\n'
    b'data:{"b":2}\r\n\r\n'
    b"data: one\ndata: two\n\n"
    b'error: {"message":"no"}\n\n'
    b"retry: 5\n\n"
    b"data: [DONE]"
)
PAYLOADS = [b'{"a":1}', b'{"b":2}', b"one\ntwo", b'{"error":{"message":"no"}}', b"[DONE]"]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_pieces_of_any_size(size: int) -> None:
    decoder = SseDecoder()
    payloads = []

    for start in range(0, len(STREAM), size):
        payloads += decoder.feed(STREAM[start : start + size])

    assert payloads + decoder.end() == PAYLOADS


def test_line_without_end() -> None:
    decoder = SseDecoder()

    assert decoder.feed(b"x" * 16 * 1024 * 1024) == []
    with pytest.raises(SseOverflowError):
        decoder.feed(b"x")
