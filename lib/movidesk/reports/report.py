"""Reads the report of a period from the journal."""

from __future__ import annotations

from datetime import tzinfo
from typing import NamedTuple

from movidesk.journal import Journal
from movidesk.reports import periods
from movidesk.reports.callbacks import Callbacks, Search
from movidesk.reports.figures import Figures, Row, Tallies
from movidesk.reports.periods import Period


class Report(NamedTuple):
    """The figures of a period. Times are epoch seconds."""

    period: Period
    begin: float
    end: float             # the period's; it may lie ahead
    read: float            # when the journal was read
    within: int            # seconds of the service level
    since: float | None    # calls before this are not in the journal, so not in the figures; None if it has all of the period
    total: Figures
    hours: list[Row]       # of a single day in the order of time; of several days, each hour of all days together
    days: list[Row]        # without those before `since`
    queues: list[Row]
    agents: list[Row]
    callbacks: Callbacks


def read(journal: Journal, period: Period, within: int, keep_days: int, zone: tzinfo | None = None) -> Report:
    """The report of a period. within: seconds of the service level; keep_days: for how many days the journal keeps calls.

    Costs a look at each call from the period's begin until now. Raises JournalError; OverflowError or ValueError as
    periods.begin_of does.
    """
    now = journal.clock()
    begin, end = periods.bounds(period, zone)
    kept = now - 86400.0 * keep_days
    since = _since(journal, kept, begin)
    starts = [periods.begin_of(day, zone) for day in period.days()]
    tallies = Tallies(periods.hours(begin, end, zone),
                      [(start, day.isoformat()) for start, day in zip(starts, period.days())], within)
    search = Search()
    for calls in journal.history.since(max(begin, kept)):
        tallies.count(calls, end)
        search.look(calls, end)
    days = [row for row, until in zip(tallies.by_day(), [*starts[1:], end])
            if since is None or until > since or row.figures.calls + row.figures.made]
    return Report(period, begin, end, now, within, since, tallies.total(), tallies.by_hour(), days, tallies.by_queue(),
                  tallies.by_agent(), search.found())


def _since(journal: Journal, kept: float, begin: float) -> float | None:
    """From when on the journal has calls, if that is after `begin`."""
    first = journal.history.begins()
    since = kept if first is None else max(kept, first)
    return since if since > begin else None
