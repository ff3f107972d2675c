"""Roles: named sets of permissions, their members and their keys."""
