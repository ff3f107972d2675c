"""What every router needs."""
