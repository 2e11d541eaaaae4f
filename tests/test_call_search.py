"""Calls found by number, agent, queue, state and time; what has changed since."""
from __future__ import annotations

import pytest

from movidesk.journal.call_search import UNANSWERED, Wanted
from movidesk.rules import call_states

#: Number, queue, agent, what happens, and when it arrived.
OFFICE = (
    ("4733990001", "77", "5252", "completed", 100.0), ("4733990002", "77", "5253", "canceled", 200.0),
    ("+554733990003", "78", "5252", "transferred", 300.0), ("anonymous", "78", "", "lost", 400.0),
    ("4733990001", "77", "5252", "offered", 500.0),
)


@pytest.fixture
def office(journal, clock):
    for number, (caller, queue, agent, what, arrived) in enumerate(OFFICE, 1):
        call = journal.calls.arrive("pbx1", f"1.{number}", queue, caller, arrived=arrived)
        if agent:
            journal.scheduler.answered(call, agent, "", agent)
        if what in ("completed", "transferred"):
            journal.calls.record(call.call_id, "transferred", agent)
        if what == "completed":
            journal.calls.hang_up(call.call_id)
        elif what in ("canceled", "lost"):
            journal.calls.record(call.call_id, what)
    journal.calls.dial("pbx1", "2.1", "5252", "4733990009")
    return journal


@pytest.mark.parametrize("wanted, found", [
    (Wanted(), [6, 5, 4, 3, 2, 1]),
    (Wanted(number="3399000"), [6, 5, 3, 2, 1]), (Wanted(number="4733990001"), [5, 1]), (Wanted(number="+55"), [3]),
    (Wanted(number="anonymous"), [4]), (Wanted(number="999"), []),
    (Wanted(agent="5252"), [6, 5, 3, 1]), (Wanted(agent="5253"), []), (Wanted(agent="525"), []),
    (Wanted(queue="78"), [4, 3]), (Wanted(states=("completed", "lost")), [4, 1]), (Wanted(states=UNANSWERED), [4, 2]),
    (Wanted(since=200.0, until=400.0), [3, 2]), (Wanted(until=100.0), []),
    (Wanted("4733990001", "5252", "77", ("completed",), 50.0, 150.0), [1])])
def test_what_is_found(office, wanted, found):
    assert [call.id for call in office.search.newest(wanted, 10)] == found
    assert [call.id for call in office.search.after(wanted, 0, 10)] == found[::-1]


def test_some_calls_at_a_time(office):
    assert [call.id for call in office.search.newest(Wanted(), 2)] == [6, 5]
    assert [call.id for call in office.search.after(Wanted(), 2, 2)] == [3, 4]


def test_every_state_is_answered_unanswered_or_goes_on():
    ended = {call_states.COMPLETED, call_states.FINISHED, *UNANSWERED}
    assert ended == set(call_states.ENDED)


@pytest.mark.parametrize("name, found", [("pbx1-1.2", 2), ("1.3", 3), ("4", 4), ("99", None), ("pbx1", None), ("9" * 30, None),
                                         ("²", None), ("", None)])
def test_one_call_by_each_of_its_names(office, name, found):
    call = office.search.one(name)
    assert (call.id if call else None) == found


def test_of_a_channel_with_two_calls_the_last_one_is_found(office):
    office.calls.arrive("pbx1", "1.1", "78", "4733990001")
    assert office.search.one("1.1").call_id == "pbx1-1.1-2" and office.search.one("pbx1-1.1").id == 1


def test_what_has_changed(office):
    before = office.search.position()
    assert before.call == 6 and before.event > 6
    assert office.search.changed(Wanted(), before) == []
    office.calls.hang_up("pbx1-1.3")
    office.calls.arrive("pbx1", "3.1", "77", "4733990007")
    assert [(call.id, call.state) for call in office.search.changed(Wanted(), before)] == [(3, "completed"), (7, "received")]
    assert [call.id for call in office.search.changed(Wanted(queue="77"), before)] == [7]
