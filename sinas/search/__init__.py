"""Search over documents: their text, cut into chunks, and the chunks' meaning as vectors."""
