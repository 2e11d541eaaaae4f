"""Delivery with the real journal, over real HTTP to the simulator, which misbehaves on demand."""

from __future__ import annotations

import random
import re
import subprocess
import sys
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from movidesk import alarms, config
from movidesk.context import Context
from movidesk.delivery import api, worker
from movidesk.delivery.availability import AWAY, TRY_TOKEN_AGAIN
from movidesk.delivery.worker import Delivery
from movidesk.journal import LEASE, PENDING, REFUSED, JournalError
from movidesk.journal.wakeup import Trigger, path_beside
from movidesk.recordings import links
from movidesk.rules import rate_limit
from movidesk.rules.trial import FIRST_RETRY, LONGEST_RETRY, TOKEN_RETRY, backoff
from movidesk_sim.faults import Fault
from movidesk_sim.model import Limit
from support.waits import TIMEOUT, until

OTHER_TOKEN = "00000000-0000-0000-0000-00000000cafe"
AGENTS = [f"60{number:02d}" for number in range(20)]
COMPLETED = "asterisk_completedCall"


class Office:
    """A context, its delivery and the simulator; the journal's clock is the test's."""

    def __init__(self, simulator, path, clock):
        self.simulator, self.model, self.clock = simulator, simulator.model, clock
        self.context = Context(config.load(path), clock, wake=lambda: None)
        self.book = self.context.journal
        self.delivery = Delivery(self.context, jitter=lambda: 0.5)
        self.count = 0

    def offered(self):
        """A call whose caller has been offered an agent."""
        self.count += 1
        call = self.book.calls.arrive("pbx1", f"1.{self.count}", "77", "47")
        answer = self.context.client.send("received", queue="77", number="47", id=call.call_id, arrived=call.arrived)
        offered = api.parse_answer(answer.text, self.context.config["pbx", "extension_pattern"]).extension
        self.book.scheduler.answered(call, offered, "", answer.text)
        return call.call_id

    def talked(self):
        """A call that is over, of which Movidesk knows only the offer."""
        call_id = self.offered()
        for kind in ("transferred", "completed"):
            assert self.book.calls.record(call_id, kind).kind
        return call_id

    def fault(self, endpoint, **what):
        self.simulator.faults.rules.append(Fault(endpoint, **what))

    def heard(self, endpoint=None):
        """What reached Movidesk, in order: (call id, endpoint, status)."""
        return [(line["params"]["id"], line["endpoint"], line["status"]) for line in self.model.log
                if line["endpoint"] in (endpoint or line["endpoint"],) and line["endpoint"] != "asterisk_receivedCall"]

    def until_settled(self, tries=20):
        """Deliver, moving the clock to when there is something to do again; the seconds that passed."""
        begun = self.clock.now
        for _ in range(tries):
            self.delivery.once()
            job, wait = self.delivery.take()
            assert job is None
            if wait is None:
                return self.clock.now - begun
            self.clock.advance(wait)
        pytest.fail(f"not settled: {self.book.outbox.jobs(PENDING)!r}")


@pytest.fixture
def office(simulator, write_config, clock):
    simulator.model.add_group(77, AGENTS)
    made = Office(simulator, write_config(movidesk={"url": simulator.url, "timeout": "0.5"}), clock)
    yield made
    made.context.client.close()
    made.book.close()


def is_complete(office, call_id):
    ticket = office.model.tickets[call_id]
    return ticket.complete and ticket.state == "completed" and not office.model.problems


def test_the_agent_of_a_late_arrival_is_freed_by_the_next_event(office):
    """Movidesk keeps an agent for a caller who is gone: nothing that frees nobody comes before the end of that."""
    late, other = (office.book.calls.arrive("pbx1", f"1.{number}", "77", "47") for number in (1, 2))
    office.book.calls.hang_up(late.call_id)
    office.book.calls.record("pbx1-9.9", "lost", queue="77", number="47")
    job, _ = office.delivery.take()
    assert (job.call.call_id, job.event.kind) == (late.call_id, "received")
    office.delivery.deliver(job)
    waiting = office.book.scheduler.turn(other, 1000)
    assert waiting.request_id and office.book.calls.find(late.call_id).extension == AGENTS[0]
    job, _ = office.delivery.take()
    assert (job.call.call_id, job.event.kind, job.event.extension) == (late.call_id, "canceled", AGENTS[0])
    office.delivery.deliver(job)
    assert office.model.held_for(AGENTS[0]) is None


