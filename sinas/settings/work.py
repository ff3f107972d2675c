"""Groups about the work: queues, functions, sandboxes, dependencies, webhooks, chats."""

from typing import Literal

from pydantic import AliasChoices, Field
from pydantic_settings import SettingsConfigDict

from sinas.settings.platform import Group


class QueueSettings(Group):
    """Jobs and the workers that take them."""

    function_concurrency: int = Field(
        10,
        validation_alias=AliasChoices("QUEUE_FUNCTION_CONCURRENCY", "function_concurrency"),
        description="Function calls one function worker runs at once.",
    )
    agent_concurrency: int = Field(
        20,
        validation_alias=AliasChoices("QUEUE_AGENT_CONCURRENCY", "agent_concurrency"),
        description="Turns one agent worker runs at once.",
    )
    sub_agent_concurrency: int = Field(
        10,
        validation_alias=AliasChoices("QUEUE_AGENT_SUB_CONCURRENCY", "sub_agent_concurrency"),
        description="Turns of sub-agents one agent worker runs at once, besides the others.",
    )
    nested_agent_concurrency: int = Field(
        3,
        validation_alias=AliasChoices("QUEUE_AGENT_NESTED_CONCURRENCY", "nested_agent_concurrency"),
        description="Turns started by functions' code that one agent worker runs at once, at each "
        "depth; kept free for them, so that what waits for turns never fills a worker.",
    )
    agent_batch_concurrency: int = Field(
        5,
        validation_alias=AliasChoices("QUEUE_AGENT_BATCH_CONCURRENCY", "agent_batch_concurrency"),
        description="Turns of batches one agent worker runs at once, besides the others.",
    )
    max_retries: int = Field(
        3,
        validation_alias=AliasChoices("QUEUE_MAX_RETRIES", "max_retries"),
        description="How often a turn whose worker died is taken over, and attempts at a function "
        "call that may be run again and sets no number of its own.",
    )
    retry_delay: float = Field(
        10.0,
        validation_alias=AliasChoices("QUEUE_RETRY_DELAY", "retry_delay"),
        description="Seconds before the second attempt at a function call; doubles after each.",
    )
    nested_concurrency: int = Field(
        3,
        validation_alias=AliasChoices("QUEUE_NESTED_CONCURRENCY", "nested_concurrency"),
        description="Calls made by functions that one function worker runs at once, at each depth; "
        "kept free for them, so that callers that wait for callees never fill a worker.",
    )
    index_concurrency: int = Field(
        1,
        ge=1,
        validation_alias=AliasChoices("QUEUE_INDEX_CONCURRENCY", "index_concurrency"),
        description="Files one function worker reads for search at once.",
    )
    shared_concurrency: int = Field(
        50,
        validation_alias=AliasChoices("QUEUE_SHARED_CONCURRENCY", "shared_concurrency"),
        description="Shared-pool calls one function worker runs at once, at each depth.",
    )
    lease_seconds: float = Field(
        5.0,
        validation_alias=AliasChoices("QUEUE_LEASE_SECONDS", "lease_seconds"),
        description="A worker silent for this long has lost its work.",
    )
    drain_seconds: float = Field(
        3.0,
        validation_alias=AliasChoices("QUEUE_DRAIN_SECONDS", "drain_seconds"),
        description="How long a stopping worker waits for running jobs.",
    )


