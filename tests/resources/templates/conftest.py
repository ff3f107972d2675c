"""A mail server, and the application with it."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import pytest

from tests.fixtures.state import in_own_task
from tests.support.mail_server import MailServer, mail_server

if TYPE_CHECKING:
    import httpx

    from sinas.context import AppContext
    from tests.fixtures.client import SignIn

Mailing = Callable[..., Awaitable["SignIn"]]


@pytest.fixture(scope="session")
async def shared_smtp() -> AsyncIterator[MailServer]:
    async with in_own_task(mail_server()) as server:
        yield server


@pytest.fixture
def smtp(shared_smtp: MailServer) -> MailServer:
    shared_smtp.mails.clear()
    return shared_smtp


@pytest.fixture
async def mailing(context: AppContext, as_: SignIn) -> AsyncIterator[Mailing]:
    """`as_ = await mailing(mail=smtp.settings())`: sign in to an app with these settings."""
    from sinas.app import create_app
    from tests.fixtures.client import SignIn
    from tests.fixtures.configuration import changed

    async with AsyncExitStack() as stack:

        async def build(**groups: dict[str, Any]) -> SignIn:
            settings = changed(context.settings, **groups)
            app = create_app(settings, dataclasses.replace(context, settings=settings))
            await stack.enter_async_context(in_own_task(app.router.lifespan_context(app)))
            signing_in = SignIn(context, app, stack)
            signing_in.users = as_.users
            return signing_in

        yield build


@pytest.fixture
async def sender(mailing: Mailing, smtp: MailServer) -> httpx.AsyncClient:
    """A user of an installation that can send mail."""
    return await (await mailing(mail=smtp.settings()))("user")