# -- what goes wrong, and arrives all the same -------------------------------------------------------------------------

@pytest.mark.parametrize("fault, seconds, repeated", [
    ({}, 0, 0),
    ({"status": 500}, 2, 0),
    ({"status": 500, "count": 4}, 2 + 4 + 8 + 16, 0),
    ({"status": 503, "retry_after": "30"}, 30, 0),
    ({"cut": "before"}, 2, 0),
    ({"cut": "after"}, 2, 1),
    ({"cut": "after", "count": 2}, 2 + 4, 2),
    ({"status": 429, "retry_after": "7"}, 7, 0),
    ({"status": 429, "retry_after": "soon"}, 60, 0),
    ({"status": 302}, 2, 0),
    ({"body": "<html>what?</html>"}, 0, 0),
])
def test_completed_arrives_once_accepted(office, fault, seconds, repeated):
    call_id = office.talked()
    office.fault(COMPLETED, **fault) if fault else None
    assert office.until_settled() == pytest.approx(seconds, abs=0.01)
    assert is_complete(office, call_id) and office.model.duplicates == repeated
    assert office.book.overview.totals() == {"open": 0, "pending": 0, "refused": 0}


def test_completed_meets_a_slow_answer_and_is_sent_again(office):
    call_id = office.talked()
    office.fault(COMPLETED, delay=0.8)
    assert office.until_settled() == pytest.approx(2)
    until(lambda: len(office.heard(COMPLETED)) == 2)  # the slow one is heard too, after the second
    assert is_complete(office, call_id) and office.model.duplicates == 1


def test_movidesk_is_away_for_a_day(office):
    calls = [office.talked() for _ in range(3)]
    office.fault("", cut="before", count=10**6)
    end = office.clock.now + 86400
    while office.clock.now < end:
        assert office.delivery.once() is False
        office.clock.advance(1800)
    assert office.book.overview.totals() == {"open": 0, "pending": 6, "refused": 0}
    office.simulator.faults.rules.clear()
    assert office.until_settled() <= LONGEST_RETRY * 1.25 * 2
    assert all(is_complete(office, call_id) for call_id in calls)


def test_nothing_is_sent_while_429_asks_for_a_pause(office):
    office.talked()
    office.talked()
    office.fault("asterisk_transferedCall", status=429, retry_after="7")
    assert office.delivery.once() is False
    assert office.delivery.take() == (None, 7)
    office.clock.advance(6.5)
    assert office.delivery.once() and len(office.heard()) == 1


@pytest.fixture
def under_ten_a_minute(office):
    """Both sides keep to ten a minute; `used` requests have taken their places here and there."""
    office.context.config._values["movidesk", "requests_per_minute"] = 10

    def use(used, **limit):
        office.model.limit = Limit(10, **limit)
        for _ in range(used):
            office.book.limits.claim(10, rate_limit.SCREEN, rate_limit.Demand())
    return use


def test_a_burst_of_429s_is_one_strike(office, running, under_ten_a_minute):
    """Four requests are under way at once, and each is answered 429."""
    for _ in range(4):
        office.talked()
    office.fault("asterisk_transferedCall", status=429, retry_after="60", count=4, delay=0.2)
    under_ten_a_minute(0)
    running.trigger.pull()
    until(lambda: len(office.heard()) == 4)
    until(lambda: [job.event.note for job in office.book.outbox.jobs(PENDING)].count("HTTP 429") == 4)
    assert office.book.limits.pause_left() == 60


@pytest.mark.parametrize("used, paused", [(4, 0), (8, 60)])
def test_a_connection_cut_near_the_limit_is_a_suspected_429(office, under_ten_a_minute, caplog, used, paused):
    office.talked()
    under_ten_a_minute(used)
    office.fault("asterisk_transferedCall", cut="before")
    office.delivery.once()
    assert office.book.limits.pause_left() == paused
    assert ("which may stand for a 429: no request is sent for 60 s" in caplog.text) == bool(paused)
    assert (office.book.notes.get(AWAY) is None) == bool(paused), "it is no sign that Movidesk is away"


