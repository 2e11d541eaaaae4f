"""Whom to call back: who was lost or gave up, and was not answered since.

A caller is recognised by the last ten digits of the number: trunks write the same one with and without country code and zeros.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Sequence
from itertools import compress, repeat
from math import inf
from operator import ge
from typing import NamedTuple

from movidesk.reports.figures import ABANDONED, LOST, MADE, OUTCOMES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from movidesk.journal.history import Calls


class Caller(NamedTuple):
    """Somebody who was not answered."""

    arrived: float  # when the caller's last call arrived, epoch seconds
    number: str     # as that call had it
    queue: str      # of that call
    outcome: str    # of that call: figures.LOST or figures.ABANDONED
    waited: float   # for how long the caller waited then, seconds
    calls: int      # how many of the caller's calls nobody answered


class Callbacks(NamedTuple):
    """Whom to call back."""

    callers: list[Caller]  # the one who called last comes first
    answered: int          # callers who called again and were answered
    called: int            # callers whom an agent has called since
    anonymous: int         # calls without a number


class Search:
    """Finds whom to call back. Calls may come in any order."""

    def __init__(self) -> None:
        self._last: dict[int, tuple[float, str, str, str, float]] = {}  # as Caller, without `calls`
        self._calls: Counter[int] = Counter()
        self._anonymous = 0
        self._answered, self._called = _Reached(), _Reached()

    def look(self, calls: Calls, end: float) -> None:
        """Look at calls of the period, which ends at `end`, or after it."""
        self._answered.add(calls.answered.keys, calls.answered.arrived)
        last, times = self._last, self._calls
        for arrived, state, queue, _agent, key, lasted, code, number in calls.others:
            what = OUTCOMES[state]
            if (what is LOST or what is ABANDONED) and arrived < end:
                if key:
                    times[key] += 1
                    caller = (arrived, number, queue, what, max(0, lasted) / 10)
                    last[key] = max(last.get(key, caller), caller)
                else:
                    self._anonymous += 1
            elif what is MADE and not code:
                self._called.add((key,), (arrived,))

    def found(self) -> Callbacks:
        """Whom to call back."""
        last = {key: caller[0] for key, caller in self._last.items()}
        answered = self._answered.since(last)
        called = self._called.since(last) - answered
        callers = [Caller(*caller, self._calls[key]) for key, caller in self._last.items()
                   if key not in answered and key not in called]
        callers.sort(key=lambda caller: (-caller.arrived, caller.number))
        return Callbacks(callers, len(answered), len(called), self._anonymous)


class _Reached:
    """Calls that reached somebody."""

    def __init__(self) -> None:
        self._keys, self._times = array("q"), array("d")  # lists would take five times the memory

    def add(self, keys: Sequence[int], times: Sequence[float]) -> None:
        """Calls with these keys (history.Answered), at these times."""
        self._keys.extend(keys)
        self._times.extend(times)

    def since(self, last: dict[int, float]) -> set[int]:
        """Which of these keys were reached at the time beside them or later."""
        # Made of functions that are not Python's own code: this is one step for each of a million calls.
        return set(compress(self._keys, map(ge, self._times, map(last.get, self._keys, repeat(inf)))))
