"""The rules for the expected wait."""
from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from movidesk.rules import expected_wait
from movidesk.rules.expected_wait import LEAST, Speed, Wait

WAITS = st.builds(Wait, st.floats(0, 3600), st.integers(1, 50))


def test_too_few_answered_calls_say_nothing():
    waits = [Wait(60.0, 2)] * LEAST
    assert expected_wait.speed(waits[1:], 10) is None
    assert expected_wait.speed(waits, 10) == Speed(30.0, 60.0, 10)


@given(st.lists(WAITS, min_size=LEAST))
def test_half_of_them_waited_less_for_a_place(waits):
    found = expected_wait.speed(waits, 10)
    assert sum(wait.seconds / wait.place < found.seconds for wait in waits) <= len(waits) / 2
    assert sum(wait.seconds / wait.place > found.seconds for wait in waits) <= len(waits) / 2
    assert found.longest == max(wait.seconds for wait in waits)


@pytest.mark.parametrize("seconds, before, now, expects", [
    (20.0, 10, 10, 60),     # as it was
    (20.0, 10, 1000, 60),   # agents may be few: a raised limit promises nothing
    (20.0, 10, 5, 108),     # half the limit: 3 requests take 36 s
    (2.0, 60, 30, 12),      # half the limit: at most twice the time
    (90.0, 10, 5, 270),     # agents were slower than half the limit is
    (20.0, 10, 1, 540)])    # three minutes for three requests
def test_a_lower_limit_makes_it_longer(seconds, before, now, expects):
    assert expected_wait.expected(3, Speed(seconds, 300.0, before), now, 10.0) == expects


@given(place=st.integers(1, 500), seconds=st.floats(0, 600), before=st.integers(1, 1000), now=st.integers(1, 1000))
def test_who_stands_further_behind_waits_longer(place, seconds, before, now):
    known = Speed(seconds, 3600.0, before)
    ahead, behind = (expected_wait.expected(each, known, now, 0.0) for each in (place, place + 1))
    assert ahead is not None and behind is not None and seconds * place <= ahead <= behind


def test_nothing_is_said_while_the_first_waits_longer_than_all_before():
    known = Speed(20.0, 90.0, 10)
    assert expected_wait.expected(1, known, 10, 90.0) == 20.0 and expected_wait.expected(1, known, 10, 90.1) is None