def test_cut_connections_while_movidesk_is_away_are_no_429s(office, under_ten_a_minute):
    office.context.apply_outcome(api.Retry(None, "no answer within 5 s", None))
    office.talked()
    under_ten_a_minute(9)
    office.fault("asterisk_transferedCall", cut="before")
    office.delivery.once()
    assert office.book.limits.pause_left() == 0 and office.book.notes.get(AWAY)


def test_a_movidesk_that_cuts_instead_of_answering_429_gets_all_the_same(office, under_ten_a_minute):
    calls = [office.talked() for _ in range(6)]
    office.model.clock = office.clock
    under_ten_a_minute(0, refuses="cut")
    office.model.limit.admit(office.clock())  # another program's
    assert office.until_settled(60) < 300
    assert all(is_complete(office, call_id) for call_id in calls)


def test_another_program_uses_half_of_the_limit(office, under_ten_a_minute, caplog):
    """It was there first, and every 12 seconds it sends another request."""
    calls = [office.talked() for _ in range(20)]
    office.model.clock = office.clock
    under_ten_a_minute(0)
    assert [office.model.limit.admit(office.clock()) for _ in range(5)] == [0] * 5
    run(office, 1200, 12, lambda: office.model.limit.admit(office.clock()))
    refused_ones = sum(line["status"] == 429 for line in office.model.log)
    assert all(is_complete(office, call_id) for call_id in calls) and refused_ones <= 6
    assert caplog.text.count("other programs use the account") == 1


def test_once_says_whether_movidesk_took_all(office):
    assert office.delivery.once() is True
    office.talked()
    office.fault(COMPLETED, status=500)
    assert office.delivery.once() is False
    office.clock.advance(2)
    assert office.delivery.once() is True


def test_a_calls_events_arrive_in_order_and_no_call_waits_for_another(office):
    slow, quick = office.talked(), office.talked()
    office.fault("asterisk_transferedCall", status=500)
    office.delivery.once()
    assert [(call, status) for call, endpoint, status in office.heard() if endpoint == COMPLETED] == [(quick, 200)]
    office.until_settled()
    for call_id in (slow, quick):
        assert [endpoint for call, endpoint, status in office.heard() if (call, status) == (call_id, 200)] == [
            "asterisk_transferedCall", COMPLETED]
    assert is_complete(office, slow) and is_complete(office, quick)


def test_without_queue_control_completed_has_the_other_documents_endpoint(office):
    call = office.book.calls.arrive("pbx1", "1.1", "77", "47", "watch")
    office.book.calls.record(call.call_id, "start_transferred", extension=AGENTS[0])
    office.book.calls.hang_up(call.call_id)
    left = office.book.calls.arrive("pbx1", "1.2", "77", "47", "watch")
    office.book.calls.hang_up(left.call_id)
    office.until_settled()
    # By urgency, not by age: the screen, the agent who is free again, the caller who left.
    assert sorted((line["method"], line["endpoint"]) for line in office.model.log) == [
        ("GET", COMPLETED), ("GET", "asterisk_startCanceledCall"), ("GET", "asterisk_startTransferedCall")]
    assert is_complete(office, call.call_id) and office.model.tickets[left.call_id].state == "canceled"


@pytest.mark.parametrize("recording", ["jo\udce3o.wav", "https://pbx/jo\udce3o.wav"])
def test_a_recordings_name_that_is_no_utf_8_costs_no_call_its_ending(office, recording):
    """Asterisk hands on bytes; Channel.get makes such surrogates of them."""
    office.context.config._values["recordings", "link"] = "https://pbx/{file}"
    call_id = office.talked()
    link = links.link(office.context.config, office.book.calls.find(call_id), recording, office.context.clock())
    office.book.calls.record(call_id, "link", link=link)
    office.until_settled()
    assert is_complete(office, call_id) and office.model.tickets[call_id].links == [link]


# -- what is refused ---------------------------------------------------------------------------------------------------

def lost_with_link(office):
    call_id = office.offered()
    office.book.calls.record(call_id, "lost")
    office.book.calls.record(call_id, "link", link="https://pbx/1.wav")
    return call_id


