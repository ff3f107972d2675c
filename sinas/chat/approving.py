"""Which tool calls need a person's approval. Pure."""

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any
from uuid import UUID

from sinas.kit.json_types import JsonObject
from sinas.models import Chat
from sinas.tools.base import Tool


@dataclass(frozen=True, slots=True)
class ApprovalRules:
    """An agent's `tool_approvals`.

    The first rule that matches decides, else the tool itself, else the default. A rule's `match`
    is a glob over the tool's name as the model sees it, or over `namespace/name` of what stands
    behind it.
    """

    rules: tuple[tuple[str, bool], ...] = ()
    default: bool = False

    @classmethod
    def of(cls, stored: JsonObject) -> "ApprovalRules":
        """Read what an agent's row holds."""
        rules: Any = stored.get("rules") or []
        return cls(
            tuple((rule["match"], rule["action"] == "ask") for rule in rules),
            stored.get("default") == "ask",
        )

    def asks_for(self, tool: Tool) -> bool:
        """Whether a call of `tool` waits for a person, unless they have allowed it before."""
        if not tool.follows_approval_rules:
            return tool.requires_approval
        names = (tool.name, "/".join(tool.resource))
        for match, asks in self.rules:
            if any(fnmatchcase(name, match) for name in names):
                return asks
        return tool.requires_approval or self.default


def grant_key(chat: Chat, tool_name: str) -> tuple[UUID, str]:
    """Under which chat and name it is kept that a person always allows a tool in a chat.

    A sub-agent has a new chat for each task. Its tools are allowed in the chat at the top, where
    people decide, and for that agent alone.
    """
    if chat.root_chat_id is None:
        return chat.id, tool_name
    return chat.root_chat_id, f"{chat.agent_namespace}/{chat.agent_name}:{tool_name}"
