"""How the scripted LLM upstream writes an `Answer`: OpenAI, Anthropic and Ollama wire formats.

`compile_answer` turns an answer into prebuilt steps once; playing them is only writing bytes.
Sources: platform.openai.com chat streaming, docs.anthropic.com streaming messages,
github.com/ollama/ollama docs/api.md. Times and ids in them are constants on purpose.
"""

import enum
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Literal, TypeAlias

import orjson

from tests.support.llm_script import Answer, Call

Wire: TypeAlias = Literal["openai", "anthropic", "ollama"]
CREATED = 1_750_000_000
REASONS = {
    200: "OK", 302: "Found", 400: "Bad Request", 401: "Unauthorized", 404: "Not Found",
    429: "Too Many Requests", 500: "Internal Server Error", 503: "Service Unavailable",
}  # fmt: skip


class Mark(enum.Enum):
    """A step that is not bytes."""

    HOLD = "hold"
    CUT = "cut"


# Bytes are written, a number of seconds is waited (0.0 = let other connections have a turn).
Step: TypeAlias = bytes | float | Mark


def response(
    status: int,
    body: bytes,
    content_type: str = "application/json",
    headers: Iterable[tuple[str, str]] = (),
) -> bytes:
    """A whole HTTP/1.1 response."""
    lines = [f"HTTP/1.1 {status} {REASONS.get(status, 'Status')}", f"content-type: {content_type}"]
    lines += [f"{name}: {value}" for name, value in headers]
    lines.append(f"content-length: {len(body)}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def error_body(wire: Wire, status: int, message: str) -> bytes:
    """An error object as the wire's real server writes it."""
    if wire == "ollama":
        return orjson.dumps({"error": message})
    error = {"type": f"error_{status}", "message": message}
    if wire == "anthropic":
        return orjson.dumps({"type": "error", "error": error})
    return orjson.dumps({"error": {**error, "param": None, "code": None}})


@lru_cache(maxsize=1024)
def compile_answer(
    wire: Wire, model: str, answer: Answer, *, stream: bool, with_usage: bool
) -> tuple[Step, ...]:
    """The steps that answer a request. `answer.usage` is set (see `counted`)."""
    if answer.status != 200 or answer.body is not None:
        body = answer.body
        raw = (
            body.encode()
            if body is not None
            else error_body(wire, answer.status, "scripted failure")
        )
        kind = answer.content_type or "application/json"
        return (*_wait(answer.header_delay), response(answer.status, raw, kind, answer.headers))
    if not stream or answer.plain:
        whole = orjson.dumps(_WHOLE[wire](model, answer))
        return (
            *_wait(answer.header_delay + answer.first_delay),
            response(200, whole, headers=answer.headers),
        )
    return tuple(_stream_steps(wire, model, answer, with_usage=with_usage))


def _wait(seconds: float) -> tuple[float, ...]:
    return (seconds,) if seconds else ()


def _stream_steps(wire: Wire, model: str, answer: Answer, *, with_usage: bool) -> Iterator[Step]:
    yield from _wait(answer.header_delay)
    kind = answer.content_type or (
        "application/x-ndjson" if wire == "ollama" else "text/event-stream"
    )
    head = [f"HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\n"]
    head += [f"{name}: {value}\r\n" for name, value in answer.headers]
    yield "".join([*head, "transfer-encoding: chunked\r\n\r\n"]).encode()
    yield from _wait(answer.first_delay)
    if answer.garbage is not None:
        yield _chunk(answer.garbage.encode())
    else:
        yield from _events(wire, model, answer, with_usage=with_usage)
    yield b"0\r\n\r\n"


def _events(wire: Wire, model: str, answer: Answer, *, with_usage: bool) -> Iterator[Step]:
    before, deltas, after = _PARTS[wire](model, answer, with_usage)
    for event in before:
        yield _chunk(event)
    for number, event in enumerate(deltas):
        if answer.cut_after == number:
            yield Mark.CUT
            return
        if answer.hold_after == number:
            yield Mark.HOLD
        if number:
            yield answer.delay
        yield _chunk(event)
    if answer.cut_after is not None:
        yield Mark.CUT
        return
    if answer.hold_after is not None and answer.hold_after >= len(deltas):
        yield Mark.HOLD
    if answer.error is not None:
        body = error_body(wire, 500, answer.error)
        yield _chunk({"openai": _data, "anthropic": _named_error, "ollama": _line}[wire](body))
        return
    # One write, as a real server's last packets come together.
    yield b"".join(_chunk(event) for event in after)


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def _data(payload: bytes) -> bytes:
    return b"data: " + payload + b"\n\n"


def _named_error(payload: bytes) -> bytes:
    return b"event: error\n" + _data(payload)


def _line(payload: bytes) -> bytes:
    return payload + b"\n"


Parts: TypeAlias = tuple[list[bytes], list[bytes], list[bytes]]


def _split(text: str, pieces: int) -> list[str]:
    size = max(1, -(-len(text) // max(1, pieces)))
    return [text[start : start + size] for start in range(0, len(text), size)] or [""]


# -- OpenAI (and Mistral, vLLM, llama.cpp, gateways) ------------------------------------------


def _openai_usage(answer: Answer) -> dict[str, object]:
    prompt, completion = answer.usage or (0, 0)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
    }


def _openai_chunk(model: str, **fields: object) -> bytes:
    base = {
        "id": "chatcmpl-scripted",
        "object": "chat.completion.chunk",
        "created": CREATED,
        "model": model,
    }
    return _data(orjson.dumps(base | fields))


def _openai_delta(model: str, delta: dict[str, object], reason: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": reason}
    return _openai_chunk(model, choices=[choice])


def _openai_call(model: str, index: int, call: Call) -> Iterator[bytes]:
    for number, piece in enumerate(_split(call.arguments, call.pieces)):
        function: dict[str, object] = {"arguments": piece}
        entry: dict[str, object] = {"function": function}
        if call.with_index:
            entry["index"] = index
        if number == 0:
            function["name"] = call.name
            entry["type"] = "function"
        if call.id is not None and (number == 0 or call.id_each):
            entry["id"] = call.id if number == 0 else f"{call.id}_{number}"
        yield _openai_delta(model, {"tool_calls": [entry]})


def _openai_parts(model: str, answer: Answer, with_usage: bool) -> Parts:
    before = [_openai_delta(model, {"role": "assistant", "content": ""})]
    deltas = [_openai_delta(model, {"reasoning_content": text}) for text in answer.thinking]
    deltas += [_openai_delta(model, {"content": text}) for text in answer.chunks]
    for index, call in enumerate(answer.calls):
        deltas += _openai_call(model, index, call)
    after = []
    if answer.reason:
        after.append(_openai_delta(model, {}, answer.reason))
    if with_usage and answer.usage:
        after.append(_openai_chunk(model, choices=[], usage=_openai_usage(answer)))
    if answer.done:
        after.append(b"data: [DONE]\n\n")
    return before, deltas, after


def _openai_whole(model: str, answer: Answer) -> dict[str, object]:
    message: dict[str, object] = {"role": "assistant", "content": answer.text or None}
    if answer.calls:
        message["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
            }
            for call in answer.calls
        ]
    body: dict[str, object] = {
        "id": "chatcmpl-scripted",
        "object": "chat.completion",
        "created": CREATED,
        "model": model,
        "choices": [{"index": 0, "message": message, "finish_reason": answer.reason or None}],
    }
    if answer.usage:
        body["usage"] = _openai_usage(answer)
    return body


# -- Anthropic --------------------------------------------------------------------------------

_STOP_REASONS = {"stop": "end_turn", "tool_calls": "tool_use", "length": "max_tokens"}


def _anthropic_event(kind: str, **fields: object) -> bytes:
    return f"event: {kind}\n".encode() + _data(orjson.dumps({"type": kind} | fields))


def _block(index: int, start: dict[str, object], deltas: list[dict[str, object]]) -> list[bytes]:
    """One content block; its start rides with the first delta and its stop with the last."""
    events = [_anthropic_event("content_block_delta", index=index, delta=d) for d in deltas]
    events[0] = (
        _anthropic_event("content_block_start", index=index, content_block=start) + events[0]
    )
    events[-1] += _anthropic_event("content_block_stop", index=index)
    return events


def _anthropic_parts(model: str, answer: Answer, with_usage: bool) -> Parts:
    prompt, completion = answer.usage or (0, 0)
    message: dict[str, object] = {
        "id": "msg_scripted",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [],
        "stop_reason": None,
        "usage": {"input_tokens": prompt, "output_tokens": 0},
    }
    deltas: list[bytes] = []
    index = 0
    for kind, texts in (("thinking", answer.thinking), ("text", answer.chunks)):
        if texts:
            pieces: list[dict[str, object]] = [
                {"type": f"{kind}_delta", kind: text} for text in texts
            ]
            deltas += _block(index, {"type": kind, kind: ""}, pieces)
            index += 1
    for call in answer.calls:
        start: dict[str, object] = {
            "type": "tool_use",
            "id": call.id,
            "name": call.name,
            "input": {},
        }
        pieces = [
            {"type": "input_json_delta", "partial_json": piece}
            for piece in _split(call.arguments, call.pieces)
        ]
        deltas += _block(index, start, pieces)
        index += 1
    after = []
    if answer.reason:
        stop = {"stop_reason": _STOP_REASONS.get(answer.reason, answer.reason)}
        after.append(
            _anthropic_event("message_delta", delta=stop, usage={"output_tokens": completion})
        )
    if answer.done:
        after.append(_anthropic_event("message_stop"))
    return [_anthropic_event("message_start", message=message)], deltas, after


def _anthropic_whole(model: str, answer: Answer) -> dict[str, object]:
    prompt, completion = answer.usage or (0, 0)
    content: list[dict[str, object]] = [{"type": "text", "text": answer.text}]
    content += [
        {"type": "tool_use", "id": c.id, "name": c.name, "input": orjson.loads(c.arguments)}
        for c in answer.calls
    ]
    return {
        "id": "msg_scripted",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": content,
        "stop_reason": _STOP_REASONS.get(answer.reason, answer.reason),
        "usage": {"input_tokens": prompt, "output_tokens": completion},
    }


# -- Ollama -----------------------------------------------------------------------------------


def _ollama_line(model: str, message: dict[str, object], **fields: object) -> bytes:
    line = {
        "model": model,
        "created_at": "2025-06-15T12:00:00Z",
        "message": {"role": "assistant", "content": "", **message},
        "done": False,
    }
    return _line(orjson.dumps(line | fields))


def _ollama_calls(answer: Answer) -> list[dict[str, object]]:
    return [
        {"function": {"name": call.name, "arguments": orjson.loads(call.arguments)}}
        for call in answer.calls
    ]


def _ollama_end(answer: Answer) -> dict[str, object]:
    end: dict[str, object] = {"done": True, "done_reason": answer.finish_reason or "stop"}
    if answer.usage:
        end |= {"prompt_eval_count": answer.usage[0], "eval_count": answer.usage[1]}
    return end


def _ollama_parts(model: str, answer: Answer, with_usage: bool) -> Parts:
    deltas = [_ollama_line(model, {"thinking": text}) for text in answer.thinking]
    deltas += [_ollama_line(model, {"content": text}) for text in answer.chunks]
    if answer.calls:
        deltas.append(_ollama_line(model, {"tool_calls": _ollama_calls(answer)}))
    after = [_ollama_line(model, {}, **_ollama_end(answer))] if answer.done else []
    return [], deltas, after


def _ollama_whole(model: str, answer: Answer) -> dict[str, object]:
    message: dict[str, object] = {"role": "assistant", "content": answer.text}
    if answer.calls:
        message["tool_calls"] = _ollama_calls(answer)
    return {
        "model": model,
        "created_at": "2025-06-15T12:00:00Z",
        "message": message,
        **_ollama_end(answer),
    }


_PARTS = {"openai": _openai_parts, "anthropic": _anthropic_parts, "ollama": _ollama_parts}
_WHOLE = {"openai": _openai_whole, "anthropic": _anthropic_whole, "ollama": _ollama_whole}
