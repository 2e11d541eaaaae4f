"""Local days and their hours, on days on which the clock changes too."""
from __future__ import annotations

from datetime import date, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from movidesk.reports import periods
from movidesk.reports.periods import Period

#: Zones of whole hours, of half and quarter hours, that change at midnight, by 30 minutes, and that skipped a whole day.
ZONES = ("America/Sao_Paulo", "Europe/Lisbon", "America/New_York", "America/Santiago", "Africa/Cairo", "America/Asuncion",
         "Australia/Lord_Howe", "America/St_Johns", "Asia/Kathmandu", "Pacific/Apia", "UTC")


def lengths(zone: str, day: date) -> tuple[float, list[str]]:
    """Hours of a day, and its hours of the clock."""
    begin, end = periods.bounds(Period(day, day), ZoneInfo(zone))
    return (end - begin) / 3600, [f"{hour.hour}{'*' * hour.again}" for hour in periods.hours(begin, end, ZoneInfo(zone))]


def clock_hours(*left_out: int, again: int | None = None) -> list[str]:
    found = [str(hour) for hour in range(24) if hour not in left_out]
    return found if again is None else [*found[:again + 1], f"{again}*", *found[again + 1:]]


@pytest.mark.parametrize("zone, day, length, hours", [
    ("America/Sao_Paulo", date(2026, 5, 4), 24, clock_hours()),
    ("Europe/Lisbon", date(2026, 3, 29), 23, clock_hours(1)),
    ("Europe/Lisbon", date(2026, 10, 25), 25, clock_hours(again=1)),
    ("America/Sao_Paulo", date(2018, 11, 4), 23, clock_hours(0)),           # begins at 01:00
    ("America/Sao_Paulo", date(2018, 2, 17), 25, clock_hours(again=23)),    # ends with 23:00 twice
    ("America/Sao_Paulo", date(2018, 2, 18), 24, clock_hours()),
    ("Australia/Lord_Howe", date(2026, 10, 4), 23.5, clock_hours()),        # 02:00 is 02:30
    ("Australia/Lord_Howe", date(2026, 4, 5), 24.5, clock_hours(again=1)),  # 02:00 is 01:30
    ("America/St_Johns", date(2026, 11, 1), 25, clock_hours(again=1)),
    ("Asia/Kathmandu", date(2026, 1, 1), 24, clock_hours()),
    ("Pacific/Apia", date(2011, 12, 30), 0, [])])
def test_a_day_has_the_hours_that_its_clock_shows(zone, day, length, hours):
    assert lengths(zone, day) == (length, hours)


@settings(deadline=None)
@given(zone=st.sampled_from(ZONES), first=st.dates(date(2000, 1, 1), date(2037, 1, 1)), days=st.integers(1, 40))
def test_days_follow_each_other_and_each_moment_has_its_hour(zone, first, days):
    zone, period = ZoneInfo(zone), Period(first, first + timedelta(days=days - 1))
    begin, end = periods.bounds(period, zone)
    assert end == periods.begin_of(period.last + timedelta(days=1), zone) and len(period.days()) == days
    assert [periods.begin_of(day, zone) for day in period.days()] == sorted(periods.begin_of(day, zone) for day in period.days())
    hours = periods.hours(begin, end, zone)
    assert not hours or hours[0].begins == begin
    for hour, until in zip(hours, [*(after.begins for after in hours[1:]), end]):
        assert 0 < until - hour.begins <= 3600
        shown = [datetime.fromtimestamp(moment, timezone.utc).astimezone(zone) for moment in
                 (hour.begins, (hour.begins + until) / 2, until - 0.001)]
        assert {local.hour for local in shown} == {hour.hour} and bool(shown[0].fold) == hour.again


def test_the_days_of_this_machine_are_those_of_its_zone(monkeypatch, machine_zone):
    for name in ZONES[:8]:
        machine_zone(name)
        for day in (date(2018, 2, 17), date(2018, 11, 4), date(2026, 3, 29), date(2026, 4, 5), date(2026, 10, 4)):
            begin, end = periods.bounds(Period(day, day))
            assert (begin, end) == periods.bounds(Period(day, day), ZoneInfo(name)), (name, day)
            assert periods.hours(begin, end) == periods.hours(begin, end, ZoneInfo(name))
            assert periods.today(begin) == day


@pytest.mark.parametrize("day, week, month", [
    (date(2026, 11, 21), (date(2026, 11, 16), date(2026, 11, 22)), (date(2026, 11, 1), date(2026, 11, 30))),
    (date(2026, 11, 16), (date(2026, 11, 16), date(2026, 11, 22)), (date(2026, 11, 1), date(2026, 11, 30))),
    (date(2024, 2, 29), (date(2024, 2, 26), date(2024, 3, 3)), (date(2024, 2, 1), date(2024, 2, 29))),
    (date(2025, 12, 31), (date(2025, 12, 29), date(2026, 1, 4)), (date(2025, 12, 1), date(2025, 12, 31)))])
def test_weeks_begin_on_monday_and_months_end_on_their_last_day(day, week, month):
    assert (periods.week_of(day), periods.month_of(day)) == (week, month)


def test_the_week_and_the_month_before():
    assert periods.week_of(periods.before(periods.week_of(date(2026, 1, 1)))) == (date(2025, 12, 22), date(2025, 12, 28))
    assert periods.month_of(periods.before(periods.month_of(date(2026, 3, 31)))) == (date(2026, 2, 1), date(2026, 2, 28))
