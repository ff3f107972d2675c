"""The tool with which agents run code."""