def test_a_refusal_is_believed_the_third_time_and_the_later_events_go_on(office):
    call_id = lost_with_link(office)
    office.fault("asterisk_lostCall", status=400, body="no such id", count=10)
    office.until_settled()
    refused, = office.book.outbox.jobs(REFUSED)
    assert (refused.event.kind, refused.event.attempts, refused.event.note) == ("lost", 3, "HTTP 400: no such id")
    assert [endpoint for _, endpoint, _ in office.heard()] == ["asterisk_lostCall"] * 3 + ["setMadeCallLink"]
    assert office.model.tickets[call_id].links == ["https://pbx/1.wav"]


def test_a_refused_event_is_replayed(office):
    call_id = lost_with_link(office)
    office.fault("asterisk_lostCall", status=404, count=3)
    office.until_settled()
    assert office.book.outbox.replay(office.book.outbox.jobs(REFUSED)[0].event.id)
    assert office.until_settled() == 0
    assert office.model.tickets[call_id].state == "lost" and office.book.overview.totals()["refused"] == 0


def test_what_the_documents_do_not_allow_is_refused_unsent(office):
    call_id = office.offered()
    office.book.calls.record(call_id, "link", link="https://pbx/" + "x" * 300)
    office.book.calls.record(call_id, "canceled")
    office.until_settled()
    assert "setMadeCallLink: Link has 312 characters" in office.book.outbox.jobs(REFUSED)[0].event.note
    assert [endpoint for _, endpoint, _ in office.heard()] == ["asterisk_canceledCall"]


ALL = 10**6  # of them


def fail(office, endpoint="", **fault):
    office.fault(endpoint, count=ALL, **fault)


def refused(office):
    return [(job.event.kind, job.call.call_id) for job in office.book.outbox.jobs(REFUSED)]


def run(office, seconds, every=None, also=lambda: None):
    """Deliver for so long as the service would; `also` happens every so many seconds. Returns when each request came."""
    heard, end = [], office.clock.now + seconds
    next_also = office.clock.now + (every or ALL)
    while office.clock.now <= end:
        office.delivery.once()
        heard += [(office.clock.now - end + seconds, entry) for entry in office.heard()[len(heard):]]
        wait = office.delivery.take()[1]
        office.clock.now = min(next_also, office.clock.now + min(5.0, 5.0 if wait is None else max(0.1, wait)))
        if office.clock.now == next_also:
            also()
            next_also += every
    return heard


@pytest.mark.parametrize("seen", [True, False], ids=["Movidesk takes it and answers nothing", "it never takes it"])
def test_an_event_that_is_never_accepted_does_not_block_its_call(office, seen):
    """Nothing else is sent: the end of the call shows that Movidesk takes requests."""
    call_id = office.talked()
    fail(office, "asterisk_transferedCall", **({"cut": "after"} if seen else {"status": 500}))
    heard = run(office, 180)
    first = next(at for at, (_, endpoint, _) in heard if endpoint == COMPLETED)
    assert 45 <= first <= 120
    if seen:
        assert is_complete(office, call_id) and refused(office) == [("transferred", call_id)]
        assert [entry[2] for at, entry in heard if at > first] == [], "it must not come after the end"
    else:  # a Movidesk that knows of no talk refuses its end
        assert refused(office) == [("transferred", call_id), ("completed", call_id)]
    alarm, = alarms.standing(office.context)
    assert alarm.name == "refused" and f"transferred of {call_id}" in alarm.text
    assert ("the connection was cut" if seen else "HTTP 500") in alarm.text


@pytest.mark.parametrize("status", [500, 403, 401, 302, 408])
def test_an_event_that_is_never_accepted_holds_up_nobody(office, status):
    """A call comes every 20 seconds, and Movidesk takes all that it is told of them."""
    office.context.apply_outcome(api.Delivered(""))  # the token has worked
    poisoned = office.talked()
    office.delivery.deliver(office.delivery.take()[0])
    fail(office, COMPLETED, status=status)
    others = []

    def another():
        others.append(office.offered())
        office.book.calls.record(others[-1], "canceled")

    heard = run(office, 180, 20, another)
    arrived = {call_id: at for at, (call_id, _, got) in heard if got == 200}
    assert all(arrived[call_id] <= 20 * number + 5 for number, call_id in enumerate(others[:-1], 1))
    assert refused(office) == [("completed", poisoned)]
    assert re.fullmatch(rf"HTTP {status} \([345] tries failed while other requests were accepted\)",
                        office.book.outbox.jobs(REFUSED)[0].event.note)
    assert not office.context.auth_backoff() and not office.context.outage_backoff(300)


