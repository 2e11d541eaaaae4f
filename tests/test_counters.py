"""What is counted for monitoring: each thing once, whoever records it, and whatever becomes of its rows."""
from __future__ import annotations

import multiprocessing
import sqlite3
from collections import Counter as Count
from contextlib import closing, suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from movidesk.agi import runner
from movidesk.config import load
from movidesk.context import Context
from movidesk.delivery.worker import Delivery
from movidesk.journal import Journal, JournalError, emergency, records, standby, standby_copy, standby_merge
from movidesk.pbx import sweep
from movidesk.rules import call_states
from movidesk_sim.control import Fault
from support.clocks import Clock
from support.journals import arrive, deliver_now, event_of, lock
from support.peer import Peer


def counted(journal: Journal, name: str) -> dict[tuple[str, str, float], tuple[int, float]]:
    """Of one thing: (queue, label, bucket) -> how often, seconds in all."""
    return {(counter.queue, counter.label, counter.bucket): (counter.times, round(counter.seconds, 3))
            for counter in journal.counters.all() if counter.name == name}


def times(journal: Journal, name: str) -> dict[str, int]:
    """Of one thing: label -> how often."""
    found: Count[str] = Count()
    for counter in journal.counters.all():
        if counter.name == name:
            found[counter.label] += counter.times
    return dict(found)


# -- calls -------------------------------------------------------------------------------------------------------------

def test_a_call_is_counted_when_it_is_answered_and_when_it_ends(journal, clock):
    call = arrive(journal)
    clock.advance(12)
    journal.calls.record(call.call_id, "transferred", "5252")
    clock.advance(95)
    journal.calls.hang_up(call.call_id)
    assert counted(journal, records.CALL_ANSWERED) == {("77", "control", 20.0): (1, 12.0)}
    assert counted(journal, records.CALL_ENDED) == {("77", "control completed", 120.0): (1, 95.0)}


def test_a_caller_who_leaves_or_is_lost_has_waited(journal, clock):
    for number, kind in enumerate(("canceled", "lost")):
        call = arrive(journal, number + 1)
        clock.advance(7)
        journal.calls.record(call.call_id, kind)
    assert counted(journal, records.CALL_ENDED) == {("77", "control canceled", 10.0): (1, 7.0),
                                                    ("77", "control lost", 10.0): (1, 7.0)}


def test_a_caller_who_goes_to_another_queue_is_lost_for_the_first(journal, clock):
    arrive(journal)
    clock.advance(3)
    arrive(journal, queue="78")
    assert counted(journal, records.CALL_ENDED) == {("77", "control lost", 5.0): (1, 3.0)}


def test_calls_of_asterisks_own_queue(journal, clock):
    for number in (1, 2):
        call = arrive(journal, number, mode=call_states.WATCH)
        clock.advance(4)
        if number == 1:
            journal.calls.record(call.call_id, "start_transferred", "5252")
        journal.calls.hang_up(call.call_id)
    assert counted(journal, records.CALL_ANSWERED) == {("77", "watch", 5.0): (1, 4.0)}
    assert set(counted(journal, records.CALL_ENDED)) == {("77", "watch completed", 0.1), ("77", "watch start_canceled", 5.0)}


def test_made_calls(journal):
    journal.calls.hang_up(journal.calls.dial("pbx", "1.1", "5252", "47").call_id)
    failed = journal.calls.dial("pbx", "1.2", "5252", "47").call_id
    journal.calls.dial_failed(failed, "BUSY")
    journal.calls.dial_failed(failed, "BUSY")
    assert times(journal, records.CALL_ENDED) == {"made ended": 1, "made failed": 1}


def test_with_report_transfer_ring_the_wait_ends_with_the_answer(journal, clock):
    call = arrive(journal)
    clock.advance(4)
    journal.scheduler.answered(call, "5252", "", "5252", report=True)
    clock.advance(8)
    journal.calls.record(call.call_id, "transferred", "5252")
    clock.advance(30)
    journal.calls.hang_up(call.call_id)
    assert counted(journal, records.CALL_ANSWERED) == {("77", "control", 20.0): (1, 12.0)}
    assert counted(journal, records.CALL_ENDED) == {("77", "control completed", 30.0): (1, 30.0)}


def test_with_report_transfer_ring_a_caller_who_leaves_has_not_talked(journal, clock):
    """Movidesk is told `completed`, because it shows the call as transferred."""
    call = arrive(journal)
    journal.scheduler.answered(call, "5252", "", "5252", report=True)
    clock.advance(8)
    journal.calls.hang_up(call.call_id)
    assert counted(journal, records.CALL_ENDED) == {("77", "control canceled", 10.0): (1, 8.0)}


def test_what_comes_twice_counts_once(journal, clock):
    call = arrive(journal)
    for _ in range(2):
        journal.calls.record(call.call_id, "transferred", "5252", at=clock())
        journal.calls.record(call.call_id, "completed", at=clock())
        journal.calls.hang_up(call.call_id)
    assert times(journal, records.CALL_ANSWERED) == {"control": 1}
    assert times(journal, records.CALL_ENDED) == {"control completed": 1}


