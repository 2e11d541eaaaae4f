"""The file: threads, processes, what a crash leaves, and what cannot be used."""
from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time

import pytest

from movidesk.journal import Journal, JournalError, store
from support.journals import arrive, kinds
from support.processes import as_nobody

# -- threads and processes ---------------------------------------------------------------------------------------------


def test_one_journal_in_many_threads(journal):
    def work(number):
        for visit in range(10):
            journal.calls.hang_up(arrive(journal, f"{number}.{visit}").call_id)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = journal.overview.last_calls(1000)
    assert len(found) == 40 and all(kinds(journal, call) == ["received", "canceled"] for call in found)


def test_an_event_is_on_disk_before_record_returns(tmp_path):
    """A writer killed with -9 keeps everything that it was told is recorded."""
    path = str(tmp_path / "journal.db")
    writer = subprocess.Popen([sys.executable, "-c", """if 1:
        import itertools, sys
        from movidesk.journal import Journal
        journal = Journal(sys.argv[1])
        for number in itertools.count():
            print(journal.calls.record("pbx-%d" % number, "lost", queue="7").call.call_id, flush=True)
        """, path], stdout=subprocess.PIPE, text=True)
    with writer:
        promised = [writer.stdout.readline() for _ in range(50)]
        writer.send_signal(signal.SIGKILL)
        promised += writer.stdout.readlines()
    assert writer.returncode == -signal.SIGKILL
    journal = Journal(path)
    for call_id in (line.strip() for line in promised if line.endswith("\n")):
        assert kinds(journal, journal.calls.find(call_id)) == ["received", "lost"]
    assert sqlite3.connect(path).execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert journal.calls.record("pbx-after", "lost").kind == "lost"


def test_every_commit_is_synced(journal):
    assert journal.store.connection.execute("PRAGMA synchronous").fetchone() == (2,)
    assert sqlite3.connect(journal.path).execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_a_failing_event_leaves_nothing_behind_and_the_journal_usable(journal):
    call = arrive(journal)
    with pytest.raises(ValueError):
        journal.calls.record(call.call_id, "lost", link="https://pbx/\udce9.wav")  # not to be written as UTF-8
    assert (journal.calls.find(call.call_id), kinds(journal, call)) == (call, ["received"])
    assert journal.calls.record(call.call_id, "lost").kind == "lost"


# -- what cannot be used -----------------------------------------------------------------------------------------------

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
def locked(journal):
    """Another program holds the journal's write lock until this is called."""
    other = sqlite3.connect(journal.path, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    return lambda: other.execute("ROLLBACK") if other.in_transaction else None


def test_a_journal_that_another_process_keeps_locked(journal, locked, monkeypatch):
    monkeypatch.setattr(store, "BUSY_TIMEOUT", 0.05)
    with pytest.raises(JournalError, match=f"{journal.path}: database is locked; "):
        arrive(journal)
    locked()
    assert arrive(journal)


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


def test_several_wait_for_the_lock_no_longer_than_one_alone(journal, locked, monkeypatch):
    """Twelve callers are answered while a backup, say, holds the lock; others only read, and wait for nothing."""
    monkeypatch.setattr(store, "BUSY_TIMEOUT", 1.5)
    call = journal.calls.find("none")
    found = at_once(*[lambda: arrive(journal)] * 12, *[lambda: journal.calls.find("none")] * 6)
    assert all(isinstance(result, JournalError) and "locked" in str(result) for result, _ in found[:12])
    assert max(took for _, took in found[:12]) < 2 * 1.5, [took for _, took in found]
    assert all(result is call and took < 1.5 for result, took in found[12:]), found[12:]


def test_the_lock_is_let_go_in_time_for_all_who_wait(journal, locked):
    threading.Timer(0.3, locked).start()
    found = at_once(*[lambda number=number: arrive(journal, f"1.{number}") for number in range(12)])
    assert sorted(call.call_id for call, _ in found) == sorted(f"pbx-1.{number}" for number in range(12))
    assert all(0.2 < took < 2 for _, took in found), found


def test_a_journal_that_is_closed(journal):
    journal.close()
    with pytest.raises(JournalError, match="closed"):
        journal.overview.totals()
