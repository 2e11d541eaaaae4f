"""Which agents a queue has."""
from __future__ import annotations

from movidesk.journal import Journal
from movidesk.rules import call_states, waiting_line


def test_an_agent_in_a_call_stays_one_of_the_queue_however_long_ago_named(clock):
    journal = Journal(":memory:", clock)
    talk = journal.calls.arrive("pbx1", "1.1", "77", "4733990001")
    assert journal.scheduler.turn(talk, 10).request_id
    journal.scheduler.answered(talk, "5252", "", "5252")
    journal.calls.record(talk.call_id, call_states.TRANSFERRED)
    clock.now += waiting_line.MEMBER_LASTS + 1
    other = journal.calls.arrive("pbx1", "1.2", "77", "4733990002")
    assert journal.scheduler.turn(other, 10).request_id
    journal.scheduler.answered(other, "5253", "", "5253")
    assert journal.agents.with_callers("77") == 2


def test_who_picks_up_a_call_offered_to_another_is_one_of_the_queue(clock):
    journal = Journal(":memory:", clock)
    call = journal.calls.arrive("pbx1", "1.1", "77", "4733990001")
    assert journal.scheduler.turn(call, 10).request_id
    journal.scheduler.answered(call, "5252", "", "5252")
    journal.calls.record(call.call_id, call_states.TRANSFERRED, extension="5299")
    assert journal.agents.with_callers("77") == 1
