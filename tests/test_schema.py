"""Migrations, and what the version before wrote."""
from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from movidesk.journal import HOLD, REFUSED, Journal, JournalError, schema, store
from support import owed
from support.journals import LIMIT, arrive, claim, deliver_all
from support.processes import race

NOON = 1_700_000_000.0
RELEASED = Path(__file__).parent / "released"  # what the version before wrote, and its statements


def version(path):
    return sqlite3.connect(path).execute("PRAGMA user_version").fetchone()[0]


def use_migrations(monkeypatch, migrations):
    monkeypatch.setattr(schema, "MIGRATIONS", migrations)
    monkeypatch.setattr(store, "SCHEMA", len(migrations))


def test_the_store_knows_how_many_migrations_there_are():
    assert len(schema.MIGRATIONS) == store.SCHEMA


def test_a_fresh_file_has_this_version(journal):
    assert version(journal.path) == len(schema.MIGRATIONS)


def test_an_older_file_is_brought_up_to_date_and_keeps_its_calls(journal, monkeypatch):
    call = arrive(journal)
    more = "CREATE TABLE more (x); INSERT INTO more VALUES (1)"
    use_migrations(monkeypatch, (*schema.MIGRATIONS, more))
    newer = Journal(journal.path)
    assert newer.calls.find(call.call_id) == call and version(journal.path) == len(schema.MIGRATIONS)
    Journal(journal.path)
    assert sqlite3.connect(journal.path).execute("SELECT count(*) FROM more").fetchone() == (1,)


def test_endings_of_a_version_that_named_no_agent_still_free_one(tmp_path, clock, monkeypatch):
    path = str(tmp_path / "old.db")
    with monkeypatch.context() as before:
        use_migrations(before, schema.MIGRATIONS[:2])
        Journal(path, clock).close()
    with sqlite3.connect(path) as old:
        old.execute("INSERT INTO calls (call_id, uniqueid, mode, state, queue, extension, arrived, ended)"
                    " VALUES ('pbx-1.1', '1.1', 'control', 'canceled', '77', '5252', 1, 2)")
        old.executemany("INSERT INTO events (call, kind, at, status) VALUES (1, ?, 2, ?)",
                        [("received", "delivered"), ("canceled", "pending")])
    journal = Journal(path, clock)
    job, _ = journal.outbox.take(LIMIT)
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
    journal = Journal(path, clock)
    owed.check(journal)
    assert owed.taken(journal, "77") == {"5252", "5253", "5254"}
    assert [call.call_id for _, call in sorted(owed.firsts(journal))] == ["pbx-1.1", "pbx-1.2", "pbx-1.4", "pbx-1.5"]
    assert [(job.call.call_id, job.event.kind) for job in deliver_all(journal, clock)] == [
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
    journal = Journal(path, clock)
    owed.check(journal)
    assert {queue: owed.taken(journal, queue) for queue in ("77", "80", "81")} == {
        "77": {"5252", "5253", "5254"}, "80": {"5256"}, "81": {"5257"}}
    assert journal.overview.totals()["refused"] == 1 and journal.outbox.replay(journal.outbox.jobs(REFUSED)[0].event.id)
    first = journal.overview.open_calls()[0]
    assert (first.call_id, first.state) == ("pbx-1700000000.1", "transferred")
    assert [call.call_id[-2:] for call in journal.overview.waiting()] == [".5", ".6"]
    for call in journal.overview.unended():
        journal.calls.hang_up(call.call_id)
    clock.now += 2 * HOLD
    told = {}
    for job in deliver_all(journal, clock):
        told.setdefault(job.call.call_id.split(".")[1], []).append((job.event.kind + " " + job.event.extension).strip())
    assert told == {
        "1": ["completed 5252"], "2": ["completed 5253"], "4": ["canceled 5254"], "5": ["canceled"],
        "6": ["received", "canceled"],
        "7": ["lost"], "8": ["start_transferred 5260", "completed 5260"], "9": ["received", "canceled"],
        "10": ["transferred 5256", "completed 5256", "link"], "11": ["transferred 5257", "completed 5257"],
        "12": ["received", "canceled"], "13": ["transferred 5258", "completed 5258"]}
    assert journal.overview.totals() == {"open": 0, "pending": 0, "refused": 0}


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


def test_who_waits_in_a_file_of_the_version_before_stands_first(tmp_path, clock):
    journal = Journal(of_the_version_before(str(tmp_path / "old.db"), clock), clock)
    before = [call.call_id for call in journal.overview.waiting()]
    new = [arrive(journal, f"5.{number}", priority=number).call_id for number in (1, 9)]
    for call_id in new:
        journal.scheduler.turn(journal.calls.find(call_id), LIMIT)
    assert before and [call.call_id for call in journal.overview.waiting()] == [*before, *reversed(new)]


def test_what_the_version_before_records_in_a_migrated_file_is_delivered(tmp_path, clock):
    path = of_the_version_before(str(tmp_path / "old.db"), clock)
    journal = Journal(path, clock)
    with closing(sqlite3.connect(path)) as service, service:  # its words, from statements.sql
        service.execute("INSERT INTO events (call, kind, at, extension, link) VALUES (?, ?, ?, ?, ?)",
                        (1, "completed", clock(), "", ""))
        service.execute("UPDATE calls SET state = ?, ended = ? WHERE id = ?", ("completed", clock(), 1))
        service.execute("UPDATE events SET status = ?, note = ?, settled = ? WHERE id = ?", ("delivered", "", clock(), 4))
    assert [(job.call.id, job.event.kind) for job in deliver_all(journal, clock) if job.call.id == 1] == [(1, "completed")]


def test_a_pause_is_noted_as_the_version_before_reads_it(journal):
    journal.limits.suspect_429(1, 60.0)
    journal.limits.close_window(60.0)
    until, strikes = journal.notes.get("closed")[0].split()
    assert (float(until) > NOON, int(strikes)) == (True, 1)
    assert journal.limits.pause_reason() == "Movidesk asked for a pause (429)"


def test_a_migration_that_fails_leaves_the_version_before(journal, monkeypatch):
    before = version(journal.path)
    use_migrations(monkeypatch, schema.MIGRATIONS + ("CREATE TABLE more (x); no SQL",))
    with pytest.raises(JournalError, match="syntax error"):
        Journal(journal.path)
    tables = sqlite3.connect(journal.path).execute("SELECT count(*) FROM sqlite_master WHERE name = 'more'")
    assert version(journal.path) == before and tables.fetchone() == (0,)


def test_a_file_of_a_newer_version_is_left_alone_with_clear_words(journal):
    with sqlite3.connect(journal.path) as other:
        other.execute("PRAGMA user_version = 99")
    with pytest.raises(JournalError, match=r"journal .*\.db: written by a newer movidesk-agi \(schema 99, .*upgrade"):
        Journal(journal.path)
    assert version(journal.path) == 99


def test_processes_that_begin_one_file_at_once(tmp_path):
    for number in range(8):
        path = str(tmp_path / (f"{number}.db"))
        assert race(path, lambda mine: claim(mine, LIMIT).wait) == [0] * 4
        assert version(path) == len(schema.MIGRATIONS)
