"""The journal: every call, its events in order, and the window of requests. The only module with SQL.

Invariants, and what keeps them:
  an event is on disk before its verb says ok     synchronous=FULL, one transaction per event
  one ending per call id                          the state is read and moved inside that transaction (calls.move)
  events of a call are delivered in order         only a call's oldest unsettled event is ever handed out (`take`)
  no more than the limit in any 60 s              the claim is a row of `requests`, written before the request leaves
  one head in each line, nobody overtaken         place, reason and claim are decided in one transaction (`turn`)
  a crash between sending and noting              the event's lease runs out and it is sent again: at least once
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections import namedtuple
from contextlib import contextmanager

from movidesk import budget, calls, line
from movidesk.budget import WINDOW

LEASE = 60.0         # seconds for which an event handed out belongs to its taker
HOLD = 3600.0        # seconds for which an ending waits for the caller's message at the most
HELD = "waits for the caller's message"
CONVERTS = "waits until this is converted: "  # and the file's name
BUSY_TIMEOUT = 2.0   # seconds to wait for another process's write: a caller's answer may wait for it

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
    """
    ALTER TABLE calls ADD COLUMN seen_until REAL NOT NULL DEFAULT 0;
    ALTER TABLE calls ADD COLUMN wants INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE requests ADD COLUMN class INTEGER NOT NULL DEFAULT 1;
    CREATE TABLE queues (
        name  TEXT PRIMARY KEY,
        asked REAL NOT NULL,
        pace  REAL NOT NULL,
        news  INTEGER NOT NULL,
        "full"  INTEGER NOT NULL,
        code  TEXT NOT NULL
    ) WITHOUT ROWID;
    CREATE INDEX calls_wants ON calls (wants) WHERE wants > 0;
    """,
)


class JournalError(Exception):
    """The journal cannot be used; the text names its path, the reason and what to do. damaged: the file is no good."""

    def __init__(self, text: str, damaged: bool = False):
        super().__init__(text)
        self.damaged = damaged


Call = namedtuple("Call", "id call_id uniqueid mode state queue number extension code arrived ended")
Event = namedtuple("Event", "id call kind at extension link status attempts due note settled")
#: An event with the call it belongs to; handed out for delivery, also the number of the request claimed for it.
Job = namedtuple("Job", "event call request", defaults=(0,))
#: What `record` did: the call (None where there is none) and the event's kind, or None with the reason why not.
Recorded = namedtuple("Recorded", "call kind reason")
#: Leave to send a request (granted: its number), or the seconds until asking again makes sense, and why; paused: by
#: Movidesk's wish.
Claim = namedtuple("Claim", "granted wait reason paused", defaults=(False,))

_CALL = ", ".join("calls." + field for field in Call._fields)
_EVENT = ", ".join("events." + field for field in Event._fields)
#: Who stands in a line, as a condition on calls; takes the steady time.
_WAITS = "ended IS NULL AND state IN ('received', 'waiting') AND calls.code NOT IN ('0', '1', '2') AND seen_until > ?"


class Journal:
    """One journal file, usable from any number of threads; any number of processes may open the same file.

    clock: epoch seconds, for what is reported. steady: seconds that nobody sets, the same for all processes of a machine,
    for all that lasts (the window, leases, retries); where only a clock is passed in it serves for both. Every method raises JournalError where the file cannot be
    used; no event is reported as recorded then.
    """

    def __init__(self, path: str, clock=time.time, steady=None):
        self.path = path
        self.clock = clock
        self.steady = steady or (time.monotonic if clock is time.time else clock)
        self._lock = threading.RLock()
        _begin_as_the_folders_owner(path)
        try:
            self._db = sqlite3.connect(path, timeout=BUSY_TIMEOUT, isolation_level=None, check_same_thread=False)
            self._db.execute("PRAGMA synchronous = FULL")
            self._db.execute("PRAGMA foreign_keys = ON")
            if self._db.execute("PRAGMA user_version").fetchone()[0] != len(MIGRATIONS):
                self._migrate()
            self._begin_boot()
        except sqlite3.Error as error:
            raise self._unusable(error) from None

    def close(self) -> None:
        with self._lock:
            self._db.close()

    def check(self) -> None:
        """Read the whole file once. Raises JournalError where it is damaged."""
        found = self._row(str, "PRAGMA quick_check(1)")
        if found != "ok":
            raise self._unusable(sqlite3.DatabaseError("malformed: " + found))

    def _unusable(self, error: sqlite3.Error) -> JournalError:
        folder = os.path.dirname(self.path) or "."
        damaged = "malformed" in str(error) or "not a database" in str(error)
        if not os.path.isdir(folder):
            advice = "the folder %s does not exist: create it, owned by Asterisk's user" % folder
        elif not os.access(folder, os.W_OK | os.X_OK):
            advice = "the folder %s is not writable for this user: give it to Asterisk's user" % folder
        elif damaged:
            advice = "the file is damaged: move it aside (keep it), a fresh one is made at once"
        else:
            advice = "see [journal] path in movidesk.conf"
        return JournalError("journal %s: %s; %s" % (self.path, error, advice), damaged)

    def _migrate(self) -> None:
        """Bring the schema to this version. Each step commits together with its own number."""
        self._use_wal()
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

    def _use_wal(self) -> None:
        """Switch the file to WAL. Where two processes begin one file at once SQLite fails here; elsewhere it waits."""
        give_up = time.monotonic() + BUSY_TIMEOUT
        while True:
            try:
                self._db.execute("PRAGMA journal_mode = WAL")
                return
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() > give_up:
                    raise
                time.sleep(0.01)

    def _begin_boot(self) -> None:
        """Make steady times of an earlier boot harmless: that clock began anew.

        Requests count as sent now, a pause lasts another minute, retries are due, and the old line is gone.
        """
        boot = _boot_id()
        if self.note("boot") is not None and self.note("boot")[0] == boot:
            return
        with self._writing():
            known = self._note("boot")
            if known and known[0] == boot:
                return
            self._set_note("boot", boot)
            if known:
                now = self.steady()
                self._db.execute("UPDATE requests SET at = ?", (now,))
                self._db.execute("UPDATE events SET due = 0 WHERE status = 'pending'")
                self._db.execute("UPDATE calls SET seen_until = 0, wants = 0 WHERE ended IS NULL")
                self._db.execute("DELETE FROM queues")
                if self._note("closed"):
                    self._set_note("closed", "%r 1" % (now + WINDOW))

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
                self._end(last, calls.ending_at_hangup(last.mode, last.state, code="0"))
            visit = len(visits) + 1
            while self.find(calls.call_id(pbx, uniqueid, visit)):  # begun by an event alone, on another channel
                visit += 1
            return self._begin(calls.call_id(pbx, uniqueid, visit), uniqueid, mode, calls.first_state(mode), queue, number, arrived)

    def _begin(self, call_id, uniqueid, mode, state, queue, number, arrived=None) -> Call:
        arrived = self.clock() if arrived is None else arrived
        self._db.execute("INSERT INTO calls (call_id, uniqueid, mode, state, queue, number, arrived)"
                         " VALUES (?, ?, ?, ?, ?, ?, ?)", (call_id, uniqueid, mode, state, queue, number, arrived))
        call = self.find(call_id)
        if mode == calls.CONTROL and state == calls.RECEIVED and queue:  # without a queue it could not be registered
            self._add_event(call, calls.RECEIVED, arrived)
        return call

    def dial(self, pbx: str, uniqueid: str, extension: str, number: str) -> Call:
        """Begin a made call: the channel with this unique id will call the agent's extension, then the number."""
        with self._writing():
            call = self._begin(calls.call_id(pbx, uniqueid), uniqueid, calls.MADE, calls.DIALLED, "", number)
            self._db.execute("UPDATE calls SET extension = ? WHERE id = ?", (extension, call.id))
            return self.find(call.call_id)

    def dialled_in_vain(self, call_id: str, why: str) -> None:
        """End a made call that did not reach its agent; `why` stands in the call's code."""
        with self._writing():
            self._db.execute("UPDATE calls SET state = ?, code = ?, ended = ? WHERE call_id = ? AND state = ?",
                             (calls.FINISHED, why, self.clock(), call_id, calls.DIALLED))

    def record(self, call_id: str, kind: str, extension: str = "", link: str = "", queue: str = "", number: str = "",
               uniqueid: str = "", arrived: float | None = None, at: float | None = None) -> Recorded:
        """Record one event of a call, if it fits the call's life; on return it is on disk. at: when it was, if not now.

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
                self._end(call, kind, link, at)
            else:
                extension = extension or call.extension
                if kind != calls.TRANSFERRED or not self._told_transferred(call, extension):
                    self._add_event(call, kind, self.clock() if at is None else at, extension if kind != calls.LINK else "", link)
                self._db.execute("UPDATE calls SET state = ?, extension = ? WHERE id = ?",
                                 (state, extension, call.id))
            return Recorded(self.find(call_id), kind, "")

    def hang_up(self, call_id: str, link: str = "", at: float | None = None, converts: str = "") -> Recorded:
        """End the call as its state says (calls.ending_at_hangup), or let go the ending that was held for its message.

        converts: the name of the link's file where that is to be converted first (`converting`). The end of a talk is
        told at once then, and the link after it by an event of its own; the end with a message, for which no agent
        waits, waits.
        """
        with self._writing():
            call = self.find(call_id)
            if call is None:
                return Recorded(None, None, "no call %s" % call_id)
            kind = calls.ending_at_hangup(call.mode, call.state, call.code)
            if kind is None and self._let_go(call, link, converts):
                return Recorded(call, call.state, "")
            if kind is None and call.mode == calls.MADE and link and not self._told_link(call):
                # The sweep, say, had ended the call before its recording was known.
                self._add_event(call, calls.LINK, self.clock() if at is None else at, link=link)
                return Recorded(call, calls.LINK, "")
            if kind is None:
                return Recorded(call, None, "it has ended: %s" % call.state)
            self._end(call, kind, "" if converts else link, at)
            if converts and link and kind in (calls.COMPLETED, calls.LOST, calls.FINISHED):
                self._add_event(call, calls.LINK, self.clock() if at is None else at, link=link)
                self._db.execute("UPDATE events SET due = ?, note = ? WHERE id = last_insert_rowid()",
                                 (self.steady() + HOLD, CONVERTS + converts))
            return Recorded(self.find(call_id), kind, "")

    def hold(self, call_id: str) -> None:
        """Deliver the call's ending only when its channel hangs up and the message is complete; at the latest when
        HOLD is over, should nobody come back for it."""
        with self._writing():
            self._db.execute("UPDATE events SET due = ?, note = ? WHERE status = 'pending' AND kind = 'lost' AND call ="
                             " (SELECT id FROM calls WHERE call_id = ?)", (self.steady() + HOLD, HELD, call_id))

    def _let_go(self, call: Call, link: str, converts: str = "") -> bool:
        due, note = (self.steady() + HOLD, CONVERTS + converts) if converts and link else (0, "")
        return self._db.execute("UPDATE events SET due = ?, note = ?, link = ? WHERE call = ? AND note = ?"
                                " AND status = 'pending'", (due, note, link, call.id, HELD)).rowcount == 1

    def converting(self) -> list[tuple[Job, str]]:
        """The events that wait for the conversion of a file, with its name. They go as they are when HOLD is over."""
        return [(job, job.event.note[len(CONVERTS):]) for job in self.outbox(PENDING)
                if job.event.note.startswith(CONVERTS)]

    def converted(self, job: Job, link: str) -> None:
        """Deliver such an event now, with this link."""
        with self._writing():
            self._db.execute("UPDATE events SET due = 0, note = '', link = ? WHERE id = ? AND status = 'pending'"
                             " AND note = ?", (link, job.event.id, job.event.note))

    def _end(self, call: Call, kind: str, link: str = "", at: float | None = None) -> None:
        now = self.clock() if at is None else at
        if call.mode == calls.CONTROL and kind in (calls.CANCELED, calls.LOST) and self._told_transferred(call):
            # With report_transfer = ring Movidesk shows the call as transferred: only `completed` may follow that
            # ("canceledCall ... antes del método asterisk_transferedCall").
            kind = calls.COMPLETED
        if kind != calls.FINISHED:
            self._add_event(call, kind, now, link=link if kind in (calls.COMPLETED, calls.LOST) else "")
        elif link:  # all that Movidesk is told of a made call
            self._add_event(call, calls.LINK, now, link=link)
        self._db.execute("UPDATE calls SET state = ?, ended = ? WHERE id = ?", (kind, now, call.id))

    def _add_event(self, call: Call, kind: str, at: float, extension: str = "", link: str = "") -> None:
        self._db.execute("INSERT INTO events (call, kind, at, extension, link) VALUES (?, ?, ?, ?, ?)",
                         (call.id, kind, at, extension, link))

    def _told_link(self, call: Call) -> bool:
        return self._db.execute("SELECT 1 FROM events WHERE call = ? AND kind = 'link'", (call.id,)).fetchone() is not None

    def _told_transferred(self, call: Call, extension: str = "") -> bool:
        """Whether a `transferred` (the last one to this extension, if given) is on its way to Movidesk already."""
        row = self._db.execute("SELECT extension FROM events WHERE call = ? AND kind = 'transferred'"
                               " ORDER BY id DESC LIMIT 1", (call.id,)).fetchone()
        return row is not None and extension in ("", row[0])

    def answered(self, call: Call, extension: str, code: str, note: str, report: bool = False,
                 pace: tuple[float, float] = (6.0, 30.0)) -> None:
        """Movidesk answered receivedCall for this call: it is registered there, and offered to `extension` or waiting.

        extension and code are both empty where the answer made no sense: the call is registered, and waits.
        report: tell Movidesk of the transfer now, while the phone rings (report_transfer = ring). An answer that comes
        when the call has gone on only settles its arrival. pace: see line.after_answer.
        """
        state = calls.OFFERED if extension else calls.WAITING
        with self._writing():
            self._strike(False)
            self._settle_received(call, DELIVERED, note)
            if self.find(call.call_id).state in calls.BEFORE_AGENT:
                if extension and report and not self._told_transferred(call, extension):
                    self._add_event(call, calls.TRANSFERRED, self.clock(), extension)
                self._db.execute("UPDATE calls SET state = ?, extension = ?, code = ? WHERE id = ?",
                                 (state, extension, code, call.id))
            self._set_queue(line.after_answer(self._queue(call.queue), extension, code, self._taken(call.queue),
                                              self.steady(), pace))

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

    # -- the line ---------------------------------------------------------------------------------------------------

    def turn(self, call: Call, limit: int, script: bool = False, hold: float = 20.0) -> line.Turn:
        """Whether this caller asks Movidesk now, with the request claimed for it; else its place and when to look again.

        script: its looks are dear (line.look_again). hold: seconds for which its question may take. Being here keeps
        the caller's place for the wait that it is told and line.GRACE seconds.
        """
        with self._writing():
            now = self.steady()
            refused = self._rejoin(call, now)
            position = 1 + self._count(_WAITS + " AND queue = ? AND id < ?", now, call.queue, call.id)
            claim = klass = None
            queue = self._queue(call.queue)
            if position == 1:
                klass = line.request_class(queue, self._taken(call.queue), refused, now)
            if klass is not None:
                claim = self._claim(limit, klass, self._demand(now, queue, klass))
            if claim is not None and claim.granted:
                self._db.execute("UPDATE calls SET wants = 0, seen_until = ? WHERE id = ?", (now + hold, call.id))
                self._set_queue(queue._replace(asked=now))
                return line.Turn(claim.granted, 1, 0, "", "")
            until = claim.wait if claim else queue.asked + queue.pace - now
            wait = line.look_again(position, until, script)
            wants = 0 if klass is None else klass
            self._db.execute("UPDATE calls SET wants = ?, seen_until = ? WHERE id = ? AND (wants != ? OR seen_until < ?)",
                             (wants, now + wait + line.GRACE, call.id, wants, now + wait + line.GRACE / 2))
            code = "" if claim and claim.paused and claim.wait > WINDOW else queue.code
            return line.Turn(0, position, wait, code, claim.reason if claim else "")

    def _rejoin(self, call: Call, now: float) -> bool:
        """Put the caller (back) into its line; True where it comes from a phone that did not take it."""
        refused = call.state == calls.OFFERED
        if refused:
            self._db.execute("UPDATE calls SET state = 'waiting' WHERE id = ? AND state = 'offered'", (call.id,))
        elif call.state == calls.RECEIVED and not self._count(_WAITS + " AND queue = ?", now, call.queue):
            # An arrival at an empty line: it is news, whatever the last caller was told.
            self._set_queue(self._queue(call.queue)._replace(news=True, full=line.UNKNOWN))
        return refused

    def _queue(self, name: str) -> line.Queue:
        row = self._db.execute('SELECT name, asked, pace, news, "full", code FROM queues WHERE name = ?', (name,)).fetchone()
        return line.Queue(*row) if row else line.Queue(name)

    def _set_queue(self, queue: line.Queue) -> None:
        self._db.execute("REPLACE INTO queues VALUES (?, ?, ?, ?, ?, ?)", queue)

    def _taken(self, queue: str) -> int:
        """Agents who have a call of this queue as Movidesk sees it: also those whose call's end it has not heard yet."""
        return (self._count("ended IS NULL AND queue = ? AND state IN ('offered', 'transferred')", queue)
                + self._row(int, "SELECT count(*) FROM events JOIN calls ON calls.id = events.call"
                                 " WHERE events.status = 'pending' AND events.kind IN ('completed', 'canceled', 'lost')"
                                 " AND calls.queue = ? AND calls.extension != ''", queue))

    def _count(self, condition: str, *args) -> int:
        return self._db.execute("SELECT count(*) FROM calls WHERE " + condition, args).fetchone()[0]

    # -- the window of requests -------------------------------------------------------------------------------------

    def claim(self, limit: int) -> Claim:
        """Leave to send one request now, whoever else wants to, counted before it leaves; or how long to wait."""
        with self._writing():
            return self._claim(limit, budget.SCREEN, budget.Demand())

    def _claim(self, limit: int, klass: int, demand: budget.Demand, aged: bool = False) -> Claim:
        now = self.steady()
        closed = self._note("closed")
        if closed:
            left = float(closed[0].split()[0]) - now
            if left > 0:
                return Claim(0, left, "Movidesk asked for a pause (429)", True)
        self._db.execute("DELETE FROM requests WHERE at < ?", (now - 10 * WINDOW,))
        used, oldest = self._db.execute("SELECT count(*), min(at) FROM requests WHERE at > ?", (now - WINDOW,)).fetchone()
        if not budget.may_go(klass, limit - used, demand, limit, aged):
            return Claim(0, max(0.05, (oldest or now) + WINDOW - now), "%d requests were sent in the last minute" % used)
        number = self._db.execute("INSERT INTO requests (at, class) VALUES (?, ?)", (now, klass)).lastrowid
        return Claim(number, 0.0, "")

    def _demand(self, now: float, asker: line.Queue | None = None, klass: int = budget.HEAD) -> budget.Demand:
        """What wants a place now. For a head of this class only such heads count whose queues asked longer ago."""
        kinds = dict(self._db.execute(
            "SELECT kind, count(*) FROM events WHERE status = 'pending' AND due <= ? AND kind IN"
            " ('transferred', 'start_transferred', 'completed') AND NOT EXISTS (SELECT 1 FROM events AS earlier"
            " WHERE earlier.call = events.call AND earlier.id < events.id AND earlier.status = 'pending') GROUP BY kind",
            (now,)))
        waiting = self._count(_WAITS, now)
        heads = ("SELECT count(*) FROM calls LEFT JOIN queues ON queues.name = calls.queue"
                 " WHERE wants BETWEEN 1 AND ? AND " + _WAITS)
        if asker:
            wanting = self._row(int, heads + " AND queue != ? AND coalesce(asked, 0) < ?", klass, now, asker.name,
                                asker.asked)
        else:
            wanting = self._row(int, heads, budget.HEAD, now)
        return budget.Demand(kinds.get("transferred", 0) + kinds.get("start_transferred", 0), wanting,
                             kinds.get("completed", 0) if waiting else 0,
                             bool(waiting) or bool(self._count("ended IS NULL AND state = 'offered'")),
                             self._aged(now))

    def _aged(self, now: float) -> int:
        """1 where something that nobody waits for is due for the place that its patience has earned it."""
        last = self._db.execute("SELECT max(at) FROM requests WHERE class = ?", (budget.SLACK,)).fetchone()[0]
        if last is not None and now - last < budget.PATIENCE:
            return 0
        for row in self._candidates(now, slack_only=True):
            return int(self.clock() - Event(*row[:len(Event._fields)]).at >= budget.PATIENCE)
        return 0

    def took_long(self, request: int) -> None:
        """A request's answer was slow: nobody knows when Movidesk counted it, so it counts from now."""
        with self._writing():
            self._db.execute("UPDATE requests SET at = ? WHERE rowid = ?", (self.steady(), request))

    def close_window(self, seconds: float) -> None:
        """Send nothing for so many seconds, longer after repeated ones (budget.pause_after): Movidesk answered 429."""
        with self._writing():
            strikes = self._strike(True)
            self._set_note("closed", "%r %d" % (self.steady() + budget.pause_after(seconds, strikes), strikes))

    def _strike(self, refused: bool) -> int:
        """Count the 429s in a row; an answer ends the row."""
        closed = self._note("closed")
        if not refused and closed and float(closed[0].split()[0]) <= self.steady():
            self._db.execute("DELETE FROM notes WHERE name = 'closed'")
        return 1 + int(closed[0].split()[1]) if closed else 1

    def requests_in_window(self) -> int:
        return self._row(int, "SELECT count(*) FROM requests WHERE at > ?", self.steady() - WINDOW)

    # -- delivery ---------------------------------------------------------------------------------------------------

    def take(self, limit: int) -> tuple[Job | None, float | None]:
        """The next event to send, with the request claimed for it and the event leased to the caller.

        Returns (job, 0), or (None, seconds until another try makes sense), or (None, None) where nothing is pending.
        An arrival is left to the caller that asks for itself, until its call has ended; then it is registered late,
        when nobody waits in its queue, or all of that queue's agents are taken: it must not be given one.
        """
        with self._writing():
            now = self.steady()
            demand = self._demand(now)
            claim = None
            for row in self._candidates(now):
                event, call = Event(*row[:len(Event._fields)]), Call(*row[len(Event._fields):])
                klass = budget.event_class(event.kind, demand.anybody)
                claim = self._claim(limit, klass, demand, aged=klass == budget.SLACK and demand.aged)
                if claim.granted:
                    self._db.execute("UPDATE events SET due = ?, attempts = attempts + 1 WHERE id = ?",
                                     (now + LEASE, event.id))
                    return Job(event._replace(attempts=event.attempts + 1), call, claim.granted), 0.0
            if claim is not None:
                return None, claim.wait
            later = self._row(lambda due: due, "SELECT min(due) FROM events INDEXED BY events_pending"
                                               " WHERE status = 'pending' AND due > ?", now)
            return None, None if later is None else later - now

    def _candidates(self, now: float, slack_only: bool = False):
        """The most urgent event that is due, and the oldest of those that nobody waits for; each the first of its call."""
        first = ("SELECT %s, %s FROM events INDEXED BY events_pending JOIN calls ON calls.id = events.call"
                 " WHERE events.status = 'pending' AND events.due <= ?"
                 "   AND NOT EXISTS (SELECT 1 FROM events AS earlier WHERE earlier.call = events.call"
                 "                   AND earlier.id < events.id AND earlier.status = 'pending')"
                 "   AND NOT (events.kind = 'received' AND (calls.ended IS NULL OR EXISTS ("
                 "       SELECT 1 FROM calls AS live LEFT JOIN queues ON queues.name = live.queue"
                 "       WHERE live.queue = calls.queue AND live.ended IS NULL AND live.state IN ('received', 'waiting')"
                 "       AND live.seen_until > ? AND coalesce(news, 1) = 1)))" % (_EVENT, _CALL))
        if not slack_only:
            yield from self._db.execute(
                first + " ORDER BY CASE WHEN events.kind IN ('transferred', 'start_transferred') THEN 0"
                        " WHEN events.kind = 'completed' THEN 1 ELSE 2 END, events.id LIMIT 1", (now, now)).fetchall()
        yield from self._db.execute(
            first + " AND events.kind NOT IN ('transferred', 'start_transferred', 'completed')"
                    " ORDER BY events.id LIMIT 1", (now, now)).fetchall()

    def delivered(self, job: Job, note: str) -> None:
        """Movidesk took the event. Where it ends a call that had an agent, that agent is free: news for its line."""
        with self._writing():
            self._strike(False)
            self._settle(job, DELIVERED, note)
            if job.event.kind in calls.ENDED and job.call.extension:
                self._db.execute("UPDATE queues SET news = 1 WHERE name = ?", (job.call.queue,))

    def rejected(self, job: Job, why: str) -> None:
        """Set the event aside, visible and replayable; the later ones of its call go on."""
        with self._writing():
            self._settle(job, REFUSED, why)

    def _settle(self, job: Job, status: str, note: str) -> None:
        self._db.execute("UPDATE events SET status = ?, note = ?, settled = ? WHERE id = ?",
                         (status, note, self.clock(), job.event.id))

    def retry(self, job: Job, seconds: float, why: str) -> None:
        """Try the event again after so many seconds."""
        with self._writing():
            self._db.execute("UPDATE events SET due = ?, note = ? WHERE id = ?",
                             (self.steady() + seconds, why, job.event.id))

    def replay(self, event_id: int) -> bool:
        """Send a refused event once more; False where there is no such event."""
        with self._writing():
            return self._db.execute("UPDATE events SET status = 'pending', due = 0, settled = NULL"
                                    " WHERE id = ? AND status = 'refused'", (event_id,)).rowcount == 1

    def prune(self, keep_days: float, batch: int = 100) -> int:
        """Forget calls that ended more than keep_days ago and owe nothing; returns how many, at most `batch`."""
        with self._writing():
            return self._db.execute(
                "DELETE FROM calls WHERE id IN (SELECT id FROM calls WHERE ended < ? AND NOT EXISTS"
                " (SELECT 1 FROM events WHERE events.call = calls.id AND events.status != 'delivered')"
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
        return self._rows(Call, "SELECT %s FROM calls INDEXED BY calls_open WHERE ended IS NULL ORDER BY id" % _CALL)

    def unended(self) -> list[Call]:
        """The calls that a hangup would still move: those without an ending, and those whose ending waits for a message."""
        return self._rows(Call, "SELECT %s FROM calls INDEXED BY calls_open WHERE ended IS NULL UNION"
                                " SELECT %s FROM events INDEXED BY events_pending JOIN calls ON calls.id = events.call"
                                " WHERE status = 'pending' AND note = ?" % (_CALL, _CALL), HELD)

    def last_calls(self, count: int) -> list[Call]:
        return self._rows(Call, "SELECT %s FROM calls ORDER BY id DESC LIMIT ?" % _CALL, count)

    def events(self, call: Call) -> list[Event]:
        return self._rows(Event, "SELECT %s FROM events WHERE call = ? ORDER BY id" % _EVENT, call.id)

    def outbox(self, status: str, count: int = 1000) -> list[Job]:
        """The events that are pending or refused, oldest first."""
        split = len(Event._fields)
        return self._rows(lambda *row: Job(Event(*row[:split]), Call(*row[split:])),
                          "SELECT %s, %s FROM events INDEXED BY events_%s JOIN calls ON calls.id = events.call WHERE status = '%s'"
                          " ORDER BY events.id LIMIT ?" % (_EVENT, _CALL, status, status), count)

    def waiting(self) -> list[Call]:
        """Who stands in line now, of all queues, in order of arrival."""
        return self._rows(Call, "SELECT %s FROM calls INDEXED BY calls_open WHERE %s ORDER BY id" % (_CALL, _WAITS), self.steady())

    def totals(self) -> dict[str, int]:
        """How many calls are open, and how many events are pending and refused."""
        one = lambda sql: self._row(int, sql)  # noqa: E731
        return {
            "open": one("SELECT count(*) FROM calls WHERE ended IS NULL"),
            "pending": one("SELECT count(*) FROM events WHERE status = 'pending'"),
            "refused": one("SELECT count(*) FROM events WHERE status = 'refused'"),
        }


def _begin_as_the_folders_owner(path: str) -> None:
    """Where root opens a journal that is not there (an admin looks before the first call), it becomes Asterisk's all the
    same, as its folder is. SQLite then gives the files beside it to the same owner."""
    if os.geteuid() != 0 or not os.path.isabs(path):
        return
    try:
        file = os.open(path, os.O_CREAT | os.O_EXCL, 0o644)
    except OSError:
        return  # it exists, or cannot: SQLite says why
    folder = os.stat(os.path.dirname(path))
    os.fchown(file, folder.st_uid, folder.st_gid)
    os.close(file)


def _boot_id() -> str:
    """What tells one boot of this machine from the next; '' where the kernel does not say."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""


def set_aside(path: str) -> str | None:
    """Rename a damaged journal, so that a fresh one can begin; returns its new name, None where another process did.

    Processes that find the damage at once take turns, and look again before they touch the file.
    """
    import fcntl

    with open(path + ".lock", "a", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            Journal(path).check()
            return None
        except JournalError as error:
            if not error.damaged:
                raise
        kept = "%s.damaged-%s" % (path, time.strftime("%Y%m%d-%H%M%S"))
        for suffix in ("", "-wal", "-shm"):
            if os.path.exists(path + suffix):
                os.rename(path + suffix, kept + suffix)
        return kept
