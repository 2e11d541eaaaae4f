"""The journal: one ending per call, order, the window, leases, several processes, and what a crash leaves."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from movidesk import journal
from movidesk.journal import DELIVERED, HOLD, LEASE, PENDING, REFUSED, WINDOW, Journal, JournalError, schema, store
from movidesk.rules import call_states, rate_limit
from support import owed
from support.clocks import Clock

NOON = 1_700_000_000.0
LIMIT = 10
RELEASED = Path(__file__).parent / "released"  # what the version before wrote, and its statements
FORK = multiprocessing.get_context("fork")


@pytest.fixture
def book(tmp_path, clock):
    with_file = Journal(str(tmp_path / "journal.db"), clock)
    yield with_file
    with_file.close()


def arrive(book, uniqueid="1.1", queue="77", **more):
    return book.calls.arrive("pbx", uniqueid, queue, "4733990777", **more)


def claim(book, limit):
    """Leave to send the most urgent request now."""
    with book.store.transaction():
        return book.limits.claim(limit, rate_limit.SCREEN, rate_limit.Demand())


def kinds(book, call):
    return [event.kind for event in book.calls.events(call)]


def deliver_all(book, clock):
    """Take and deliver until nothing is pending, however long that takes; the events in the order of delivery."""
    found = []
    while True:
        job, wait = book.outbox.take(LIMIT)
        if job:
            book.outbox.delivered(job, "")
            found.append(job)
        elif wait is None:
            return found
        else:
            clock.now += wait + 0.1


# -- the life of a call ------------------------------------------------------------------------------------------------

def test_an_answered_call(book, clock):
    call = arrive(book)
    book.scheduler.answered(call, "5252", "", '"5252"')
    clock.now += 5
    assert book.calls.record(call.call_id, "transferred", extension="5252").kind == "transferred"
    clock.now += 60
    done = book.calls.record(call.call_id, "completed", link="https://pbx/1.wav")
    assert (done.kind, done.call.state, done.call.ended) == ("completed", "completed", NOON + 65)
    assert done.call.extension == "5252"
    assert [(e.kind, e.at, e.extension, e.link, e.status) for e in book.calls.events(call)] == [
        ("received", NOON, "", "", DELIVERED), ("transferred", NOON + 5, "5252", "", PENDING),
        ("completed", NOON + 65, "5252", "https://pbx/1.wav", PENDING)]


def test_a_second_and_a_contradicting_ending_are_ignored_with_a_reason(book):
    call = arrive(book)
    assert book.calls.record(call.call_id, "canceled").kind == "canceled"
    for kind in ("canceled", "lost", "completed", "transferred", "received"):
        done = book.calls.record(call.call_id, kind)
        assert (done.kind, done.reason) == (None, f"{kind} does not follow canceled")
    assert book.calls.hang_up(call.call_id).reason == "it has ended: canceled"
    assert kinds(book, call) == ["received", "canceled"]


def test_a_link_may_come_after_the_end(book):
    call = arrive(book)
    book.calls.record(call.call_id, "lost")
    assert book.calls.record(call.call_id, "link", link="https://pbx/1.wav").call.state == "lost"
    assert [(e.kind, e.link) for e in book.calls.events(call)][2:] == [("link", "https://pbx/1.wav")]


def test_asking_again_is_the_same_call_and_a_visit_after_the_end_a_new_one(book):
    first = arrive(book)
    assert arrive(book).call_id == first.call_id == "pbx-1.1"
    book.calls.hang_up(first.call_id)
    assert [arrive(book).call_id, arrive(book).call_id] == ["pbx-1.1-2"] * 2
    book.calls.hang_up("pbx-1.1-2")
    assert arrive(book).call_id == "pbx-1.1-3"
    assert book.calls.latest("1.1").call_id == "pbx-1.1-3" and book.calls.latest("1.2") is None


def test_another_queue_is_another_call_and_ends_the_one_before(book):
    first = arrive(book, queue="77")
    second = arrive(book, queue="78")
    assert (second.call_id, second.queue) == ("pbx-1.1-2", "78")
    assert (book.calls.find(first.call_id).state, kinds(book, first)) == ("lost", ["received", "lost"])


def test_a_caller_sent_back_by_the_agent_is_another_call_and_the_talk_is_completed(book):
    first = arrive(book)
    book.scheduler.answered(first, "5252", "", "")
    book.calls.record(first.call_id, "transferred")
    assert arrive(book).call_id == "pbx-1.1-2"
    assert kinds(book, first) == ["received", "transferred", "completed"]


@pytest.mark.parametrize("kind, mode, state", [
    ("transferred", "control", "transferred"), ("completed", "control", "completed"), ("lost", "control", "lost"),
    ("start_transferred", "watch", "transferred"), ("start_canceled", "watch", "start_canceled"),
    ("link", "made", "ended")])
def test_an_event_of_a_call_that_the_journal_does_not_know_is_told(book, kind, mode, state):
    done = book.calls.record("pbx-9.9", kind, queue="77", number="47", uniqueid="9.9")
    assert (done.kind, done.call.mode, done.call.state, done.call.uniqueid) == (kind, mode, state, "9.9")
    assert kinds(book, done.call)[-1] == kind


def test_a_new_visit_never_takes_the_id_of_a_call_begun_by_an_event_alone(book):
    book.calls.record("pbx-1.1", "transferred", uniqueid="2.2")  # seen on the agent's channel, the journal being new
    book.calls.hang_up("pbx-1.1")
    assert arrive(book).call_id == "pbx-1.1-2"


def test_without_queue_control(book):
    call = arrive(book, mode=call_states.WATCH)
    assert kinds(book, call) == []
    assert book.calls.record(call.call_id, "start_transferred", extension="5252").kind == "start_transferred"
    assert book.calls.hang_up(call.call_id, link="https://pbx/1.wav").kind == "completed"
    left = arrive(book, "1.2", mode=call_states.WATCH)
    assert book.calls.record(left.call_id, "canceled").kind == "start_canceled"
    assert (kinds(book, call), kinds(book, left)) == (["start_transferred", "completed"], ["start_canceled"])


def test_hanging_up_an_unknown_call(book):
    assert book.calls.hang_up("pbx-9.9") == journal.Recorded(None, None, "no call pbx-9.9")


@pytest.mark.parametrize("code, ending", [("0", "lost"), ("1", "lost"), ("2", "lost"),
                                          ("3", "canceled"), ("4", "canceled")])
def test_a_hangup_ends_the_call_as_the_last_code_says(book, code, ending):
    call = arrive(book)
    book.scheduler.answered(call, "", code, code)
    assert book.calls.hang_up(call.call_id).kind == ending
    assert kinds(book, call) == ["received", ending]


def test_ring_mode_reports_each_phone_once_and_ends_as_completed(book):
    call = arrive(book)
    book.scheduler.answered(call, "5252", "", "", report=True)
    book.scheduler.answered(call, "5253", "", "", report=True)
    book.scheduler.answered(call, "5253", "", "", report=True)
    book.calls.record(call.call_id, "transferred", extension="5253")
    assert [(e.kind, e.extension) for e in book.calls.events(call)] == [
        ("received", ""), ("transferred", "5252"), ("transferred", "5253")]
    book.calls.hang_up(call.call_id)
    assert kinds(book, call)[3:] == ["completed"]


def test_ring_mode_a_caller_who_hangs_up_while_it_rings_is_completed_since_canceled_may_not_follow(book):
    call = arrive(book)
    book.scheduler.answered(call, "5252", "", "", report=True)
    assert book.calls.hang_up(call.call_id).call.state == "completed"
    assert kinds(book, call) == ["received", "transferred", "completed"]


@pytest.mark.parametrize("report", [False, True])
def test_an_answer_that_comes_after_the_end_changes_nothing_but_received(book, report):
    call = arrive(book)
    book.calls.hang_up(call.call_id)
    book.scheduler.answered(call, "5252", "", '"5252"', report=report)
    assert (book.calls.find(call.call_id).state, kinds(book, call)) == ("canceled", ["received", "canceled"])
    assert book.calls.events(call)[0].status == DELIVERED


def test_an_answer_that_comes_after_the_transfer_does_not_take_it_back(book):
    call = arrive(book)
    book.scheduler.answered(call, "5252", "", "")
    book.calls.record(call.call_id, "transferred")
    book.scheduler.answered(call, "", "4", "4")
    assert (book.calls.find(call.call_id).state, book.calls.find(call.call_id).extension) == ("transferred", "5252")


def test_a_refused_arrival_waits_until_the_refusal_is_believed_and_is_delivered_when_asked_again(book, clock):
    call = arrive(book)

    def refuse():
        clock.now += 10
        believed = book.trials.question_refused(call, "HTTP 400")
        book.trials.question_failed(call, 30, alone=False)
        return believed

    assert [refuse() for _ in range(5)] == [False] * 5, "Movidesk takes nothing else either"
    other = arrive(book, "1.2")
    book.scheduler.answered(other, "", "4", "4")
    assert not book.outbox.jobs(REFUSED) and [refuse(), refuse()] == [True, False]
    assert [job.event.note for job in book.outbox.jobs(REFUSED)] == ["HTTP 400"]
    book.scheduler.answered(call, "", "4", "4")
    event, = book.calls.events(call)
    assert (event.status, event.attempts, event.note, book.outbox.jobs(REFUSED)) == (DELIVERED, 7, "4", [])


def test_an_ending_that_waits_for_its_message_goes_at_hangup_with_the_link_and_only_once(book, clock):
    call = arrive(book)
    book.scheduler.answered(call, "", "1", "1")
    book.calls.record(call.call_id, "lost", held=True)
    assert book.outbox.take(LIMIT) == (None, HOLD)
    assert book.calls.hang_up(call.call_id, "https://pbx/1.wav").kind == "lost"
    assert book.calls.hang_up(call.call_id, "https://pbx/2.wav").kind is None
    assert [(job.event.kind, job.event.link) for job in deliver_all(book, clock)] == [("lost", "https://pbx/1.wav")]


def test_an_ending_whose_channel_never_came_back_goes_when_the_hold_is_over(book, clock):
    call = arrive(book)
    book.scheduler.answered(call, "", "1", "1")
    book.calls.record(call.call_id, "lost", held=True)
    clock.now += HOLD
    assert book.outbox.take(LIMIT)[0].event.kind == "lost"


class Lives(RuleBasedStateMachine):
    """Several channels, several visits, every event at any moment, delivery in between: what must hold at all times."""

    channels = st.sampled_from(["1.1", "1.2", "1.3"])
    extensions = st.sampled_from(["5252", "5253"])

    @initialize(report=st.booleans())
    def open(self, report):
        self.clock = Clock()
        self.book = Journal(":memory:", self.clock)
        self.report = report   # report_transfer = ring
        self.seen = []         # every Call as it was given out, stale ones too
        self.ends = {}         # call id -> the state in which it ended
        self.jobs = []         # every job that was handed out, settled or not
        self.events = {}       # event id -> (call, kind)

    def a_call(self, data):
        return data.draw(st.sampled_from(self.seen))

    @rule(channel=channels, queue=st.sampled_from(["77", "78"]), mode=st.sampled_from(["control", "control", "watch"]))
    def arrives(self, channel, queue, mode):
        call = self.book.calls.arrive("pbx", channel, queue, "47", mode)
        assert call.state not in call_states.ENDED and call.ended is None
        assert call.call_id not in self.ends, "the id of an ended call was used again"
        self.seen.append(call)

    @rule(number=st.integers(1, 4), kind=st.sampled_from(["transferred", "completed", "lost", "start_transferred",
                                                          "start_canceled", "canceled", "link"]))
    def an_event_without_its_call(self, number, kind):
        self.seen.append(self.book.calls.record(f"pbx-1.{number}", kind, uniqueid="other").call)

    @precondition(lambda self: self.seen)
    @rule(data=st.data(), answer=st.sampled_from([("5252", ""), ("5253", ""), ("", "1"), ("", "4"), ("", "")]))
    def movidesk_answers(self, data, answer):
        call = self.a_call(data)
        assume(call.mode == call_states.CONTROL)
        self.book.scheduler.answered(call, *answer, "note", report=self.report)

    @precondition(lambda self: self.seen)
    @rule(data=st.data())
    def movidesk_refuses(self, data):
        call = self.a_call(data)
        self.book.trials.question_refused(call, "HTTP 400")
        self.book.trials.question_failed(call, 30, alone=False)

    @precondition(lambda self: self.seen)
    @rule(data=st.data(), extension=extensions, times=st.integers(1, 2),
          kind=st.sampled_from(["transferred", "completed", "lost", "canceled", "start_transferred", "start_canceled",
                                "link", "received", "ended"]))
    def an_event(self, data, extension, times, kind):
        call_id = self.a_call(data).call_id
        for _ in range(times):
            before = self.book.calls.find(call_id)
            done = self.book.calls.record(call_id, kind, extension=extension, link="https://pbx/1.wav")
            assert (done.kind is None) == bool(done.reason)
            assert done.kind or self.book.calls.find(call_id) == before

    @precondition(lambda self: self.seen)
    @rule(data=st.data())
    def leaves_a_message(self, data):
        self.book.calls.record(self.a_call(data).call_id, "lost", held=True)

    @precondition(lambda self: self.seen)
    @rule(data=st.data())
    def hangs_up(self, data):
        call_id = self.a_call(data).call_id
        self.book.calls.hang_up(call_id)
        assert self.book.calls.find(call_id).state in call_states.ENDED

    @rule()
    def take(self):
        expected = owed.expected(self.book)
        job, _ = self.book.outbox.take(1000)
        assert [job.event.id] == expected[:1] if job else not expected
        if job:
            earlier = [e for e in self.book.calls.events(job.call) if e.id < job.event.id and e.status == PENDING]
            assert not earlier, "handed out before its elder"
            assert job.event.due <= self.clock.now, "handed out before it was due, or while another has it"
            self.jobs.append(job)

    @precondition(lambda self: self.jobs)
    @rule(data=st.data(), how=st.sampled_from(["delivered", "offered", "rejected", "retry", "forgotten"]))
    def settle(self, data, how):
        job = self.jobs.pop(data.draw(st.integers(0, len(self.jobs) - 1)))
        if how == "retry":
            self.book.outbox.retry(job, 5.0, "HTTP 500")
        elif how == "offered":  # only an arrival that is told late is answered by an agent
            self.book.outbox.delivered(job, "5252", "5252" if job.event.kind == "received" else "")
        elif how != "forgotten":
            getattr(self.book.outbox, how)(job, "note")

    @rule()
    def replay(self):
        for job in self.book.outbox.jobs(REFUSED, 1):
            assert self.book.outbox.replay(job.event.id) and not self.book.outbox.replay(job.event.id)

    @rule(seconds=st.sampled_from([1.0, 30.0, LEASE]))
    def time_passes(self, seconds):
        self.clock.now += seconds

    @invariant()
    def one_life_each(self):
        found = self.book.overview.last_calls(1000)
        assert len({call.call_id for call in found}) == len(found)
        for call in found:
            events = self.book.calls.events(call)
            endings = [e.kind for e in events if e.kind in call_states.ENDED]
            ended = call.state in call_states.ENDED
            assert (call.ended is not None) == ended
            assert endings == ([call.state] if ended and call.mode != call_states.MADE else [])
            if endings:
                after = [e.kind for e in events[[e.kind for e in events].index(endings[0]) + 1:]]
                assert set(after) <= {"link"}, "told after the end"
            assert self.ends.get(call.call_id, call.state) == call.state, "an ending was taken back"
            if ended:
                self.ends[call.call_id] = call.state

    @invariant()
    def what_waits_is_known(self):
        owed.check(self.book)

    @rule()
    def dismiss(self):
        for job in self.book.outbox.jobs(REFUSED, 1):
            assert self.book.outbox.dismiss(job.event.id)

    @rule()
    def taken_over_from_a_damaged_journal(self):
        found = self.book.overview.last_calls(1000)
        other = Journal(":memory:", self.clock)
        assert other.calls.take_over([(call, self.book.calls.events(call)) for call in found]) == len(found)
        owed.check(other)
        other.close()

    @invariant()
    def nothing_is_lost(self):
        now = {e.id: (call.call_id, e.kind) for call in self.book.overview.last_calls(1000) for e in self.book.calls.events(call)}
        assert self.events.items() <= now.items()
        self.events = now

    def teardown(self):
        if not hasattr(self, "book"):
            return
        for call in self.book.overview.open_calls():
            self.book.calls.hang_up(call.call_id)
        order = {}
        for job in deliver_all(self.book, self.clock):
            order.setdefault(job.call.call_id, []).append(job.event.id)
        assert all(ids == sorted(ids) for ids in order.values())
        assert self.book.overview.totals()["pending"] == self.book.overview.totals()["open"] == 0
        self.one_life_each()
        self.book.close()


TestLives = Lives.TestCase
TestLives.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


# -- the window of requests --------------------------------------------------------------------------------------------

moments = st.lists(st.tuples(st.floats(0, 70), st.integers(1, 15)), min_size=1, max_size=20)


@settings(max_examples=100, deadline=None)
@given(moments, st.integers(1, 10))
def test_never_more_than_the_limit_in_any_minute_and_never_longer_closed_than_it_says(moments, limit):
    clock = Clock()
    book = Journal(":memory:", clock)
    sent = []
    for pause, tries in moments:
        clock.now += pause
        for _ in range(tries):
            leave = claim(book, limit)
            if leave.request_id:
                sent.append(clock.now)
            else:
                assert 0 < leave.wait <= WINDOW and not leave.paused and leave.reason
    assert WINDOW >= 60
    assert all(sum(at - WINDOW < other <= at for other in sent) <= limit for at in sent)
    assert book.limits.requests_in_window() == sum(other > clock.now - WINDOW for other in sent)
    while leave.request_id:
        leave = claim(book, limit)
    clock.now += leave.wait + 0.1
    assert claim(book, limit).request_id
    book.close()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 50), st.sampled_from([0, -3600, 3600, -30])), min_size=1, max_size=12))
def test_a_jump_of_the_clock_neither_floods_nor_closes(steps):
    clock, steady, sent = Clock(), Clock(1000.0), []
    book = Journal(":memory:", clock, steady)
    for seconds, jump in steps:
        steady.now += seconds
        clock.now += seconds + jump
        sent += [steady.now for _ in range(LIMIT + 2) if claim(book, LIMIT).request_id]
    assert all(sum(at - WINDOW < other <= at for other in sent) <= LIMIT for at in sent)
    steady.now += WINDOW + 0.1
    assert claim(book, LIMIT).request_id
    book.close()


@pytest.mark.parametrize("jump", [-3600, 3600])
def test_a_jump_of_the_clock_changes_no_pause_no_lease_and_no_retry(tmp_path, jump):
    clock, steady = Clock(), Clock(1000.0)
    book = Journal(str(tmp_path / "journal.db"), clock, steady)
    for number in range(2):
        book.calls.record(f"pbx-{number}", "completed")
    leased, retried = book.outbox.take(LIMIT)[0], book.outbox.take(LIMIT)[0]
    book.outbox.retry(retried, 30, "HTTP 500")
    book.limits.close_window(20)
    clock.now += jump
    assert (claim(book, LIMIT).wait, book.outbox.take(LIMIT)) == (20, (None, 30))
    steady.now += 30
    assert book.outbox.take(LIMIT)[0].event.id == retried.event.id
    steady.now += 30
    assert book.outbox.take(LIMIT)[0].event.id == leased.event.id
    book.close()


def test_a_pause_lasts_until_its_end_and_nothing_is_taken_in_it(book, clock):
    book.calls.hang_up(arrive(book).call_id)
    book.limits.close_window(30)
    assert claim(book, LIMIT) == (0, 30, "Movidesk asked for a pause (429)", True)
    assert book.outbox.take(LIMIT) == (None, 30)
    clock.now += 29.5
    assert not claim(book, LIMIT).request_id
    clock.now += 0.5
    assert book.outbox.take(LIMIT)[0].event.kind == "received"


def test_failed_tries_of_an_earlier_boot_are_forgotten(tmp_path, monkeypatch):
    """Their times are those of another steady clock."""
    boots = iter(["one", "two"])
    monkeypatch.setattr(store, "_boot_id", lambda: next(boots))
    path, clock = str(tmp_path / "journal.db"), Clock()
    before = Journal(path, clock, steady=lambda: 5_000_000.0)
    before.calls.record("pbx-1", "lost")
    job, _ = before.outbox.take(LIMIT)
    assert before.trials.failed(job, "HTTP 500", 0.5) == 2 and before.trials.get(job.event.id).failed == 5_000_000.0
    before.close()
    after = Journal(path, clock, steady=lambda: 100.0)
    assert after.trials.get(job.event.id) is None and after.trials.after_failure(job.event.id) == (100.0, 100.0, 0, 100.0)
    after.close()


# -- delivery ----------------------------------------------------------------------------------------------------------

def test_an_arrival_is_left_to_its_caller_until_the_call_has_ended(book):
    call = arrive(book)
    assert book.outbox.take(LIMIT) == (None, None)
    book.calls.hang_up(call.call_id)
    assert [job.event.kind for job in deliver_all(book, book.clock)] == ["received", "canceled"]


def test_an_event_that_was_taken_belongs_to_its_taker_until_the_lease_ends(book, clock):
    book.calls.record("pbx-1", "lost")
    first, _ = book.outbox.take(LIMIT)
    assert book.outbox.take(LIMIT) == (None, LEASE)
    clock.now += LEASE - 1
    assert book.outbox.take(LIMIT) == (None, 1)
    clock.now += 1
    second, _ = book.outbox.take(LIMIT)
    assert (second.event.id, first.event.attempts, second.event.attempts) == (first.event.id, 1, 2)


def test_a_call_that_must_wait_holds_up_no_other(book, clock):
    for number in range(3):
        book.calls.record(f"pbx-{number}", "lost")
    job, _ = book.outbox.take(LIMIT)
    book.outbox.retry(job, 30, "HTTP 500")
    book.calls.record("pbx-0", "link", link="https://pbx/0.wav")
    assert [book.outbox.take(LIMIT)[0].call.call_id for _ in range(2)] == ["pbx-1", "pbx-2"]
    assert book.outbox.take(LIMIT) == (None, 30)
    clock.now += 30
    assert (book.outbox.take(LIMIT)[0].event.id, book.outbox.jobs(PENDING)[0].event.note) == (job.event.id, "HTTP 500")


def test_a_refused_event_stays_visible_lets_the_later_ones_go_on_and_can_be_replayed(book, clock):
    call = arrive(book)
    book.calls.hang_up(call.call_id)
    job, _ = book.outbox.take(LIMIT)
    book.outbox.rejected(job, "HTTP 400: no")
    assert [(j.event.kind, j.event.note) for j in book.outbox.jobs(REFUSED)] == [("received", "HTTP 400: no")]
    assert [j.event.kind for j in deliver_all(book, clock)] == ["canceled"]
    assert book.overview.totals() == {"open": 0, "pending": 0, "refused": 1}
    assert book.outbox.replay(job.event.id) and not book.outbox.replay(job.event.id) and not book.outbox.replay(12345)
    assert [j.event.kind for j in deliver_all(book, clock)] == ["received"]


def test_taking_costs_a_request_of_the_window(book):
    for number in range(3):
        book.calls.record(f"pbx-{number}", "completed")
    assert [book.outbox.take(2)[0] is not None for _ in range(3)] == [True, True, False]
    assert book.outbox.take(2) == (None, WINDOW) and not claim(book, 2).request_id


def test_prune_forgets_what_ended_long_ago_and_owes_nothing(book, clock):
    def ended(uniqueid, settle):
        call = arrive(book, uniqueid)
        book.scheduler.answered(call, "", "1", "1")
        book.calls.hang_up(call.call_id)
        job, _ = book.outbox.take(1000)
        settle(job, "")
        return call.call_id

    gone = [ended(f"1.{number}", book.outbox.delivered) for number in range(3)]
    pending = ended("2.1", lambda job, note: book.outbox.retry(job, 1e7, note))
    refused = ended("2.2", book.outbox.rejected)
    clock.now += 86400 * 2
    still_open = arrive(book, "2.3").call_id
    young = ended("2.4", book.outbox.delivered)
    assert [book.outbox.prune(1, batch=2), book.outbox.prune(1, batch=2), book.outbox.prune(1, batch=2)] == [2, 1, 0]
    assert [call.call_id for call in reversed(book.overview.last_calls(100))] == [pending, refused, still_open, young]
    rows = sqlite3.connect(book.path).execute("SELECT count(*) FROM events WHERE call NOT IN (SELECT id FROM calls)")
    assert rows.fetchone() == (0,) and not any(book.calls.find(call_id) for call_id in gone)


def test_notes(book, clock):
    assert book.notes.get("x") is None
    book.notes.set("x", "1")
    clock.now += 1
    book.notes.set("x", "2")
    assert book.notes.get("x") == ("2", NOON + 1)
    book.notes.remove("x")
    assert book.notes.get("x") is None
    for text in "12":
        book.notes.set_once("x", text)
        clock.now += 1
    assert book.notes.get("x") == ("1", NOON + 1)


def test_a_timer_says_yes_once_in_its_time(book, clock):
    assert book.notes.time_left("x", 60) == 0.0
    assert [book.notes.acquire_timer("x", 60), book.notes.acquire_timer("x", 60)] == [True, False]
    clock.now += 59
    assert (book.notes.acquire_timer("x", 60), book.notes.time_left("x", 60)) == (False, 1.0)
    clock.now += 1
    assert book.notes.acquire_timer("x", 60)
    clock.now = NOON - 3600  # another boot, whose steady clock began anew
    assert book.notes.time_left("x", 60) == 0.0 and book.notes.acquire_timer("x", 60)


def test_the_end_of_a_late_arrival_that_was_given_an_agent_frees_that_one(book):
    call = arrive(book)
    book.calls.hang_up(call.call_id)
    other = arrive(book, "0.1", "78")
    book.calls.hang_up(other.call_id)
    book.outbox.delivered(book.outbox.take(LIMIT)[0], '"5252"', "5252")
    owed.check(book)
    first = book.outbox.jobs(PENDING)[0].event.id
    assert first == book.outbox.take(LIMIT)[0].event.id, "before the other call's arrival"


# -- what a step costs -------------------------------------------------------------------------------------------------

def steps_of(book):
    """How many instructions SQLite's machine runs for each step of some calls' lives, in fives."""
    counted, found = [0], {}

    def count():
        counted[0] += 1

    def step(name, action, *args, **more):
        counted[0] = 0
        result = action(*args, **more)
        found[name] = counted[0]
        return result

    book.store.connection.set_progress_handler(count, 5)
    head = step("arrive", arrive, book, "9.1")
    assert step("turn, asks", book.scheduler.turn, head, LIMIT).request_id
    step("answered", book.scheduler.answered, head, "", "4", "4")
    assert not step("turn, waits", book.scheduler.turn, head, LIMIT).request_id
    assert step("turn of the second", book.scheduler.turn, arrive(book, "9.2"), LIMIT).position == 2
    step("offered", book.scheduler.answered, head, "5252", "", "5252")
    step("transferred", book.calls.record, head.call_id, "transferred", extension="5252")
    step("completed", book.calls.hang_up, head.call_id, "https://pbx/1.wav")
    step("canceled", book.calls.hang_up, "pbx-9.2")
    step("lost", book.calls.record, arrive(book, "9.3").call_id, "lost", held=True)
    step("message", book.calls.hang_up, "pbx-9.3", "https://pbx/2.wav", converts="2.wav")
    watched = step("arrived", arrive, book, "9.4", mode=call_states.WATCH)
    step("start_transferred", book.calls.record, watched.call_id, "start_transferred", extension="5252")
    step("link", book.calls.record, watched.call_id, "link", link="https://pbx/3.wav")
    step("look again", arrive, book, "9.5")
    job, _ = step("take", book.outbox.take, LIMIT)
    step("delivered", book.outbox.delivered, job, "")
    step("retry", book.outbox.retry, book.outbox.take(LIMIT)[0], 5, "HTTP 500")
    step("rejected", book.outbox.rejected, book.outbox.take(LIMIT)[0], "HTTP 400")
    step("replay", book.outbox.replay, job.event.id + 1)
    step("take, window full", book.outbox.take, 1)
    for look in (book.overview.waiting, book.overview.unended, book.outbox.conversions, book.limits.requests_in_window,
                 book.limits.pause_left):
        step(look.__name__, look)
    step("unsent", book.next_events.unsent_since, -1.0)
    step("outbox", book.outbox.jobs, PENDING, 5)
    book.store.connection.set_progress_handler(None, 0)
    return found


def test_what_a_step_costs_does_not_depend_on_how_many_events_wait(tmp_path, clock):
    """Calls of three queues wait, all due: two without callers, and one that has some; also events that may not go yet."""
    costs = []
    for count in (150, 3000):
        book = Journal(str(tmp_path / (f"{count}.db")), clock)
        book.store.connection.execute("PRAGMA synchronous = OFF")
        for queue in ("77", "78", "79"):
            owed.backlog(book, count // 3, queue, queue)
        for number in range(max(6, count // 50)):
            book.outbox.retry(book.outbox.take(100_000)[0], 30 if number < 6 else 10_000, "HTTP 500")
        clock.now += 100  # the window is empty, and a few events are due again
        costs.append(steps_of(book))
        book.close()
    few, many = costs
    assert {name: (few[name], many[name]) for name in few if many[name] > 1.2 * few[name] + 5} == {}


# -- threads and processes ---------------------------------------------------------------------------------------------

def test_one_journal_in_many_threads(book):
    def work(number):
        for visit in range(10):
            book.calls.hang_up(arrive(book, f"{number}.{visit}").call_id)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = book.overview.last_calls(1000)
    assert len(found) == 40 and all(kinds(book, call) == ["received", "canceled"] for call in found)


def in_processes(*works):
    """What each work() returns in a process of its own; fails where one fails."""
    pipes = [FORK.Pipe(duplex=False) for _ in works]

    def run(work, mine):
        try:
            mine.send(work())
        except Exception as error:
            mine.send(error)

    processes = [FORK.Process(target=run, args=(work, mine)) for work, (_, mine) in zip(works, pipes)]
    for process in processes:
        process.start()
    found = [theirs.recv() if theirs.poll(20) else TimeoutError("no answer in 20 s") for theirs, _ in pipes]
    for process in processes:
        process.kill()
        process.join()
    assert not [result for result in found if isinstance(result, Exception)]
    return found


def race(path, work, count=4):
    """Run work(journal) in several processes at once on one file; what each returned."""
    start = FORK.Barrier(count)

    def run():
        start.wait(10)
        return work(Journal(path, Clock()))

    return in_processes(*[run] * count)


def test_processes_that_race_for_the_window_get_the_limit_together(book):
    granted = race(book.path, lambda mine: sum(claim(mine, LIMIT).request_id > 0 for _ in range(20)))
    assert sum(granted) == LIMIT == book.limits.requests_in_window()


def test_processes_that_race_for_events_get_each_once_and_in_order(book, clock):
    for number in range(15):
        call = arrive(book, f"1.{number}")
        book.calls.hang_up(call.call_id)

    def work(mine):
        taken = []
        while True:
            job, _ = mine.outbox.take(1000)
            if job is None:
                return taken
            taken.append(job.event.id)
            mine.outbox.delivered(job, "")

    taken = race(book.path, work)
    # Who finds everything leased stops: what is left then is taken by those who hold the leases.
    assert sorted(sum(taken, [])) == sorted({e.id for call in book.overview.last_calls(99) for e in book.calls.events(call)})
    assert book.overview.totals()["pending"] == 0
    for call in book.overview.last_calls(99):
        first, second = book.calls.events(call)
        assert first.settled <= second.settled and (first.attempts, second.attempts) == (1, 1)


def test_processes_that_race_for_one_channel_begin_one_call(book):
    found = race(book.path, lambda mine: [arrive(mine).call_id, mine.calls.hang_up("pbx-1.1").kind])
    assert len(book.calls.events(book.calls.find("pbx-1.1"))) == 2
    assert sorted(kind or "" for _, kind in found) == ["", "", "", "canceled"]


def test_an_event_is_on_disk_before_record_returns(tmp_path):
    """A writer killed with -9 keeps everything that it was told is recorded."""
    path = str(tmp_path / "journal.db")
    writer = subprocess.Popen([sys.executable, "-c", """if 1:
        import itertools, sys
        from movidesk.journal import Journal
        book = Journal(sys.argv[1])
        for number in itertools.count():
            print(book.calls.record("pbx-%d" % number, "lost", queue="7").call.call_id, flush=True)
        """, path], stdout=subprocess.PIPE, text=True)
    with writer:
        promised = [writer.stdout.readline() for _ in range(50)]
        writer.send_signal(signal.SIGKILL)
        promised += writer.stdout.readlines()
    assert writer.returncode == -signal.SIGKILL
    book = Journal(path)
    for call_id in (line.strip() for line in promised if line.endswith("\n")):
        assert kinds(book, book.calls.find(call_id)) == ["received", "lost"]
    assert sqlite3.connect(path).execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert book.calls.record("pbx-after", "lost").kind == "lost"


def test_every_commit_is_synced(book):
    assert book.store.connection.execute("PRAGMA synchronous").fetchone() == (2,)
    assert sqlite3.connect(book.path).execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_a_failing_event_leaves_nothing_behind_and_the_journal_usable(book):
    call = arrive(book)
    with pytest.raises(ValueError):
        book.calls.record(call.call_id, "lost", link="https://pbx/\udce9.wav")  # not to be written as UTF-8
    assert (book.calls.find(call.call_id), kinds(book, call)) == (call, ["received"])
    assert book.calls.record(call.call_id, "lost").kind == "lost"


# -- migrations --------------------------------------------------------------------------------------------------------

def version(path):
    return sqlite3.connect(path).execute("PRAGMA user_version").fetchone()[0]


def use_migrations(monkeypatch, migrations):
    monkeypatch.setattr(schema, "MIGRATIONS", migrations)
    monkeypatch.setattr(store, "SCHEMA", len(migrations))


def test_the_store_knows_how_many_migrations_there_are():
    assert len(schema.MIGRATIONS) == store.SCHEMA


def test_a_fresh_file_has_this_version(book):
    assert version(book.path) == len(schema.MIGRATIONS)


def test_an_older_file_is_brought_up_to_date_and_keeps_its_calls(book, monkeypatch):
    call = arrive(book)
    more = "CREATE TABLE more (x); INSERT INTO more VALUES (1)"
    use_migrations(monkeypatch, (*schema.MIGRATIONS, more))
    newer = Journal(book.path)
    assert newer.calls.find(call.call_id) == call and version(book.path) == len(schema.MIGRATIONS)
    Journal(book.path)
    assert sqlite3.connect(book.path).execute("SELECT count(*) FROM more").fetchone() == (1,)


def test_endings_that_were_recorded_before_they_named_the_agent_still_free_one(tmp_path, clock, monkeypatch):
    path = str(tmp_path / "old.db")
    with monkeypatch.context() as before:
        use_migrations(before, schema.MIGRATIONS[:2])
        Journal(path, clock).close()
    with sqlite3.connect(path) as old:
        old.execute("INSERT INTO calls (call_id, uniqueid, mode, state, queue, extension, arrived, ended)"
                    " VALUES ('pbx-1.1', '1.1', 'control', 'canceled', '77', '5252', 1, 2)")
        old.executemany("INSERT INTO events (call, kind, at, status) VALUES (1, ?, 2, ?)",
                        [("received", "delivered"), ("canceled", "pending")])
    book = Journal(path, clock)
    job, _ = book.outbox.take(LIMIT)
    assert (job.event.kind, job.event.extension) == ("canceled", "5252")


def test_what_waits_in_an_older_file_is_known_in_the_newer(tmp_path, clock, monkeypatch):
    path = str(tmp_path / "old.db")
    with monkeypatch.context() as before:
        use_migrations(before, schema.MIGRATIONS[:3])
        Journal(path, clock).close()
    with sqlite3.connect(path) as old:
        old.executemany("INSERT INTO calls (call_id, uniqueid, mode, state, queue, extension, arrived, ended)"
                        " VALUES ('pbx-1.' || ?1, '1.' || ?1, 'control', ?2, '77', ?3, 1, ?4)",
                        [(1, "completed", "5252", 2), (2, "canceled", "", 2), (3, "received", "", None),
                         (4, "transferred", "5253", None), (5, "canceled", "5254", 2), (6, "lost", "", 2)])
        old.executemany("INSERT INTO events (call, kind, at, extension, status, due) VALUES (?, ?, 2, ?, ?, ?)", [
            (1, "received", "", "delivered", 0), (1, "transferred", "5252", "pending", NOON + 60),
            (1, "completed", "", "pending", 0),
            (2, "received", "", "pending", 0), (2, "canceled", "", "pending", 0), (3, "received", "", "pending", 0),
            (4, "received", "", "refused", 0), (4, "transferred", "5253", "pending", 0),
            (5, "received", "", "delivered", 0), (5, "canceled", "5254", "pending", 0), (6, "lost", "", "delivered", 0)])
    book = Journal(path, clock)
    owed.check(book)
    assert owed.taken(book, "77") == {"5252", "5253", "5254"}
    assert [call.call_id for _, call in sorted(owed.firsts(book))] == ["pbx-1.1", "pbx-1.2", "pbx-1.4", "pbx-1.5"]
    assert [(job.call.call_id, job.event.kind) for job in deliver_all(book, clock)] == [
        ("pbx-1.4", "transferred"), ("pbx-1.5", "canceled"), ("pbx-1.2", "received"), ("pbx-1.2", "canceled"),
        ("pbx-1.1", "transferred"), ("pbx-1.1", "completed")]


def of_the_version_before(path, clock):
    """A journal that the version before wrote, with calls and events of all kinds; `clock` goes to the time of its writing."""
    with sqlite3.connect(path) as file:
        file.executescript((RELEASED / "journal.sql").read_text())
    clock.now = 1_700_000_020.0
    return path


def test_a_journal_of_the_version_before_goes_on_where_it_was(tmp_path, clock):
    """Calls are open, an agent's phone rings, a caller leaves a message, events are due, wait for a retry or are refused."""
    path = of_the_version_before(str(tmp_path / "old.db"), clock)
    book = Journal(path, clock)
    owed.check(book)
    assert {queue: owed.taken(book, queue) for queue in ("77", "80", "81")} == {
        "77": {"5252", "5253", "5254"}, "80": {"5256"}, "81": {"5257"}}
    assert book.overview.totals()["refused"] == 1 and book.outbox.replay(book.outbox.jobs(REFUSED)[0].event.id)
    first = book.overview.open_calls()[0]
    assert (first.call_id, first.state) == ("pbx-1700000000.1", "transferred")
    assert [call.call_id[-2:] for call in book.overview.waiting()] == [".5", ".6"]
    for call in book.overview.unended():
        book.calls.hang_up(call.call_id)
    clock.now += 2 * HOLD
    told = {}
    for job in deliver_all(book, clock):
        told.setdefault(job.call.call_id.split(".")[1], []).append((job.event.kind + " " + job.event.extension).strip())
    assert told == {
        "1": ["completed 5252"], "2": ["completed 5253"], "4": ["canceled 5254"], "5": ["canceled"],
        "6": ["received", "canceled"],
        "7": ["lost"], "8": ["start_transferred 5260", "completed 5260"], "9": ["received", "canceled"],
        "10": ["transferred 5256", "completed 5256", "link"], "11": ["transferred 5257", "completed 5257"],
        "12": ["received", "canceled"], "13": ["transferred 5258", "completed 5258"]}
    assert book.overview.totals() == {"open": 0, "pending": 0, "refused": 0}


