"""Things a model can call."""
