"""Logging: structlog for our events, the same lines for libraries'."""

import logging
import sys

import structlog
from structlog.typing import Processor

from sinas.settings import CoreSettings


def configure_logging(settings: CoreSettings) -> None:
    """Set up once per process: text for people, JSON for collectors, always on stderr."""
    level = getattr(logging, settings.log_level.upper())
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderer: Processor
    if settings.log_format == "json":
        shared.append(structlog.processors.format_exc_info)
        renderer = structlog.processors.JSONRenderer()
    else:
        renderer = structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(),
            # The default, where rich is installed, takes seconds and prints every local
            # variable of every frame: keys, tokens, prompts.
            exception_formatter=structlog.dev.plain_traceback,
        )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(processor=renderer, foreign_pre_chain=shared)
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING)
    for name in ("sinas", "uvicorn.error"):
        logging.getLogger(name).setLevel(level)
    # arq logs each job's arguments twice; our own events name jobs by id.
    logging.getLogger("arq").setLevel(logging.ERROR)
