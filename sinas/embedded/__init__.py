"""The whole platform under one supervisor."""
