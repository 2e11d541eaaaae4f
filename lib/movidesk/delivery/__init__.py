"""What goes to Movidesk: the API client, the delivery loop, and what wakes it."""