def test_the_service_of_the_version_before_goes_on_until_it_is_restarted(tmp_path, clock):
    """Each of its statements suits the file before it is migrated, and after."""
    path = of_the_version_before(str(tmp_path / "old.db"), clock)
    statements = [line for line in (RELEASED / "statements.sql").read_text().splitlines() if not line.startswith("--")]
    assert len(statements) > 60
    for migrate in (lambda: None, lambda: Journal(path, clock).close()):
        migrate()
        with closing(sqlite3.connect(path)) as service:
            for statement in statements:
                service.execute("EXPLAIN " + statement, [None] * statement.count("?"))


def test_what_the_version_before_records_in_a_migrated_file_is_delivered(tmp_path, clock):
    path = of_the_version_before(str(tmp_path / "old.db"), clock)
    book = Journal(path, clock)
    with closing(sqlite3.connect(path)) as service, service:  # its words, from statements.sql
        service.execute("INSERT INTO events (call, kind, at, extension, link) VALUES (?, ?, ?, ?, ?)",
                        (1, "completed", clock(), "", ""))
        service.execute("UPDATE calls SET state = ?, ended = ? WHERE id = ?", ("completed", clock(), 1))
        service.execute("UPDATE events SET status = ?, note = ?, settled = ? WHERE id = ?", ("delivered", "", clock(), 4))
    assert [(job.call.id, job.event.kind) for job in deliver_all(book, clock) if job.call.id == 1] == [(1, "completed")]


