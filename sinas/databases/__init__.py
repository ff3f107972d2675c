"""Databases of users: pools of connections to them, one driver per type behind one protocol."""
