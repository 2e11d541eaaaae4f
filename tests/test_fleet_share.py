"""The parts of the limit, while the PBXs cannot ask Redis."""
from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from movidesk.rules import fleet_share


@given(st.integers(1, 200), st.integers(1, 100), st.integers(0, 100))
def test_all_parts_together_are_no_more_than_the_limit(limit, pbxs, away):
    away = min(away, pbxs)
    part = fleet_share.part(limit, pbxs)
    assert part * pbxs <= limit
    assert fleet_share.pool(limit, pbxs, away) + away * max(1, part) <= max(limit, away)
    assert fleet_share.pool(limit, pbxs, 0) == limit


@given(st.integers(1, 20), st.integers(1, 60), st.floats(0, 1e6), st.data())
@settings(deadline=None)
def test_no_minute_has_more_turns_than_the_limit(limit, more, begin, data):
    """Each PBX is at most CLOCK_ERROR wrong about the time, and sends at any moment of its turns, once in each."""
    pbxs, error = limit + more, fleet_share.CLOCK_ERROR
    step = fleet_share.spacing(limit)
    sent = []
    for turn in range(int(begin / step), int((begin + 300) / step)):
        moment = turn * step + data.draw(st.sampled_from([0.0, fleet_share.TURN - 0.01]))
        assert fleet_share.is_turn(turn % pbxs, limit, pbxs, moment + 1e-6)
        sent.append(moment + data.draw(st.sampled_from([-error, error])))
    sent.sort()
    assert all(later - first > 60.0 for first, later in zip(sent, sent[limit:]))


def test_a_pbx_without_a_number_has_no_turn():
    assert not any(fleet_share.is_turn(-1, 10, 20, 0.5 * half) for half in range(500))
