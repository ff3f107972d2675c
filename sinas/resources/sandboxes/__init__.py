"""Sandboxes: what operators see of the containers of all function workers, and do with them."""
