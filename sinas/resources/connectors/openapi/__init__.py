"""OpenAPI documents: what operations they describe. Runs in a process of its own."""
