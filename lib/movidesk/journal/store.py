"""The journal's file: its migration, transactions, and the two clocks."""

from __future__ import annotations

import os
import sqlite3
import time
from _thread import RLock, allocate_lock  # that of threading, whose other parts cost each script half a millisecond
from collections import namedtuple
from contextlib import contextmanager

from movidesk.journal.schema import MIGRATIONS, statements
from movidesk.rules.rate_limit import WINDOW

LEASE = 60.0         # seconds for which an event handed out belongs to its taker
HOLD = 3600.0        # seconds for which an event waits for its message or conversion, at most
ASKED = "asked, not answered"  # the note of an arrival whose question left: Movidesk may have heard it
HELD = "waits for the caller's message"
CONVERTS = "waits until this is converted: "  # and the file's name
CONVERTING = "waits while this is converted: "
HELD_NOTE = "note >= 'waits' AND note < 'waitt'"  # one of the three, as a condition; that of the index events_held
BUSY_TIMEOUT = 2.0   # seconds to wait for other writes, in this process and others: a caller's answer may wait for them
ONE_TRY = 0.02       # seconds of them that SQLite waits, and this process's other threads with it
PAUSE = 0.005        # seconds between two tries

PENDING, DELIVERED, REFUSED = "pending", "delivered", "refused"
DISMISSED = "dismissed"  # refused, and an admin has given it up


class JournalError(Exception):
    """The journal cannot be used; the text names its path, the reason and what to do. damaged: the file is no good."""

    def __init__(self, text: str, damaged: bool = False):
        super().__init__(text)
        self.damaged = damaged


#: uniqueid: of the channel on which the call began, of which its id is made. channel: of the one that it is on since an
#: attended transfer; '' while that is the same.
Call = namedtuple("Call", "id call_id uniqueid mode state queue number extension code arrived ended channel", defaults=("",))
Event = namedtuple("Event", "id call kind at extension link status attempts due note settled")
#: An event with the call it belongs to; handed out for delivery, also the number of the request claimed for it.
Job = namedtuple("Job", "event call request", defaults=(0,))
#: What `record` did: the call (None where there is none) and the event's kind, or None with the reason why not.
Recorded = namedtuple("Recorded", "call kind reason")
#: Permission to send a request (granted: its number), or the seconds until asking again makes sense, and why; paused: because
#: of a pause (Limits.paused).
Claim = namedtuple("Claim", "granted wait reason paused", defaults=(False,))

CALL = ", ".join("calls." + field for field in Call._fields)
EVENT = ", ".join("events." + field for field in Event._fields)
#: Who stands in a line, as a condition on calls; takes the steady time.
WAITS = "ended IS NULL AND state IN ('received', 'waiting') AND calls.code NOT IN ('0', '1', '2') AND seen_until > ?"
#: Who of them asks before those behind: not one whose own questions fail (Trials.question_failed). Takes that time twice.
COMES_FIRST = WAITS + " AND aside_until <= ?"


