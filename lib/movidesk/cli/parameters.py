"""The command's arguments: each function turns a text into a value, or says what is wrong with it (click.BadParameter)."""

from __future__ import annotations

import re
import time
from datetime import date, timedelta

import click

from movidesk.messages import _
from movidesk.reports import periods
from movidesk.reports.periods import Period

ALL = -1  # every event

#: The numbers of `status --nagios`, each with its unit, in the order in which they are printed. Each may have thresholds.
METRICS = {"waiting": "", "longest": "s", "open": "", "with_agents": "", "requests": "", "outbox": "", "outbox_age": "s",
           "refused": ""}

_MINUTES = {"m": 1, "h": 60, "d": 1440}


def events(text: str) -> int:
    """An event's number, or ALL for 'all'."""
    if text == "all":
        return ALL
    if not text.isascii() or not text.isdigit():
        raise click.BadParameter(_("must be an event's number or 'all', not {text!r}").format(text=text))
    return int(text)


def count(text: str) -> int:
    """How many; 0 for 'all'."""
    if text == "all":
        return 0
    if not text.isascii() or not text.isdigit() or not int(text):
        raise click.BadParameter(_("must be a number from 1 on or 'all', not {text!r}").format(text=text))
    return int(text)


def part_of_number(text: str) -> str:
    """The digits of a caller's number, or of a part of it, with the + if there is one; 'anonymous' for a withheld number."""
    found = re.sub(r"[^0-9+]", "", text) if text != "anonymous" else text
    if not found:
        raise click.BadParameter(_("must have digits, not {text!r}").format(text=text))
    return found


def thresholds(text: str) -> dict[str, float]:
    """Thresholds for --nagios: `waiting=5,longest=120`, by names of METRICS."""
    found: dict[str, float] = {}
    for part in text.split(","):
        name, _equals, number = part.partition("=")
        if name not in METRICS or not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,3})?", number):
            raise click.BadParameter(_("must be like waiting=5,longest=120 (known: {names}), not {text!r}").format(
                names=", ".join(METRICS), text=text))
        found[name] = float(number)
    return found


def day(text: str) -> tuple[float, float]:
    """When a local day begins and ends, epoch seconds: today, yesterday, or 2026-01-31."""
    found = _day(text)
    if found is None:
        raise click.BadParameter(_("must be a day such as 2026-01-31, today or yesterday, not {text!r}").format(text=text))
    return found


LAST = "last"  # the value of --week and --month without a day: the last complete one


def a_date(text: str) -> date:
    """A local day: today, yesterday, or 2026-01-31."""
    found = _date(text)
    if found is None:
        raise click.BadParameter(_("must be a day such as 2026-01-31, today or yesterday, not {text!r}").format(text=text))
    return found


def a_day(text: str) -> Period:
    """The period of a local day."""
    found = a_date(text)  # once: midnight may come between two looks at the clock
    return Period(found, found)


def a_week(text: str) -> Period:
    """The week with this day, from Monday to Sunday; LAST: the last one that is over."""
    if text == LAST:
        return periods.week_of(periods.before(periods.week_of(periods.today(time.time()))))
    return periods.week_of(a_date(text))


def a_month(text: str) -> Period:
    """The month with this day, or 2026-01; LAST: the last one that is over."""
    if text == LAST:
        return periods.month_of(periods.before(periods.month_of(periods.today(time.time()))))
    return periods.month_of(a_date(text + "-01" if re.fullmatch(r"[0-9]{4}-[0-9]{2}", text) else text))


def moments(text: str) -> tuple[float, float]:
    """The first and the last moment that a text may mean, epoch seconds: a day, a time of today (08:00), a day and a time
    (2026-01-31 08:00), or how long ago (30m, 2h, 7d)."""
    ago = re.fullmatch(r"([0-9]{1,6})([mhd])", text)
    if ago:
        moment = time.time() - 60 * int(ago[1]) * _MINUTES[ago[2]]
        return moment, moment
    whole_day = _day(text)
    if whole_day:
        return whole_day
    for form in ("%Y-%m-%d %H:%M", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S"):
        for candidate in (text, time.strftime("%Y-%m-%d ") + text):
            try:
                moment = time.mktime(time.strptime(candidate, form)[:8] + (-1,))
            except (ValueError, OverflowError):
                continue
            return moment, moment
    raise click.BadParameter(_("must be a time such as 08:00, '2026-01-31 08:00', 2026-01-31, today, yesterday, or how long ago "
                               "(30m, 2h, 7d), not {text!r}").format(text=text))


def _date(text: str) -> date | None:
    back = {"today": 0, "yesterday": 1}.get(text)
    try:
        if back is not None:
            return periods.today(time.time()) - timedelta(days=back)
        found = date(*map(int, text.split("-"))) if re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", text) else None
        return found if found is None or 1970 <= found.year < 9999 else None  # of others a machine may not know the time
    except ValueError:
        return None


def _day(text: str) -> tuple[float, float] | None:
    found = _date(text)
    return None if found is None else periods.bounds(Period(found, found))
