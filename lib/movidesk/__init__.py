"""movidesk-agi: Asterisk calls, Movidesk decides, and every call ends as a complete ticket."""

__version__ = "0.1.0"
