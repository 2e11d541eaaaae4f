"""Files of recordings and messages: links, retention, conversion."""
