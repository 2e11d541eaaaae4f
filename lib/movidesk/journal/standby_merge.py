"""What goes back into the journal when its standby ends (movidesk.journal.standby).

A verb that was inside the journal when the standby began may have recorded something there since. So three versions of each row
are compared: as it was copied when the standby began, as the standby has it, and as the journal has it. Only what the standby has
changed goes back. Where both have changed the life of a call, the one that is further stays.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing

from movidesk.journal.records import PENDING
from movidesk.journal.standby_copy import BEGAN, COPIED, insert, rows, shared
from movidesk.journal.store import BUSY_TIMEOUT, Store
from movidesk.rules import call_states

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from movidesk.journal.standby_copy import Row

#: What a call begins with: it stays. A standby that could not read its journal may know the call by its end alone.
BEGINNING = ("id", "call_id", "uniqueid", "mode", "queue", "arrived", "priority", "rank")
#: The columns of a call that belong together: one version's or the other's.
LIFE = ("state", "extension", "code", "ended")
#: A note in the journal: when the standby began (BEGAN) whose counters were added last.
COUNTED = "standby_counted"
#: The states of an open call in the order in which a call comes to them. What is not among them has ended.
ORDER = (call_states.ARRIVED, call_states.DIALLED, call_states.RECEIVED, call_states.WAITING, call_states.OFFERED,
         call_states.TRANSFERRED)


def merge(standby: str, journal: Store) -> None:
    """Bring what the standby's file knows back into its journal, in one transaction. Doing it twice adds nothing.

    Raises JournalError where the journal cannot take it; nothing has changed then.
    """
    with journal.transaction(), closing(sqlite3.connect(standby, timeout=BUSY_TIMEOUT)) as source:
        file = journal.connection
        copied_calls = {row["call_id"]: row for row in _copied(source, "calls")}
        copied_events = {row["id"]: row for row in _copied(source, "events")}
        numbers = {}  # of a call here and there
        for call in rows(source, "SELECT * FROM calls ORDER BY id"):
            there = _merge_call(file, call, copied_calls.get(call["call_id"]))
            numbers[call["id"]] = there["id"]
            own = rows(source, "SELECT * FROM events WHERE call = ? ORDER BY id", call["id"])
            _Events(file, there).merge(own, copied_events)
        began = source.execute("SELECT value FROM notes WHERE name = ?", (BEGAN,)).fetchone()
        since = float(began[0].split()[0]) if began else 0.0  # more words follow in the note of an older version's standby
        for row in rows(source, "SELECT * FROM requests WHERE at > ?", since):
            if not file.execute("SELECT 1 FROM requests WHERE at = ?", (row["at"],)).fetchone():
                insert(file, "requests", row)
        for table in set(shared(source)) - {"requests"}:
            _merge_table(file, source, table, numbers)
        _add_counters(journal, source, str(since))


def _add_counters(journal: Store, source: sqlite3.Connection, began: str) -> None:
    """Add what the standby that began then has counted, once: this process may be killed before it removes the standby."""
    counted = journal.note(COUNTED)
    if counted and counted[0] == began or not source.execute("SELECT 1 FROM sqlite_master WHERE name = 'counters'").fetchone():
        return
    journal.set_note(COUNTED, began)
    for row in rows(source, "SELECT * FROM counters"):
        journal.add_count(**row)


def _copied(file: sqlite3.Connection, table: str) -> list[Row]:
    """The rows of a table as they were copied; none where the standby is one of a version that did not keep them. They lack the
    columns that a later version has added to the table."""
    known = file.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (COPIED + table,)).fetchone()
    return rows(file, f"SELECT * FROM {COPIED}{table}") if known else []


def _update(file: sqlite3.Connection, table: str, number: int, row: Row) -> None:
    if row:
        values = ", ".join(f'"{name}" = ?' for name in row)
        file.execute(f"UPDATE {table} SET {values} WHERE id = ?", [*row.values(), number])


def _without(row: Row, *names: str) -> Row:
    return {name: value for name, value in row.items() if name not in names}


# -- calls -------------------------------------------------------------------------------------------------------------

def _merge_call(file: sqlite3.Connection, call: Row, copied: Row | None) -> Row:
    """Add the call, or move the one that is there on; returns what was there before, or the new row."""
    found = rows(file, "SELECT * FROM calls WHERE call_id = ?", call["call_id"])
    if not found:
        return {**call, "id": insert(file, "calls", _without(call, "id"))}
    there = found[0]
    if copied is None and there["ended"] is not None:
        return there
    changed = {name: value for name, value in _without(call, *BEGINNING).items()
               if copied is None or value != copied.get(name, value)}
    both = copied is None or any(there[name] != copied[name] for name in LIFE)  # the journal has changed it as well
    if both and (there["ended"] is not None or _progress(call) < _progress(there)):
        changed = _without(changed, *LIFE)
    elif any(name in changed for name in LIFE):
        changed.update({name: call[name] for name in LIFE})
    if "seen_until" in changed:
        changed["seen_until"] = max(changed["seen_until"], there["seen_until"])
    _update(file, "calls", there["id"], changed)
    return there


def _progress(call: Row) -> int:
    return ORDER.index(call["state"]) if call["state"] in ORDER else len(ORDER)


# -- events ------------------------------------------------------------------------------------------------------------

class _Events:
    """The events of one call in the journal. call: its row there, as it was before the merge."""

    def __init__(self, file: sqlite3.Connection, call: Row):
        self._file, self._call = file, call
        self._here = rows(file, "SELECT * FROM events WHERE call = ? ORDER BY id", call["id"])

    def merge(self, events: list[Row], copied: dict[int, Row]) -> None:
        """Bring in the standby's events of this call; copied: events by their number in the standby, as they were copied."""
        new = []
        for event in events:
            before = copied.get(event["id"])
            there = self._pop(kind=before["kind"], at=before["at"]) if before else None
            if before and there:
                self._change(event, before, there)
            else:
                new.append(event)
        added = []
        for event in new:  # both may have recorded it: pairs are made by kind and order
            there = self._pop(kind=event["kind"])
            if there is None:
                added.append(event)
            elif there["status"] == PENDING:
                _update(self._file, "events", there["id"], _without(event, "id", "call", "at"))
        self._add([event for event in map(self._ending, added) if event])

    def _pop(self, **wanted: object) -> Row | None:
        """The first of the journal's events that is like this and has not been given yet."""
        for event in self._here:
            if all(event[name] == value for name, value in wanted.items()):
                self._here.remove(event)
                return event
        return None

    def _change(self, event: Row, before: Row, there: Row) -> None:
        """An event that was copied: what the standby changed of it, unless Movidesk has taken it from the journal meanwhile."""
        changed = {name: value for name, value in _without(event, "id", "call", "at").items() if value != before.get(name, value)}
        if event["status"] == PENDING:
            changed = {name: value for name, value in changed.items() if there[name] == before.get(name)}
        if there["status"] == PENDING:
            _update(self._file, "events", there["id"], changed)

    def _ending(self, event: Row) -> Row | None:
        """An event of the standby as it goes into the journal; None where the journal has another ending that stays."""
        if event["kind"] not in call_states.ENDED:
            return event
        others = [other for other in self._here if other["kind"] in call_states.ENDED]
        if others and not _is_told(event):
            return None
        for other in others:
            if not _is_told(other):
                self._here.remove(other)
                self._file.execute("DELETE FROM events WHERE id = ?", (other["id"],))
                self._end(event["kind"], self._call["extension"])
        if self._call["state"] == call_states.TRANSFERRED and not _is_told(event):  # perhaps the standby did not know it
            extension = event["extension"] or self._call["extension"]
            self._end(call_states.COMPLETED, extension)
            return {**event, "kind": call_states.COMPLETED, "extension": extension}
        return event

    def _end(self, state: str, extension: str) -> None:
        self._file.execute("UPDATE calls SET state = ?, extension = ? WHERE id = ?", (state, extension, self._call["id"]))

    def _add(self, added: list[Row]) -> None:
        """Add events of the standby. What the journal recorded meanwhile comes after them if it belongs to a later part of the
        call's life and has not been told. Times do not show the order: clocks are set back."""
        if not added:
            return
        later = [event for event in self._here if not _is_told(event) and _place(event) > min(map(_place, added))]
        for event in later:
            self._file.execute("DELETE FROM events WHERE id = ?", (event["id"],))
        for event in sorted([*added, *later], key=_place) if later else added:
            insert(self._file, "events", {**_without(event, "id"), "call": self._call["id"]})


