"""The one owner of LLM access."""
