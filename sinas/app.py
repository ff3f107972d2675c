"""The API process: three mounted applications over one context."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

from sinas import __version__
from sinas.adapters.openai import application as openai
from sinas.context import AppContext, open_context
from sinas.logs import configure_logging
from sinas.registry import RESOURCES
from sinas.seed import seed
from sinas.settings import Settings, load_settings
from sinas.web import health, problems
from sinas.web.middleware import BodyLimit, RequestId
from sinas.web.openapi import describe_errors, serve_assets, serve_docs
from sinas.web.tracing import RequestSpans
from sinas.web.usage import UsageStamps

EXPOSED_HEADERS = [
    "X-Request-ID",
    "X-Stream-Channel",
    "X-Chat-ID",
    "X-Execution-ID",
    "Idempotency-Replayed",
    "X-Next-Cursor",
    "X-Truncated",
    "Retry-After",
]


def create_app(settings: Settings | None = None, context: AppContext | None = None) -> FastAPI:
    """The whole HTTP surface.

    Args:
        settings: Read from the environment when not given.
        context: An open context to serve with; opened and closed with the app when not given.
    """
    settings = settings or load_settings()
    configure_logging(settings.core)
    management = _application("Sinas management API", "Create and change resources.")
    adapter = _application(
        "Sinas OpenAI adapter",
        "OpenAI's chat completions, by agents and by the models of LLM providers.",
        install=openai.install,
    )
    runtime = _application(
        "Sinas runtime API",
        "Sign in, chat with agents, run functions.",
        lifespan=_lifespan(settings, context, (management, adapter)),
    )
    for resource in RESOURCES:
        if resource.management is not None:
            management.include_router(resource.management)
        if resource.runtime is not None:
            runtime.include_router(resource.runtime)
    runtime.include_router(health.router)
    serve_assets(runtime)
    runtime.mount("/api/v1", management)
    runtime.mount("/adapters/openai", adapter)
    runtime.add_middleware(problems.InternalErrors)
    runtime.add_middleware(BodyLimit)
    runtime.add_middleware(
        CORSMiddleware,
        allow_origins=["*"],
        allow_methods=["*"],
        allow_headers=["*"],
        expose_headers=EXPOSED_HEADERS,
    )
    if settings.telemetry.enabled:
        runtime.add_middleware(RequestSpans)
    runtime.add_middleware(RequestId)
    return runtime


def _install_problems(app: FastAPI) -> None:
    problems.install(app)
    describe_errors(app)


def _application(
    title: str,
    summary: str,
    lifespan: Any = None,
    install: Callable[[FastAPI], None] = _install_problems,
) -> FastAPI:
    app = FastAPI(
        title=title,
        summary=summary,
        version=__version__,
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
        separate_input_output_schemas=False,
        redirect_slashes=False,
    )
    serve_docs(app)
    install(app)
    return app


def _lifespan(settings: Settings, given: AppContext | None, mounted: Sequence[FastAPI]) -> Any:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        opened: AbstractAsyncContextManager[AppContext]
        opened = _borrowed(given) if given is not None else open_context(settings)
        async with opened as context:
            stamps = UsageStamps()
            for each in (app, *mounted):
                each.state.context = context
                each.state.stamps = stamps
            await seed(context)
            await context.signals.ready()
            yield

    return lifespan


@asynccontextmanager
async def _borrowed(context: AppContext) -> AsyncIterator[AppContext]:
    yield context
