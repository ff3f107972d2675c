"""What the scripted LLM upstream answers: `Answer`, and the behaviours that go by model name.

Everything is a function of the request alone, so the same request gives the same text.
"""

import re
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal, TypeAlias

WORDS = re.compile(r"words-(\d+)(-slow)?")
SLOW_SECONDS = 0.02
By: TypeAlias = Literal["call", "round", "reply"]
TOOL_ARGUMENTS = '{"x":"hello","n":3}'


@dataclass(frozen=True, slots=True)
class Call:
    """One tool call of an answer.

    Attributes:
        arguments: Raw text, so that it may be broken JSON.
        id: Sent in the first delta only; None leaves the id away altogether.
        pieces: Over how many deltas the arguments are spread (OpenAI and Anthropic wires).
        id_each: A different id in every later delta, as some gateways do.
        with_index: False leaves the `index` of OpenAI deltas away.
    """

    name: str
    arguments: str = "{}"
    id: str | None = "call_0"
    pieces: int = 3
    id_each: bool = False
    with_index: bool = True


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer to one model request. Times are seconds; "chunk" means a text or tool delta.

    Attributes:
        status: Anything but 200 sends `body` (default: an error object of the wire) and ends.
        body: Sent as it is instead of the wire's own format, also with status 200.
        content_type: Of `body`, or instead of the stream's own.
        first_delay: Before the first chunk; the headers are out by then.
        header_delay: Before the headers.
        delay: Between chunks.
        cut_after: Close the connection after this many chunks.
        hold_after: Fall silent after this many chunks, until `LlmUpstream.release()`.
        garbage: Sent in place of the chunks, on a 200 event stream.
        error: Message of an error object sent in place of the stream's end.
        finish_reason: None picks stop or tool_calls; "" sends none.
        usage: (prompt, completion) tokens; None counts them, () sends none.
        done: Whether the stream's own end mark ([DONE], message_stop, done) is sent.
        plain: Answer one JSON object although a stream was asked for.
        refuse_stream_options: Answer 400 to requests that carry stream_options.
    """

    chunks: tuple[str, ...] = ()
    calls: tuple[Call, ...] = ()
    thinking: tuple[str, ...] = ()
    status: int = 200
    body: str | None = None
    content_type: str | None = None
    headers: tuple[tuple[str, str], ...] = ()
    first_delay: float = 0.0
    header_delay: float = 0.0
    delay: float = 0.0
    cut_after: int | None = None
    hold_after: int | None = None
    garbage: str | None = None
    error: str | None = None
    finish_reason: str | None = None
    usage: tuple[int, ...] | None = None
    done: bool = True
    plain: bool = False
    refuse_stream_options: bool = False

    @property
    def text(self) -> str:
        return "".join(self.chunks)

    @property
    def reason(self) -> str:
        if self.finish_reason is not None:
            return self.finish_reason
        return "tool_calls" if self.calls else "stop"

    def to_json(self) -> dict[str, Any]:
        """The form POST /_script takes."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Script:
    """Answers of one model.

    `by="call"` walks through the answers request by request and stays at the last one.
    `by="round"` picks by the number of assistant messages since the last user message, so
    that a repeated or resumed request gets the same answer and turns may run side by side.
    `by="reply"` does the same by the number of all assistant messages, for a chat's first turn
    whose answers are complained about.
    """

    answers: tuple[Answer, ...]
    by: By = "call"


def answer_from_json(data: dict[str, Any]) -> Answer:
    """Build an `Answer` from what POST /_script was sent."""
    known = {field.name for field in fields(Answer)}
    unknown = data.keys() - known
    if unknown:
        raise ValueError(f"unknown Answer fields: {sorted(unknown)}")
    values: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in data.items()
    }
    values["calls"] = tuple(Call(**call) for call in data.get("calls") or ())
    values["headers"] = tuple((str(k), str(v)) for k, v in data.get("headers") or ())
    return Answer(**values)


def words(count: int, *, delay: float = 0.0) -> Answer:
    """`w00 w01 …`, one word a chunk."""
    return Answer(chunks=tuple(f"w{number:02d} " for number in range(count)), delay=delay)


def text_of(content: object) -> str:
    """The text of a message's content: a string, or the text parts of a list."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "".join(str(p.get("text", "")) for p in content if isinstance(p, dict))
    return ""


def last_user_text(body: dict[str, Any]) -> str:
    """Text of the last user message that is not a tool result (Anthropic sends those as user)."""
    for message in reversed(body.get("messages", [])):
        if message.get("role") == "user":
            text = text_of(message.get("content"))
            if text:
                return text
    return ""


def has_tool_result(body: dict[str, Any]) -> bool:
    """Whether the last message answers a tool call, in any wire."""
    messages = body.get("messages") or [{}]
    last = messages[-1]
    content = last.get("content")
    return last.get("role") == "tool" or (
        isinstance(content, list)
        and any(isinstance(p, dict) and p.get("type") == "tool_result" for p in content)
    )


def round_of(body: dict[str, Any]) -> int:
    """Assistant messages since the last real user message: which model round this is."""
    rounds = 0
    for message in reversed(body.get("messages", [])):
        if message.get("role") == "assistant":
            rounds += 1
        elif message.get("role") == "user" and not has_tool_result({"messages": [message]}):
            break
    return rounds


def replies_in(body: dict[str, Any]) -> int:
    """Assistant messages of the whole request."""
    return sum(message.get("role") == "assistant" for message in body.get("messages", []))


def first_tool(body: dict[str, Any]) -> str | None:
    """Name of the first offered tool."""
    tools = body.get("tools")
    if not tools:
        return None
    tool = tools[0]
    return str(tool.get("function", tool)["name"])


def by_name(model: str, body: dict[str, Any]) -> Answer | None:
    """The default behaviour of a model name; None if the name has none."""
    if match := WORDS.fullmatch(model):
        return words(int(match[1]), delay=SLOW_SECONDS if match[2] else 0.0)
    if model == "echo":
        return Answer(chunks=tuple(re.findall(r"\S+\s*|\s+", last_user_text(body))) or ("",))
    if model == "tool-echo":
        name = first_tool(body)
        if name is None or has_tool_result(body):
            return words(50)
        return Answer(calls=(Call(name, TOOL_ARGUMENTS, id=f"call_{name}"),))
    return None


def counted(answer: Answer, body: dict[str, Any]) -> Answer:
    """The answer with its usage filled in: tokens are words, near enough for a script."""
    if answer.usage is not None:
        return answer
    prompt = sum(len(text_of(m.get("content")).split()) for m in body.get("messages", []))
    return replace(answer, usage=(prompt, len(answer.chunks) + 5 * len(answer.calls)))
