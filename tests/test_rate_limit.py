"""The rules of the limit: who goes when places are few, and how far the rate is lowered."""
from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from movidesk.rules import rate_limit


@pytest.mark.parametrize("klass, free, demand, expected", [
    (rate_limit.SCREEN, 1, rate_limit.Demand(5, 5, 5, True), True),
    (rate_limit.SCREEN, 0, rate_limit.Demand(), False),
    (rate_limit.HEAD, 1, rate_limit.Demand(1, 0, 0, True), False),
    (rate_limit.HEAD, 2, rate_limit.Demand(1, 0, 9, True), True),
    (rate_limit.FREEING, 1, rate_limit.Demand(0, 1, 0, True), False),
    (rate_limit.FREEING, 2, rate_limit.Demand(0, 1, 0, True), True),
    (rate_limit.PROBE, 4, rate_limit.Demand(0, 0, 0, True), False),
    (rate_limit.PROBE, 5, rate_limit.Demand(0, 0, 0, True), True),
    (rate_limit.SLACK, 5, rate_limit.Demand(0, 0, 0, True), False),
    (rate_limit.SLACK, 6, rate_limit.Demand(0, 0, 0, True), True),
    (rate_limit.SLACK, 3, rate_limit.Demand(lately=True), False),
    (rate_limit.SLACK, 4, rate_limit.Demand(lately=True), True),
    (rate_limit.SLACK, 1, rate_limit.Demand(), True),
])
def test_who_goes_when_places_are_few(klass, free, demand, expected):
    assert rate_limit.may_go(klass, free, demand, 10) is expected


def test_what_others_follow_at_once_needs_places_for_all_of_them():
    assert not rate_limit.may_go(rate_limit.SLACK, 1, rate_limit.Demand(), 10, places=2)
    assert rate_limit.may_go(rate_limit.SLACK, 2, rate_limit.Demand(), 10, places=2)
    assert rate_limit.may_go(rate_limit.SLACK, 1, rate_limit.Demand(), 1, places=2)


@pytest.mark.parametrize("strikes, until, sent, expected", [
    (0, 0.0, 100.0, 1),
    (1, 160.0, 100.0, 1),   # it was under way when the first came
    (1, 160.0, 159.9, 1),
    (1, 160.0, 160.0, 2),
    (3, 160.0, 500.0, 4),
    (0, 160.0, 100.0, 1),   # the pause was that of a cut connection: this is the proof
])
def test_a_burst_of_429s_is_one_strike(strikes, until, sent, expected):
    assert rate_limit.strikes_after(strikes, until, sent) == expected


@pytest.mark.parametrize("used, limit, expected", [
    (0, 10, False), (8, 10, False), (9, 10, True), (10, 10, True), (12, 10, True), (1, 1, True), (0, 2, False),
    (998, 1000, False),
])
def test_which_cut_connections_may_stand_for_a_429(used, limit, expected):
    assert rate_limit.is_suspect(used, limit) is expected


@pytest.mark.parametrize("rate, used, expected", [
    (10, 4, 5), (10, 9, 5), (5, 4, 2), (2, 1, 1), (1, 0, 1), (300, 200, 150), (300, 2, 150),
    (rate_limit.UNLIMITED, 400, 400), (rate_limit.UNLIMITED, 3, 10),
])
def test_how_far_our_rate_is_lowered(rate, used, expected):
    assert rate_limit.lowered(rate, used) == expected


@given(limit=st.integers(1, rate_limit.UNLIMITED), part=st.floats(0, 1), seconds=st.floats(0, 1e5), more=st.floats(0, 1e4))
def test_a_lowered_rate_recovers_fully_and_is_never_above_the_limit(limit, part, seconds, more):
    rate = rate_limit.lowered(limit, int(limit * part))
    assert 1 <= rate <= limit and (rate < limit or limit == 1)
    now = rate_limit.recovered(limit, rate, seconds)
    assert rate <= now <= rate_limit.recovered(limit, rate, seconds + more) <= limit
    assert rate_limit.recovered(limit, rate, 100 * rate_limit.RECOVER_EVERY) == limit
