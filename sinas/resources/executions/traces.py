"""The span of one attempt at an execution."""

from typing import Final

import orjson

from sinas.resources.executions.attempts import Claimed
from sinas.resources.executions.ending import Ending
from sinas.tracing import names
from sinas.tracing.spans import NO_SPAN, About, Kind, Span, Tracer

_SPAN_NAME: Final = "function.job"


def attempt_span(tracer: Tracer, row: Claimed) -> Span:
    """Below what caused the execution, also when that was long ago in another process."""
    if not tracer.is_on:
        return NO_SPAN
    about = About(thread=None if row.chat_id is None else str(row.chat_id), user=str(row.user_id))
    span = tracer.span(Kind.FUNCTION, _SPAN_NAME, parent=row.traceparent, about=about)
    span.set(
        {
            names.FUNCTION_NAME: f"{row.function_namespace}/{row.function_name}",
            names.FUNCTION_CALL_ID: str(row.id),
            names.ATTEMPT: row.attempt,
            names.TRIGGER: row.trigger_type.value,
        }
    )
    if span.keeps_content:
        span.content(given=orjson.dumps(row.input_data).decode())
    return span


def say_end(span: Span, ending: Ending) -> None:
    """What became of the attempt."""
    if ending.error_type is not None:
        span.fail(ending.error_type, ending.error)
    elif span.keeps_content:
        span.content(answered=ending.output_json.decode())
