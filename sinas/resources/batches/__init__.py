"""Batches: many calls of one function or many chats with one agent, and callbacks of both."""
