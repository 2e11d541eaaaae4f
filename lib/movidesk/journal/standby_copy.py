"""What goes from one journal file into another: into the standby when it begins, and back when it ends
(movidesk.journal.standby).

Both have this version's schema. Rows are copied with all their columns, whatever they are; only what triggers keep is left out.
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

RECENT = 3600.0  # seconds for which a call that has ended is carried over: its channel may come back, and needs another id
MOST = 1000      # calls that are carried over at most, the last ones

#: The note in the standby: the steady time at which it began, and the names of the notes that it took over, a line each.
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
    """Take over into a fresh standby what its journal knows of now: open calls, those that ended lately, what is owed of them,
    places, requests, notes.

    Where the journal cannot be read, nobody knows what was sent lately: the window begins full, as if by requests spread evenly
    over it. Raises JournalError where the standby cannot be written.
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
    """The rows to take over, of each table; None where the file cannot be read, or is another version's."""
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
    """The tables that do not speak of single calls: what was sent, what queues and phones are known to be, notes. Of a phone that
    refuses it is also known which call it refused last."""
    tables = [row[0] for row in file.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%'"
                                             " AND name != 'calls'")]
    return [table for table in tables
            if table == "refusals" or not {"call", "event"} & {row["name"]
                                                               for row in file.execute(f"PRAGMA table_info({table})")}]


def merge(standby: str, path: str) -> None:
    """Bring what the standby knows back into its journal, in one transaction. Doing it twice adds nothing.

    Raises JournalError where the journal cannot take it; nothing has changed then.
    """
    with closing(_open(standby)) as source, _writing(path) as file:
        numbers = {}  # of a call here and there
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
    """Add the call, or move the one that is there on; its events, paired by kind and order, likewise. Returns its number
    there."""
    known = file.execute("SELECT id, ended FROM calls WHERE call_id = ?", (call["call_id"],)).fetchone()
    if known is None:
        number = _insert(file, "calls", _without(call, "id"))
    else:
        number = int(known["id"])
        if known["ended"] is None:
            # What a call begins with stays: a standby that could not read its journal may know the call by its end alone.
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
