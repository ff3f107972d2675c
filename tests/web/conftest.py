"""The real application with one more route, that fails as it is told."""

from collections.abc import AsyncIterator
from typing import Annotated, Any

import httpx
import pytest
from fastapi import Body, FastAPI, Request
from pydantic import Field
from sqlalchemy import text

from sinas.app import create_app
from sinas.context import AppContext
from sinas.crud.schema import Input
from sinas.models import User
from sinas.settings import Settings
from sinas.web.deps import InUnit
from tests.fixtures.client import BASE_URL
from tests.fixtures.state import in_own_task


class Shape(Input):
    """A body with a field inside a field."""

    name: str
    sizes: dict[str, Annotated[int, Field(ge=0)]] = {}


def add_failures(app: FastAPI) -> None:
    app.state.raises = None

    @app.get("/fail")
    async def fail(request: Request) -> None:
        raise request.app.state.raises

    @app.post("/shape")
    async def shape(body: Shape) -> None: ...

    @app.post("/store")
    async def store(email: Annotated[str, Body(embed=True)], unit: InUnit) -> None:
        unit.session.add(User(email=email))

    @app.get("/sql")
    async def sql(unit: InUnit, statement: str) -> None:
        await unit.session.execute(text(statement))

    @app.post("/echo")
    async def echo(request: Request) -> int:
        return len(await request.body())

    @app.post("/json")
    async def json(body: Annotated[dict[str, Any], Body()]) -> int:
        return len(body)


@pytest.fixture(scope="session")
async def shared_failing_app(
    settings: Settings, shared_context: AppContext
) -> AsyncIterator[FastAPI]:
    app = create_app(settings, shared_context)
    add_failures(app)
    management = next(r.app for r in app.routes if getattr(r, "path", None) == "/api/v1")  # type: ignore[attr-defined]
    add_failures(management)
    async with in_own_task(app.router.lifespan_context(app)):
        yield app


@pytest.fixture
async def failing_app(context: AppContext, shared_failing_app: FastAPI) -> FastAPI:
    return shared_failing_app


@pytest.fixture
async def http(failing_app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(failing_app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url=BASE_URL) as client:
        yield client
