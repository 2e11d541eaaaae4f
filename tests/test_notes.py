"""Notes and timers."""
from __future__ import annotations

NOON = 1_700_000_000.0


def test_notes(journal, clock):
    assert journal.notes.get("x") is None
    journal.notes.set("x", "1")
    clock.now += 1
    journal.notes.set("x", "2")
    assert journal.notes.get("x") == ("2", NOON + 1)
    journal.notes.remove("x")
    assert journal.notes.get("x") is None
    for text in "12":
        journal.notes.set_once("x", text)
        clock.now += 1
    assert journal.notes.get("x") == ("1", NOON + 1)


def test_a_timer_says_yes_once_in_its_time(journal, clock):
    assert journal.notes.time_left("x", 60) == 0.0
    assert [journal.notes.acquire_timer("x", 60), journal.notes.acquire_timer("x", 60)] == [True, False]
    clock.now += 59
    assert (journal.notes.acquire_timer("x", 60), journal.notes.time_left("x", 60)) == (False, 1.0)
    clock.now += 1
    assert journal.notes.acquire_timer("x", 60)
    clock.now = NOON - 3600  # another boot, whose steady clock began anew
    assert journal.notes.time_left("x", 60) == 0.0 and journal.notes.acquire_timer("x", 60)
