"""The waits of answered callers as the journal keeps them, and what a waiting caller is told."""
from __future__ import annotations

import pytest

from movidesk.journal import Journal
from movidesk.rules.expected_wait import LASTS, LEAST, MOST
from support.clocks import Clock
from support.journals import arrive

LIMIT = 1000


@pytest.fixture
def journal(tmp_path, clock):
    book = Journal(str(tmp_path / "journal.db"), clock)
    yield book
    book.close()


def serve(journal, clock, number, seconds, queue="77", waits=True, **more):
    """A caller comes, waits as the first in line, and is answered after so many seconds."""
    call = arrive(journal, f"1.{queue}.{number}", queue, **more)
    assert journal.scheduler.turn(call, LIMIT).request_id
    if waits:
        journal.scheduler.answered(call, "", "4", "4")
        clock.now += 0.5
        journal.scheduler.turn(journal.calls.find(call.call_id), LIMIT)
    clock.now += seconds - 0.5 * waits
    journal.scheduler.answered(call, "5252", "", "5252")
    journal.calls.record(call.call_id, "transferred")
    journal.calls.hang_up(call.call_id)


def told(journal, clock, queue="77", number="new", limit=LIMIT):
    """What a caller is told who comes now and has to wait."""
    call = arrive(journal, f"2.{queue}.{number}", queue)
    turn = journal.scheduler.turn(call, limit)
    if turn.request_id:
        journal.scheduler.answered(call, "", "4", "4")
        clock.now += 0.1
        turn = journal.scheduler.turn(journal.calls.find(call.call_id), limit)
    return turn.expected


def test_a_caller_is_told_what_others_waited_for_each_place(journal, clock):
    for number in range(LEAST):
        assert told(journal, clock, "78", f"{number}") is None
        serve(journal, clock, number, 30 + number)
    assert [told(journal, clock, number=str(number)) for number in range(3)] == [32, 64, 96]
    assert told(journal, clock, "78") is None, "each queue has its own line"


def test_the_first_place_counts_and_the_whole_wait(journal, clock):
    """Five callers come at once; the first waits for 20 s, the next for 40 s, and so on: 20 s for each place."""
    calls = [arrive(journal, number) for number in range(LEAST)]
    for call in calls:
        if journal.scheduler.turn(call, LIMIT).request_id:
            journal.scheduler.answered(call, "", "4", "4")
    for call in calls:
        clock.now += 20
        for other in calls:
            journal.scheduler.turn(journal.calls.find(other.call_id), LIMIT)
        journal.scheduler.answered(call, "5252", "", "5252")
        journal.calls.record(call.call_id, "transferred")
        journal.calls.hang_up(call.call_id)
    assert told(journal, clock) == 20


def test_a_priority_does_not_lengthen_the_wait(journal, clock):
    for number in range(LEAST):
        serve(journal, clock, number, 40, priority=9)
    assert told(journal, clock) == 40


@pytest.mark.parametrize("case", ["nobody waited", "they gave up", "their answer was recorded at the hangup", "long ago"])
def test_what_says_nothing_about_waits(journal, clock, case):
    for number in range(LEAST + 1):
        if case == "they gave up":
            call = arrive(journal, f"1.{number}")
            assert journal.scheduler.turn(call, LIMIT).request_id
            journal.scheduler.answered(call, "", "4", "4")
            clock.now += 60
            journal.calls.hang_up(call.call_id)
        elif case == "their answer was recorded at the hangup":
            call = arrive(journal, f"1.{number}")
            journal.scheduler.turn(call, LIMIT)
            journal.scheduler.answered(call, "", "4", "4")
            journal.scheduler.turn(journal.calls.find(call.call_id), LIMIT)
            journal.scheduler.answered(call, "5252", "", "5252")
            clock.now += 60
            journal.calls.catch_up("pbx", call.uniqueid, call.call_id, "77", "1", call.arrived, "5252")
            journal.calls.hang_up(call.call_id)
        else:
            serve(journal, clock, number, 40, waits=case != "nobody waited")
    clock.now += LASTS if case == "long ago" else 0
    assert told(journal, clock) is None


def test_only_the_last_count(journal, clock):
    for number in range(MOST + 5):
        serve(journal, clock, number, 60 if number < 5 + MOST // 2 - 1 else 10)
    assert told(journal, clock) == 10
    assert journal.store.count("SELECT count(*) FROM waits WHERE at < :old", old=clock.now - LASTS) == 0


def test_a_lower_limit_is_told(journal, clock):
    for number in range(LEAST):
        serve(journal, clock, number, 6)
    assert told(journal, clock, limit=LIMIT) == 6
    assert told(journal, clock, number="other", limit=6) == 60, "in place 2, each of 3 requests at 6 a minute"


def test_nothing_is_told_while_the_line_stands_still(journal, clock):
    for number in range(LEAST):
        serve(journal, clock, number, 40)
    first = arrive(journal, "head")
    assert journal.scheduler.turn(first, LIMIT).request_id
    journal.scheduler.answered(first, "", "4", "4")
    clock.now += 9
    assert told(journal, clock) == 80
    journal.scheduler.turn(journal.calls.find(first.call_id), LIMIT)
    clock.now += 32
    journal.scheduler.turn(journal.calls.find(first.call_id), LIMIT)
    assert told(journal, clock, number="late") is None


@pytest.mark.parametrize("code, known", [("0", False), ("1", False), ("2", False), ("3", True), ("4", True), ("", False)])
def test_who_will_not_be_answered_is_told_nothing(journal, clock, code, known):
    for number in range(LEAST):
        serve(journal, clock, number, 40)
    assert (journal.scheduler.expected("77", 1, code, LIMIT) == 40) == known


def test_nothing_is_told_during_a_pause(journal, clock):
    for number in range(LEAST):
        serve(journal, clock, number, 40)
    journal.limits.close_window(60)
    assert told(journal, clock) is None
    journal.calls.hang_up("pbx-2.77.new")
    clock.now += 61
    assert told(journal, clock, number="later") == 40


def test_after_a_reboot_nothing_is_known(tmp_path, monkeypatch):
    import movidesk.journal.store as module

    path, clock = str(tmp_path / "journal.db"), Clock()
    monkeypatch.setattr(module, "_boot_id", lambda: "one")
    before = Journal(path, clock)
    for number in range(LEAST):
        serve(before, clock, number, 40)
    before.close()
    monkeypatch.setattr(module, "_boot_id", lambda: "two")
    after = Journal(path, clock)
    assert told(after, clock) is None
    after.close()
