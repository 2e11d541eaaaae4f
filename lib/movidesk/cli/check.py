"""`movidesk check`."""

from __future__ import annotations

from movidesk.checks import all_checks
from movidesk.cli.terminal import GOOD, TROUBLE
from movidesk.config import Config


def run(settings: Config) -> int:
    """Run all checks, and print each with its problem."""
    good = True
    for name, problem in all_checks(settings):
        good = good and not problem
        print(f"{'ok' if not problem else 'TROUBLE':<8} {name}{': ' + problem if problem else ''}")
    return GOOD if good else TROUBLE
