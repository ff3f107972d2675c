"""Chats: conversations of one user with one agent."""
