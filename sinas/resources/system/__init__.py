"""The installation as a whole: how it is, and what an operator does about it."""
