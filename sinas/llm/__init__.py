"""Talking to language models: one protocol, a lean client for OpenAI wires, litellm for the rest."""
