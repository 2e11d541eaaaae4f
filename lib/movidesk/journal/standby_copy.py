"""Copies data from the journal to its standby when that begins (movidesk.journal.standby).

Both have this version's schema. Rows are copied with all their columns. The table that triggers maintain is left out.
Each table is also kept unchanged, as COPIED + its name: movidesk.journal.standby_merge compares with it.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing, contextmanager
from urllib.parse import quote

from movidesk.journal.store import BUSY_TIMEOUT, SCHEMA, JournalError
from movidesk.rules.rate_limit import HEAD, WINDOW

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    Row = dict[str, Any]  # a row of any table, by the names of its columns

RECENT = 3600.0  # seconds after its end for which a call is copied: its channel may come back, and then needs another id
MOST = 1000      # ended calls that are copied at most, the last ones

#: A note in the standby: the steady time at which it began.
BEGAN = "standby_began"
COPIED = "copied_"  # begins the names of the tables that are kept as they were copied


def open_file(path: str) -> sqlite3.Connection:
    """A connection to the file, whose rows have names. Raises sqlite3.Error."""
    file = sqlite3.connect(path, timeout=BUSY_TIMEOUT, isolation_level=None)
    file.row_factory = sqlite3.Row
    file.execute("PRAGMA synchronous = FULL")
    file.execute("PRAGMA foreign_keys = ON")
    return file


@contextmanager
def writing(path: str) -> Iterator[sqlite3.Connection]:
    """One transaction in the file. Raises JournalError."""
    try:
        with closing(open_file(path)) as file:
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


def insert(file: sqlite3.Connection, table: str, row: Row) -> int:
    """Add a row; returns its number."""
    names = ", ".join(f'"{name}"' for name in row)
    done = file.execute(f"INSERT INTO {table} ({names}) VALUES ({', '.join('?' * len(row))})", list(row.values()))
    return done.lastrowid or 0


def begin(path: str, standby: str, limit: int, steady: Callable[[], float], clock: Callable[[], float]) -> None:
    """Copy the current data of the journal to a new standby: open calls and those that ended recently, with their events; places
    in line, requests, notes.

    If the journal cannot be read, it is unknown how many requests were sent in the last minute. Then the window begins full, with
    requests spread evenly over it. Raises JournalError if the standby cannot be written.
    """
    now = steady()
    found = _read_all(path, clock() - RECENT)
    with writing(standby) as file:
        for table, rows in (found or {}).items():
            for row in rows:
                if table != "notes" or row["name"] != "boot":
                    insert(file, table, row)
        for table in ("calls", "events", *shared(file)):
            file.execute(f"CREATE TABLE {COPIED}{table} AS SELECT * FROM {table}")
        if found is None:
            for number in range(limit):
                insert(file, "requests", {"at": now - WINDOW * number / limit, "class": HEAD})
        file.execute("REPLACE INTO notes (name, value, at) VALUES (?, ?, ?)", (BEGAN, repr(now), clock()))


def _read_all(path: str, since: float) -> dict[str, list[Row]] | None:
    """The rows to copy, for each table; None if the file cannot be read, or belongs to another version."""
    try:
        with closing(sqlite3.connect(f"file:{quote(path)}?mode=ro", uri=True, timeout=BUSY_TIMEOUT)) as source:
            source.row_factory = sqlite3.Row
            source.execute("BEGIN")  # one snapshot: a call must not be copied as open with its end among its events
            if source.execute("PRAGMA user_version").fetchone()[0] != SCHEMA:
                return None
            calls = source.execute(
                "SELECT * FROM calls WHERE id IN (SELECT id FROM calls WHERE ended IS NULL UNION"
                " SELECT id FROM calls WHERE ended > ? ORDER BY id DESC LIMIT ?) ORDER BY id", (since, MOST)).fetchall()
            events = [event for call in calls
                      for event in source.execute("SELECT * FROM events WHERE call = ? ORDER BY id", (call["id"],))]
            others = {table: source.execute(f"SELECT * FROM {table}").fetchall() for table in shared(source)}
            return {table: [dict(row) for row in rows] for table, rows in {"calls": calls, "events": events, **others}.items()}
    except sqlite3.Error:
        return None


def shared(file: sqlite3.Connection) -> list[str]:
    """The tables without a reference to a call: requests, queues, phones, notes. `refusals` is one of them, although a phone's
    row names the last call that it refused."""
    tables = [row[0] for row in file.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%'"
                                             " AND name != 'calls' AND name NOT LIKE ?", (COPIED + "%",))]
    return [table for table in tables
            if table == "refusals" or not {"call", "event"} & {row["name"]
                                                               for row in file.execute(f"PRAGMA table_info({table})")}]
