"""Which event is handed out, to whom, and what becomes of it."""
from __future__ import annotations

from movidesk.journal import LEASE, PENDING, REFUSED, WINDOW
from support import owed
from support.journals import LIMIT, arrive, claim, deliver_all
from support.processes import race


def test_an_arrival_is_left_to_its_caller_until_the_call_has_ended(journal):
    call = arrive(journal)
    assert journal.outbox.take(LIMIT) == (None, None)
    journal.calls.hang_up(call.call_id)
    assert [job.event.kind for job in deliver_all(journal, journal.clock)] == ["received", "canceled"]


def test_a_taken_event_belongs_to_its_taker_until_the_lease_ends(journal, clock):
    journal.calls.record("pbx-1", "lost")
    first, _ = journal.outbox.take(LIMIT)
    assert journal.outbox.take(LIMIT) == (None, LEASE)
    clock.now += LEASE - 1
    assert journal.outbox.take(LIMIT) == (None, 1)
    clock.now += 1
    second, _ = journal.outbox.take(LIMIT)
    assert (second.event.id, first.event.attempts, second.event.attempts) == (first.event.id, 1, 2)


def test_a_call_that_must_wait_holds_up_no_other(journal, clock):
    for number in range(3):
        journal.calls.record(f"pbx-{number}", "lost")
    job, _ = journal.outbox.take(LIMIT)
    journal.outbox.retry(job, 30, "HTTP 500")
    journal.calls.record("pbx-0", "link", link="https://pbx/0.wav")
    assert [journal.outbox.take(LIMIT)[0].call.call_id for _ in range(2)] == ["pbx-1", "pbx-2"]
    assert journal.outbox.take(LIMIT) == (None, 30)
    clock.now += 30
    assert (journal.outbox.take(LIMIT)[0].event.id, journal.outbox.jobs(PENDING)[0].event.note) == (job.event.id, "HTTP 500")


def test_what_waits_for_its_next_try_can_be_due_at_once(journal, clock):
    for number in range(3):
        journal.calls.record(f"pbx-{number}", "lost")
    sending, retried = journal.outbox.take(LIMIT)[0], journal.outbox.take(LIMIT)[0]
    journal.outbox.retry(retried, 300, "HTTP 500")
    journal.calls.record("pbx-9", "lost", held=True)
    assert journal.outbox.retry_now() == 1
    assert journal.outbox.take(LIMIT)[0].event.id == retried.event.id
    assert journal.outbox.take(LIMIT)[0].call.call_id == "pbx-2"
    assert journal.outbox.take(LIMIT)[0] is None, "neither what is being sent nor what is held goes"
    clock.now += LEASE
    assert journal.outbox.take(LIMIT)[0].event.id == sending.event.id, "its sender has died"
    assert journal.outbox.retry_now() == 0, "an event that is sent again after a retry belongs to its sender too"


def test_a_refused_event_holds_up_no_other_and_can_be_replayed(journal, clock):
    call = arrive(journal)
    journal.calls.hang_up(call.call_id)
    job, _ = journal.outbox.take(LIMIT)
    journal.outbox.rejected(job, "HTTP 400: no")
    assert [(j.event.kind, j.event.note) for j in journal.outbox.jobs(REFUSED)] == [("received", "HTTP 400: no")]
    assert [j.event.kind for j in deliver_all(journal, clock)] == ["canceled"]
    assert journal.overview.totals() == {"open": 0, "pending": 0, "refused": 1}
    assert journal.outbox.replay(job.event.id) and not journal.outbox.replay(job.event.id) and not journal.outbox.replay(12345)
    assert [j.event.kind for j in deliver_all(journal, clock)] == ["received"]


def test_taking_costs_a_request_of_the_window(journal):
    for number in range(3):
        journal.calls.record(f"pbx-{number}", "completed")
    assert [journal.outbox.take(2)[0] is not None for _ in range(3)] == [True, True, False]
    assert journal.outbox.take(2) == (None, WINDOW) and not claim(journal, 2).request_id


def test_the_end_of_a_late_arrival_that_was_given_an_agent_frees_that_one(journal):
    call = arrive(journal)
    journal.calls.hang_up(call.call_id)
    other = arrive(journal, "0.1", "78")
    journal.calls.hang_up(other.call_id)
    journal.outbox.delivered(journal.outbox.take(LIMIT)[0], '"5252"', "5252")
    owed.check(journal)
    first = journal.outbox.jobs(PENDING)[0].event.id
    assert first == journal.outbox.take(LIMIT)[0].event.id, "before the other call's arrival"


def test_processes_that_race_for_events_get_each_once_and_in_order(journal, clock):
    for number in range(15):
        call = arrive(journal, f"1.{number}")
        journal.calls.hang_up(call.call_id)

    def work(mine):
        taken = []
        while True:
            job, _ = mine.outbox.take(1000)
            if job is None:
                return taken
            taken.append(job.event.id)
            mine.outbox.delivered(job, "")

    taken = race(journal.path, work)
    # Who finds everything leased stops: what is left then is taken by those who hold the leases.
    events = {event.id for call in journal.overview.last_calls(99) for event in journal.calls.events(call)}
    assert sorted(sum(taken, [])) == sorted(events)
    assert journal.overview.totals()["pending"] == 0
    for call in journal.overview.last_calls(99):
        first, second = journal.calls.events(call)
        assert first.settled <= second.settled and (first.attempts, second.attempts) == (1, 1)
