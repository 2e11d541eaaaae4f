"""How often things happened since the journal's file began, for monitoring.

`Store.observe` counts, in the transaction that records what happened, and movidesk.journal.records names what is counted. So the
counters need no process that runs all the time, survive restarts, include what scripts do, and know of calls that were deleted
since. Reading them takes the same time however many calls there are.

While the standby replaces the journal, it counts from 0; its counters are added to the journal's when it ends.
"""

from __future__ import annotations

from movidesk import NamedTuple
from movidesk.journal.store import Store


class Counter(NamedTuple):
    """What was counted of one thing, with durations of one span."""

    name: str        # one of movidesk.journal.records: CALL_ENDED, REQUEST ...
    queue: str       # '' if it has none
    label: str       # '' if it has none; words, separated by blanks
    bucket: float    # the durations' upper end, one of records.BOUNDS; 0.0: the duration is unknown, or of no interest
    times: int       # how often it happened
    seconds: float   # the sum of the durations


class Counters:
    """The counters of a journal."""

    def __init__(self, store: Store):
        self._store = store

    def all(self) -> list[Counter]:
        """All counters."""
        return self._store.rows(Counter, "SELECT name, queue, label, bucket, count, seconds FROM counters")
