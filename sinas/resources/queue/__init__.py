"""The queue: what waits, runs and ended, over all users, for operators."""
