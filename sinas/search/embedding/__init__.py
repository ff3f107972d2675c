"""Embedders: what turns texts into vectors whose nearness is nearness of meaning."""
