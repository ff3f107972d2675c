"""Files that code wrote while it ran for a chat."""
