"""Whom to call back: who was lost or gave up, and was not answered since.

A caller is recognised by the last ten digits of the number: trunks write the same one with and without country code and zeros.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Sequence
from itertools import compress
from typing import NamedTuple

from movidesk.reports.figures import ANSWERED, MADE, OUTCOMES, WAITING

TYPE_CHECKING = False
if TYPE_CHECKING:
    from movidesk.journal.history import PastCall


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
        # Numbers and times of calls that reached an agent, or that one made. As lists they would take five times the memory.
        self._reached = {ANSWERED: (array("q"), array("d")), MADE: (array("q"), array("d"))}

    def look(self, calls: Sequence[PastCall], end: float) -> None:
        """Look at calls of the period, which ends at `end`, or after it."""
        outcomes = OUTCOMES
        self._reach(ANSWERED, [call for call in calls if outcomes[call[1]] is ANSWERED])
        others = [call for call in calls if outcomes[call[1]] is not ANSWERED]
        self._reach(MADE, [call for call in others if outcomes[call[1]] is MADE and not call[4]])
        for _, state, queue, _, _, arrived, ended, _, _, key, number in others:
            what = outcomes[state]
            if what is MADE or what is WAITING or arrived >= end:
                continue
            if not key:
                self._anonymous += 1
                continue
            caller = (arrived, number, queue, what, max(0.0, (ended or arrived) - arrived))
            if caller > self._last.get(key, ()):
                self._last[key] = caller
            self._calls[key] += 1

    def _reach(self, what: str, calls: list[PastCall]) -> None:
        keys, times = self._reached[what]
        keys.extend([call[9] for call in calls])
        times.extend([call[5] for call in calls])

    def found(self) -> Callbacks:
        """Whom to call back."""
        answered = self._since(ANSWERED)
        called = self._since(MADE) - answered
        callers = [Caller(*caller, self._calls[key]) for key, caller in self._last.items()
                   if key not in answered and key not in called]
        callers.sort(key=lambda caller: (-caller.arrived, caller.number))
        return Callbacks(callers, len(answered), len(called), self._anonymous)

    def _since(self, what: str) -> set[int]:
        """Which of the callers an agent has reached since their last call."""
        last = {key: caller[0] for key, caller in self._last.items()}
        keys, times = self._reached[what]
        theirs = compress(zip(keys, times), map(last.__contains__, keys))  # of a million calls, without a step of Python for each
        return {key for key, arrived in theirs if arrived >= last[key]}
