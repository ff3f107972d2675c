"""Sinas: a self-hosted AI platform behind one API with one permission system."""