class Store:
    """An open journal file: see Journal."""

    def __init__(self, path: str, clock=time.time, steady=None):
        self.path = path
        self.clock = clock
        self.steady = steady or (time.monotonic if clock is time.time else clock)
        self._lock = RLock()
        _begin_as_the_folders_owner(path)
        try:
            self._db = sqlite3.connect(path, timeout=BUSY_TIMEOUT, isolation_level=None, check_same_thread=False)
            self._db.execute("PRAGMA synchronous = FULL")
            self._db.execute("PRAGMA foreign_keys = ON")
            if self._db.execute("PRAGMA user_version").fetchone()[0] != len(MIGRATIONS):
                self._migrate()
            self._begin_boot()
            self._db.execute(f"PRAGMA busy_timeout = {int(1000 * ONE_TRY)}")
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
            advice = f"the folder {folder} does not exist: create it, owned by Asterisk's user"
        elif os.statvfs(folder).f_flag & os.ST_RDONLY:
            advice = "its disk is mounted read-only: see dmesg for why, and mount it read-write"
        elif not os.access(folder, os.W_OK | os.X_OK):
            advice = f"the folder {folder} is not writable for this user: give it to Asterisk's user"
        elif damaged:
            advice = "the file is damaged: move it aside (keep it), a fresh one is made at once"
        elif os.statvfs(folder).f_bavail == 0:
            advice = "its disk is full: free some space"
        elif "locked" in str(error):
            advice = f"another program holds its lock: find it with fuser {self.path}"
        else:
            advice = "see [journal] path in movidesk.conf"
        return JournalError(f"journal {self.path}: {error}; {advice}", damaged)

    def _migrate(self) -> None:
        """Bring the schema to this version. Each step commits together with its own number."""
        self._use_wal()
        for number, script in enumerate(MIGRATIONS, 1):
            with self._writing():
                version = self._db.execute("PRAGMA user_version").fetchone()[0]
                if version > len(MIGRATIONS):
                    raise JournalError(f"journal {self.path}: written by a newer movidesk-agi (schema {version}, this one "
                                       f"knows {len(MIGRATIONS)}): upgrade, or restore the backup made before")
                if version < number:
                    for statement in statements(script):
                        self._db.execute(statement)
                    self._db.execute(f"PRAGMA user_version = {number}")

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
                _nap(0.01)

    def _begin_boot(self) -> None:
        """Make steady times of an earlier boot harmless: that clock began anew.

        Requests count as sent now, a pause lasts another minute, retries are due, the old line and the failed tries are gone.
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
                self._db.execute(f"UPDATE events SET due = 0 WHERE status = 'pending' AND due > 0 AND NOT ({HELD_NOTE})")
                self._db.execute("UPDATE events SET due = ?, note = replace(note, ?, ?) WHERE status = 'pending' "
                                 "AND " + HELD_NOTE,
                                 (now + HOLD, CONVERTING, CONVERTS))
                self._db.execute("UPDATE calls SET seen_until = 0, wants = 0, aside_until = 0 WHERE ended IS NULL")
                for table in ("queues", "members", "refusals", "trials", "outcomes"):
                    self._db.execute("DELETE FROM " + table)
                self._db.execute("DELETE FROM notes WHERE name IN ('taken', 'lowered', 'closed_cause')")
                if self._note("closed"):
                    self._set_note("closed", f"{now + WINDOW!r} 1")

    @contextmanager
    def _writing(self):
        """One transaction that holds the write lock from its start, so that what is read in it stays true."""
        self._patiently(self._open_transaction)
        try:
            try:
                yield self._db
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise
        except sqlite3.Error as error:
            raise self._unusable(error) from None
        finally:
            self._lock.release()

    def _open_transaction(self) -> None:
        """Begin a transaction, and keep this process's lock until its end."""
        self._db.execute("BEGIN IMMEDIATE")
        self._lock.acquire()

    def _patiently(self, action):
        """What action() returns; tried again while another program holds the file's lock. All that this waits for, the other
        threads of this process too, is BUSY_TIMEOUT at most; between two tries the other threads read."""
        give_up = time.monotonic() + BUSY_TIMEOUT
        while True:
            if not self._lock.acquire(timeout=max(0.0, give_up - time.monotonic())):
                raise self._unusable(sqlite3.OperationalError("database is locked"))
            try:
                return action()
            except sqlite3.Error as error:
                if "locked" not in str(error) or self._db.in_transaction or time.monotonic() >= give_up:
                    raise self._unusable(error) from None
            finally:
                self._lock.release()
            _nap(PAUSE)

    def _rows(self, make, sql: str, *args) -> list:
        return self._patiently(lambda: [make(*row) for row in self._db.execute(sql, args)])

    def _row(self, make, sql: str, *args):
        rows = self._rows(make, sql, *args)
        return rows[0] if rows else None

    def _count(self, condition: str, *args) -> int:
        return self._db.execute("SELECT count(*) FROM calls WHERE " + condition, args).fetchone()[0]

    def _note(self, name: str):
        return self._db.execute("SELECT value, at FROM notes WHERE name = ?", (name,)).fetchone()

    def _set_note(self, name: str, value: str) -> None:
        self._db.execute("REPLACE INTO notes (name, value, at) VALUES (?, ?, ?)", (name, value, self.clock()))

    def note(self, name: str) -> tuple[str, float] | None:
        """A named note and when it was written, or None."""
        return self._row(lambda value, at: (value, at), "SELECT value, at FROM notes WHERE name = ?", name)

    def set_note(self, name: str, value: str) -> None:
        with self._writing():
            self._set_note(name, value)


def _nap(seconds: float) -> None:
    """Sleep as threads that wait for a lock do: under libfaketime, with which bench/faults.py sets clocks, time.sleep fails."""
    never = allocate_lock()
    never.acquire()
    never.acquire(timeout=seconds)


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
