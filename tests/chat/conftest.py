"""Conversations for the tests of the turn engine."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.chat.support import Talks

if TYPE_CHECKING:
    from sinas.context import AppContext
    from tests.fixtures.client import SignIn
    from tests.support.llm_upstream import LlmUpstream


@pytest.fixture
def talks(context: AppContext, as_: SignIn, llm: LlmUpstream) -> Talks:
    """`talk = await talks([Answer(...)], enabled_functions=["a/b"])`."""
    return Talks(context, as_, llm)
