"""Regular expressions from the configuration that are applied to input from outside, such as Movidesk's answers.

Python's re uses backtracking: for `([0-9]+)*x` and 30 digits it tries 2^30 ways to match, and one answer would block the
service for ever. So the input is short, and patterns with too many ways to match are rejected.
"""

from __future__ import annotations

import math
import re

MAX_TEXT = 128        # characters; the longest extension of the API, and longer than a channel's name (80)
MAX_WAYS = 2_500_000  # these take almost a second

TYPE_CHECKING = False
if TYPE_CHECKING:
    import sre_parse as _parser
    from typing import Any
else:
    _parser = getattr(re, "_parser", None) or re.sre_parse  # the second is its name up to Python 3.10


class Pattern:
    """A regular expression for short texts, which must match completely; \\d and \\w mean ASCII.

    Raises ValueError for an invalid regular expression, and for one that might take too long.
    """

    def __init__(self, text: str):
        try:
            self._regex = re.compile(text, re.ASCII)
            ways = _ways(_parser.parse(text, re.ASCII))
        except (re.error, OverflowError, RecursionError) as error:
            raise ValueError(f"is not a regular expression: {error}") from None
        if ways > MAX_WAYS:
            raise ValueError("might take for ever: do not repeat a group that contains a repetition, and use few * and +")
        self.pattern, self.groups = text, self._regex.groups

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Pattern) and self.pattern == other.pattern

    def fullmatch(self, text: str) -> re.Match[str] | None:
        """The match of the whole text, or None. A text of more than MAX_TEXT characters never matches."""
        return self._regex.fullmatch(text) if len(text) <= MAX_TEXT else None


def _ways(tree: _parser.SubPattern) -> int:
    """An upper bound of the ways in which a parsed pattern can match a text of MAX_TEXT characters; capped."""
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
