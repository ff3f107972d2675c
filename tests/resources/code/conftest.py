"""Conversations with agents that run code."""

from tests.chat.conftest import talks

__all__ = ["talks"]
