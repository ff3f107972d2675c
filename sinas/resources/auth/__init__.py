"""Signing in: one-time codes, token pairs, and what the caller may do."""
