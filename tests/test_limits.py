"""The window of requests, its pauses, and the rate that is lowered after a 429."""
from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from movidesk.journal import WINDOW, Journal
from movidesk.rules import rate_limit
from support.clocks import Clock
from support.journals import LIMIT, arrive, claim
from support.processes import race

moments = st.lists(st.tuples(st.floats(0, 70), st.integers(1, 15)), min_size=1, max_size=20)


@settings(max_examples=100, deadline=None)
@given(moments, st.integers(1, 10))
def test_no_minute_has_more_than_the_limit_and_no_wait_is_too_long(moments, limit):
    clock = Clock()
    journal = Journal(":memory:", clock)
    sent = []
    for pause, tries in moments:
        clock.now += pause
        for _ in range(tries):
            leave = claim(journal, limit)
            if leave.request_id:
                sent.append(clock.now)
            else:
                assert 0 < leave.wait <= WINDOW and not leave.paused and leave.reason
    assert WINDOW >= 60
    assert all(sum(at - WINDOW < other <= at for other in sent) <= limit for at in sent)
    assert journal.limits.requests_in_window() == sum(other > clock.now - WINDOW for other in sent)
    while leave.request_id:
        leave = claim(journal, limit)
    clock.now += leave.wait + 0.1
    assert claim(journal, limit).request_id
    journal.close()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 50), st.sampled_from([0, -3600, 3600, -30])), min_size=1, max_size=12))
def test_a_jump_of_the_clock_neither_floods_nor_closes(steps):
    clock, steady, sent = Clock(), Clock(1000.0), []
    journal = Journal(":memory:", clock, steady)
    for seconds, jump in steps:
        steady.now += seconds
        clock.now += seconds + jump
        sent += [steady.now for _ in range(LIMIT + 2) if claim(journal, LIMIT).request_id]
    assert all(sum(at - WINDOW < other <= at for other in sent) <= LIMIT for at in sent)
    steady.now += WINDOW + 0.1
    assert claim(journal, LIMIT).request_id
    journal.close()


@pytest.mark.parametrize("jump", [-3600, 3600])
def test_a_jump_of_the_clock_changes_no_pause_no_lease_and_no_retry(tmp_path, jump):
    clock, steady = Clock(), Clock(1000.0)
    journal = Journal(str(tmp_path / "journal.db"), clock, steady)
    for number in range(2):
        journal.calls.record(f"pbx-{number}", "completed")
    leased, retried = journal.outbox.take(LIMIT)[0], journal.outbox.take(LIMIT)[0]
    journal.outbox.retry(retried, 30, "HTTP 500")
    journal.limits.close_window(20)
    clock.now += jump
    assert (claim(journal, LIMIT).wait, journal.outbox.take(LIMIT)) == (20, (None, 30))
    steady.now += 30
    assert journal.outbox.take(LIMIT)[0].event.id == retried.event.id
    steady.now += 30
    assert journal.outbox.take(LIMIT)[0].event.id == leased.event.id
    journal.close()


def test_a_pause_lasts_until_its_end_and_nothing_is_taken_in_it(journal, clock):
    journal.calls.hang_up(arrive(journal).call_id)
    journal.limits.close_window(30)
    assert claim(journal, LIMIT) == (0, 30, "Movidesk asked for a pause (429)", True)
    assert journal.outbox.take(LIMIT) == (None, 30)
    clock.now += 29.5
    assert not claim(journal, LIMIT).request_id
    clock.now += 0.5
    assert journal.outbox.take(LIMIT)[0].event.kind == "received"


def test_processes_that_race_for_the_window_get_the_limit_together(journal):
    granted = race(journal.path, lambda mine: sum(claim(mine, LIMIT).request_id > 0 for _ in range(20)))
    assert sum(granted) == LIMIT == journal.limits.requests_in_window()


