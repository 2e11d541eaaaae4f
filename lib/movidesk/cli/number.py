"""`movidesk number`: how Movidesk would get a caller's number."""

from __future__ import annotations

import sys
from collections.abc import Iterable

from movidesk.cli.terminal import GOOD, TROUBLE, Row, print_table
from movidesk.config import Config
from movidesk.delivery import numbers
from movidesk.messages import _
from movidesk.rules import call_states


def show(settings: Config, texts: Iterable[str]) -> int:
    """Print each number as a trunk sends it, as it would be sent, and why."""
    settings.require("numbers", form=False)
    rows = [Row((text, *numbers.convert(call_states.client_number(text), settings))) for text in texts]
    print_table({_("number"): 0, _("sent"): 0, _("why"): 0}, rows)
    wrong = numbers.problem(settings)
    if wrong:
        print(f"movidesk: {wrong}", file=sys.stderr)
    return TROUBLE if wrong else GOOD