def test_an_end_without_a_beginning_has_no_duration(journal):
    journal.calls.record("pbx-1.1", "completed", queue="77")
    assert counted(journal, records.CALL_ENDED) == {("77", "control completed", 0.0): (1, 0.0)}


def test_a_clock_set_back_makes_no_negative_duration(journal, clock):
    call = arrive(journal)
    clock.advance(-3600)
    journal.calls.record(call.call_id, "transferred", "5252")
    clock.advance(-3600)
    journal.calls.hang_up(call.call_id)
    assert counted(journal, records.CALL_ANSWERED) == {("77", "control", 0.1): (1, 0.0)}
    assert counted(journal, records.CALL_ENDED) == {("77", "control completed", 0.1): (1, 0.0)}


def test_counters_outlive_the_calls(journal, clock):
    call = arrive(journal)
    journal.calls.record(call.call_id, "canceled")
    deliver_now(journal)
    clock.advance(400 * 86400)
    assert journal.outbox.prune(1) == 1
    assert times(journal, records.CALL_ENDED) == {"control canceled": 1}


STEPS = st.lists(st.tuples(st.integers(1, 3), st.sampled_from((
    "control", "watch", "answer", "watch answer", "lost", "cancel", "hangup", "moved", "message", "end of message", "offer",
    "offer and report"))),
    max_size=30)


@given(STEPS)
@settings(max_examples=60, deadline=None)
def test_as_many_ends_are_counted_as_calls_have_ended(tmp_path_factory, steps):
    clock = Clock()
    with closing(Journal(str(tmp_path_factory.mktemp("counted") / "journal.db"), clock)) as journal:
        for channel, step in steps:
            clock.advance(1)
            call = journal.calls.latest(f"1.{channel}")
            call_id = call.call_id if call else f"pbx-1.{channel}"
            if step in (call_states.CONTROL, call_states.WATCH):
                arrive(journal, f"1.{channel}", mode=step)
            elif step in ("offer", "offer and report") and call:
                journal.scheduler.answered(call, "5252", "", "", report=step != "offer")
            elif step == "moved" and call:
                journal.calls.move(call_id, "1.9", "47")
            elif step in ("hangup", "end of message"):
                journal.calls.hang_up(call_id, "https://example.com/1" if step == "end of message" else "")
            else:
                kind = {"answer": "transferred", "watch answer": "start_transferred", "lost": "lost", "message": "lost",
                        "cancel": "canceled"}.get(step)
                if kind:
                    journal.calls.record(call_id, kind, "5252", queue="77", held=step == "message")
        ended = journal.store.rows(lambda *row: row, "SELECT mode || ' ' || CASE fate WHEN '' THEN state ELSE fate END,"
                                                     " count(*) FROM calls WHERE ended IS NOT NULL GROUP BY 1")
        assert times(journal, records.CALL_ENDED) == dict(ended)


# -- transactions ------------------------------------------------------------------------------------------------------

def test_what_is_undone_is_not_counted(journal):
    with suppress(ZeroDivisionError), journal.store.transaction():
        journal.store.observe("cause", "undone")
        raise ZeroDivisionError
    journal.store.observe("cause", "later")
    assert times(journal, "cause") == {}
    with journal.store.transaction():
        pass
    assert times(journal, "cause") == {"later": 1}


def test_what_waits_for_a_commit_is_counted_once_whatever_fails(journal):
    journal.store.observe("cause", "waits", times=2)
    other = lock(journal.path)
    with pytest.raises(JournalError):
        journal.store.flush()
    other.close()
    with suppress(ZeroDivisionError), journal.store.transaction():
        raise ZeroDivisionError
    for _ in range(2):
        journal.store.flush()
    assert times(journal, "cause") == {"waits": 2}


def _count_many(path: str, number: int) -> None:
    with closing(Journal(path)) as journal:
        for _ in range(50):
            with journal.store.transaction():
                journal.store.observe("many", "all", "77", 0.3)
            journal.store.observe("many", str(number))
        journal.store.flush()


