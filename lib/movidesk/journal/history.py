"""What became of the calls that arrived since a moment, for reports.

The calls are found by their ends, which have an index: who arrived since then has ended since then, or is still there. So today's
calls cost the same however many calls the journal has.
"""

from __future__ import annotations

from operator import itemgetter
from typing import cast

from movidesk import NamedTuple
from movidesk.journal.store import Store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

PAGE = 200           # calls that are read at once: they stay in the processor's cache, and nobody waits long for the journal
SET_BACK = 3600      # seconds by which the clock may have been set back between a call's arrival and its end
DIGITS = 10          # of a number, by which a caller is recognised: trunks add country codes and zeros before them, or not
LONGEST = 2**31 - 1  # tenths of a second: what array("i") takes
UNKNOWN = -1         # instead of tenths of a second


class Answered(NamedTuple):
    """Calls that an agent answered, in order of arrival: columns of the same length. Most calls are answered, and a report reads
    a million of them; what works on columns takes no step of Python for each. Times that something took are in tenths of a
    second, from 0 to LONGEST, or UNKNOWN."""

    arrived: Sequence[float]  # epoch seconds
    queues: Sequence[str]
    agents: Sequence[str]     # extension of the agent who has the call, or had it
    keys: Sequence[int]       # the last DIGITS of the caller's number, as a number; 0 if there is none
    waits: Sequence[int]      # from the arrival to the pick-up; UNKNOWN if nobody knows when that was, as the next two are then
    talks: Sequence[int]      # from the pick-up to the end; UNKNOWN while the call goes on
    screens: Sequence[int]    # from the pick-up until Movidesk took the report of it; UNKNOWN if it has not


class Other(NamedTuple):
    """A call that no agent answered, or that one made."""

    arrived: float  # epoch seconds
    state: str      # call_states; how it really ended, where Movidesk was told `completed` (report_transfer = ring)
    queue: str
    agent: str      # extension of the agent who was offered the call, or began it; '' for none
    key: int        # as in Answered.keys
    lasted: int     # from the arrival to the end, in the unit of Answered; UNKNOWN while it goes on
    code: str       # Movidesk's last code; of a made call why it did not come about
    number: str     # the caller's; of a made call, the one that was called


class Calls(NamedTuple):
    """Some calls, as a report sees them."""

    answered: Answered
    others: list[Other]


_ANSWERED = "state IN ('completed', 'transferred') AND fate = ''"


def _tenths(begin: str, end: str) -> str:
    """The time between two moments, as SQL."""
    return f"CAST(({end} - {begin}) * 10 + 0.5 AS INTEGER)"


def _page(picked_up: str, shown: str) -> str:
    """The next calls, as SQL: the columns of Other, and what is more in Answered. Of an answered call the state is NULL, and
    the time that it lasted ends with the pick-up."""
    return f"""
        SELECT arrived, CASE WHEN {_ANSWERED} THEN NULL WHEN fate = '' THEN state ELSE fate END, queue, extension,
            CAST(substr(number, -{DIGITS}) AS INTEGER),
            {_tenths('arrived', f'CASE WHEN {_ANSWERED} THEN {picked_up} ELSE ended END')},
            CASE WHEN {_ANSWERED} THEN NULL ELSE code END, CASE WHEN {_ANSWERED} THEN NULL ELSE number END,
            {_tenths(picked_up, 'ended')}, {_tenths(picked_up, shown)}, id
        FROM calls NOT INDEXED WHERE id > :after AND arrived >= :begin ORDER BY id LIMIT :page"""


_CALLS = _page("picked_up", "shown")
# Versions before this one kept neither the pick-up nor the screen with the call: its event tells both.
_TOLD = "FROM events WHERE call = calls.id AND kind IN ('transferred', 'start_transferred')"
_CALLS_WITH_EVENTS = _page(f"coalesce(picked_up, (SELECT at {_TOLD} ORDER BY id DESC LIMIT 1))",
                           f"coalesce(shown, (SELECT settled {_TOLD} AND status = 'delivered' ORDER BY id DESC LIMIT 1))")


class History:
    """The calls of a journal, in the order in which they were recorded."""

    def __init__(self, store: Store):
        self._store = store

    def since(self, begin: float) -> Iterator[Calls]:
        """The calls that arrived at `begin` or later; some at a time, so that nobody waits long for the journal."""
        first = self._store.value("""
            SELECT min(id) FROM (
                SELECT min(id) AS id FROM calls INDEXED BY calls_ended WHERE ended >= :ended
                UNION ALL SELECT min(id) FROM calls INDEXED BY calls_open WHERE ended IS NULL)""", ended=begin - SET_BACK)
        after = None if first is None else first - 1
        while after is not None:
            values = {"after": after, "begin": begin, "page": PAGE}
            rows = self._store.tuples(_CALLS, **values)
            found = _calls(rows)
            if UNKNOWN in found.answered.waits or UNKNOWN in found.answered.screens:
                rows = self._store.tuples(_CALLS_WITH_EVENTS, **values)
                found = _calls(rows)
            yield found
            after = rows[-1][-1] if len(rows) == PAGE else None

    def begins(self) -> float | None:
        """When the first call arrived that the journal still has, epoch seconds; None if there is none."""
        found: float | None = self._store.value("SELECT min(arrived) FROM (SELECT arrived FROM calls ORDER BY id LIMIT 1000)")
        return found


def _calls(rows: list[tuple[Any, ...]]) -> Calls:
    answered = [row for row in rows if row[1] is None]
    answered.sort(key=itemgetter(0))
    arrived, _, queues, agents, keys, waits, _, _, talks, screens, _ = zip(*answered) if answered else ((),) * 11
    others = [row for row in rows if row[1] is not None]
    begun, states, lines, extensions, callers, lasted, codes, numbers, _, _, _ = zip(*others) if others else ((),) * 11
    return Calls(Answered(arrived, queues, agents, keys, _spans(waits), _spans(talks), _spans(screens)),
                 # Plain tuples, which take a third of the time.
                 cast("list[Other]", list(zip(begun, states, lines, extensions, callers, _spans(lasted), codes, numbers))))


def _spans(found: Sequence[int | None]) -> Sequence[int]:
    """What was read, as Answered has it. The clock may have been set meanwhile: then it is less than 0, or far too much."""
    if None not in found:
        known = cast("Sequence[int]", found)
        if not known or min(known) >= 0 and max(known) <= LONGEST:
            return known
    return [UNKNOWN if span is None else min(max(span, 0), LONGEST) for span in found]
