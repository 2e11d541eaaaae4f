"""A damaged journal: what can be read of it goes on in the fresh one."""
from __future__ import annotations

import fcntl
import os
import sqlite3

import pytest

from movidesk import file_lock
from movidesk.config import load
from movidesk.context import Context
from movidesk.journal import Journal, JournalError
from movidesk.journal.recovery import kept_aside, set_aside
from movidesk.rules import call_states


@pytest.fixture
def path(tmp_path, clock) -> str:
    """A journal of 600 calls, a third each in talk, all told, and with everything still to be told."""
    path = str(tmp_path / "journal.db")
    book = Journal(path, clock)
    book.store.connection.execute("PRAGMA synchronous = OFF")
    for number in range(600):
        call = book.calls.arrive("pbx1", f"1.{number}", "77", "4733990001")
        if number % 3 == 0:
            book.scheduler.answered(call, "5252", "", "5252")
            book.calls.record(call.call_id, call_states.TRANSFERRED)
        else:
            book.calls.hang_up(call.call_id)
    with book.store.transaction() as db:
        db.execute("UPDATE events SET status = 'delivered' WHERE call IN (SELECT id FROM calls WHERE id % 3 = 2)")
    book.close()
    return path


def page_of(path: str, number: int) -> int:
    """The page of the calls' table (and not of an index) that holds this call."""
    with open(path, "rb") as file:
        return file.read().index(b"pbx1-1.%d1.%d" % (number, number)) // 4096


def overwrite(path: str, page: int) -> None:
    with open(path, "r+b") as file:
        file.seek(page * 4096)
        file.write(os.urandom(4096))


def told(book: Journal) -> dict[str, list[tuple[str, str]]]:
    return {call.call_id: [(event.kind, event.status) for event in book.calls.events(call)]
            for call in book.overview.last_calls(1000)}


def test_the_calls_beside_a_bad_page_go_on(path, clock):
    before = told(Journal(path, clock))
    overwrite(path, page_of(path, 300))
    with pytest.raises(JournalError) as caught:
        Journal(path, clock).store.check()
    assert caught.value.damaged
    kept, taken = set_aside(path, clock)
    after = told(Journal(path, clock))
    assert [name for name, _ in kept_aside(path)] == [kept]
    assert len(after) == taken and 250 < taken < 400  # of 400 that were unfinished
    assert {call_id for call_id in after if int(call_id.split(".")[1]) < 30} == {
        f"pbx1-1.{number}" for number in range(30) if number % 3 != 1}
    assert all(events == before[call_id] for call_id, events in after.items())


def test_the_line_keeps_its_order(path, clock):
    book = Journal(path, clock)
    calls = [book.calls.arrive("pbx1", f"2.{number}", "77", "4733990001", priority=number) for number in range(3)]
    book.close()
    overwrite(path, page_of(path, 300))
    set_aside(path, clock)
    fresh = Journal(path, clock)
    assert [fresh.scheduler.turn(fresh.calls.find(call.call_id), 1).position for call in (*calls, *calls)][3:] == [3, 2, 1]


def test_a_talk_that_was_taken_over_is_ended(path, clock):
    overwrite(path, page_of(path, 300))
    set_aside(path, clock)
    book = Journal(path, clock)
    assert book.calls.hang_up("pbx1-1.0").kind == call_states.COMPLETED
    assert [event.kind for event in book.calls.events(book.calls.find("pbx1-1.0"))] == ["received", "transferred", "completed"]


@pytest.mark.parametrize("content", [b"", b"no journal at all" * 1000], ids=["empty", "another file"])
def test_a_file_of_which_nothing_is_left(path, clock, content):
    for suffix in ("-wal", "-shm"):
        if os.path.exists(path + suffix):
            os.unlink(path + suffix)
    with open(path, "wb") as file:
        file.write(content)
    if content:
        assert set_aside(path, clock)[1] == 0
    assert told(Journal(path, clock)) == {}


def test_a_journal_of_another_form_gives_nothing_and_stops_nothing(path, clock):
    with sqlite3.connect(path) as db:
        db.execute("ALTER TABLE calls RENAME COLUMN number TO phone")
    overwrite(path, page_of(path, 300))
    assert set_aside(path, clock)[1] == 0


def test_a_sound_journal_is_left_alone(path, clock):
    assert set_aside(path, clock) is None and kept_aside(path) == []


def test_nobody_waits_for_ever_for_a_frozen_process_that_takes_it_over(path, clock, monkeypatch):
    monkeypatch.setattr(file_lock, "TIMEOUT", 0.1)
    overwrite(path, page_of(path, 300))
    with open(path + ".lock", "a", encoding="ascii") as frozen:
        fcntl.flock(frozen, fcntl.LOCK_EX)
        with pytest.raises(JournalError) as caught:
            set_aside(path, clock)
    assert not caught.value.damaged and kept_aside(path) == []
    assert "another process" in str(caught.value) and f"fuser {path}.lock" in str(caught.value) and "\n" not in str(caught.value)
    assert set_aside(path, clock)


def test_the_verbs_say_what_became_of_it(path, clock, write_config, capsys):
    with open(path, "r+b") as file:
        file.write(b"x" * 100)
    assert Context(load(write_config()), clock).journal.overview.totals()["open"] == 0
    assert f"it was renamed to {path}.damaged-" in capsys.readouterr().err