def _place(event: Row) -> int:
    """Where in a call's life an event belongs: the arrival, the agent, the end, a link."""
    if event["kind"] in call_states.ENDED:
        return 2
    return {call_states.RECEIVED: 0, call_states.LINK: 3}.get(event["kind"], 1)


def _is_told(event: Row) -> bool:
    """Whether Movidesk may have heard the event."""
    return bool(event["status"] != PENDING or event["attempts"])


# -- what does not speak of single calls -------------------------------------------------------------------------------

def _merge_table(file: sqlite3.Connection, source: sqlite3.Connection, table: str, numbers: dict[int, int]) -> None:
    """The rows that the standby has added, changed or removed. numbers: of calls, in the standby and in the journal."""
    columns = rows(source, f"PRAGMA table_info({table})")
    keys = [row["name"] for row in columns if row["pk"]] or [row["name"] for row in columns]

    def by_key(found: list[Row]) -> dict[tuple[Any, ...], Row]:
        return {tuple(row[name] for name in keys): row for row in found}

    copied, now = by_key(_copied(source, table)), by_key(rows(source, f"SELECT * FROM {table}"))
    for row in (row for key, row in copied.items() if key not in now):
        condition = " AND ".join(f'"{name}" IS ?' for name in row)
        file.execute(f"DELETE FROM {table} WHERE {condition}", list(row.values()))
    for row in (row for key, row in now.items() if copied.get(key) != row):
        if table == "notes" and row["name"] in ("boot", BEGAN):
            continue
        if "call" in row:
            row["call"] = numbers.get(row["call"], 0)
        condition = " AND ".join(f'"{name}" IS ?' for name in keys)
        file.execute(f"DELETE FROM {table} WHERE {condition}", [row[name] for name in keys])
        insert(file, table, row)
