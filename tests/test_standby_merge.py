"""What goes back when a standby ends, also where verbs have recorded something in the journal beside it."""
from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from movidesk.journal import DELIVERED, PENDING, Journal, standby_copy, standby_merge
from movidesk.rules import call_states
from support import owed
from support.clocks import Clock

QUEUE = "77"


class Pair:
    """A journal and its standby, which has just begun."""

    def __init__(self, folder, *prepare):
        self.paths = str(folder / "journal.db"), str(folder / "standby.db")
        self.clock, self.steady = Clock(), Clock(1000.0)
        Journal(self.paths[0], self.clock, self.steady).close()
        for action in prepare:
            self.on_journal(action)
        self.begin(self.paths[0], self.paths[1])

    def begin(self, path, standby):
        """Begin a standby in this file, for the journal at `path`."""
        with closing(Journal(standby, self.clock, self.steady)) as journal:
            standby_copy.begin(path, journal.store, 10)

    def on_journal(self, action, *args):
        return self._on(0, action, *args)

    def on_standby(self, action, *args):
        return self._on(1, action, *args)

    def _on(self, which, action, *args):
        self.clock.advance(1.0)
        self.steady.advance(1.0)
        journal = Journal(self.paths[which], self.clock, self.steady)
        try:
            return action(journal, *args)
        finally:
            journal.close()

    def merge(self, standby=None):
        with closing(Journal(self.paths[0], self.clock, self.steady)) as journal:
            standby_merge.merge(standby or self.paths[1], journal.store)

    def call(self, call_id="pbx-1.1"):
        return self.on_journal(lambda journal: journal.calls.find(call_id))

    def told(self, call_id="pbx-1.1"):
        """The kinds of the call's events in the journal, in the order in which they are sent."""
        return self.on_journal(lambda journal: [event.kind for event in journal.calls.events(journal.calls.find(call_id))])


def arrive(journal, mode=call_states.WATCH):
    return journal.calls.arrive("pbx", "1.1", QUEUE, "47", mode)


def answer(journal):
    journal.calls.record("pbx-1.1", call_states.START_TRANSFERRED, extension="5252")


def hang_up(journal):
    journal.calls.hang_up("pbx-1.1")


def offer(journal):
    journal.scheduler.answered(journal.calls.find("pbx-1.1"), "5252", "", "5252")


def deliver(journal):
    """Tell Movidesk the next event, if one may go."""
    journal.store.connection.execute("DELETE FROM requests")
    job, _ = journal.outbox.take(1000)
    if job:
        journal.outbox.delivered(job, "")


@pytest.fixture
def pair(tmp_path):
    return lambda *prepare: Pair(tmp_path, *prepare)


def test_an_answer_in_the_journal_stays_where_the_standby_did_nothing(pair):
    both = pair(arrive)
    both.on_journal(answer)
    both.merge()
    assert (both.call().state, both.call().extension) == ("transferred", "5252")
    both.on_journal(hang_up)
    assert both.told() == ["start_transferred", "completed"]


def test_an_offer_in_the_journal_stays(pair):
    both = pair(lambda journal: arrive(journal, call_states.CONTROL))
    both.on_journal(offer)
    both.merge()
    assert (both.call().state, both.call().extension) == ("offered", "5252")


def test_a_standby_of_the_version_before_goes_back(pair):
    """Its copies lack the columns that a migration has added to their tables since."""
    both = pair(lambda journal: arrive(journal, call_states.CONTROL))
    with closing(sqlite3.connect(both.paths[1])) as standby:
        standby.execute("CREATE TABLE kept AS SELECT id, call_id, state, extension, code, ended, number FROM copied_calls")
        standby.execute("DROP TABLE copied_calls")
        standby.execute("ALTER TABLE kept RENAME TO copied_calls")
        standby.commit()
    both.on_standby(offer)
    both.merge()
    assert (both.call().state, both.call().extension) == ("offered", "5252")


