"""Copies data from the journal to its standby when that begins (movidesk.journal.standby).

Both have this version's schema. Rows are copied with all their columns. The table that triggers maintain is left out, and so are
the counters: those of a standby begin at 0.
Each table is also kept unchanged, as COPIED + its name: movidesk.journal.standby_merge compares with it.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from urllib.parse import quote

from movidesk.journal.store import BUSY_TIMEOUT, SCHEMA, Store
from movidesk.rules.rate_limit import HEAD, WINDOW

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Row = dict[str, Any]  # a row of any table, by the names of its columns

RECENT = 3600.0  # seconds after its end for which a call is copied: its channel may come back, and then needs another id
MOST = 1000      # ended calls that are copied at most, the last ones

#: A note in the standby: the steady time at which it began.
BEGAN = "standby_began"
COPIED = "copied_"  # begins the names of the tables that are kept as they were copied


def rows(file: sqlite3.Connection, sql: str, *values: object) -> list[Row]:
    """What a query finds."""
    found = file.execute(sql, values)
    names = [column[0] for column in found.description]
    return [dict(zip(names, row)) for row in found]


def insert(file: sqlite3.Connection, table: str, row: Row) -> int:
    """Add a row; returns its number."""
    names = ", ".join(f'"{name}"' for name in row)
    done = file.execute(f"INSERT INTO {table} ({names}) VALUES ({', '.join('?' * len(row))})", list(row.values()))
    return done.lastrowid or 0


def begin(path: str, standby: Store, limit: int) -> None:
    """Copy the current data of the journal at `path` to a new standby: open calls and those that ended recently, with their
    events; places in line, requests, notes.

    If the journal cannot be read, it is unknown how many requests were sent in the last minute. Then the window begins full, with
    requests spread evenly over it. Raises JournalError if the standby cannot be written.
    """
    now = standby.steady()
    found = _read_all(path, standby.clock() - RECENT)
    with standby.transaction():
        file = standby.connection
        for table, copies in (found or {}).items():
            for row in copies:
                if table != "notes" or row["name"] != "boot":
                    insert(file, table, row)
        for table in ("calls", "events", *shared(file)):
            file.execute(f"CREATE TABLE {COPIED}{table} AS SELECT * FROM {table}")
        if found is None:
            for number in range(limit):
                insert(file, "requests", {"at": now - WINDOW * number / limit, "class": HEAD})
        standby.set_note(BEGAN, repr(now))


def _read_all(path: str, since: float) -> dict[str, list[Row]] | None:
    """The rows to copy, for each table; None if the file cannot be read, or belongs to another version."""
    try:
        with closing(sqlite3.connect(f"file:{quote(path)}?mode=ro", uri=True, timeout=BUSY_TIMEOUT)) as source:
            source.execute("BEGIN")  # one snapshot: a call must not be copied as open with its end among its events
            if source.execute("PRAGMA user_version").fetchone()[0] != SCHEMA:
                return None
            calls = rows(source, "SELECT * FROM calls WHERE id IN (SELECT id FROM calls WHERE ended IS NULL UNION"
                                 " SELECT id FROM calls WHERE ended > ? ORDER BY id DESC LIMIT ?) ORDER BY id", since, MOST)
            events = [event for call in calls
                      for event in rows(source, "SELECT * FROM events WHERE call = ? ORDER BY id", call["id"])]
            return {"calls": calls, "events": events,
                    **{table: rows(source, f"SELECT * FROM {table}") for table in shared(source)}}
    except sqlite3.Error:
        return None


def shared(file: sqlite3.Connection) -> list[str]:
    """The tables without a reference to a call: requests, queues, phones, notes; not the counters. `refusals` is one of them,
    although a phone's row names the last call that it refused."""
    tables = [row[0] for row in file.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%'"
                                             " AND name NOT IN ('calls', 'counters') AND name NOT LIKE ?", (COPIED + "%",))]
    return [table for table in tables
            if table == "refusals" or not {"call", "event"} & {row["name"] for row in rows(file, f"PRAGMA table_info({table})")}]
