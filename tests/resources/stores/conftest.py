"""A store that everybody with the default role keeps states in."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.chat.conftest import talks
from tests.factories.memory import make_store

if TYPE_CHECKING:
    from sinas.context import AppContext
    from sinas.models import Store
    from tests.fixtures.client import SignIn

__all__ = ["talks"]


@pytest.fixture
async def store(context: AppContext, as_: SignIn) -> Store:
    """`app/notes`, an administrator's."""
    return await make_store(context, await as_.user("admin"), namespace="app", name="notes")
