"""Conversations, and somebody who can be called back, for batches."""

import asyncio
import dataclasses
from collections.abc import AsyncIterator

import pytest
from fastapi import FastAPI

from sinas.app import create_app
from sinas.context import AppContext
from sinas.egress.client import GuardedClient
from sinas.egress.policy import EgressPolicy
from sinas.kit.addresses import parse_networks
from sinas.resources.batches.callbacks import SWEEPS
from sinas.scheduler import repeat
from tests.chat.conftest import talks
from tests.fixtures.configuration import changed
from tests.fixtures.state import in_own_task
from tests.support.outside import Outside

__all__ = ["calling", "calling_app", "scheduler", "server", "talks"]


@pytest.fixture
async def server() -> AsyncIterator[Outside]:
    async with Outside() as server:
        yield server


@pytest.fixture
async def calling(context: AppContext, server: Outside) -> AsyncIterator[AppContext]:
    """A context that may call `server` back."""
    http = GuardedClient(EgressPolicy(parse_networks("127.0.0.1")), server.trust)
    settings = changed(context.settings, function={"callback_url_hosts": "127.0.0.1"})
    yield dataclasses.replace(context, settings=settings, http=http)
    await http.aclose()


@pytest.fixture
async def calling_app(calling: AppContext) -> AsyncIterator[FastAPI]:
    app = create_app(calling.settings, calling)
    async with in_own_task(app.router.lifespan_context(app)):
        yield app


@pytest.fixture
async def scheduler(calling: AppContext) -> AsyncIterator[None]:
    """The sweeps, as the scheduler runs them."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(repeat(calling, sweep)) for sweep in SWEEPS]
        yield
        for task in tasks:
            task.cancel()
