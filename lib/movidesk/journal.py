"""The journal: every call, its events in order, and the window of requests. The only module with SQL.

Invariants, and what keeps them:
  an event is on disk before its verb says ok     synchronous=FULL, one transaction per event
  one ending per call id                          the state is read and moved inside that transaction (calls.move)
  events of a call are delivered in order         only a call's oldest unsettled event is ever handed out (`take`)
  no more than the limit in any 60 s              the claim is a row of `requests`, written before the request leaves
  a crash between sending and noting              the event's lease runs out and it is sent again: at least once
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections import namedtuple
from contextlib import contextmanager

from movidesk import calls

WINDOW = 60.0        # seconds; "10 solicitudes por minuto", read as strictly as it can be: any 60 s
LEASE = 60.0         # seconds for which an event handed out belongs to its taker
BUSY_TIMEOUT = 5.0   # seconds to wait for another process's write

PENDING, DELIVERED, REFUSED = "pending", "delivered", "refused"

MIGRATIONS = (
    """
    CREATE TABLE calls (
        id        INTEGER PRIMARY KEY,
        call_id   TEXT NOT NULL UNIQUE,
        uniqueid  TEXT NOT NULL,
        mode      TEXT NOT NULL,
        state     TEXT NOT NULL,
        queue     TEXT NOT NULL DEFAULT '',
        number    TEXT NOT NULL DEFAULT '',
        extension TEXT NOT NULL DEFAULT '',
        code      TEXT NOT NULL DEFAULT '',
        arrived   REAL NOT NULL,
        ended     REAL
    );
    CREATE INDEX calls_uniqueid ON calls (uniqueid, id);
    CREATE INDEX calls_open ON calls (queue, id) WHERE ended IS NULL;
    CREATE INDEX calls_ended ON calls (ended) WHERE ended IS NOT NULL;
    CREATE TABLE events (
        id        INTEGER PRIMARY KEY AUTOINCREMENT,
        call      INTEGER NOT NULL REFERENCES calls (id) ON DELETE CASCADE,
        kind      TEXT NOT NULL,
        at        REAL NOT NULL,
        extension TEXT NOT NULL DEFAULT '',
        link      TEXT NOT NULL DEFAULT '',
        status    TEXT NOT NULL DEFAULT 'pending',
        attempts  INTEGER NOT NULL DEFAULT 0,
        due       REAL NOT NULL DEFAULT 0,
        note      TEXT NOT NULL DEFAULT '',
        settled   REAL
    );
    CREATE INDEX events_call ON events (call, id);
    CREATE INDEX events_pending ON events (call, id) WHERE status = 'pending';
    CREATE INDEX events_refused ON events (id) WHERE status = 'refused';
    CREATE TABLE requests (at REAL NOT NULL);
    CREATE INDEX requests_at ON requests (at);
    CREATE TABLE notes (name TEXT PRIMARY KEY, value TEXT NOT NULL, at REAL NOT NULL) WITHOUT ROWID;
    """,
)


class JournalError(Exception):
    """The journal cannot be used; the text names its path, the reason and what to do."""


Call = namedtuple("Call", "id call_id uniqueid mode state queue number extension code arrived ended")
Event = namedtuple("Event", "id call kind at extension link status attempts due note settled")
#: An event handed out for delivery, with the call it belongs to.
Job = namedtuple("Job", "event call")
#: What `record` did: the call (None where there is none) and the event's kind, or None with the reason why not.
Recorded = namedtuple("Recorded", "call kind reason")
#: Leave to send a request (granted), or the seconds until asking again makes sense, and why; paused: by Movidesk's wish.
Claim = namedtuple("Claim", "granted wait reason paused", defaults=(False,))

_CALL = ", ".join("calls." + field for field in Call._fields)
_EVENT = ", ".join("events." + field for field in Event._fields)


class Journal:
    """One journal file, usable from any number of threads; any number of processes may open the same file.

    clock: epoch seconds, passed in by tests and benches. Every method raises JournalError where the file cannot be
    used; no event is reported as recorded then.
    """

    def __init__(self, path: str, clock=time.time):
        self.path = path
        self.clock = clock
        self._lock = threading.RLock()
        try:
            self._db = sqlite3.connect(path, timeout=BUSY_TIMEOUT, isolation_level=None, check_same_thread=False)
            self._db.execute("PRAGMA synchronous = FULL")
            self._db.execute("PRAGMA foreign_keys = ON")
            if self._db.execute("PRAGMA user_version").fetchone()[0] != len(MIGRATIONS):
                self._migrate()
        except sqlite3.Error as error:
            raise self._unusable(error) from None

    def close(self) -> None:
        with self._lock:
            self._db.close()

    def _unusable(self, error: sqlite3.Error) -> JournalError:
        folder = os.path.dirname(self.path) or "."
        if not os.path.isdir(folder):
            advice = "the folder %s does not exist: create it, owned by Asterisk's user" % folder
        elif not os.access(folder, os.W_OK | os.X_OK):
            advice = "the folder %s is not writable for this user: give it to Asterisk's user" % folder
        elif "malformed" in str(error) or "not a database" in str(error):
            advice = "the file is damaged: move it aside (keep it), a fresh one is made at once"
        else:
            advice = "see [journal] path in movidesk.conf"
        return JournalError("journal %s: %s; %s" % (self.path, error, advice))

    def _migrate(self) -> None:
        """Bring the schema to this version. Each step commits together with its own number."""
        self._db.execute("PRAGMA journal_mode = WAL")
        for number, script in enumerate(MIGRATIONS, 1):
            with self._writing():
                version = self._db.execute("PRAGMA user_version").fetchone()[0]
                if version > len(MIGRATIONS):
                    raise JournalError("journal %s: written by a newer movidesk-agi (schema %d, this one knows %d): "
                                       "upgrade, or restore the backup made before" % (self.path, version, len(MIGRATIONS)))
                if version < number:
                    for statement in script.split(";"):
                        self._db.execute(statement)
                    self._db.execute("PRAGMA user_version = %d" % number)

    @contextmanager
    def _writing(self):
        """One transaction that holds the write lock from its start, so that what is read in it stays true."""
        with self._lock:
            try:
                self._db.execute("BEGIN IMMEDIATE")
                try:
                    yield self._db
                    self._db.execute("COMMIT")
                except BaseException:
                    if self._db.in_transaction:
                        self._db.execute("ROLLBACK")
                    raise
            except sqlite3.Error as error:
                raise self._unusable(error) from None

    def _rows(self, make, sql: str, *args) -> list:
        with self._lock:
            try:
                return [make(*row) for row in self._db.execute(sql, args)]
            except sqlite3.Error as error:
                raise self._unusable(error) from None

    def _row(self, make, sql: str, *args):
        rows = self._rows(make, sql, *args)
        return rows[0] if rows else None

    # -- calls and their events ------------------------------------------------------------------------------------

    def arrive(self, pbx: str, uniqueid: str, queue: str, number: str, mode: str = calls.CONTROL,
               arrived: float | None = None) -> Call:
        """The open call of this channel in this queue; where there is none, a new one is begun.

        A channel whose call has ended gets the next id (`-2`, `-3`). One that comes to another queue, or back after an
        agent had it, leaves its old call first: that one ends as a hangup would end it, lost where nobody had answered.
        """
        with self._writing():
            visits = self._rows(Call, "SELECT %s FROM calls WHERE uniqueid = ? ORDER BY id" % _CALL, uniqueid)
            last = visits[-1] if visits else None
            if last and last.state not in calls.ENDED:
                if last.queue == queue and last.mode == mode and last.state != calls.TRANSFERRED:
                    return last
                self._end(last, calls.ending_at_hangup(last.mode, last.state, last.code, gave_up=True))
            call_id = calls.call_id(pbx, uniqueid, len(visits) + 1)
            return self._begin(call_id, uniqueid, mode, calls.first_state(mode), queue, number, arrived)

    def _begin(self, call_id, uniqueid, mode, state, queue, number, arrived=None) -> Call:
        arrived = self.clock() if arrived is None else arrived
        self._db.execute("INSERT INTO calls (call_id, uniqueid, mode, state, queue, number, arrived)"
                         " VALUES (?, ?, ?, ?, ?, ?, ?)", (call_id, uniqueid, mode, state, queue, number, arrived))
        call = self.find(call_id)
        if mode == calls.CONTROL and state == calls.RECEIVED:
            self._add_event(call, calls.RECEIVED, arrived)
        return call

    def record(self, call_id: str, kind: str, extension: str = "", link: str = "", queue: str = "", number: str = "",
               uniqueid: str = "", arrived: float | None = None) -> Recorded:
        """Record one event of a call, if it fits the call's life; on return it is on disk.

        A call that the journal does not know (it was lost, or the PBX's own dialplan comes without `received`) is
        begun in the state the event needs: the PBX is the only witness, and what it saw must be told.
        """
        with self._writing():
            call = self.find(call_id)
            if call is None:
                call = self._begin(call_id, uniqueid or call_id, calls.mode_of(kind), calls.state_before(kind), queue,
                                   number, arrived)
            if call.mode == calls.WATCH and kind == calls.CANCELED:
                kind = calls.START_CANCELED
            state = calls.move(call.mode, call.state, kind)
            if state is None:
                return Recorded(call, None, "%s does not follow %s" % (kind, call.state))
            if state in calls.ENDED and call.state not in calls.ENDED:
                self._end(call, kind, link)
            else:
                extension = extension or call.extension
                if kind != calls.TRANSFERRED or not self._told_transferred(call, extension):
                    self._add_event(call, kind, self.clock(), extension if kind != calls.LINK else "", link)
                self._db.execute("UPDATE calls SET state = ?, extension = ? WHERE id = ?",
                                 (state, extension, call.id))
            return Recorded(self.find(call_id), kind, "")

    def hang_up(self, call_id: str, gave_up: bool = False, link: str = "") -> Recorded:
        """End the call as its state says (calls.ending_at_hangup)."""
        with self._writing():
            call = self.find(call_id)
            if call is None:
                return Recorded(None, None, "no call %s" % call_id)
            kind = calls.ending_at_hangup(call.mode, call.state, call.code, gave_up)
            if kind is None:
                return Recorded(call, None, "it has ended: %s" % call.state)
            self._end(call, kind, link)
            return Recorded(self.find(call_id), kind, "")

    def _end(self, call: Call, kind: str, link: str = "") -> None:
        now = self.clock()
        if call.mode == calls.CONTROL and kind in (calls.CANCELED, calls.LOST) and self._told_transferred(call):
            # With report_transfer = ring Movidesk shows the call as transferred: only `completed` may follow that
            # ("canceledCall ... antes del método asterisk_transferedCall").
            kind = calls.COMPLETED
        if kind != calls.FINISHED:
            self._add_event(call, kind, now, link=link if kind in (calls.COMPLETED, calls.LOST) else "")
        self._db.execute("UPDATE calls SET state = ?, ended = ? WHERE id = ?", (kind, now, call.id))

    def _add_event(self, call: Call, kind: str, at: float, extension: str = "", link: str = "") -> None:
        self._db.execute("INSERT INTO events (call, kind, at, extension, link) VALUES (?, ?, ?, ?, ?)",
                         (call.id, kind, at, extension, link))

    def _told_transferred(self, call: Call, extension: str = "") -> bool:
        """Whether a `transferred` (the last one to this extension, if given) is on its way to Movidesk already."""
        row = self._db.execute("SELECT extension FROM events WHERE call = ? AND kind = 'transferred'"
                               " ORDER BY id DESC LIMIT 1", (call.id,)).fetchone()
        return row is not None and extension in ("", row[0])

    def answered(self, call: Call, extension: str, code: str, note: str, report: bool = False) -> None:
        """Movidesk answered receivedCall for this call: it is registered there, and offered to `extension` or waiting.

        extension and code are both empty where the answer made no sense: the call is registered, and waits.
        report: tell Movidesk of the transfer now, while the phone rings (report_transfer = ring).
        """
        state = calls.OFFERED if extension else calls.WAITING
        with self._writing():
            if extension and report and not self._told_transferred(call, extension):
                self._add_event(call, calls.TRANSFERRED, self.clock(), extension)
            self._settle_received(call, DELIVERED, note)
            self._db.execute("UPDATE calls SET state = ?, extension = ?, code = ? WHERE id = ? AND ended IS NULL",
                             (state, extension, code, call.id))

    def refused(self, call: Call, note: str) -> None:
        """Movidesk refused receivedCall for good: its event is set aside, the call goes on."""
        with self._writing():
            self._settle_received(call, REFUSED, note)

    def _settle_received(self, call: Call, status: str, note: str) -> None:
        self._db.execute("UPDATE events SET status = ?, note = ?, attempts = attempts + 1, settled = ?"
                         " WHERE call = ? AND kind = 'received' AND status != 'delivered'",
                         (status, note, self.clock(), call.id))

    def find(self, call_id: str) -> Call | None:
        """The call with this id, or None."""
        return self._row(Call, "SELECT %s FROM calls WHERE call_id = ?" % _CALL, call_id)

    def latest(self, uniqueid: str) -> Call | None:
        """The last call of the channel with this unique id, or None."""
        return self._row(Call, "SELECT %s FROM calls WHERE uniqueid = ? ORDER BY id DESC LIMIT 1" % _CALL, uniqueid)

    def position(self, call: Call) -> int:
        """The call's place among those that wait in its queue; 1 = first."""
        return self._row(int, "SELECT 1 + count(*) FROM calls WHERE ended IS NULL AND queue = ? AND id < ?"
                              " AND state IN ('received', 'waiting')", call.queue, call.id)

    # -- the window of requests -------------------------------------------------------------------------------------

    def claim(self, limit: int, window: float = WINDOW) -> Claim:
        """Leave to send one request now, counted before it leaves; or how long to wait, and for what."""
        with self._writing():
            return self._claim(limit, window)

    def _claim(self, limit: int, window: float = WINDOW) -> Claim:
        now = self.clock()
        closed = self._note("closed")
        if closed and now < float(closed[0]):
            return Claim(False, float(closed[0]) - now, "Movidesk asked for a pause (429)", True)
        # A clock set back leaves rows in the future: they would close the window for as long as it was set back.
        self._db.execute("DELETE FROM requests WHERE at <= ? OR at > ?", (now - window, now + window))
        used, oldest = self._db.execute("SELECT count(*), min(at) FROM requests").fetchone()
        if used >= limit:
            return Claim(False, max(0.05, oldest + window - now), "%d requests were sent in the last minute" % used)
        self._db.execute("INSERT INTO requests (at) VALUES (?)", (now,))
        return Claim(True, 0.0, "")

    def close_window(self, seconds: float) -> None:
        """Send nothing for so many seconds: Movidesk answered 429."""
        with self._writing():
            self._set_note("closed", str(self.clock() + seconds))

    def requests_in_window(self, window: float = WINDOW) -> int:
        return self._row(int, "SELECT count(*) FROM requests WHERE at > ?", self.clock() - window)

    # -- delivery ---------------------------------------------------------------------------------------------------

    def take(self, limit: int, window: float = WINDOW) -> tuple[Job | None, float | None]:
        """The next event to send, with the request claimed for it and the event leased to the caller.

        Returns (job, 0), or (None, seconds until another try makes sense), or (None, None) where nothing is pending.
        An arrival is left to the caller that asks for itself, until its call has ended.
        """
        with self._writing():
            now = self.clock()
            row = self._db.execute(
                "SELECT %s, %s FROM events JOIN calls ON calls.id = events.call"
                " WHERE events.status = 'pending'"
                "   AND NOT EXISTS (SELECT 1 FROM events AS earlier WHERE earlier.call = events.call"
                "                   AND earlier.id < events.id AND earlier.status = 'pending')"
                "   AND NOT (events.kind = 'received' AND calls.ended IS NULL)"
                " ORDER BY max(events.due, ?), events.id LIMIT 1" % (_EVENT, _CALL), (now,)).fetchone()
            if row is None:
                return None, None
            event = Event(*row[:len(Event._fields)])
            if event.due > now:
                return None, event.due - now
            claim = self._claim(limit, window)
            if not claim.granted:
                return None, claim.wait
            self._db.execute("UPDATE events SET due = ?, attempts = attempts + 1 WHERE id = ?", (now + LEASE, event.id))
            return Job(event._replace(attempts=event.attempts + 1), Call(*row[len(Event._fields):])), 0.0

    def delivered(self, job: Job, note: str) -> None:
        self._settle(job, DELIVERED, note)

    def rejected(self, job: Job, why: str) -> None:
        """Set the event aside, visible and replayable; the later ones of its call go on."""
        self._settle(job, REFUSED, why)

    def _settle(self, job: Job, status: str, note: str) -> None:
        with self._writing():
            self._db.execute("UPDATE events SET status = ?, note = ?, settled = ? WHERE id = ?",
                             (status, note, self.clock(), job.event.id))

    def retry(self, job: Job, seconds: float, why: str) -> None:
        """Try the event again after so many seconds."""
        with self._writing():
            self._db.execute("UPDATE events SET due = ?, note = ? WHERE id = ?",
                             (self.clock() + seconds, why, job.event.id))

    def replay(self, event_id: int) -> bool:
        """Send a refused event once more; False where there is no such event."""
        with self._writing():
            return self._db.execute("UPDATE events SET status = 'pending', due = 0, settled = NULL"
                                    " WHERE id = ? AND status = 'refused'", (event_id,)).rowcount == 1

    def prune(self, keep_days: float, batch: int = 500) -> int:
        """Forget calls that ended more than keep_days ago and owe nothing; returns how many, at most `batch`."""
        with self._writing():
            return self._db.execute(
                "DELETE FROM calls WHERE id IN (SELECT id FROM calls WHERE ended < ? AND NOT EXISTS"
                " (SELECT 1 FROM events WHERE events.call = calls.id AND events.status = 'pending')"
                " ORDER BY ended LIMIT ?)", (self.clock() - keep_days * 86400, batch)).rowcount

    # -- notes: what all processes must know ------------------------------------------------------------------------

    def _note(self, name: str):
        return self._db.execute("SELECT value, at FROM notes WHERE name = ?", (name,)).fetchone()

    def _set_note(self, name: str, value: str) -> None:
        self._db.execute("REPLACE INTO notes (name, value, at) VALUES (?, ?, ?)", (name, value, self.clock()))

    def note(self, name: str) -> tuple[str, float] | None:
        """A named note and when it was written, or None."""
        return self._row(lambda value, at: (value, at), "SELECT value, at FROM notes WHERE name = ?", name)

    def set_note(self, name: str, value: str | None) -> None:
        """Write a note; None removes it."""
        with self._writing():
            if value is None:
                self._db.execute("DELETE FROM notes WHERE name = ?", (name,))
            else:
                self._set_note(name, value)

    # -- what people look at ----------------------------------------------------------------------------------------

    def open_calls(self) -> list[Call]:
        return self._rows(Call, "SELECT %s FROM calls WHERE ended IS NULL ORDER BY id" % _CALL)

    def last_calls(self, count: int) -> list[Call]:
        return self._rows(Call, "SELECT %s FROM calls ORDER BY id DESC LIMIT ?" % _CALL, count)

    def events(self, call: Call) -> list[Event]:
        return self._rows(Event, "SELECT %s FROM events WHERE call = ? ORDER BY id" % _EVENT, call.id)

    def outbox(self, status: str, count: int = 1000) -> list[Job]:
        """The events that are pending or refused, oldest first."""
        split = len(Event._fields)
        return self._rows(lambda *row: Job(Event(*row[:split]), Call(*row[split:])),
                          "SELECT %s, %s FROM events JOIN calls ON calls.id = events.call WHERE status = ?"
                          " ORDER BY events.id LIMIT ?" % (_EVENT, _CALL), status, count)

    def totals(self) -> dict[str, int]:
        """How many calls are open, and how many events are pending and refused."""
        one = lambda sql: self._row(int, sql)  # noqa: E731
        return {
            "open": one("SELECT count(*) FROM calls WHERE ended IS NULL"),
            "pending": one("SELECT count(*) FROM events WHERE status = 'pending'"),
            "refused": one("SELECT count(*) FROM events WHERE status = 'refused'"),
        }