def test_a_pause_is_noted_as_the_version_before_reads_it(book):
    book.limits.suspect_429(1, 60.0)
    book.limits.close_window(60.0)
    until, strikes = book.notes.get("closed")[0].split()
    assert (float(until) > NOON, int(strikes)) == (True, 1) and book.limits.pause_reason() == "Movidesk asked for a pause (429)"


def test_a_migration_that_fails_leaves_the_version_before(book, monkeypatch):
    before = version(book.path)
    use_migrations(monkeypatch, schema.MIGRATIONS + ("CREATE TABLE more (x); no SQL",))
    with pytest.raises(JournalError, match="syntax error"):
        Journal(book.path)
    tables = sqlite3.connect(book.path).execute("SELECT count(*) FROM sqlite_master WHERE name = 'more'")
    assert version(book.path) == before and tables.fetchone() == (0,)


def test_a_file_of_a_newer_version_is_left_alone_with_clear_words(book):
    with sqlite3.connect(book.path) as other:
        other.execute("PRAGMA user_version = 99")
    with pytest.raises(JournalError, match=r"journal .*\.db: written by a newer movidesk-agi \(schema 99, .*upgrade"):
        Journal(book.path)
    assert version(book.path) == 99


def test_processes_that_begin_one_file_at_once(tmp_path):
    for number in range(8):
        path = str(tmp_path / (f"{number}.db"))
        assert race(path, lambda mine: claim(mine, LIMIT).wait) == [0] * 4
        assert version(path) == len(schema.MIGRATIONS)


