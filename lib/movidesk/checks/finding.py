"""What a check found, in the words that `movidesk check` prints."""

from __future__ import annotations

from typing import NamedTuple

OK, NOTE, TROUBLE = "ok", "note", "TROUBLE"


class Finding(NamedTuple):
    """The result of one check."""

    subject: str  # what was looked at
    state: str  # OK; NOTE: not looked at, or worth knowing; TROUBLE
    text: str = ""  # what was seen; of TROUBLE: what is wrong
    why: str = ""  # of TROUBLE: what follows from it
    remedy: str = ""  # of TROUBLE: the command, or the change, that mends it


def ok(subject: str, text: str = "") -> Finding:
    """All is well."""
    return Finding(subject, OK, text)


def note(subject: str, text: str) -> Finding:
    """Nothing is wrong as far as one can see."""
    return Finding(subject, NOTE, text)


def trouble(subject: str, text: str, why: str, remedy: str) -> Finding:
    """Something is wrong. The texts are sentences without a full stop."""
    return Finding(subject, TROUBLE, text, why, remedy)
