"""Conversations for the tests of the chat operations."""

from tests.chat.conftest import talks

__all__ = ["talks"]
