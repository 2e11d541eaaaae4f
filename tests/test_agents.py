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


def test_agents_of_other_pbxs_are_written_once_however_often_heard(clock):
    journal = Journal(":memory:", clock)
    now = journal.store.steady()
    heard = [("77", str(number), now - number % 3) for number in range(1000, 1500)]
    written = []
    for told in (heard, heard, [(queue, extension, named + 1) for queue, extension, named in heard],
                      [("77", "1499", now + 6), ("77", "1499", now), ("78", "1499", now)]):
        statements = []
        journal.store.connection.set_trace_callback(statements.append)
        with journal.store.transaction():
            journal.agents.heard_of_members(told, same=5.0)
        journal.store.connection.set_trace_callback(None)
        written.append(sum("members" in text and not text.startswith("SELECT") for text in statements))
        assert len(statements) - written[-1] == 3, "its transaction, and one look"
    assert written == [500, 0, 0, 2]
    assert dict((name, named) for queue, name, named in journal.agents.members() if queue == "77")["1499"] == now + 6
