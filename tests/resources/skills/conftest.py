"""Conversations with agents that have skills."""

from tests.chat.conftest import talks

__all__ = ["talks"]
