"""One package per resource type."""
