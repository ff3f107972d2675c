"""Behaviour shared by every resource's management operations."""