class FunctionSettings(Group):
    """Limits of a function call."""

    timeout: int = Field(
        300,
        validation_alias=AliasChoices("FUNCTION_TIMEOUT", "timeout"),
        description="Seconds a call may run when the function sets none.",
    )
    max_timeout: int = Field(
        86_400,
        validation_alias=AliasChoices("FUNCTION_MAX_TIMEOUT", "max_timeout"),
        description="Largest timeout a function may ask for, in seconds.",
    )
    token_buffer_seconds: int = Field(
        300,
        validation_alias=AliasChoices("EXECUTION_TOKEN_BUFFER_SECONDS", "token_buffer_seconds"),
        description="How long a call's access token outlives its timeout.",
    )
    max_token_seconds: int = Field(
        86_400,
        validation_alias=AliasChoices("MAX_EXECUTION_TOKEN_SECONDS", "max_token_seconds"),
        description="Longest life of a call's access token.",
    )
    max_input_bytes: int = Field(
        6_291_456,
        validation_alias=AliasChoices("FUNCTION_MAX_INPUT_BYTES", "max_input_bytes"),
        description="Largest JSON input of a call.",
    )
    max_result_bytes: int = Field(
        6_291_456,
        validation_alias=AliasChoices("FUNCTION_MAX_RESULT_BYTES", "max_result_bytes"),
        description="Largest JSON result of a call.",
    )
    max_output_bytes: int = Field(
        65_536,
        validation_alias=AliasChoices("FUNCTION_MAX_OUTPUT_BYTES", "max_output_bytes"),
        description="How much of stdout, and of stderr, is kept with an execution.",
    )
    max_depth: int = Field(
        4,
        validation_alias=AliasChoices("MAX_EXECUTION_DEPTH", "max_depth"),
        description="Longest chain of functions that call each other through the API; 0 for no "
        "limit.",
    )
    input_timeout: int = Field(
        86_400,
        validation_alias=AliasChoices("FUNCTION_INPUT_TIMEOUT", "input_timeout"),
        description="Seconds a call waits for the answer to `input()` before it fails.",
    )
    callback_url_hosts: str = Field(
        "",
        validation_alias=AliasChoices("CALLBACK_URL_HOSTS", "callback_url_hosts"),
        description="Comma list of hosts that may be called back, `*` for any public one; empty "
        "refuses callback_url.",
    )
    max_batch_size: int = Field(
        1000,
        validation_alias=AliasChoices("MAX_BATCH_SIZE", "max_batch_size"),
        description="Inputs of one batch.",
    )
    code_execution_enabled: bool = Field(
        True,
        validation_alias=AliasChoices("CODE_EXECUTION_ENABLED", "code_execution_enabled"),
        description="Whether agents with `codeExecution` get the tool execute_code.",
    )
    code_execution_timeout: int = Field(
        120,
        validation_alias=AliasChoices("CODE_EXECUTION_TIMEOUT", "code_execution_timeout"),
        description="Seconds one execute_code may run.",
    )


class SandboxSettings(Group):
    """Where user code runs. `backend` is the variable SANDBOX; the rest are SANDBOX_*."""

    model_config = SettingsConfigDict(env_prefix="SANDBOX_")

    backend: Literal["auto", "docker", "process"] = Field(
        "auto",
        validation_alias=AliasChoices("SANDBOX", "backend"),
        description="`auto` takes Docker where an engine answers and has or can build the image.",
    )
    image: str = Field(
        "sinas-executor",
        validation_alias=AliasChoices("FUNCTION_CONTAINER_IMAGE", "image"),
        description="Image the containers run.",
    )
    runtime: str = Field(
        "", description="OCI runtime of the containers, such as `runsc`; empty for the engine's."
    )
    egress: Literal["proxy", "network", "none"] = Field(
        "proxy",
        description="How functions reach the internet: `proxy` gives them no network but a guarded "
        "way out, `network` attaches containers to SANDBOX_NETWORK, whose rules are then yours, "
        "`none` leaves only the API.",
    )
    egress_allow: str = Field(
        "",
        description="Comma list of private addresses or networks that functions may reach besides "
        "public ones.",
    )
    network: str = Field(
        "sinas-sandbox", description="Docker network of the containers where egress is `network`."
    )
    min_size: int = Field(4, description="Sandboxes kept ready.")
    max_size: int = Field(20, description="Sandboxes at most, per function worker.")
    min_idle: int = Field(2, description="Idle sandboxes kept while others are busy.")
    max_executions: int = Field(
        5000,
        description="Calls after which a sandbox is replaced. Each call is a fresh process of a "
        "user of its own, so this bounds what could pile up in a container, not what calls share.",
    )
    acquire_timeout: float = Field(30.0, description="Seconds a call waits for a free sandbox.")
    memory_mb: int = Field(
        512,
        validation_alias=AliasChoices("MAX_FUNCTION_MEMORY", "memory_mb"),
        description="Memory of one sandbox, in MiB.",
    )
    cpus: float = Field(
        1.0,
        validation_alias=AliasChoices("MAX_FUNCTION_CPU", "cpus"),
        description="CPUs of one sandbox.",
    )
    pids: int = Field(256, description="Processes and threads of one sandbox.")
    tmp_mb: int = Field(100, description="Size of /tmp in one sandbox, in MiB.")
    allow_process_in_production: bool = Field(
        False, description="Lets `process` run in production although it isolates less."
    )
    shared_workers: int = Field(
        4,
        validation_alias=AliasChoices("DEFAULT_WORKER_COUNT", "shared_workers"),
        description="Containers for shared-pool functions, per function worker.",
    )
    shared_memory: str = Field(
        "1g",
        validation_alias=AliasChoices("WORKER_MEMORY_LIMIT", "shared_memory"),
        description="Memory of one shared container: a number with k, m or g.",
    )


