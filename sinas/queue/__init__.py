"""The one owner of arq."""
