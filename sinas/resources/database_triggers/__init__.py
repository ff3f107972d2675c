"""Triggers on tables of databases."""
