"""Batches: many calls of one function, and the callbacks of calls and batches."""