@pytest.mark.parametrize("status", [500, 403])
def test_two_events_that_are_never_accepted_hold_up_nobody_either(office, status):
    office.context.apply_outcome(api.Delivered(""))
    poisoned = [office.talked() for _ in range(2)]
    for _ in poisoned:
        office.delivery.deliver(office.delivery.take()[0])
    fail(office, COMPLETED, status=status)
    office.delivery.once()
    office.context.apply_outcome(api.Delivered(""))  # a caller's question, after the silence if there is one
    office.book.scheduler.answered(office.book.calls.arrive("pbx1", "9.9", "77", "47"), "", "4", "4")
    run(office, 180, 15, lambda: office.book.scheduler.answered(
        office.book.calls.arrive("pbx1", "9.9", "77", "47"), "", "4", "4"))
    assert refused(office) == [("completed", call_id) for call_id in poisoned]


@pytest.mark.parametrize("fault", [
    {"status": 500}, {"status": 302}, {"status": 411}, {"status": 401}, {"status": 403}, {"cut": "before"}], ids=str)
@pytest.mark.parametrize("calls", [1, 3])
def test_nothing_is_set_aside_in_an_outage_however_long(office, fault, calls):
    office.context.apply_outcome(api.Delivered(""))
    ids = [office.talked() for _ in range(calls)]
    fail(office, **fault)
    heard = run(office, 7200)
    assert len(heard) < 120
    assert office.book.overview.totals() == {"open": 0, "pending": 2 * calls, "refused": 0}
    assert alarms.standing(office.context)
    office.simulator.faults.rules.clear()
    assert office.until_settled() <= TRY_TOKEN_AGAIN + LONGEST_RETRY * 1.25 * 2
    assert all(is_complete(office, call_id) for call_id in ids)


def test_an_outage_after_which_one_event_fails_for_another_minute(office):
    """Some backends come back later than others."""
    ids = [office.talked() for _ in range(3)]
    fail(office, status=500)
    run(office, 3600)
    office.simulator.faults.rules.clear()
    fail(office, COMPLETED, status=500)
    run(office, 60)
    office.simulator.faults.rules.clear()
    office.until_settled()
    assert all(is_complete(office, call_id) for call_id in ids) and not refused(office)


def test_one_refusal_of_a_token_that_works_silences_nobody(office):
    office.context.apply_outcome(api.Delivered(""))
    calls = [office.talked() for _ in range(2)]
    office.fault("asterisk_transferedCall", status=403)
    office.delivery.once()
    assert [call for call, _, status in office.heard() if status == 200] == [calls[1]] * 2
    assert office.until_settled() == TOKEN_RETRY and not alarms.standing(office.context)


def test_a_revoked_token_is_believed_to_be_refused_after_two_requests(office):
    office.context.apply_outcome(api.Delivered(""))
    for _ in range(3):
        office.talked()
    office.model.token = OTHER_TOKEN
    office.delivery.once()
    assert [status for _, _, status in office.heard()] == [401, 401]
    assert office.delivery.take() == (None, TRY_TOKEN_AGAIN)
    assert "Movidesk refuses the token" in alarms.standing(office.context)[0].text


def test_what_is_recorded_after_an_event_that_fails_has_it_tried_at_once(office):
    call_id = office.offered()
    office.book.calls.record(call_id, "transferred")
    fail(office, "asterisk_transferedCall", cut="after")
    run(office, 1800)
    office.book.calls.record(call_id, "completed")
    assert 0 <= min(at for at, (_, endpoint, _) in run(office, 180) if endpoint == COMPLETED) <= LEASE
    assert refused(office) == [("transferred", call_id)]


