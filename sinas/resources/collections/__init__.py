"""Collections: sets of files and the rules they keep."""
