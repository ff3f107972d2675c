"""Requests that leave the installation: what may be reached, and the one client for it."""