def test_a_refused_token_stops_all_requests_and_a_new_one_resumes_them(office, write_config):
    call_id = office.talked()
    office.model.token = OTHER_TOKEN
    assert office.delivery.once() is False
    assert (len(office.heard()), office.heard()[0][2]) == (1, 401)
    office.book.calls.record("pbx1-9.9", "lost", queue="77", number="47")
    assert office.delivery.take() == (None, TRY_TOKEN_AGAIN)
    office.delivery.once()
    assert len(office.heard()) == 1 and office.book.overview.totals()["refused"] == 0
    path = write_config(movidesk={"url": office.simulator.url, "token": OTHER_TOKEN})
    office.clock.advance(2)
    renewed = Office(office.simulator, path, office.clock)
    assert renewed.context.auth_backoff() == 0.0
    renewed.until_settled()
    assert is_complete(office, call_id)


def test_a_token_that_was_refused_is_tried_again_seldom(office):
    call_id = office.talked()
    office.fault("asterisk_transferedCall", status=403)
    office.delivery.once()
    assert office.until_settled() == pytest.approx(TRY_TOKEN_AGAIN)
    assert is_complete(office, call_id)


def test_no_token_in_the_log_and_in_the_journal(office, caplog):
    caplog.set_level("DEBUG")
    office.talked()
    office.fault(COMPLETED, status=400, body="your token is " + office.model.token.upper(), count=5)
    office.until_settled()
    with open(office.book.path, "rb") as file, open(office.book.path + "-wal", "rb") as wal:
        kept = (file.read() + wal.read()).lower()
    logged = " ".join(r.getMessage() for r in caplog.records if not r.name.startswith("movidesk_sim")).lower()
    assert "completed set aside" in logged and office.model.token.lower() not in logged
    assert office.model.token.encode().lower() not in kept
    assert "your token is ***" in office.book.outbox.jobs(REFUSED)[0].event.note


# -- a crash -----------------------------------------------------------------------------------------------------------

def test_what_a_dead_process_had_taken_is_sent_when_its_lease_is_over(office):
    call_id = office.talked()
    subprocess.run([sys.executable, "-c", """if 1:
        import os, sys
        from movidesk.journal import Journal
        job, _ = Journal(sys.argv[1], lambda: float(sys.argv[2])).outbox.take(1000)
        os._exit(0 if job.event.kind == "transferred" else 1)
        """, office.book.path, repr(office.clock.now)], check=True)
    assert office.delivery.once() and office.heard() == []
    assert office.delivery.take() == (None, LEASE)
    office.clock.advance(LEASE)
    assert office.until_settled() == 0 and is_complete(office, call_id)
    assert [event.attempts for event in office.book.calls.events(office.book.calls.find(call_id))] == [1, 2, 1]


# -- backoff -----------------------------------------------------------------------------------------------------------

@given(st.integers(1, 10**6), st.floats(0, 1, exclude_max=True))
def test_the_backoff_grows_to_its_bound(attempts, jitter):
    seconds = backoff(attempts, jitter)
    exact = min(LONGEST_RETRY, FIRST_RETRY * 2.0 ** min(attempts - 1, 100))
    assert 0.75 * exact <= seconds < 1.25 * exact or seconds == pytest.approx(1.25 * exact)
    assert backoff(attempts + 1, jitter) >= seconds


# -- the loop ----------------------------------------------------------------------------------------------------------

@pytest.fixture
def running(office):
    """The delivery loop in a thread; running.trigger wakes it."""
    class Loop:
        trigger, stop = Trigger(path_beside(office.book.path)), threading.Event()

        def end(self):
            self.stop.set()
            self.trigger.pull()
            self.thread.join(5)
            assert not self.thread.is_alive()

    loop = Loop()
    loop.thread = threading.Thread(target=office.delivery.run, args=(loop.trigger, loop.stop), daemon=True)
    loop.thread.start()
    yield loop
    loop.end()
    loop.trigger.close()


def test_a_new_event_wakes_the_loop_at_once(office, running):
    begun = time.monotonic()
    for _ in range(3):
        call_id = office.talked()
        running.trigger.pull()
        until(lambda: office.book.overview.totals()["pending"] == 0)
        assert is_complete(office, call_id)
    assert time.monotonic() - begun < worker.IDLE / 2


