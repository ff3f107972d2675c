"""Engine, base, unit of work."""
