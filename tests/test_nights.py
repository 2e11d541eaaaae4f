"""The limit by hours: the product's and the simulator's."""
from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from movidesk.config import load
from movidesk.config.nights import in_zone, is_night, limit_at
from movidesk.journal import Journal
from movidesk.rules import rate_limit
from movidesk_sim.model import Limit

NIGHT = (19 * 60, 7 * 60)
utc = in_zone("UTC")


def at(text: str, offset: float = 0.0) -> float:
    there = datetime.strptime("2026-11-21 " + text, "%Y-%m-%d %H:%M:%S")
    return there.replace(tzinfo=timezone(timedelta(hours=offset))).timestamp()


@pytest.mark.parametrize("time, expected", [
    ("18:59:59", False), ("19:00:00", False), ("19:00:59", False),  # the clocks may differ
    ("19:01:00", True), ("00:00:00", True), ("06:57:58", True),
    ("06:58:00", False), ("06:59:59", False), ("07:00:00", False), ("12:00:00", False),
])
def test_when_the_limit_of_the_night_may_be_used(time, expected):
    assert is_night(at(time), NIGHT, utc) is expected


def test_a_night_that_does_not_pass_midnight():
    assert [is_night(at(time), (60, 300), utc) for time in ("00:59:00", "03:00:00", "05:30:00")] == [False, True, False]


@pytest.mark.parametrize("offset, zone", [(-3, "America/Sao_Paulo"), (0, "UTC"), (5.75, "Asia/Kathmandu")])
def test_the_hours_are_those_of_the_time_zone(write_config, offset, zone):
    config = load(write_config(movidesk={"requests_per_minute": "10", "night": "19:00-07:00", "time_zone": zone}))
    assert config.all_problems() == []
    assert [limit_at(config, at(time, offset)) for time in ("18:30:00", "19:30:00", "06:30:00", "07:30:00")] == [
        10, rate_limit.UNLIMITED, rate_limit.UNLIMITED, 10]


def test_without_a_night_the_limit_is_the_same_all_day(write_config):
    config = load(write_config(movidesk={"requests_per_minute": "10", "time_zone": "None/Such"}))
    assert {limit_at(config, at(f"{hour:02d}:00:00")) for hour in range(24)} == {10}


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(["06:50:00", "18:55:00"]), st.lists(st.floats(0.01, 40), min_size=20, max_size=60),
       st.floats(-59, 59), st.integers(1, 5))
def test_movidesk_never_sees_more_than_the_limit_of_the_day(begin, pauses, skew, burst):
    """Movidesk's clock differs by up to a minute, and its window slides over the night's end."""
    now = [at(begin)]
    book, theirs = Journal(":memory:", lambda: now[0]), Limit(10, night="19:00-07:00")
    for pause in pauses:
        now[0] += pause
        for _ in range(burst):
            limit = rate_limit.UNLIMITED if is_night(now[0], NIGHT, utc) else 10
            if book.limits.claim(limit, rate_limit.SCREEN, rate_limit.Demand()).request_id:
                assert theirs.admit(now[0] + skew) == 0
    book.close()


def test_at_night_the_simulator_has_another_limit():
    limit = Limit(2, night="19:00-07:00", utc_offset=-3)
    day, night = at("12:00:00", -3), at("20:00:00", -3)
    assert [limit.admit(day) for _ in range(3)] == [0, 0, 60]
    assert {limit.admit(night) for _ in range(100)} == {0}
    limit = Limit(2, night="19:00-07:00", night_requests=3)
    assert [limit.admit(at("20:00:00")) for _ in range(4)] == [0, 0, 0, 60]


def test_what_the_simulator_took_at_night_counts_in_the_days_first_minute():
    limit = Limit(2, night="19:00-07:00")
    for second in range(50, 60):
        assert limit.admit(at(f"06:59:{second:02d}")) == 0
    assert limit.admit(at("07:00:01")) == 57  # when the last but one of the night is a minute old
    assert limit.admit(at("07:00:58")) == 0


@pytest.mark.parametrize("night", ["19-7", "25:00-07:00", "19:00"])
def test_a_night_of_the_simulator_that_is_none(night):
    with pytest.raises(ValueError):
        Limit(night=night)
