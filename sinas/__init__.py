"""Sinas: a self-hosted AI platform behind one API with one permission system."""

__version__ = "0.1.0"