@pytest.mark.parametrize("runs_already", [False, True])
def test_a_thread_that_cannot_start_ends_nothing(office, running, monkeypatch, caplog, runs_already):
    """The event whose thread could not start is sent when its lease is over, once; all places are free again."""
    answered, exchange = threading.Event(), office.delivery.context.exchange

    def exchange_late(name, **parameters):
        if name == "completed":
            answered.wait(TIMEOUT)
        return exchange(name, **parameters)

    if runs_already:
        office.talked()
        monkeypatch.setattr(office.delivery.context, "exchange", exchange_late)  # the only thread is busy meanwhile
        running.trigger.pull()
        until(lambda: office.book.limits.requests_in_window() == 2)
    start = threading.Thread.start

    def refuse(thread):
        if thread.name.startswith("delivery"):
            raise RuntimeError("can't start new thread")
        start(thread)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        for number in range(worker.WORKERS + 1):
            office.talked()
            running.trigger.pull()
            until(lambda: caplog.text.count("can't start new thread") == number + 1)
    answered.set()
    until(lambda: office.book.overview.totals()["pending"] == 2 * (worker.WORKERS + 1))
    assert running.thread.is_alive()
    office.clock.advance(LEASE + 1)
    running.trigger.pull()
    until(lambda: office.book.overview.totals()["pending"] == 0)
    assert office.model.problems == [] and office.model.duplicates == 0


def test_a_retry_wakes_the_loop_when_it_is_due(office, running):
    office.talked()
    office.fault(COMPLETED, status=500)
    running.trigger.pull()
    until(lambda: "HTTP 500" in [job.event.note for job in office.book.outbox.jobs(PENDING)])
    office.clock.advance(10)
    running.trigger.pull()
    until(lambda: office.book.overview.totals()["pending"] == 0)


class Together:
    """A client whose requests are answered only when so many of them are under way at once."""

    def __init__(self, count):
        self.barrier, self.sent = threading.Barrier(count), []

    def send(self, event, **fields):
        self.barrier.wait(5)
        self.sent.append((fields["id"], event))
        return api.Delivered("")

    def close(self):
        pass


def test_several_calls_go_out_at_once_but_each_in_its_order(office, running):
    calls = [office.talked() for _ in range(worker.WORKERS)]
    office.context._client = together = Together(worker.WORKERS)
    running.trigger.pull()
    until(lambda: office.book.overview.totals()["pending"] == 0)
    for call_id in calls:
        assert [event for sent, event in together.sent if sent == call_id] == ["transferred", "completed"]


def test_the_loop_outlives_what_it_did_not_expect(office, running, monkeypatch, caplog):
    takes = iter([JournalError("journal: locked"), RuntimeError("take")])
    real = office.context.journal.outbox.take

    def take(limit):
        for error in takes:
            raise error
        return real(limit)

    monkeypatch.setattr(office.context.journal.outbox, "take", take)
    call_id = office.talked()
    monkeypatch.setattr(office.context, "_client", Together(1))
    office.context._client.send = lambda *_, **__: 1 / 0
    for words in ("journal: locked", "looking for the next event failed", f"{call_id}: transferred: delivery failed"):
        running.trigger.pull()
        until(lambda: words in caplog.text)
    monkeypatch.undo()
    office.clock.advance(LEASE)
    running.trigger.pull()
    until(lambda: office.book.overview.totals()["pending"] == 0)
    assert is_complete(office, call_id)


class Slow:
    """A client that is asked, and answers when it is let go."""

    def __init__(self):
        self.asked, self.let_go = threading.Event(), threading.Event()

    def send(self, event, **fields):
        self.asked.set()
        self.let_go.wait(5)
        return api.Delivered("")

    def close(self):
        pass


def test_the_loop_ends_when_it_is_told_to_and_what_is_under_way_is_noted(office, running):
    call_id = office.talked()
    office.context._client = slow = Slow()
    running.trigger.pull()
    assert slow.asked.wait(5)
    running.stop.set()
    slow.let_go.set()
    running.end()
    kept = office.book.calls.events(office.book.calls.find(call_id))
    assert [event.status for event in kept][:2] == ["delivered", "delivered"]  # the third may have been handed out before


