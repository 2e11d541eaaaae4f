"""Requests to Movidesk: the API client, when nothing may be sent, and the delivery loop."""
