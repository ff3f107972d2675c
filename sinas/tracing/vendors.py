"""What vendors call thread, user, labels, kind and content; besides the conventions' own names.

- Langfuse: https://langfuse.com/integrations/native/opentelemetry#property-mapping
- LangWatch: https://docs.langwatch.ai/integration/typescript/tutorials/semantic-conventions and
  https://langwatch.ai/docs/integration/metadata-and-labels

Both filter by what each span says, so every span carries thread, user and labels.
"""

import json
from dataclasses import dataclass
from typing import Literal, TypeAlias

from sinas.tracing import names
from sinas.tracing.spans import About, Kind, Value

Vendor: TypeAlias = Literal["langwatch", "langfuse", "generic_otel"]

_LANGFUSE_TYPES = {
    Kind.TURN: "agent",
    Kind.DELEGATION: "agent",
    Kind.MODEL: "generation",
    Kind.TOOL: "tool",
}
_LANGWATCH_TYPES = {
    Kind.TURN: "agent",
    Kind.DELEGATION: "agent",
    Kind.MODEL: "llm",
    Kind.TOOL: "tool",
}


@dataclass(frozen=True, slots=True)
class ContentNames:
    """Attributes that hold what went in and what came out."""

    given: str
    answered: str


_MESSAGES = ContentNames(names.INPUT_MESSAGES, names.OUTPUT_MESSAGES)
_GENERIC_CONTENT = {
    Kind.TURN: _MESSAGES,
    Kind.MODEL: _MESSAGES,
    Kind.TOOL: ContentNames(names.TOOL_ARGUMENTS, names.TOOL_RESULT),
    Kind.DELEGATION: ContentNames(names.TOOL_ARGUMENTS, names.TOOL_RESULT),
}


def about_attributes(vendor: Vendor, about: About) -> dict[str, Value | None]:
    """Whose work a span is, by the conventions' names and by the vendor's."""
    labels = [f"agent:{about.agent}"] if about.agent else None
    values: dict[str, Value | None] = {
        names.CONVERSATION: about.thread,
        names.USER: about.user,
        names.AGENT_NAME: about.agent,
    }
    match vendor:
        case "langfuse":
            return values | {
                "langfuse.session.id": about.thread,
                "langfuse.user.id": about.user,
                "langfuse.trace.tags": labels,
            }
        case "langwatch":
            return values | {
                "langwatch.thread.id": about.thread,
                "langwatch.user.id": about.user,
                "langwatch.labels": json.dumps(labels) if labels else None,
            }
        case "generic_otel":
            return values | {names.SESSION: about.thread, names.LABELS: labels}


def kind_attributes(vendor: Vendor, kind: Kind) -> dict[str, Value | None]:
    """The vendor's word for what a span stands for."""
    match vendor:
        case "langfuse":
            return {"langfuse.observation.type": _LANGFUSE_TYPES.get(kind, "span")}
        case "langwatch":
            return {"langwatch.span.type": _LANGWATCH_TYPES.get(kind, "span")}
        case "generic_otel":
            return {}


def content_names(vendor: Vendor, kind: Kind) -> ContentNames:
    """Where the vendor looks for content."""
    match vendor:
        case "langfuse":
            return ContentNames("langfuse.observation.input", "langfuse.observation.output")
        case "langwatch":
            return ContentNames("langwatch.input", "langwatch.output")
        case "generic_otel":
            return _GENERIC_CONTENT.get(kind, ContentNames(names.INPUT, names.OUTPUT))