def test_a_caller_keeps_the_place_of_the_journal(pair, tmp_path):
    """A standby that could not read its journal knows the caller only since its next look."""
    def line(journal):
        return [(call.call_id, call.priority) for call in journal.overview.waiting()]

    def look(journal, number, priority=0):
        call = journal.calls.arrive("pbx", f"1.{number}", QUEUE, "47", priority=priority)
        journal.scheduler.turn(call, 10)

    both = pair()
    for number, priority in ((1, 0), (2, 0), (3, 2)):
        both.on_journal(look, number, priority)
    both.begin(str(tmp_path / "nothing.db"), blind := str(tmp_path / "blind.db"))
    with closing(Journal(blind, both.clock, both.steady)) as standby:
        for number, priority in ((2, 0), (1, 0), (3, 2)):
            both.steady.advance(1.0)
            look(standby, number, priority)
        assert line(standby) == [("pbx-1.3", 2), ("pbx-1.2", 0), ("pbx-1.1", 0)]
    both.merge(blind)
    assert both.on_journal(line) == [("pbx-1.3", 2), ("pbx-1.1", 0), ("pbx-1.2", 0)]


def test_an_imported_line_takes_no_priority_away(pair):
    both = pair(lambda journal: journal.calls.arrive("pbx", "1.1", QUEUE, "47", priority=3))
    both.on_journal(lambda journal: journal.calls.arrive("pbx", "1.1", QUEUE, "47", arrived=5.0, once=True))
    assert both.call().priority == 3


def test_a_call_that_moved_in_the_journal_stays_on_its_channel(pair):
    both = pair(arrive)
    both.on_journal(lambda journal: journal.calls.move("pbx-1.1", "99.1", "48"))
    both.on_standby(lambda journal: journal.notes.set("x", "y"))
    both.merge()
    assert both.call().channel == "99.1"


def test_an_end_in_the_standby_follows_an_answer_in_the_journal(pair):
    """The standby took it for a caller who gave up."""
    both = pair(arrive)
    both.on_journal(answer)
    both.on_standby(hang_up)
    both.merge()
    assert both.told() == ["start_transferred", "completed"]
    assert (both.call().state, both.call().extension) == ("completed", "5252") and both.call().ended


def test_an_end_in_the_journal_follows_an_answer_in_the_standby(pair):
    both = pair(arrive)
    both.on_standby(answer)
    both.on_journal(hang_up)
    both.merge()
    assert len([kind for kind in both.told() if kind in call_states.ENDED]) == 1


def test_of_two_ends_the_one_that_was_told_stays(pair):
    both = pair(arrive)
    both.on_journal(lambda journal: journal.calls.record("pbx-1.1", call_states.START_CANCELED))
    both.on_standby(answer)
    both.on_standby(hang_up)
    both.on_standby(deliver)
    both.on_standby(deliver)
    both.merge()
    assert both.told() == ["start_transferred", "completed"] and both.call().state == "completed"


def test_an_event_that_the_standby_told_is_told(pair):
    both = pair(arrive, answer)
    both.on_standby(deliver)
    both.merge()
    assert [event.status for event in both.on_journal(lambda journal: journal.calls.events(journal.calls.find("pbx-1.1")))] == [
        DELIVERED]


def test_an_event_that_the_journal_told_stays_told(pair):
    both = pair(arrive, answer)
    both.on_journal(deliver)
    both.on_standby(hang_up)
    both.merge()
    events = both.on_journal(lambda journal: journal.calls.events(journal.calls.find("pbx-1.1")))
    assert [(event.kind, event.status) for event in events] == [("start_transferred", DELIVERED), ("completed", PENDING)]


def test_a_standby_that_knew_nothing_takes_nothing_away(tmp_path):
    """It could not read its journal."""
    both = Pair(tmp_path)
    blind = str(tmp_path / "blind.db")
    both.begin(str(tmp_path / "nowhere.db"), blind)
    call = both.on_journal(lambda journal: arrive(journal, call_states.CONTROL))
    both.on_journal(offer)
    both.on_journal(lambda journal: journal.scheduler.turn(journal.calls.find(call.call_id), 1000, refusal="UNAVAILABLE"))
    before = both.on_journal(lambda journal: (journal.agents.refusals(), journal.store.rows(
        lambda *row: row, "SELECT queue, extension FROM members")))
    assert before[0] and before[1]
    both.merge(blind)
    assert before == both.on_journal(lambda journal: (journal.agents.refusals(), journal.store.rows(
        lambda *row: row, "SELECT queue, extension FROM members")))


