"""The rules of the limit: who goes when places are few, and how far the rate is lowered."""
from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from movidesk.rules import rate_limit
from movidesk.rules.rate_limit import Window


@pytest.mark.parametrize("klass, free, demand, expected", [
    (rate_limit.SCREEN, 1, rate_limit.Demand(5, 5, 5, True), True),
    (rate_limit.SCREEN, 0, rate_limit.Demand(), False),
    (rate_limit.HEAD, 2, rate_limit.Demand(1, 0, 0, True), False),
    (rate_limit.HEAD, 3, rate_limit.Demand(1, 0, 9, True), True),
    (rate_limit.HEAD, 1, rate_limit.Demand(), False),
    (rate_limit.FREEING, 1, rate_limit.Demand(0, 1, 0, True), True),
    (rate_limit.FREEING, 2, rate_limit.Demand(0, 1, 0, True), True),
    (rate_limit.FREEING, 1, rate_limit.Demand(0, 1, 0, True, passed=1), True),
    (rate_limit.FREEING, 1, rate_limit.Demand(0, 1, 0, True, passed=2), False),
    (rate_limit.HEAD, 3, rate_limit.Demand(0, 1, 0, True), True),
    (rate_limit.HEAD, 2, rate_limit.Demand(0, 1, 0, True), False),
    (rate_limit.FREEING, 1, rate_limit.Demand(0, 0, 0, True, pickups=(0.0,)), False),
    (rate_limit.FREEING, 2, rate_limit.Demand(0, 0, 0, True, pickups=(0.0,)), True),
    (rate_limit.FREEING, 2, rate_limit.Demand(0, 2, 0, True), False),
    (rate_limit.PROBE, 4, rate_limit.Demand(0, 0, 0, True), False),
    (rate_limit.PROBE, 5, rate_limit.Demand(0, 0, 0, True), True),
    (rate_limit.SLACK, 5, rate_limit.Demand(0, 0, 0, True), False),
    (rate_limit.SLACK, 6, rate_limit.Demand(0, 0, 0, True), True),
    (rate_limit.SLACK, 4, rate_limit.Demand(lately=True), False),
    (rate_limit.SLACK, 5, rate_limit.Demand(lately=True), True),
    (rate_limit.SLACK, 1, rate_limit.Demand(), True),
])
def test_who_goes_when_places_are_few(klass, free, demand, expected):
    assert rate_limit.may_go(klass, Window(10, free), demand) is expected


def test_what_others_follow_at_once_needs_places_for_all_of_them():
    assert not rate_limit.may_go(rate_limit.SLACK, Window(10, 1), rate_limit.Demand(), places=2)
    assert rate_limit.may_go(rate_limit.SLACK, Window(10, 2), rate_limit.Demand(), places=2)
    assert rate_limit.may_go(rate_limit.SLACK, Window(1, 1), rate_limit.Demand(), places=2)


@pytest.mark.parametrize("window, pickups, expected", [
    (Window(10, 2), (), True),
    (Window(10, 1, (3.9,)), (), True),             # the place for the screen is free when the agent picks up
    (Window(10, 1, (4.1,)), (), False),
    (Window(10, 2, (9.0,)), (0.0,), False),        # an agent who is called already may pick up at any moment
    (Window(10, 3), (0.0,), True),
    (Window(10, 2, (2.0,)), (1.0,), True),
    (Window(10, 1, (0.5, 1.5)), (1.0,), True),
    (Window(10, 1, (1.5, 3.0)), (1.0,), False),
    (Window(1, 1), (), True),                      # a limit of one never has two places
    (Window(2, 2), (0.0, 0.0, 0.0), True),         # nor a limit of two four
])
def test_the_head_asks_if_every_screen_will_find_a_place(window, pickups, expected):
    demand = rate_limit.Demand(pickups=pickups, ring=4.0)
    assert rate_limit.may_go(rate_limit.HEAD, window, demand) is expected


seconds = st.floats(0.01, 30).map(lambda value: round(value, 2))


@given(free=st.integers(0, 10), opens=st.lists(seconds, max_size=10), pickups=st.lists(seconds, max_size=4), ring=seconds,
       klass=st.sampled_from([rate_limit.HEAD, rate_limit.FREEING, rate_limit.PROBE, rate_limit.SLACK]))
def test_after_any_request_every_screen_finds_a_place(free, opens, pickups, ring, klass):
    """Agents pick up as soon as they may; a place that a request takes now is not free again in that time."""
    opens = sorted(opens)[:10 - free]
    if not rate_limit.may_go(klass, Window(10, free, tuple(opens)), rate_limit.Demand(pickups=tuple(sorted(pickups)), ring=ring)):
        return
    called = [*pickups, *([ring] if klass in (rate_limit.HEAD, rate_limit.PROBE) else [])]
    left = free - 1
    for number, pickup in enumerate(sorted(called), 1):
        assert left + sum(at <= pickup for at in opens) >= number


@example(free=0, opens=[1.0, 6.0, 11.0, 16.0, 4.5], pickups=[2.0, 3.0, 4.0], ring=1.0, klass=rate_limit.HEAD)
@given(free=st.integers(0, 10), opens=st.lists(seconds, max_size=10), pickups=st.lists(seconds, max_size=4), ring=seconds,
       klass=st.sampled_from([rate_limit.HEAD, rate_limit.FREEING, rate_limit.PROBE]))
def test_when_a_request_may_go(free, opens, pickups, ring, klass):
    """It may go at the time that until_may_go names, and at none that is clearly earlier."""
    window = Window(10, free, tuple(sorted(opens)[:10 - free]))
    demand = rate_limit.Demand(pickups=tuple(sorted(pickups)), ring=ring)
    if rate_limit.may_go(klass, window, demand):
        return
    until = rate_limit.until_may_go(klass, window, demand)
    assert until is None or until > 0
    for step in [moment / 4 for moment in range(1, 130)]:
        if until is None or step < until - 0.01:
            later = Window(10, rate_limit.free_in(window, step), tuple(at - step for at in window.opens if at > step))
            shifted = demand._replace(pickups=tuple(max(0.0, pickup - step) for pickup in demand.pickups))
            assert not rate_limit.may_go(klass, later, shifted)


def test_how_soon_agents_pick_up_is_learnt():
    assert rate_limit.earliest_pickup([0.5, 0.5]) == rate_limit.RING
    assert rate_limit.earliest_pickup([9.0, 8.0, 7.0, 6.0, 5.0, 4.0]) == 4.0
    assert rate_limit.earliest_pickup([1.0] + [5.0] * 19) == 5.0
    assert rate_limit.usual_ring([]) == 2 * rate_limit.RING
    assert rate_limit.usual_ring([9.0, 8.0, 7.0, 6.0, 5.0]) == 7.0


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


@pytest.mark.parametrize("klass", [rate_limit.SCREEN, rate_limit.HEAD, rate_limit.SLACK])
def test_nothing_goes_without_a_limit_of_one_at_least(klass):
    assert not rate_limit.may_go(klass, Window(0, 0), rate_limit.Demand())
