"""Stores and the states in them."""
