"""The life of a call in the journal: one ending, visits, answers, holds, links."""
from __future__ import annotations

import sqlite3

import pytest

from movidesk.journal import DELIVERED, HOLD, PENDING, REFUSED, Recorded
from movidesk.rules import call_states
from support.journals import LIMIT, arrive, deliver_all, kinds

NOON = 1_700_000_000.0


def test_an_answered_call(journal, clock):
    call = arrive(journal)
    journal.scheduler.answered(call, "5252", "", '"5252"')
    clock.now += 5
    assert journal.calls.record(call.call_id, "transferred", extension="5252").kind == "transferred"
    clock.now += 60
    done = journal.calls.record(call.call_id, "completed", link="https://pbx/1.wav")
    assert (done.kind, done.call.state, done.call.ended) == ("completed", "completed", NOON + 65)
    assert done.call.extension == "5252"
    assert [(e.kind, e.at, e.extension, e.link, e.status) for e in journal.calls.events(call)] == [
        ("received", NOON, "", "", DELIVERED), ("transferred", NOON + 5, "5252", "", PENDING),
        ("completed", NOON + 65, "5252", "https://pbx/1.wav", PENDING)]


def test_a_second_and_a_contradicting_ending_are_ignored_with_a_reason(journal):
    call = arrive(journal)
    assert journal.calls.record(call.call_id, "canceled").kind == "canceled"
    for kind in ("canceled", "lost", "completed", "transferred", "received"):
        done = journal.calls.record(call.call_id, kind)
        assert (done.kind, done.reason) == (None, f"{kind} does not follow canceled")
    assert journal.calls.hang_up(call.call_id).reason == "it has ended: canceled"
    assert kinds(journal, call) == ["received", "canceled"]


def test_a_link_may_come_after_the_end(journal):
    call = arrive(journal)
    journal.calls.record(call.call_id, "lost")
    assert journal.calls.record(call.call_id, "link", link="https://pbx/1.wav").call.state == "lost"
    assert [(e.kind, e.link) for e in journal.calls.events(call)][2:] == [("link", "https://pbx/1.wav")]


def test_asking_again_is_the_same_call_a_visit_after_the_end_a_new_one(journal):
    first = arrive(journal)
    assert arrive(journal).call_id == first.call_id == "pbx-1.1"
    journal.calls.hang_up(first.call_id)
    assert [arrive(journal).call_id, arrive(journal).call_id] == ["pbx-1.1-2"] * 2
    journal.calls.hang_up("pbx-1.1-2")
    assert arrive(journal).call_id == "pbx-1.1-3"
    assert journal.calls.latest("1.1").call_id == "pbx-1.1-3" and journal.calls.latest("1.2") is None


def test_another_queue_is_another_call_and_ends_the_one_before(journal):
    first = arrive(journal, queue="77")
    second = arrive(journal, queue="78")
    assert (second.call_id, second.queue) == ("pbx-1.1-2", "78")
    assert (journal.calls.find(first.call_id).state, kinds(journal, first)) == ("lost", ["received", "lost"])


def test_a_caller_whom_the_agent_sends_back_begins_another_call(journal):
    first = arrive(journal)
    journal.scheduler.answered(first, "5252", "", "")
    journal.calls.record(first.call_id, "transferred")
    assert arrive(journal).call_id == "pbx-1.1-2"
    assert kinds(journal, first) == ["received", "transferred", "completed"]


@pytest.mark.parametrize("kind, mode, state", [
    ("transferred", "control", "transferred"), ("completed", "control", "completed"), ("lost", "control", "lost"),
    ("start_transferred", "watch", "transferred"), ("start_canceled", "watch", "start_canceled"),
    ("link", "made", "ended")])
def test_an_event_of_a_call_that_the_journal_does_not_know_is_told(journal, kind, mode, state):
    done = journal.calls.record("pbx-9.9", kind, queue="77", number="47", uniqueid="9.9")
    assert (done.kind, done.call.mode, done.call.state, done.call.uniqueid) == (kind, mode, state, "9.9")
    assert kinds(journal, done.call)[-1] == kind