def test_a_pause_grows_with_repeated_429s_and_an_answer_ends_the_row(journal, clock):
    journal.limits.close_window(60)
    assert journal.scheduler.turn(arrive(journal, 1), 10).reason.endswith("(429)")
    clock.now += 61
    journal.limits.close_window(60)
    clock.now += 100
    assert not journal.scheduler.turn(journal.calls.find("pbx-1"), 10).request_id
    clock.now += 21
    assert journal.scheduler.turn(journal.calls.find("pbx-1"), 10).request_id
    journal.scheduler.answered(journal.calls.find("pbx-1"), "", "4", "4")
    assert journal.notes.get("closed") is None


def test_four_429s_of_one_burst_are_one_pause(journal, clock):
    """The answers come one after the other, each with the seconds that are left."""
    sent = clock.now
    for late in range(4):
        clock.now = sent + late
        journal.limits.close_window(60 - late, sent)
    assert journal.limits.pause_left() == 57
    clock.now = sent + 60
    assert journal.scheduler.turn(arrive(journal, 1), 10).request_id
    journal.limits.close_window(60, clock.now)
    assert journal.limits.pause_left() == 120


def claim_all(journal, limit) -> int:
    count = 0
    while journal.limits.claim(limit, rate_limit.SCREEN, rate_limit.Demand()).request_id:
        count += 1
    return count


def test_a_429_without_our_fault_lowers_the_rate_and_it_recovers(journal, clock):
    for _ in range(4):
        journal.limits.claim(10, rate_limit.SCREEN, rate_limit.Demand())
    assert journal.limits.close_window(60, clock.now, 10) is True
    assert journal.limits.close_window(60, clock.now, 10) is False, "the same burst"
    assert journal.limits.rate(10) == 5 and journal.limits.rate(7) == 7
    clock.now += rate_limit.WINDOW
    assert claim_all(journal, 10) == 5
    assert journal.limits.close_window(60, clock.now, 10) is False, "said already"
    assert journal.limits.rate(10) == 2, "lower still"
    rates = []
    for _ in range(12):
        clock.now += rate_limit.RECOVER_EVERY
        rates.append(claim_all(journal, 10))
    assert rates == [3, 4, 5, 6, 7, 8, 10, 10, 10, 10, 10, 10]


def test_a_429_when_our_own_window_is_full_lowers_nothing(journal, clock):
    assert claim_all(journal, 10) == 10
    assert journal.limits.close_window(60, clock.now, 10) is False
    assert journal.limits.rate(10) == 10 and journal.limits.pause_left()


def test_a_suspected_429_is_a_pause_and_no_strike(journal, clock):
    for _ in range(9):
        arrive(journal, _)
        journal.limits.claim(10, rate_limit.SCREEN, rate_limit.Demand())
    assert journal.limits.suspect_429(10, 60) and journal.limits.suspect_429(10, 60)
    assert journal.limits.pause_left() == 60
    assert "cut a connection" in journal.scheduler.turn(journal.calls.find("pbx-1"), 10).reason
    clock.now += 61
    for _ in range(9):
        journal.limits.claim(10, rate_limit.SCREEN, rate_limit.Demand())
    assert not journal.limits.suspect_429(10, 60), "nothing was taken since: it is an outage"
    journal.limits.answered()
    assert journal.limits.suspect_429(10, 60) and journal.limits.pause_left() == 60
    journal.limits.close_window(60, clock.now - 1)
    assert journal.limits.pause_left() == 60, "the first 429 is the first strike"
    assert not Journal(":memory:", clock).limits.suspect_429(10, 60)


def test_a_slow_request_counts_from_its_answer(journal, clock):
    claim = journal.scheduler.turn(arrive(journal, 1), 1).request_id
    clock.now += 5
    journal.limits.count_from_now(claim)
    clock.now += 57
    assert journal.limits.requests_in_window() == 1
    clock.now += 4
    assert journal.limits.requests_in_window() == 0
