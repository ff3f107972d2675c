"""Readers of document formats. Hostile input: they run in a child process, see `child`."""