def test_a_new_visit_never_takes_the_id_of_a_call_begun_by_an_event_alone(journal):
    journal.calls.record("pbx-1.1", "transferred", uniqueid="2.2")  # seen on the agent's channel, the journal being new
    journal.calls.hang_up("pbx-1.1")
    assert arrive(journal).call_id == "pbx-1.1-2"


def test_without_queue_control(journal):
    call = arrive(journal, mode=call_states.WATCH)
    assert kinds(journal, call) == []
    assert journal.calls.record(call.call_id, "start_transferred", extension="5252").kind == "start_transferred"
    assert journal.calls.hang_up(call.call_id, link="https://pbx/1.wav").kind == "completed"
    left = arrive(journal, "1.2", mode=call_states.WATCH)
    assert journal.calls.record(left.call_id, "canceled").kind == "start_canceled"
    assert (kinds(journal, call), kinds(journal, left)) == (["start_transferred", "completed"], ["start_canceled"])


def test_hanging_up_an_unknown_call(journal):
    assert journal.calls.hang_up("pbx-9.9") == Recorded(None, None, "no call pbx-9.9")


@pytest.mark.parametrize("code, ending", [("0", "lost"), ("1", "lost"), ("2", "lost"),
                                          ("3", "canceled"), ("4", "canceled")])
def test_a_hangup_ends_the_call_as_the_last_code_says(journal, code, ending):
    call = arrive(journal)
    journal.scheduler.answered(call, "", code, code)
    assert journal.calls.hang_up(call.call_id).kind == ending
    assert kinds(journal, call) == ["received", ending]


def test_ring_mode_reports_each_phone_once_and_ends_as_completed(journal):
    call = arrive(journal)
    journal.scheduler.answered(call, "5252", "", "", report=True)
    journal.scheduler.answered(call, "5253", "", "", report=True)
    journal.scheduler.answered(call, "5253", "", "", report=True)
    journal.calls.record(call.call_id, "transferred", extension="5253")
    assert [(e.kind, e.extension) for e in journal.calls.events(call)] == [
        ("received", ""), ("transferred", "5252"), ("transferred", "5253")]
    journal.calls.hang_up(call.call_id)
    assert kinds(journal, call)[3:] == ["completed"]


def test_ring_mode_completes_a_call_that_is_hung_up_while_it_rings(journal):
    call = arrive(journal)
    journal.scheduler.answered(call, "5252", "", "", report=True)
    assert journal.calls.hang_up(call.call_id).call.state == "completed"
    assert kinds(journal, call) == ["received", "transferred", "completed"]


@pytest.mark.parametrize("report", [False, True])
def test_an_answer_that_comes_after_the_end_changes_nothing_but_received(journal, report):
    call = arrive(journal)
    journal.calls.hang_up(call.call_id)
    journal.scheduler.answered(call, "5252", "", '"5252"', report=report)
    assert (journal.calls.find(call.call_id).state, kinds(journal, call)) == ("canceled", ["received", "canceled"])
    assert journal.calls.events(call)[0].status == DELIVERED


def test_an_answer_that_comes_after_the_transfer_does_not_take_it_back(journal):
    call = arrive(journal)
    journal.scheduler.answered(call, "5252", "", "")
    journal.calls.record(call.call_id, "transferred")
    journal.scheduler.answered(call, "", "4", "4")
    assert (journal.calls.find(call.call_id).state, journal.calls.find(call.call_id).extension) == ("transferred", "5252")


def test_a_refused_arrival_is_delivered_when_its_caller_asks_again(journal, clock):
    call = arrive(journal)

    def refuse():
        clock.now += 10
        believed = journal.trials.question_refused(call, "HTTP 400")
        journal.trials.question_failed(call, 30, alone=False, refused=True)
        return believed

    assert [refuse() for _ in range(5)] == [False] * 5, "Movidesk takes nothing else either"
    other = arrive(journal, "1.2")
    journal.scheduler.answered(other, "", "4", "4")
    assert not journal.outbox.jobs(REFUSED) and [refuse(), refuse()] == [True, False]
    assert [job.event.note for job in journal.outbox.jobs(REFUSED)] == ["HTTP 400"]
    journal.scheduler.answered(call, "", "4", "4")
    event, = journal.calls.events(call)
    assert (event.status, event.attempts, event.note, journal.outbox.jobs(REFUSED)) == (DELIVERED, 7, "4", [])


