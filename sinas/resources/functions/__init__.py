"""Functions: Python code with schemas, its versions, and calling it."""