# -- what cannot be used -----------------------------------------------------------------------------------------------

def as_nobody(work):
    """What work() returns in a process without root's rights."""
    def run():
        if os.geteuid() == 0:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
        return work()

    return in_processes(run)[0]


def failure(path):
    try:
        Journal(path).calls.record("pbx-1", "lost")
    except JournalError as error:
        return str(error)
    return "no failure"


def test_a_folder_that_is_not_there(tmp_path):
    path = str(tmp_path / "none" / "journal.db")
    assert failure(path) == (f"journal {path}: unable to open database file; the folder {tmp_path / 'none'} does not exist: "
                             "create it, owned by Asterisk's user")


@pytest.fixture
def open_folder(tmp_path):
    """A folder that every user can reach."""
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_uid == os.geteuid() and not folder.stat().st_mode & 1:
            folder.chmod(folder.stat().st_mode | 0o011)
    return tmp_path


def test_a_folder_that_cannot_be_written(open_folder):
    open_folder.chmod(0o555)
    text = as_nobody(lambda: failure(str(open_folder / "journal.db")))
    assert f"journal {open_folder}/journal.db: unable to open database file; the folder" in text
    assert "is not writable for this user" in text


def test_a_file_that_cannot_be_written(open_folder):
    path = str(open_folder / "journal.db")
    Journal(path).close()
    os.chmod(path, 0o444)
    open_folder.chmod(0o555)
    text = as_nobody(lambda: failure(path))
    assert path in text and "is not writable for this user" in text


