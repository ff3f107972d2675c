"""Foreign API dialects over the same engines."""
