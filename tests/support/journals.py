"""Journals with calls in them, and what they tell Movidesk."""
from __future__ import annotations

import sqlite3

from movidesk.journal import Call, Claim, Event, Job, Journal
from movidesk.rules import rate_limit

LIMIT = 10  # requests a minute


def arrive(journal: Journal, uniqueid: str | int = "1.1", queue: str = "77", **more) -> Call:
    """A caller comes to the queue."""
    return journal.calls.arrive("pbx", str(uniqueid), queue, "4733990777", **more)


def claim(journal: Journal, limit: int) -> Claim:
    """Leave to send the most urgent request now."""
    with journal.store.transaction():
        return journal.limits.claim(limit, rate_limit.SCREEN, rate_limit.Demand())


def kinds(journal: Journal, call: Call | str) -> list[str]:
    """The kinds of a call's events, oldest first; a call or its id, [] if there is none."""
    found = journal.calls.find(call) if isinstance(call, str) else call
    return [event.kind for event in journal.calls.events(found)] if found else []


def deliver_now(journal: Journal, limit: int = LIMIT) -> list[Job]:
    """Take and deliver what may go now; the events in the order of delivery."""
    found = []
    while True:
        job, _ = journal.outbox.take(limit)
        if job is None:
            return found
        journal.outbox.delivered(job, "")
        found.append(job)


def deliver_all(journal: Journal, clock) -> list[Job]:
    """Take and deliver until nothing is pending, however long that takes; the events in the order of delivery."""
    found = []
    while True:
        job, wait = journal.outbox.take(LIMIT)
        if job:
            journal.outbox.delivered(job, "")
            found.append(job)
        elif wait is None:
            return found
        else:
            clock.now += wait + 0.1


def events(journal: Journal, call_id: str) -> list[Event]:
    """A call's events, oldest first; [] if there is no such call."""
    call = journal.calls.find(call_id)
    return journal.calls.events(call) if call else []


def lock(path: str) -> sqlite3.Connection:
    """Another process writes, until the connection is closed: the journal can be read only."""
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    return other


def event_of(number: int, kind: str, at: float = 0.0) -> dict:
    """A line of the emergency file: of call `number`, so many seconds after its arrival."""
    return {"kind": kind, "at": 1_700_000_000.0 + number + at, "arrived": 1_700_000_000.0 + number, "uniqueid": f"17.{number}",
            "queue": "77", "number": "1", "call_id": f"pbx1-17.{number}", "extension": "5252", "link": ""}
