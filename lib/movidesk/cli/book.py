"""Opens the journal for a command."""

from __future__ import annotations

import os
import sys

from movidesk.config import Config
from movidesk.journal import Journal
from movidesk.messages import _


def opened(settings: Config) -> Journal:
    """The journal; says so if there is none yet. Raises ConfigError, JournalError."""
    path = settings.require("journal")["journal", "path"]
    if not os.path.exists(path) and os.path.isdir(os.path.dirname(path)):
        text = _("{path}: no journal yet; the first call, or movidesk serve, creates it").format(path=path)
        print(f"movidesk: {text}", file=sys.stderr)
    return Journal(path)
