"""Local days and their hours, also where the clock changes: a day of 23 or 25 hours, an hour that is missing, or comes twice.

zone: a time zone; None is this machine's, which all times on the command line have.
"""

from __future__ import annotations

from datetime import date, datetime, timedelta, timezone, tzinfo
from typing import NamedTuple


class Period(NamedTuple):
    """Whole local days."""

    first: date
    last: date  # the same as `first` for a single day

    def days(self) -> list[date]:
        """Its days, in order."""
        return [self.first + timedelta(days=number) for number in range((self.last - self.first).days + 1)]


class Hour(NamedTuple):
    """A part of a period in which the clock shows the same hour."""

    begins: float  # epoch seconds
    hour: int      # 0 to 23
    again: bool    # whether the clock was set back, and shows this hour for the second time


def today(now: float, zone: tzinfo | None = None) -> date:
    """The local date at `now`, epoch seconds."""
    return datetime.fromtimestamp(now, zone).date()


def week_of(day: date) -> Period:
    """The week with this day, from Monday to Sunday."""
    monday = day - timedelta(days=day.weekday())
    return Period(monday, monday + timedelta(days=6))


def month_of(day: date) -> Period:
    """The month with this day."""
    first = day.replace(day=1)
    return Period(first, (first + timedelta(days=31)).replace(day=1) - timedelta(days=1))


def before(period: Period) -> date:
    """The last day before a period: week_of and month_of make of it the week or the month before."""
    return period.first - timedelta(days=1)


def begin_of(day: date, zone: tzinfo | None = None) -> float:
    """When a local day begins, epoch seconds. Where the clock skips midnight, that is the moment at which it does. Raises
    OverflowError or ValueError for a day that is too far away."""
    return datetime(day.year, day.month, day.day, tzinfo=zone).timestamp()


def bounds(period: Period, zone: tzinfo | None = None) -> tuple[float, float]:
    """When the period begins, and when the day after it does, epoch seconds. Raises as begin_of does."""
    return begin_of(period.first, zone), begin_of(period.last + timedelta(days=1), zone)


def hours(begin: float, end: float, zone: tzinfo | None = None) -> list[Hour]:
    """The hours of the clock from `begin` until `end`, in order of time."""
    found, moment = [], begin
    while moment < end:
        local = datetime.fromtimestamp(moment, zone)
        found.append(Hour(moment, local.hour, bool(local.fold)))
        moment = _change(moment, moment + 3600 - (60 * local.minute + local.second + local.microsecond / 1e6), zone)
    return found


def _change(moment: float, until: float, zone: tzinfo | None) -> float:
    """When the clock changes after `moment`, at `until` at the latest."""
    offset, low = _offset(moment, zone), moment
    if _offset(until, zone) == offset:
        return until
    while until - low > 1:  # clocks change at whole seconds
        middle = float(round((low + until) / 2))
        if _offset(middle, zone) == offset:
            low = middle
        else:
            until = middle
    return until


def _offset(moment: float, zone: tzinfo | None) -> float:
    return round(datetime.fromtimestamp(moment, zone).replace(tzinfo=timezone.utc).timestamp() - moment)
