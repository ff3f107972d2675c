"""SQLAlchemy models. Central on purpose: relationships cross slices and alembic sees all."""

from sinas.models.chats import (
    TERMINAL_TOOL_CALL,
    TERMINAL_TURN,
    Agent,
    Chat,
    Message,
    ToolCall,
    ToolCallStatus,
    ToolGrant,
    Turn,
    TurnStatus,
)
from sinas.models.functions import (
    TERMINAL_EXECUTION,
    Execution,
    ExecutionStatus,
    Function,
    FunctionVersion,
    TriggerType,
)
from sinas.models.identity import (
    ApiKey,
    OtpSession,
    RefreshToken,
    Role,
    RolePermission,
    User,
    UserRole,
)
from sinas.models.llm import LlmProvider
from sinas.models.workers import Worker

__all__ = [
    "TERMINAL_EXECUTION",
    "TERMINAL_TOOL_CALL",
    "TERMINAL_TURN",
    "Agent",
    "ApiKey",
    "Chat",
    "Execution",
    "ExecutionStatus",
    "Function",
    "FunctionVersion",
    "LlmProvider",
    "Message",
    "OtpSession",
    "RefreshToken",
    "Role",
    "RolePermission",
    "ToolCall",
    "ToolCallStatus",
    "ToolGrant",
    "TriggerType",
    "Turn",
    "TurnStatus",
    "User",
    "UserRole",
    "Worker",
]
