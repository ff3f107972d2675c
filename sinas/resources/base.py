"""Resource: the one declaration a slice announces itself with."""

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter

from sinas.context import Abandon, AppContext, WorkerContext
from sinas.queue.commands import Command
from sinas.queue.job import AnyJob, AnySweep
from sinas.tools.base import InstructionsProvider, ToolProvider
from sinas.tools.hooks import HookRunner


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """What the platform knows of a resource type.

    Attributes:
        name: Singular noun, also in logs.
        management: Routes under `/api/v1`.
        runtime: Routes under `/`.
        tools: Makes the provider of what agents may call, once per worker.
        hooks: Makes what runs the functions of message hooks, once per worker.
        instructions: Makes the provider of a section of the system message, once per worker.
        jobs: What workers run.
        sweeps: What the scheduler runs again and again.
        commands: What function workers do when an operator asks.
        watch: What function workers do beside taking jobs, as long as they live.
        abandon: Ends what tool calls started, by their keys, when their turn ended before them.
    """

    name: str
    management: APIRouter | None = None
    runtime: APIRouter | None = None
    tools: Callable[[AppContext], ToolProvider] | None = None
    hooks: Callable[[AppContext], HookRunner] | None = None
    instructions: Callable[[AppContext], InstructionsProvider] | None = None
    jobs: tuple[AnyJob, ...] = ()
    sweeps: tuple[AnySweep, ...] = ()
    commands: tuple[Command, ...] = ()
    watch: Callable[[WorkerContext], Coroutine[Any, Any, None]] | None = None
    abandon: Abandon | None = None
