"""Where user code runs: one call, one process, nothing shared."""
