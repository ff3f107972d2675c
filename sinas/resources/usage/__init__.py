"""Usage of models."""
