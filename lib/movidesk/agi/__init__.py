"""What Asterisk runs: the channel, the verbs, and how a script and FastAGI run them."""
