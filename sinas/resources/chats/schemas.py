"""Bodies of the chat operations."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import BaseModel, Field, StringConstraints

from sinas.crud.schema import Change, Input, Output
from sinas.kit.json_types import JsonObject

Seconds = Annotated[int, Field(gt=0, le=2**31 - 1)]


class TextPart(Input):
    """Text."""

    type: Literal["text"]
    text: str


class ImagePart(Input):
    """An image: an http(s) URL or a data URL."""

    type: Literal["image"]
    image: str
    detail: Literal["low", "high", "auto"] | None = None


class AudioPart(Input):
    """Audio, as base64 data or by URL."""

    type: Literal["audio"]
    data: str | None = None
    url: str | None = None
    format: Literal["wav", "mp3", "m4a", "ogg"]


class FilePart(Input):
    """A file, as base64 data, by URL, or by the provider's id."""

    type: Literal["file"]
    file_data: str | None = None
    file_url: str | None = None
    file_id: str | None = None
    filename: str | None = None
    mime_type: str | None = None


Part = Annotated[TextPart | ImagePart | AudioPart | FilePart, Field(discriminator="type")]
Text = Annotated[str, StringConstraints(min_length=1)]
Content = Text | Annotated[list[Part], Field(min_length=1)]


class ChatCreate(Input):
    """How a chat begins. All of it is optional."""

    input: JsonObject | None = Field(None, description="Checked against the agent's input_schema.")
    title: str | None = Field(None, max_length=1000)
    expires_in: Seconds | None = Field(None, description="Deleted for good after this time.")
    job_timeout: Seconds | None = Field(None, description="Seconds a turn may take.")
    keep_alive: bool | None = Field(None, description="Turns go on when the client leaves.")


class ChatUpdate(Change):
    """Changes; what is left out stays."""

    set_by_platform = Change.set_by_platform | {
        "active_channel_id",
        "agent_id",
        "agent_name",
        "agent_namespace",
        "last_message_at",
        "user_email",
    }

    title: str | None = Field(None, max_length=1000)
    archived: bool | None = None


class MessageSend(Input):
    """A user's message: text, or a list of parts."""

    content: Content
    include_thinking: bool = Field(False, description="Stream the model's reasoning text too.")


class InvokeRequest(Input):
    """A message to an agent, with or without a conversation behind it."""

    message: Content
    session_key: str | None = Field(None, min_length=1, max_length=255)
    reset: bool | None = Field(False, description="Archive the session's chat and start anew.")
    input: JsonObject | None = Field(None, description="Used when this call creates the chat.")


class ApprovalRequest(Input):
    """A decision about one tool call."""

    approved: bool
    always_allow: bool = Field(False, description="Do not ask for this tool again in this chat.")
    arguments: JsonObject | None = Field(
        None, description="With `approved`: run the call with these instead of the model's."
    )


class AnswerRequest(Input):
    """An answer to a question of the agent."""

    answer: str = Field(min_length=1, max_length=100_000)
    wait: bool = Field(False, description="Answer with the resumed turn's outcome.")


class ChatRead(Output):
    """A chat."""

    id: UUID
    user_id: UUID
    user_email: str
    agent_id: UUID | None
    agent_namespace: str | None
    agent_name: str | None
    title: str
    archived: bool
    session_key: str | None
    expires_at: datetime | None
    keep_alive: bool | None
    active_channel_id: str | None
    created_at: datetime
    updated_at: datetime
    last_message_at: datetime | None


class MessageRead(Output):
    """One message. Multimodal content is the JSON text of its parts."""

    id: UUID
    chat_id: UUID
    role: str
    content: str | None
    tool_calls: list[JsonObject] | None
    tool_call_id: str | None
    name: str | None
    created_at: datetime


class PendingApproval(BaseModel):
    """A tool call that waits for a person. `chat_id` differs for calls of sub-agents."""

    tool_call_id: str
    chat_id: UUID
    function_namespace: str
    function_name: str
    name: str
    arguments: JsonObject
    created_at: datetime
    expires_at: datetime | None


class ApprovalRead(PendingApproval):
    """A tool call that waits, with the chat in which to decide."""

    root_chat_id: UUID
    chat_title: str
    agent_namespace: str | None
    agent_name: str | None


class PendingInput(BaseModel):
    """A question that waits for the user's answer. `chat_id` differs for those of sub-agents."""

    tool_call_id: str
    chat_id: UUID
    question: str
    options: list[str] | None
    expires_at: datetime | None
    created_at: datetime


class ChatDetail(ChatRead):
    """A chat with its messages in order."""

    messages: list[MessageRead]
    pending_approvals: list[PendingApproval]
    pending_inputs: list[PendingInput]


TurnState = Literal["completed", "input_required", "in_progress", "injected"]


class TurnOutcome(BaseModel):
    """How a turn that was waited for stands.

    - `completed`: the reply is in the answer.
    - `input_required`: the agent asks; `pending_inputs` has the questions.
    - `in_progress`: it waits for approvals, or for work that took longer than the request;
      `channel_id` can be followed.
    - `injected`: the chat was busy, and the message went into the turn that is there.
    """

    status: TurnState
    pending_inputs: list[PendingInput]
    pending_approvals: list[PendingApproval]
    channel_id: str | None
    usage: JsonObject | None


class SentMessage(MessageRead, TurnOutcome):
    """The message that answers, with the state of its turn."""


class InvokeResponse(TurnOutcome):
    """An agent's reply."""

    reply: str
    chat_id: UUID
    session_key: str | None


class AnswerAccepted(BaseModel):
    """An answer that was taken. With `resumed`, `channel_id` carries the rest of the turn."""

    status: Literal["answered"]
    tool_call_id: str
    resumed: bool
    resume_pending: bool
    channel_id: str | None
    message: str


class AnswerOutcome(TurnOutcome):
    """An answer that was waited for, with what the turn said then."""

    tool_call_id: str
    chat_id: UUID
    reply: str
    message: MessageRead | None


class StopResponse(BaseModel):
    """What stopping a chat found: turns that are being stopped now, none when it was idle."""

    status: Literal["stopping", "idle"]
    turns: int


class ApprovalResponse(BaseModel):
    """A decision that was taken. `resume` is `queued` once it was the round's last one."""

    status: Literal["approved", "rejected"]
    tool_call_id: str
    channel_id: str
    resume: Literal["waiting", "queued"]
    message: str
