"""The command's arguments: each function turns a text into a value, or says what is wrong with it (click.BadParameter)."""

from __future__ import annotations

import click

from movidesk.messages import _

ALL = -1  # every event


def events(text: str) -> int:
    """An event's number, or ALL for 'all'."""
    if text == "all":
        return ALL
    if not text.isascii() or not text.isdigit():
        raise click.BadParameter(_("must be an event's number or 'all', not {text!r}").format(text=text))
    return int(text)
