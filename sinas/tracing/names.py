"""Attribute names, from OpenTelemetry's semantic conventions (GenAI: version 1.41).

Generative AI: https://github.com/open-telemetry/semantic-conventions/tree/v1.41.0/docs/gen-ai
HTTP, errors and functions (FaaS): https://opentelemetry.io/docs/specs/semconv/

The GenAI conventions are not stable yet; names change only here. What they have no name for is
`sinas.*`.
"""

from typing import Final

OPERATION: Final = "gen_ai.operation.name"
PROVIDER: Final = "gen_ai.provider.name"
CONVERSATION: Final = "gen_ai.conversation.id"
AGENT_ID: Final = "gen_ai.agent.id"
AGENT_NAME: Final = "gen_ai.agent.name"
REQUEST_MODEL: Final = "gen_ai.request.model"
REQUEST_TEMPERATURE: Final = "gen_ai.request.temperature"
REQUEST_MAX_TOKENS: Final = "gen_ai.request.max_tokens"
OUTPUT_TYPE: Final = "gen_ai.output.type"
FINISH_REASONS: Final = "gen_ai.response.finish_reasons"
FIRST_CHUNK_SECONDS: Final = "gen_ai.response.time_to_first_chunk"
INPUT_TOKENS: Final = "gen_ai.usage.input_tokens"
OUTPUT_TOKENS: Final = "gen_ai.usage.output_tokens"
CACHE_READ_TOKENS: Final = "gen_ai.usage.cache_read.input_tokens"
CACHE_WRITE_TOKENS: Final = "gen_ai.usage.cache_creation.input_tokens"
INPUT_MESSAGES: Final = "gen_ai.input.messages"
OUTPUT_MESSAGES: Final = "gen_ai.output.messages"
TOOL_NAME: Final = "gen_ai.tool.name"
TOOL_TYPE: Final = "gen_ai.tool.type"
TOOL_CALL_ID: Final = "gen_ai.tool.call.id"
TOOL_ARGUMENTS: Final = "gen_ai.tool.call.arguments"
TOOL_RESULT: Final = "gen_ai.tool.call.result"

ERROR_TYPE: Final = "error.type"
USER: Final = "user.id"
SESSION: Final = "session.id"
SERVER_ADDRESS: Final = "server.address"
SERVER_PORT: Final = "server.port"
HTTP_METHOD: Final = "http.request.method"
HTTP_ROUTE: Final = "http.route"
HTTP_STATUS: Final = "http.response.status_code"
FUNCTION_NAME: Final = "faas.name"
FUNCTION_CALL_ID: Final = "faas.invocation_id"

# Names of OpenInference, which several vendors read where OpenTelemetry has none.
INPUT: Final = "input.value"
OUTPUT: Final = "output.value"

LABELS: Final = "sinas.labels"
PROVIDER_NAME: Final = "sinas.provider"
REQUEST_ID: Final = "sinas.request.id"
TURN_ID: Final = "sinas.turn.id"
TURN_RUN: Final = "sinas.turn.run"
ATTEMPT: Final = "sinas.execution.attempt"
TRIGGER: Final = "sinas.execution.trigger"
CANCELLED: Final = "sinas.cancelled"

INVOKE_AGENT: Final = "invoke_agent"
CHAT: Final = "chat"
EXECUTE_TOOL: Final = "execute_tool"
