"""Finds calls for people: by number, agent, queue, state, and time of arrival.

A search reads the calls from the newest on until it has found enough; a million calls take a fifth of a second. It has no index,
because an index would cost every event a write.
"""

from __future__ import annotations

from typing import NamedTuple

from movidesk.journal.records import CALL, Call
from movidesk.journal.store import Store
from movidesk.rules import call_states

#: States of calls that an agent has, or had.
ANSWERED = (call_states.TRANSFERRED, call_states.COMPLETED)
#: States of calls that ended before an agent had them.
UNANSWERED = (call_states.CANCELED, call_states.START_CANCELED, call_states.LOST)

#: A call's state as SQL; how it really ended if Movidesk was told `completed` of a call that nobody answered.
_STATE = "CASE fate WHEN '' THEN state ELSE fate END"


class Wanted(NamedTuple):
    """Which calls are looked for. What is left out matches every call."""

    number: str = ""                # a part of the caller's number; digits, +, or anonymous
    agent: str = ""                 # the extension that answered, whose phone rings, or that began a made call
    queue: str = ""
    states: tuple[str, ...] = ()    # call_states; one of them
    since: float | None = None      # arrived at or after this, epoch seconds
    until: float | None = None      # arrived before this
    ending: str = ""                # the end of the caller's number, as `number`


class Position(NamedTuple):
    """How far `CallSearch.changed` has come."""

    call: int   # the number of the last call
    event: int  # the number of the last event


class CallSearch:
    """Searches the calls of a journal."""

    def __init__(self, store: Store):
        self._store = store

    def newest(self, wanted: Wanted, count: int) -> list[Call]:
        """The calls that came last, the last one first; at most `count`."""
        condition, values = _condition(wanted)
        return self._store.rows(Call, f"SELECT {CALL} FROM calls NOT INDEXED WHERE {condition} ORDER BY id DESC LIMIT :count",
                                count=count, **values)

    def after(self, wanted: Wanted, call: int, count: int) -> list[Call]:
        """The first calls after the one with this number, in order; at most `count`."""
        condition, values = _condition(wanted)
        return self._store.rows(Call, f"SELECT {CALL} FROM calls NOT INDEXED WHERE id > :after AND {condition}"
                                      " ORDER BY id LIMIT :count", after=call, count=count, **values)

    def one(self, name: str) -> Call | None:
        """The call with this call id or row number, or the last one of the channel with this unique id; None if there is none."""
        number = int(name) if name.isascii() and name.isdigit() and len(name) < 19 else 0
        return self._store.row(Call, f"SELECT {CALL} FROM calls WHERE call_id = :name OR uniqueid = :name OR id = :number"
                                     " ORDER BY call_id = :name DESC, id DESC", name=name, number=number)

    def position(self) -> Position:
        """The numbers of the last call and event."""
        return Position(self._store.value("SELECT coalesce(max(id), 0) FROM calls"),
                        self._store.value("SELECT coalesce(max(id), 0) FROM events"))

    def changed(self, wanted: Wanted, since: Position) -> list[Call]:
        """The calls that have begun since that position, or to which something has happened, in order."""
        condition, values = _condition(wanted)
        return self._store.rows(Call, f"""
            SELECT {CALL} FROM calls WHERE id IN (
                SELECT id FROM calls WHERE id > :call UNION SELECT call FROM events WHERE id > :event) AND {condition}
            ORDER BY id""", call=since.call, event=since.event, **values)


def _condition(wanted: Wanted) -> tuple[str, dict[str, object]]:
    """The search as a condition on calls, and the condition's values."""
    values: dict[str, object] = {}
    parts = ["1"]

    def add(part: str, **more: object) -> None:
        parts.append(part)
        values.update(more)

    if wanted.number:
        add("number LIKE '%' || :number || '%'", number=wanted.number)
    if wanted.ending:
        add("number LIKE '%' || :ending", ending=wanted.ending)
    if wanted.agent:
        add(f"extension = :agent AND (mode = '{call_states.MADE}' OR {_STATE} IN {ANSWERED} OR ended IS NULL)",
            agent=wanted.agent)
    if wanted.queue:
        add("queue = :queue", queue=wanted.queue)
    if wanted.states:
        states = {f"state{number}": state for number, state in enumerate(wanted.states)}
        add(f"{_STATE} IN ({', '.join(':' + name for name in states)})", **states)
    if wanted.since is not None:
        add("arrived >= :since", since=wanted.since)
    if wanted.until is not None:
        add("arrived < :until", until=wanted.until)
    return " AND ".join(parts), values