def test_notes_of_both_are_kept_and_removed_ones_are_gone(pair):
    both = pair(lambda journal: journal.notes.set("old", "1"), lambda journal: journal.notes.set("kept", "1"))
    both.on_standby(lambda journal: journal.notes.remove("old"))
    both.on_journal(lambda journal: journal.notes.set("kept", "2"))
    both.on_journal(lambda journal: journal.notes.set("new", "1"))
    both.merge()
    notes = [both.on_journal(lambda journal, name=name: journal.notes.get(name)) for name in ("old", "kept", "new")]
    assert [note and note[0] for note in notes] == [None, "2", "1"]


def test_what_is_recorded_during_the_copy_is_in_it_whole_or_not_at_all(pair, monkeypatch, tmp_path):
    """Else the standby would know the end's event, but take the call for open, and record a second end."""
    both, connect = pair(arrive), sqlite3.connect

    class Interrupted(sqlite3.Connection):
        def execute(self, sql, *values):
            if sql.startswith("SELECT * FROM events"):
                both.on_journal(hang_up)
            return super().execute(sql, *values)

    def interrupted(path, **more):
        return connect(path, factory=Interrupted if more.get("uri") else sqlite3.Connection, **more)
    monkeypatch.setattr(sqlite3, "connect", interrupted)
    path = str(tmp_path / "second.db")
    both.begin(both.paths[0], path)
    monkeypatch.undo()
    copy = Journal(path, both.clock, both.steady)
    call, = copy.overview.last_calls(5)
    assert [event.kind for event in copy.calls.events(call) if event.kind in call_states.ENDED] == (
        [] if call.ended is None else ["start_canceled"])
    assert both.told() == ["start_canceled"]


def come(journal):
    arrive(journal, call_states.CONTROL)


def test_the_order_of_events_holds_although_the_clock_is_set_back(pair):
    both = pair()
    both.on_standby(come)
    both.clock.advance(-3600.0)
    both.on_standby(hang_up)
    both.merge()
    assert both.told() == ["received", "canceled"]


ACTIONS = st.sampled_from([arrive, come, answer, hang_up, deliver])
STEPS = st.lists(st.tuples(st.booleans(), ACTIONS, st.sampled_from([0.0, 3600.0, -3600.0])), max_size=12)


@settings(max_examples=200, deadline=None)
@given(before=st.lists(ACTIONS, max_size=4), steps=STEPS, twice=st.booleans())
def test_whatever_both_record_each_call_has_one_life(tmp_path_factory, before, steps, twice):
    """One end at most that is not yet told beside one that is, nothing told is forgotten, and what waits is known."""
    both = Pair(tmp_path_factory.mktemp("merge"), *before)
    for in_journal, action, jump in steps:
        both.clock.advance(jump)
        (both.on_journal if in_journal else both.on_standby)(action)

    def delivered(journal):
        return {(call.call_id, event.kind) for call in journal.overview.last_calls(100) for event in journal.calls.events(call)
                if event.status == DELIVERED}

    told = both.on_journal(delivered) | both.on_standby(delivered)
    for _ in range(1 + twice):
        both.merge()
    both.on_journal(owed.check)
    assert both.on_journal(delivered) >= told

    def ends(journal):
        for call in journal.overview.last_calls(100):
            found = [event.status for event in journal.calls.events(call) if event.kind in call_states.ENDED]
            assert found.count(PENDING) <= 1 and bool(found) == (call.ended is not None), (call, found)
            waits = [event.kind for event in journal.calls.events(call) if event.status == PENDING]
            assert "received" not in waits[1:], "nothing is told before the arrival"
    both.on_journal(ends)
