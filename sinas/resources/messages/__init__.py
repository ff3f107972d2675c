"""Messages of all chats, for those who look after agents."""
