"""What became of the calls that arrived since a moment, for reports.

The calls are found by their ends, which have an index: who arrived since then has ended since then, or is still there. So today's
calls cost the same however many calls the journal has.
"""

from __future__ import annotations

from movidesk.journal.store import Store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    #: A call as a report sees it. A plain tuple, because a report reads a million of them. Times are epoch seconds.
    PastCall = tuple[
        int,           # the number of its row
        str,           # state (call_states); how it really ended, where Movidesk was told `completed` (report_transfer = ring)
        str,           # queue
        str,           # extension of the agent who was offered the call, or has it, or began it; '' for none
        str,           # Movidesk's last code; of a made call why it did not come about
        float,         # when it arrived
        float | None,  # when it ended; None while it goes on
        float | None,  # when an agent picked up; None if none did, or the time is unknown
        float | None,  # when Movidesk took the report of that; None if it has not
        int,           # the last DIGITS of the number, as a number; 0 if there is none
        str,           # number: the caller's; of a made call, the one that was called
    ]

PAGE = 2000      # calls that are read at once; other threads wait for the journal meanwhile
SET_BACK = 3600  # seconds by which the clock may have been set back between a call's arrival and its end
DIGITS = 10      # of a number, by which a caller is recognised: trunks add country codes and zeros before them, or not

_PICKED_UP = "state IN ('completed', 'transferred') AND fate = ''"
_TOLD = "FROM events WHERE call = calls.id AND kind IN ('transferred', 'start_transferred')"
# Versions before this one kept neither the pick-up nor the screen with the call: its event tells both.
_COLUMNS = f"""
    id, CASE fate WHEN '' THEN state ELSE fate END, queue, extension, code, arrived, ended,
    CASE WHEN {_PICKED_UP} THEN coalesce(picked_up, (SELECT at {_TOLD} ORDER BY id DESC LIMIT 1)) END,
    CASE WHEN {_PICKED_UP} THEN coalesce(shown, (SELECT settled {_TOLD} AND status = 'delivered' ORDER BY id DESC LIMIT 1)) END,
    CAST(substr(number, -{DIGITS}) AS INTEGER), number"""


class History:
    """The calls of a journal, in the order in which they were recorded."""

    def __init__(self, store: Store):
        self._store = store

    def since(self, begin: float) -> Iterator[list[PastCall]]:
        """The calls that arrived at `begin` or later; some at a time, so that nobody waits long for the journal."""
        first = self._store.value("""
            SELECT min(id) FROM (
                SELECT min(id) AS id FROM calls INDEXED BY calls_ended WHERE ended >= :ended
                UNION ALL SELECT min(id) FROM calls INDEXED BY calls_open WHERE ended IS NULL)""", ended=begin - SET_BACK)
        after = None if first is None else first - 1
        while after is not None:
            page: list[PastCall] = self._store.tuples(
                f"SELECT {_COLUMNS} FROM calls NOT INDEXED WHERE id > :after AND arrived >= :begin ORDER BY id LIMIT :page",
                after=after, begin=begin, page=PAGE)
            yield page
            after = page[-1][0] if len(page) == PAGE else None

    def begins(self) -> float | None:
        """When the first call arrived that the journal still has, epoch seconds; None if there is none."""
        found: float | None = self._store.value("SELECT min(arrived) FROM (SELECT arrived FROM calls ORDER BY id LIMIT 1000)")
        return found
