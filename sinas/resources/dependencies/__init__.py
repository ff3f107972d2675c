"""Python packages that functions may import."""
