"""Copies data between two journal files: into the standby when it begins, and back when it ends (movidesk.journal.standby).

Both have this version's schema. Rows are copied with all their columns. The table that triggers maintain is left out.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing, contextmanager
from urllib.parse import quote

from movidesk.journal.records import PENDING
from movidesk.journal.store import BUSY_TIMEOUT, SCHEMA, JournalError
from movidesk.rules.rate_limit import HEAD, WINDOW

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    Row = dict[str, Any]  # a row of any table, by the names of its columns

RECENT = 3600.0  # seconds after its end for which a call is copied: its channel may come back, and then needs another id
MOST = 1000      # ended calls that are copied at most, the last ones

#: A note in the standby: the steady time at which it began, and the names of the notes that it copied, one on each line.
BEGAN = "standby_began"


def _open(path: str) -> sqlite3.Connection:
    file = sqlite3.connect(path, timeout=BUSY_TIMEOUT, isolation_level=None)
    file.row_factory = sqlite3.Row
    file.execute("PRAGMA synchronous = FULL")
    file.execute("PRAGMA foreign_keys = ON")
    return file


@contextmanager
def _writing(path: str) -> Iterator[sqlite3.Connection]:
    """One transaction in the file. Raises JournalError."""
    try:
        with closing(_open(path)) as file:
            file.execute("BEGIN IMMEDIATE")
            try:
                yield file
                file.execute("COMMIT")
            except BaseException:
                if file.in_transaction:
                    file.execute("ROLLBACK")
                raise
    except sqlite3.Error as error:
        raise JournalError(f"journal {path}: {error}") from None


def _insert(file: sqlite3.Connection, table: str, row: Row) -> int:
    names = ", ".join(f'"{name}"' for name in row)
    done = file.execute(f"INSERT INTO {table} ({names}) VALUES ({', '.join('?' * len(row))})", list(row.values()))
    return done.lastrowid or 0


def _update(file: sqlite3.Connection, table: str, number: int, row: Row) -> None:
    values = ", ".join(f'"{name}" = ?' for name in row)
    file.execute(f"UPDATE {table} SET {values} WHERE id = ?", [*row.values(), number])


def _without(row: Row, *names: str) -> Row:
    return {name: value for name, value in row.items() if name not in names}


def begin(path: str, standby: str, limit: int, steady: Callable[[], float], clock: Callable[[], float]) -> None:
    """Copy the current data of the journal to a new standby: open calls and those that ended recently, with their events; places
    in line, requests, notes.

    If the journal cannot be read, it is unknown how many requests were sent in the last minute. Then the window begins full, with
    requests spread evenly over it. Raises JournalError if the standby cannot be written.
    """
    now = steady()
    found = _read_all(path, clock() - RECENT)
    with _writing(standby) as file:
        taken = []
        if found is None:
            for number in range(limit):
                _insert(file, "requests", {"at": now - WINDOW * number / limit, "class": HEAD})
        else:
            for table, rows in found.items():
                for row in rows:
                    if table != "notes" or row["name"] != "boot":
                        _insert(file, table, row)
                        taken += [row["name"]] if table == "notes" else []
        file.execute("REPLACE INTO notes (name, value, at) VALUES (?, ?, ?)", (BEGAN, "\n".join([repr(now), *taken]), clock()))


def _read_all(path: str, since: float) -> dict[str, list[Row]] | None:
    """The rows to copy, for each table; None if the file cannot be read, or belongs to another version."""
    try:
        with closing(sqlite3.connect(f"file:{quote(path)}?mode=ro", uri=True, timeout=BUSY_TIMEOUT)) as source:
            source.row_factory = sqlite3.Row
            if source.execute("PRAGMA user_version").fetchone()[0] != SCHEMA:
                return None
            calls = source.execute(
                "SELECT * FROM calls WHERE id IN (SELECT id FROM calls WHERE ended IS NULL UNION"
                " SELECT id FROM calls WHERE ended > ? ORDER BY id DESC LIMIT ?) ORDER BY id", (since, MOST)).fetchall()
            events = [event for call in calls
                      for event in source.execute("SELECT * FROM events WHERE call = ? ORDER BY id", (call["id"],))]
            shared = {table: source.execute("SELECT * FROM " + table).fetchall() for table in _shared(source)}
            return {table: [dict(row) for row in rows] for table, rows in {"calls": calls, "events": events, **shared}.items()}
    except sqlite3.Error:
        return None


def _shared(file: sqlite3.Connection) -> list[str]:
    """The tables without a reference to a call: requests, queues, phones, notes. `refusals` is one of them, although a phone's
    row names the last call that it refused."""
    tables = [row[0] for row in file.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%'"
                                             " AND name != 'calls'")]
    return [table for table in tables
            if table == "refusals" or not {"call", "event"} & {row["name"]
                                                               for row in file.execute(f"PRAGMA table_info({table})")}]


def merge(standby: str, path: str) -> None:
    """Copy the standby's data back to the journal, in one transaction. Doing it twice adds nothing.

    Raises JournalError if the journal cannot be written; then nothing has changed.
    """
    with closing(_open(standby)) as source, _writing(path) as file:
        numbers = {}  # number of a call in the standby -> number in the journal
        for call in source.execute("SELECT * FROM calls ORDER BY id").fetchall():
            events = source.execute("SELECT * FROM events WHERE call = ? ORDER BY id", (call["id"],)).fetchall()
            numbers[call["id"]] = _merge_call(file, dict(call), [dict(event) for event in events])
        value = source.execute("SELECT value FROM notes WHERE name = ?", (BEGAN,)).fetchone()
        began, *taken = value[0].split("\n") if value else ["0"]
        for row in source.execute("SELECT * FROM requests WHERE at > ?", (float(began),)).fetchall():
            if not file.execute("SELECT 1 FROM requests WHERE at = ?", (row["at"],)).fetchone():
                _insert(file, "requests", dict(row))
        for table in set(_shared(source)) - {"requests", "notes"}:
            file.execute("DELETE FROM " + table)
            for row in map(dict, source.execute("SELECT * FROM " + table).fetchall()):
                if "call" in row:
                    row["call"] = numbers.get(row["call"], 0)
                _insert(file, table, row)
        file.execute(f"DELETE FROM notes WHERE name IN ({', '.join('?' * len(taken))})", taken)
        for row in source.execute("SELECT * FROM notes WHERE name NOT IN ('boot', ?)", (BEGAN,)).fetchall():
            file.execute("REPLACE INTO notes (name, value, at) VALUES (?, ?, ?)", tuple(row))


def _merge_call(file: sqlite3.Connection, call: Row, events: list[Row]) -> int:
    """Add the call or update it, and likewise its events, matched by kind and order. Returns its number in the journal."""
    known = file.execute("SELECT id, ended FROM calls WHERE call_id = ?", (call["call_id"],)).fetchone()
    if known is None:
        number = _insert(file, "calls", _without(call, "id"))
    else:
        number = int(known["id"])
        if known["ended"] is None:
            # Keep the call's first data: a standby that could not read its journal may only know the call's end.
            _update(file, "calls", number, _without(call, "id", "call_id", "uniqueid", "mode", "queue", "arrived"))
    here: dict[str, list[sqlite3.Row]] = {}
    for row in file.execute("SELECT id, kind, status FROM events WHERE call = ? ORDER BY id", (number,)).fetchall():
        here.setdefault(row["kind"], []).append(row)
    for event in events:
        same = here.get(event["kind"])
        if not same:
            _insert(file, "events", {**_without(event, "id"), "call": number})
            continue
        row = same.pop(0)
        if row["status"] == PENDING:
            _update(file, "events", row["id"], _without(event, "id", "call", "at"))
    return number
