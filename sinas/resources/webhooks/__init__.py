"""Webhooks: URLs that start functions and agents, and the calls they got."""
