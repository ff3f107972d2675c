"""One chat turn, from journal to stream."""