@pytest.mark.parametrize("content", [b"no database at all, but long enough to look at" * 100,
                                     b"SQLite format 3\0" + b"\xff" * 4096])
def test_a_damaged_file(tmp_path, content):
    path = tmp_path / "journal.db"
    path.write_bytes(content)
    text = failure(str(path))
    assert text.startswith(f"journal {path}: ") and "the file is damaged: move it aside" in text
    assert path.read_bytes() == content


def test_a_folder_in_the_files_place(tmp_path):
    assert failure(str(tmp_path)).startswith(f"journal {tmp_path}: unable to open database file; ")


@pytest.fixture
def locked(book):
    """Another program holds the journal's write lock until this is called."""
    other = sqlite3.connect(book.path, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    return lambda: other.execute("ROLLBACK") if other.in_transaction else None


def test_a_journal_that_another_process_keeps_locked(book, locked, monkeypatch):
    monkeypatch.setattr(store, "BUSY_TIMEOUT", 0.05)
    with pytest.raises(JournalError, match=f"{book.path}: database is locked; "):
        arrive(book)
    locked()
    assert arrive(book)


def at_once(*works):
    """Run each work() in a thread of its own; (its result or JournalError, the seconds it took) for each."""
    def run(number, work):
        begin = time.monotonic()
        try:
            found[number] = work()
        except JournalError as error:
            found[number] = error
        found[number] = found[number], time.monotonic() - begin

    found = [None] * len(works)
    threads = [threading.Thread(target=run, args=pair) for pair in enumerate(works)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    return found


def test_who_waits_for_the_journals_lock_at_once_waits_no_longer_than_one_alone(book, locked, monkeypatch):
    """Twelve callers are answered while a backup, say, holds the lock; others only read, and wait for nothing."""
    monkeypatch.setattr(store, "BUSY_TIMEOUT", 1.5)
    call = book.calls.find("none")
    found = at_once(*[lambda: arrive(book)] * 12, *[lambda: book.calls.find("none")] * 6)
    assert all(isinstance(result, JournalError) and "locked" in str(result) for result, _ in found[:12])
    assert max(took for _, took in found[:12]) < 2 * 1.5, [took for _, took in found]
    assert all(result is call and took < 1.5 for result, took in found[12:]), found[12:]


def test_the_lock_is_let_go_in_time_for_all_who_wait(book, locked):
    threading.Timer(0.3, locked).start()
    found = at_once(*[lambda number=number: arrive(book, f"1.{number}") for number in range(12)])
    assert sorted(call.call_id for call, _ in found) == sorted(f"pbx-1.{number}" for number in range(12))
    assert all(0.2 < took < 2 for _, took in found), found


def test_a_journal_that_is_closed(book):
    book.close()
    with pytest.raises(JournalError, match="closed"):
        book.overview.totals()
