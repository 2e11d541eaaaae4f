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
    days: list[Row]        # without those before `since`, and those that have not come
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
    # What is not known gets no row: days of which the journal has nothing, and those that have not come.
    known = Period(period.first if since is None else max(period.first, periods.today(since, zone)),
                   min(period.last, periods.today(now, zone)))
    first, last = periods.bounds(known, zone) if known.first <= known.last else (end, end)
    tallies = Tallies(periods.hours(first, last, zone),
                      [(periods.begin_of(day, zone), day.isoformat()) for day in known.days()], within)
    search = Search()
    for calls in journal.history.since(max(first, kept)):
        tallies.count(calls, last)
        search.look(calls, last)
    return Report(period, begin, end, now, within, since, tallies.total(), tallies.by_hour(), tallies.by_day(),
                  tallies.by_queue(), tallies.by_agent(), search.found())


def _since(journal: Journal, kept: float, begin: float) -> float | None:
    """From when on the journal has calls, if that is after `begin`."""
    first = journal.history.begins()
    since = kept if first is None else max(kept, first)
    return since if since > begin else None
