"""`movidesk metrics`: what Prometheus would get."""

from __future__ import annotations

import sys

from movidesk.cli.terminal import GOOD
from movidesk.config import Config
from movidesk.context import Context
from movidesk.metrics import collector


def show(settings: Config) -> int:
    """Print all metrics, whether or not [metrics] is set."""
    sys.stdout.write(collector.text(Context(settings.require("journal"))).decode())
    return GOOD
