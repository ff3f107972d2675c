"""Jobs: what is queued or runs for a caller, read from the rows that cause it."""
