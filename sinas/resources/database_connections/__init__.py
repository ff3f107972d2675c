"""Database connections."""
