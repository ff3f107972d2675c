"""Executions: every run of a function, from its acceptance to its end."""