def test_a_loop_that_is_to_end_sends_no_probe(office, running):
    """Else a stop would wait for two exchanges in a row: more than the unit's TimeoutStopSec."""
    office.talked()
    fail(office, "asterisk_transferedCall", status=500)
    run(office, 40)
    office.clock.advance(60)
    office.context._client = slow = Slow()
    sent = []
    slow.send = lambda event, **fields: (sent.append(event), slow.asked.set(), slow.let_go.wait(5), api.outcome(500))[-1]
    running.trigger.pull()
    assert slow.asked.wait(5)
    running.stop.set()
    slow.let_go.set()
    running.end()
    assert sent == ["transferred"]


# -- whose failure it is, where many requests fail ---------------------------------------------------------------------

def brown_out(office, share, seconds, status, seed):
    """So many of all requests fail at random, while a call comes and ends every 30 seconds."""
    chance, sent = random.Random(seed), []

    def send(event, **fields):
        sent.append(event)
        return api.outcome(status) if chance.random() < share else api.Delivered("")

    office.context._client = Slow()
    office.context._client.send = send
    for _ in range(seconds // 30):
        office.count += 1
        call = office.book.calls.arrive("pbx1", f"1.{office.count}", "77", "47")
        for kind in ("transferred", "completed"):
            office.book.calls.record(call.call_id, kind)
        run(office, 30)
    return sent


@pytest.mark.parametrize("share, status", [(0.5, 503), (0.8, 500)])
def test_a_movidesk_that_fails_at_many_requests_sets_no_event_aside(office, share, status):
    sent = brown_out(office, share, 1800, status, 1)
    assert len(sent) > 100 and not refused(office)


def take_all_but(office, *poisoned, outcome):
    def send(event, **fields):
        return outcome if event == "completed" and fields["id"] in poisoned else api.Delivered("")

    office.context._client = Slow()
    office.context._client.send = send


def another_call(office):
    office.count += 1
    call = office.book.calls.arrive("pbx1", f"1.{office.count}", "77", "47")
    office.book.calls.record(call.call_id, "canceled")
    return call.call_id


def test_a_connection_that_is_cut_again_counts_against_its_event(office):
    """The limit is so low that each request takes one of its last two places."""
    office.context.config._values["movidesk", "requests_per_minute"] = 2
    poisoned = office.talked()
    take_all_but(office, poisoned, outcome=api.outcome(None, "the connection was cut")._replace(cut=True))
    run(office, 900, 100, lambda: another_call(office))
    assert refused(office) == [("completed", poisoned)]


@pytest.mark.parametrize("limit", [1, 2])
def test_an_outage_by_cuts_is_an_alarm_also_under_a_low_limit(office, limit):
    office.context.config._values["movidesk", "requests_per_minute"] = limit
    for _ in range(3):
        office.talked()
    fail(office, cut="before")
    run(office, 300)
    assert [alarm.name for alarm in alarms.standing(office.context)] == ["away"] and not refused(office)


@pytest.mark.parametrize("status", [400, 404, 405])
def test_what_every_request_meets_is_no_refusal_of_an_event(office, status):
    """Such as a wrong path in url, or a page that answers in Movidesk's place."""
    ids = [office.talked() for _ in range(3)]
    office.clock.advance(60)
    fail(office, status=status, body="not here")
    run(office, 1800)
    assert not refused(office)
    alarm, = alarms.standing(office.context)
    assert alarm.name == "away" and f"HTTP {status}" in alarm.text and "the path of url in movidesk.conf" in alarm.text
    office.simulator.faults.rules.clear()
    office.until_settled(60)
    assert all(is_complete(office, call_id) for call_id in ids) and alarms.standing(office.context) == []


@pytest.mark.parametrize("probe", [True, False], ids=["its next event is taken", "another call's is"])
def test_a_refusal_is_believed_once_movidesk_takes_anything_else(office, probe):
    call_id = office.offered()
    office.book.calls.record(call_id, "lost")
    if probe:
        office.book.calls.record(call_id, "link", link="https://pbx/1.wav")
    office.clock.advance(5)
    fail(office, "asterisk_lostCall", status=400)
    run(office, 30)
    assert not refused(office)
    if not probe:
        another_call(office)
    run(office, 120)
    assert refused(office) == [("lost", call_id)]