def test_several_processes_count_together(tmp_path):
    path = str(tmp_path / "journal.db")
    Journal(path).close()
    workers = [multiprocessing.get_context("spawn").Process(target=_count_many, args=(path, number)) for number in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    with closing(Journal(path)) as journal:
        assert times(journal, "many") == {"all": 150, "0": 50, "1": 50, "2": 50}


def test_numbers_for_queues_do_not_fill_the_journal(journal, monkeypatch):
    """A dialplan that passes the caller's number for the queue."""
    monkeypatch.setattr("movidesk.journal.store.MOST_QUEUES", 5)
    for number in range(20):
        journal.calls.record(arrive(journal, number, queue=str(number)).call_id, "canceled")
    journal.calls.record(arrive(journal, 99, queue="0").call_id, "lost")  # one of the first five
    found = counted(journal, records.CALL_ENDED)
    assert len(found) == 7 and found[records.OTHER, "control canceled", 0.1] == (15, 0.0)
    assert found["0", "control lost", 0.1] == (1, 0.0)


# -- Movidesk ----------------------------------------------------------------------------------------------------------

@pytest.fixture
def context(write_config, simulator, clock):
    context = Context(load(write_config(movidesk={"url": simulator.url})), clock, wake=lambda: None)
    yield context
    context.journal.close()


def test_requests_are_counted_by_endpoint_and_result(context, simulator, clock):
    call = arrive(context.journal)
    sent = {"queue": "77", "number": "47", "id": call.call_id, "arrived": call.arrived}
    for fault in (None, Fault(status=429), Fault(status=500), Fault(status=404), Fault(status=401)):
        simulator.faults.rules = [fault] if fault else []
        context.send(0, "received", **sent)
    simulator.close()
    context.send(0, "received", **sent)
    context.journal.store.flush()
    assert times(context.journal, records.REQUEST) == {f"received {result}": 1 for result in (
        "accepted", "throttled", "failed", "rejected", "unauthorized", "unanswered")}


def test_the_screen_is_late_by_the_time_from_the_answer_to_movidesk(context, clock):
    call = arrive(context.journal)
    context.journal.calls.record(call.call_id, "transferred", "5252")
    clock.advance(7)
    Delivery(context).once()
    assert counted(context.journal, records.SCREEN) == {}  # the arrival belongs to its caller
    context.journal.calls.hang_up(call.call_id)
    Delivery(context).once()
    assert counted(context.journal, records.SCREEN) == {("", "", 10.0): (1, 7.0)}


# -- when something is away --------------------------------------------------------------------------------------------

def test_sweeps_and_imported_lines(context, tmp_path):
    context.config._values["pbx", "asterisk"] = "false"
    for number in (1, 2):
        emergency.save(context.config, event_of(number, "received"))
    with open(emergency.paths(context.config)[0], "a", encoding="utf-8") as file:
        file.write("nonsense\n")
    sweep.recover(context)
    context.config._values["pbx", "asterisk"] = "true"
    sweep.recover(context)
    assert times(context.journal, records.EMERGENCY) == {"imported": 2, "invalid": 1}
    assert times(context.journal, records.SWEEP) == {"failed": 1, "done": 1}
    assert times(context.journal, records.SWEPT) == {"": 2}
    assert times(context.journal, records.CALL_ENDED) == {"control canceled": 2}


def test_a_request_that_makes_no_sense_is_counted(context):
    _ = context.journal
    with Peer().channel() as channel:
        assert runner.run("received", channel, context, ["sales"]) == runner.ERROR
    assert times(context.journal, records.FAIL_OPEN) == {"request": 1}


def test_a_journal_that_cannot_be_used_is_counted_when_it_is_back(context, monkeypatch):
    monkeypatch.setattr("movidesk.journal.store.BUSY_TIMEOUT", 0.1)
    call = arrive(context.journal)
    other = lock(context.journal.path)
    with Peer(variables={"MOVIDESK_ID": call.call_id}).channel() as channel:
        assert runner.run("canceled", channel, context, []) == runner.ERROR
    other.close()
    assert standby.end(context)
    assert times(context.journal, records.FAIL_OPEN) == {"journal": 1} and times(context.journal, records.STANDBY) == {"": 1}
    assert times(context.journal, records.CALL_ENDED) == {"control canceled": 1}
    sweep.recover(context)  # the event is in the emergency file as well
    assert times(context.journal, records.CALL_ENDED) == {"control canceled": 1}


@pytest.mark.parametrize("readable", [True, False])
def test_what_a_standby_counts_is_added_once(tmp_path, clock, readable):
    paths = [str(tmp_path / name) for name in ("journal.db", "standby.db")]
    with closing(Journal(paths[0], clock)) as journal, closing(Journal(paths[1], clock)) as other:
        journal.calls.record(arrive(journal).call_id, "canceled")
        standby_copy.begin(paths[0] if readable else str(tmp_path / "none.db"), other.store, 10)
        assert other.counters.all() == []
        for number, queue in ((2, "77"), (3, "78")):
            other.calls.record(arrive(other, number, queue=queue).call_id, "canceled")
        journal.calls.record(arrive(journal, 4).call_id, "canceled")  # by a verb that was in the journal when the standby began
        for _ in range(2):  # the process was killed before it could remove the standby
            standby_merge.merge(paths[1], journal.store)
        assert counted(journal, records.CALL_ENDED) == {("77", "control canceled", 0.1): (3, 0.0),
                                                        ("78", "control canceled", 0.1): (1, 0.0)}


def test_a_standby_of_the_version_before_has_no_counters(tmp_path, clock):
    paths = [str(tmp_path / name) for name in ("journal.db", "standby.db")]
    with closing(Journal(paths[0], clock)) as journal, closing(Journal(paths[1], clock)) as other:
        standby_copy.begin(paths[0], other.store, 10)
        arrive(other)
        with closing(sqlite3.connect(paths[1])) as file:
            file.execute("DROP TABLE counters")
        standby_merge.merge(paths[1], journal.store)
        assert journal.calls.find("pbx-1.1") and journal.counters.all() == []
