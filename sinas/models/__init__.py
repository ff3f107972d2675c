"""SQLAlchemy models. Central on purpose: relationships cross slices and alembic sees all."""

from sinas.models.artifacts import Artifact
from sinas.models.chats import (
    LIVE_TURN,
    SUSPENDED_TURN,
    TERMINAL_TOOL_CALL,
    TERMINAL_TURN,
    Agent,
    Chat,
    HookRewrite,
    Message,
    ToolCall,
    ToolCallStatus,
    ToolGrant,
    Turn,
    TurnStatus,
)
from sinas.models.connectors import (
    Connector,
    ConnectorOperation,
    ConnectorToken,
    ConnectorTrust,
)
from sinas.models.database_triggers import DatabaseTrigger, ReplicationSlot, TriggerMode
from sinas.models.databases import (
    DatabaseAnnotation,
    DatabaseConnection,
    Query,
    QueryOperation,
)
from sinas.models.dependencies import Dependency, Environment
from sinas.models.files import Blob, Collection, File, FileVersion, FileVisibility
from sinas.models.functions import (
    TERMINAL_EXECUTION,
    Batch,
    BatchKind,
    CallbackStatus,
    Execution,
    ExecutionKind,
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
from sinas.models.memory import Skill, State, StateVisibility, Store
from sinas.models.search import FileChunk, FileIndex, IndexStatus
from sinas.models.secrets import Secret, SecretVisibility
from sinas.models.templates import Template
from sinas.models.triggers import (
    DeliveryStatus,
    HttpMethod,
    ResponseMode,
    Schedule,
    TargetType,
    Webhook,
    WebhookDelivery,
)
from sinas.models.usage import Budget, ModelCall
from sinas.models.workers import Worker

__all__ = [
    "LIVE_TURN",
    "SUSPENDED_TURN",
    "TERMINAL_EXECUTION",
    "TERMINAL_TOOL_CALL",
    "TERMINAL_TURN",
    "Agent",
    "ApiKey",
    "Artifact",
    "Batch",
    "BatchKind",
    "Blob",
    "Budget",
    "CallbackStatus",
    "Chat",
    "Collection",
    "Connector",
    "ConnectorOperation",
    "ConnectorToken",
    "ConnectorTrust",
    "DatabaseAnnotation",
    "DatabaseConnection",
    "DatabaseTrigger",
    "DeliveryStatus",
    "Dependency",
    "Environment",
    "Execution",
    "ExecutionKind",
    "ExecutionStatus",
    "File",
    "FileChunk",
    "FileIndex",
    "FileVersion",
    "FileVisibility",
    "Function",
    "FunctionVersion",
    "HookRewrite",
    "HttpMethod",
    "IndexStatus",
    "LlmProvider",
    "Message",
    "ModelCall",
    "OtpSession",
    "Query",
    "QueryOperation",
    "RefreshToken",
    "ReplicationSlot",
    "ResponseMode",
    "Role",
    "RolePermission",
    "Schedule",
    "Secret",
    "SecretVisibility",
    "Skill",
    "State",
    "StateVisibility",
    "Store",
    "TargetType",
    "Template",
    "ToolCall",
    "ToolCallStatus",
    "ToolGrant",
    "TriggerMode",
    "TriggerType",
    "Turn",
    "TurnStatus",
    "User",
    "UserRole",
    "Webhook",
    "WebhookDelivery",
    "Worker",
]