def test_an_ending_that_waits_for_its_message_goes_once_and_with_its_link(journal, clock):
    call = arrive(journal)
    journal.scheduler.answered(call, "", "1", "1")
    journal.calls.record(call.call_id, "lost", held=True)
    assert journal.outbox.take(LIMIT) == (None, HOLD)
    assert journal.calls.hang_up(call.call_id, "https://pbx/1.wav").kind == "lost"
    assert journal.calls.hang_up(call.call_id, "https://pbx/2.wav").kind is None
    assert [(job.event.kind, job.event.link) for job in deliver_all(journal, clock)] == [("lost", "https://pbx/1.wav")]


def test_an_ending_without_its_hangup_goes_when_the_hold_is_over(journal, clock):
    call = arrive(journal)
    journal.scheduler.answered(call, "", "1", "1")
    journal.calls.record(call.call_id, "lost", held=True)
    clock.now += HOLD
    assert journal.outbox.take(LIMIT)[0].event.kind == "lost"


def test_prune_forgets_what_ended_long_ago_and_owes_nothing(journal, clock):
    def ended(uniqueid, settle):
        call = arrive(journal, uniqueid)
        journal.scheduler.answered(call, "", "1", "1")
        journal.calls.hang_up(call.call_id)
        job, _ = journal.outbox.take(1000)
        settle(job, "")
        return call.call_id

    gone = [ended(f"1.{number}", journal.outbox.delivered) for number in range(3)]
    pending = ended("2.1", lambda job, note: journal.outbox.retry(job, 1e7, note))
    refused = ended("2.2", journal.outbox.rejected)
    clock.now += 86400 * 2
    still_open = arrive(journal, "2.3").call_id
    young = ended("2.4", journal.outbox.delivered)
    assert [journal.outbox.prune(1, batch=2), journal.outbox.prune(1, batch=2), journal.outbox.prune(1, batch=2)] == [2, 1, 0]
    assert [call.call_id for call in reversed(journal.overview.last_calls(100))] == [pending, refused, still_open, young]
    rows = sqlite3.connect(journal.path).execute("SELECT count(*) FROM events WHERE call NOT IN (SELECT id FROM calls)")
    assert rows.fetchone() == (0,) and not any(journal.calls.find(call_id) for call_id in gone)


# -- made calls --------------------------------------------------------------------------------------------------------

LINK = "https://pbx.example.com/rec/1.wav"


def told(journal, call) -> list[tuple[str, str]]:
    return [(event.kind, event.link) for event in journal.calls.events(call)]


@pytest.mark.parametrize("links, events", [
    ([""], []), ([LINK], [("link", LINK)]), ([LINK, LINK], [("link", LINK)]),
    (["", LINK, LINK], [("link", LINK)]),  # the sweep was first
])
def test_the_end_of_a_made_call_is_its_link(journal, links, events):
    call = journal.calls.dial("pbx1", "1700000000.abc", "5252", "4733990777")
    assert (call.call_id, call.extension, call.state) == ("pbx1-1700000000.abc", "5252", "dialled")
    for link in links:
        journal.calls.hang_up(call.call_id, link)
    assert (journal.calls.find(call.call_id).state, told(journal, call)) == ("ended", events)


def test_a_link_that_comes_after_the_end(journal):
    call = journal.calls.dial("pbx1", "1700000000.abc", "5252", "4733990777")
    journal.calls.hang_up(call.call_id)
    assert journal.calls.record(call.call_id, "link", link=LINK).kind == "link"
    assert told(journal, call) == [("link", LINK)]


def test_a_call_that_was_answered_is_not_in_vain(journal):
    call = journal.calls.dial("pbx1", "1700000000.abc", "5252", "4733990777")
    journal.calls.hang_up(call.call_id, LINK)
    journal.calls.dial_failed(call.call_id, "the connection was lost")
    assert journal.calls.find(call.call_id).code == ""
