"""Regular expressions from the configuration that meet texts from outside, such as Movidesk's answers.

Python's re tries one way to match after the other, and `([0-9]+)*x` has 2^30 of them in 30 digits: one answer would stop
the service for good. So texts are short, and the ways are counted beforehand.
"""

from __future__ import annotations

import math
import re

MAX_TEXT = 128        # characters; the longest extension that the API takes, and more than the name of a channel has (80)
MAX_WAYS = 2_500_000  # most of a second

TYPE_CHECKING = False
if TYPE_CHECKING:
    import sre_parse as _parser
    from typing import Any
else:
    _parser = getattr(re, "_parser", None) or re.sre_parse  # the second is its name up to Python 3.10


class Pattern:
    """A regular expression that whole, short texts match; its classes (\\d, \\w) are of ASCII.

    Raises ValueError for what is no regular expression, or might take long.
    """

    def __init__(self, text: str):
        try:
            self._regex = re.compile(text, re.ASCII)
            ways = _ways(_parser.parse(text, re.ASCII))
        except (re.error, OverflowError, RecursionError) as error:
            raise ValueError(f"is no regular expression: {error}") from None
        if ways > MAX_WAYS:
            raise ValueError("might take for ever: repeat no group that repeats something, and use few * and +")
        self.pattern, self.groups = text, self._regex.groups

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Pattern) and self.pattern == other.pattern

    def fullmatch(self, text: str) -> re.Match[str] | None:
        """The match of the whole text, or None; None for every text of more than MAX_TEXT characters."""
        return self._regex.fullmatch(text) if len(text) <= MAX_TEXT else None


def _ways(tree: _parser.SubPattern) -> int:
    """At most so many ways there are for a parsed pattern to match a text of MAX_TEXT characters; capped."""
    ways = 1
    value: Any  # what it is depends on the kind, which nothing documents
    for kind, value in tree.data:
        if kind == _parser.BRANCH:
            ways *= sum(map(_ways, value[1]))
        elif str(kind).endswith("_REPEAT"):
            least, most, item = value
            each = _ways(item)
            ways *= sum(each ** times for times in range(min(least, MAX_TEXT), min(most, MAX_TEXT) + 1))
        else:
            parts = value if isinstance(value, tuple) else (value,)
            ways *= math.prod(_ways(part) for part in parts if isinstance(part, _parser.SubPattern))
        ways = min(ways, MAX_WAYS + 1)
    return ways
