"""Access to Asterisk from outside a call: its console, its manager interface, the sweep and the heartbeat."""