class DependencySettings(Group):
    """Python packages for functions."""

    allow_installation: bool = Field(
        True,
        validation_alias=AliasChoices("ALLOW_PACKAGE_INSTALLATION", "allow_installation"),
        description="Whether packages can be approved at all.",
    )
    allowed_packages: str = Field(
        "",
        validation_alias=AliasChoices("ALLOWED_PACKAGES", "allowed_packages"),
        description="Comma list of packages that may be approved; empty for any.",
    )
    build_timeout: int = Field(
        300,
        validation_alias=AliasChoices("DEPENDENCY_BUILD_TIMEOUT", "build_timeout"),
        description="Seconds pip may take to resolve and install them.",
    )


class WebhookSettings(Group):
    """Webhooks."""

    model_config = SettingsConfigDict(env_prefix="WEBHOOK_")

    retention_days: int = Field(7, description="How long deliveries are kept.")
    max_stored_bytes: int = Field(
        262_144, description="Largest body that is kept with a delivery, to be replayed."
    )


class ChatSettings(Group):
    """Limits of a turn."""

    max_history_messages: int = Field(100, description="Messages of history sent to a model.")
    max_tool_iterations: int = Field(25, description="Model rounds with tool calls in one turn.")
    tool_result_max_inline: int = Field(
        5, description="Tool results a model is shown again; older long ones can be retrieved."
    )
    tool_result_max_size: int = Field(
        102_400, description="Bytes of one tool result that are kept for retrieval."
    )
    tool_result_retention_days: int = Field(
        30, description="How long full tool results are kept; 0 for ever."
    )
    tool_approval_timeout_seconds: int = Field(
        0, description="Seconds after which an undecided approval is a rejection; 0 for never."
    )
    ask_user_timeout_seconds: int = Field(
        86_400, description="Seconds a question to the user stays open; 0 for ever."
    )
    max_delegation_depth: int = Field(
        5,
        validation_alias=AliasChoices("AGENT_MAX_DELEGATION_DEPTH", "max_delegation_depth"),
        description="How many agents may call each other in a chain; 0 for no limit.",
    )
    delegate_timeout: int = Field(
        600,
        validation_alias=AliasChoices("AGENT_DELEGATE_TIMEOUT", "delegate_timeout"),
        description="Seconds a sub-agent's turn may work, when its agent sets no time of its own.",
    )
    tool_result_context_max_size: int = Field(
        102_400, description="Bytes of one tool result sent to a model."
    )
    agent_job_timeout: int = Field(600, description="Seconds a turn may take.")
    chats_unpaginated_max: int = Field(10_000, description="Chats listed without a limit.")
    adapter_chat_seconds: int = Field(
        86_400,
        description="How long the chat of an OpenAI-style request without a session is kept.",
    )
    stream_ttl_seconds: int = Field(3600, description="How long a finished stream can be replayed.")
    ping_seconds: float = Field(15.0, description="Silence after which a stream sends a ping.")
    llm_timeout_seconds: float = Field(
        120.0, description="Longest silence of an LLM upstream before the turn fails."
    )
    llm_max_retries: int = Field(
        2,
        ge=0,
        description="How often a model is asked again that failed in a way that may pass (429, 5xx, "
        "no connection) before it answered anything.",
    )
    llm_retry_seconds: float = Field(
        20.0,
        description="How long after the first attempt a model may be asked again; a provider that "
        "asks to wait for longer (Retry-After) is not.",
    )
    llm_max_answer_chars: int = Field(
        4_000_000,
        description="Characters of one answer of a model, its tool calls included; a longer one "
        "fails the turn.",
    )
    max_tool_calls: int = Field(
        256, ge=1, description="Tool calls in one answer of a model; more fail the turn."
    )
    max_parallel_tool_calls: int = Field(
        10, ge=1, description="Tool calls of one answer that run at once; the others wait."
    )
