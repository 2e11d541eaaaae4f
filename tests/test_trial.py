"""Whose failure it is: the rules, and what follows for an event that fails for ever."""
from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from movidesk.rules import trial
from movidesk.rules.trial import (
    LAST_SPAN,
    LAST_TRIES,
    LONGEST_RETRY,
    PROBE_AFTER,
    RATIO,
    SHORT_RETRY,
    SPAN,
    TRIES,
    Trial,
    after_failure,
    is_set_aside,
)

jitters = st.lists(st.floats(0, 1, exclude_max=True), min_size=40, max_size=40)


@pytest.mark.parametrize("before, taken, now, expected", [
    (None, 0.0, 100.0, Trial(100, 100, 0, 100)),
    (None, 99.0, 100.0, Trial(100, 100, 0, 100)),                       # a success before its first failure shows nothing
    (Trial(100, 100, 0, 100), 99.0, 110.0, Trial(100, 110, 0, 100)),
    (Trial(100, 100, 0, 100), 105.0, 110.0, Trial(100, 110, 1, 110)),   # another was taken meanwhile
    (Trial(100, 110, 1, 110), 105.0, 120.0, Trial(100, 120, 1, 110)),   # but none since
    (Trial(100, 110, 1, 110), 115.0, 120.0, Trial(100, 120, 2, 110)),
])
def test_which_tries_count_against_an_event(before, taken, now, expected):
    assert after_failure(before, taken, now) == expected


@pytest.mark.parametrize("record, expected", [
    (Trial(0, 1000, 0, 0), False),
    (Trial(0, 1000, TRIES - 1, 0), False),
    (Trial(0, SPAN - 1, TRIES, 0), False),
    (Trial(0, SPAN, TRIES, 0), True),
    (trial.after_refused_probe(Trial(0, 60, 0, 0)), False),
    (after_failure(trial.after_refused_probe(Trial(0, 60, 0, 0)), 61, 62), True),
    (after_failure(trial.after_refused_probe(Trial(0, 60, 0, 0)), 59, 62), False),
])
def test_when_an_event_is_set_aside(record, expected):
    assert is_set_aside(record) is expected


@pytest.mark.parametrize("record, taken, others, expected", [
    (Trial(0, SPAN, TRIES, 0), 1, 0, True),
    (Trial(0, SPAN, TRIES, 0), RATIO, 1, True),       # another event fails for ever too
    (Trial(0, SPAN, TRIES, 0), RATIO - 1, 1, False),
    (Trial(0, SPAN, TRIES, 0), 20, 10, False),        # Movidesk fails at many
    (Trial(0, LAST_SPAN, LAST_TRIES, 0), 20, 10, True),
    (Trial(0, LAST_SPAN, LAST_TRIES - 1, 0), 20, 10, False),
    (Trial(0, LAST_SPAN - 1, LAST_TRIES, 0), 20, 10, False),
])
def test_what_others_meet_meanwhile_keeps_an_event(record, taken, others, expected):
    assert is_set_aside(record, taken, others) is expected


def test_others_are_watched_while_the_event_fails_for_a_period_at_most():
    assert trial.watched_since(Trial(100, 200, 1, 150)) == 100
    assert trial.watched_since(Trial(100, 1000, 1, 150)) == 1000 - trial.PERIOD


@pytest.mark.parametrize("attempts, taken, expected", [
    (trial.REJECT_TRIES, 100.0, True), (trial.REJECT_TRIES, 150.0, True), (trial.REJECT_TRIES, 99.0, False),
    (trial.REJECT_TRIES, 0.0, False), (trial.REJECT_TRIES - 1, 150.0, False),
])
def test_a_refusal_is_believed_if_movidesk_took_something_since_the_first(attempts, taken, expected):
    assert trial.is_believed(Trial(100, 140, 0, 100), attempts, taken) is expected


@pytest.mark.parametrize("before, after, expected", [
    (None, Trial(100, 100, 0, 100), False),
    (Trial(100, 130, 0, 100), Trial(100, 100 + PROBE_AFTER - 1, 0, 100), False),
    (Trial(100, 130, 0, 100), Trial(100, 100 + PROBE_AFTER, 0, 100), True),
    (Trial(100, 130, 0, 100), Trial(100, 200, 1, 200), False),  # this try has shown something
])
def test_when_the_next_event_of_the_call_is_sent_as_a_probe(before, after, expected):
    assert trial.may_probe(before, after) is expected


def tries(jitters, taken):
    """The moments at which an event is tried that always fails, with its trial after each. taken: (now) -> last success."""
    now, record = 1000.0, None
    for attempts, jitter in enumerate(jitters, 1):
        record = after_failure(record, taken(now), now)
        yield now - 1000.0, record
        now += trial.until_retry(attempts, record, jitter)


@given(jitters, st.sampled_from([1.0, 10.0, 30.0]))
def test_an_event_that_fails_alone_among_others_is_set_aside_in_3_minutes(jitters, every):
    at = next(at for at, record in tries(jitters, lambda now: now - now % every) if is_set_aside(record))
    assert SPAN <= at <= 180


@given(jitters, st.floats(1, 15), st.integers(0, 1))
def test_two_events_that_fail_for_ever_are_both_set_aside_in_3_minutes(jitters, every, others):
    assert any(is_set_aside(record, int((at - trial.watched_since(record) + 1000) / every), others)
               for at, record in tries(jitters, lambda now: now - now % every) if at <= 180)


@given(jitters, st.floats(0, 5000))
def test_an_event_is_never_set_aside_while_nothing_is_taken(jitters, last):
    assert not any(is_set_aside(record) for _, record in tries(jitters, lambda now: min(now, 1000.0) - last))


@given(jitters)
def test_one_success_of_others_after_an_outage_sets_nothing_aside(jitters):
    assert not any(is_set_aside(record) for _, record in tries(jitters, lambda now: 4000.0 if now > 4000 else 0.0))


@given(jitters)
def test_an_event_that_fails_alone_is_tried_more_and_more_seldom(jitters):
    made = list(tries(jitters, lambda now: 0.0))
    moments = [at for at, _ in made]
    assert next(at for (_, before), (at, after) in zip(made, made[1:]) if trial.may_probe(before, after)) <= 120
    pauses = [later - at for at, later in zip(moments, moments[1:])]
    assert max(pauses) <= 1.25 * LONGEST_RETRY + 0.001 and pauses[-1] >= 0.75 * LONGEST_RETRY
    assert all(pause <= 1.25 * max(SHORT_RETRY, at / 2) + 0.001 for at, pause in zip(moments, pauses))
