"""The journal's file: opening it, transactions, and the two clocks."""

from __future__ import annotations

import os
import sqlite3
import time
from _thread import RLock, get_ident  # those of threading, whose other parts cost each script half a millisecond

from movidesk import sleep
from movidesk.journal.records import BOUNDS, CONVERTING, CONVERTS, HELD_NOTE, HOLD, MOST_QUEUES, OTHER
from movidesk.rules.rate_limit import WINDOW

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Any, TypeVar

    Row = TypeVar("Row")

SCHEMA = 13           # of the file that this version writes: the number of schema.MIGRATIONS, which few processes need
CHECKPOINT = 128      # pages of the log after which it is written into the file: half a megabyte, for small disks
BUSY_TIMEOUT = 2.0   # seconds to wait for other writes, in this process and others: a caller's answer may wait for them
ONE_TRY = 0.02       # seconds of them that SQLite waits, and this process's other threads with it
PAUSE = 0.005        # seconds between two tries


class JournalError(Exception):
    """The journal cannot be used; the text names its path, the reason and what to do. damaged: its content is corrupt."""

    def __init__(self, text: str, damaged: bool = False):
        super().__init__(text)
        self.damaged = damaged


class Store:
    """An open journal file, usable from any number of threads; any number of processes may open the same file.

    clock: epoch seconds, for what is reported. steady: the monotonic clock, the same for all processes of a machine, for
    intervals and deadlines (the window, leases, retries). If only a clock is given it serves for both. Every method raises
    JournalError if the file cannot be used.

    Values go into statements by name: `value("SELECT ... WHERE id = :id", id=5)`.
    """

    def __init__(self, path: str, clock: Callable[[], float] = time.time, steady: Callable[[], float] | None = None):
        self.path = path
        self.clock = clock
        self.steady = steady or (time.monotonic if clock is time.time else clock)
        self._lock = RLock()
        self._writer = 0  # the thread that is in a transaction
        self._observed: list[tuple[str, str, str, float | None, int]] = []  # outside of transactions: the next one writes it
        _begin_as_the_folders_owner(path)
        try:
            self.connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT, isolation_level=None, check_same_thread=False)
            self.connection.execute("PRAGMA synchronous = FULL")
            self.connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT}")
            self.connection.execute("PRAGMA foreign_keys = ON")
            if self.connection.execute("PRAGMA user_version").fetchone()[0] != SCHEMA:
                self._migrate()
            self._begin_boot()
            self.connection.execute(f"PRAGMA busy_timeout = {1000 * ONE_TRY:.0f}")
        except sqlite3.Error as error:
            raise self._unusable(error) from None

    def close(self) -> None:
        """Close the file. Nothing else may use the store after that."""
        with self._lock:
            self.connection.close()

    def check(self) -> None:
        """Read the whole file once. Raises JournalError where it is damaged."""
        found: str = self.value("PRAGMA quick_check(1)")
        if found != "ok":
            raise self._unusable(sqlite3.DatabaseError("malformed: " + found))

    # -- statements -------------------------------------------------------------------------------------------------

    def transaction(self) -> Transaction:
        """`with store.transaction():` holds the write lock from its start, so that what is read in it stays true.

        It commits at its end, and undoes everything where an exception leaves it. Transactions do not nest.
        """
        return Transaction(self)

    def execute(self, sql: str, **values: object) -> sqlite3.Cursor:
        """Run one statement. Within a transaction."""
        return self.connection.execute(sql, values)

    def insert(self, sql: str, **values: object) -> int:
        """Run one INSERT; returns the number of its row. Within a transaction."""
        number = self.execute(sql, **values).lastrowid
        assert number is not None, sql
        return number

    def rows(self, make: Callable[..., Row], sql: str, **values: object) -> list[Row]:
        """What the query finds: make(*row) for each row."""
        if self._writer == get_ident():
            return [make(*row) for row in self.connection.execute(sql, values)]
        return self._patiently(lambda: [make(*row) for row in self.connection.execute(sql, values)])

    def tuples(self, sql: str, **values: object) -> list[tuple[Any, ...]]:
        """What the query finds, as SQLite gives it: for queries with very many rows."""
        return self._patiently(lambda: self.connection.execute(sql, values).fetchall())

    def row(self, make: Callable[..., Row], sql: str, **values: object) -> Row | None:
        """make(*row) for the first row that the query finds, or None."""
        rows = self.rows(make, sql, **values)
        return rows[0] if rows else None

    def value(self, sql: str, **values: object) -> Any:  # what a column holds only its query says
        """The first column of the first row that the query finds, or None."""
        if self._writer == get_ident():
            found = self.connection.execute(sql, values).fetchone()
            return None if found is None else found[0]
        return self.row(lambda value, *_: value, sql, **values)

    def count(self, sql: str, **values: object) -> int:
        """The number that a `SELECT count(...)` finds."""
        return int(self.value(sql, **values))

    def _begin(self) -> None:
        """Begin a transaction. The lock is acquired once more: Transaction.__exit__ releases it, `_patiently` its own."""
        self.connection.execute("BEGIN IMMEDIATE")
        self._lock.acquire()
        self._writer = get_ident()

    def _patiently(self, action: Callable[[], Row]) -> Row:
        """The result of action(), which is repeated while another program holds the file's lock. The whole wait, also for other
        threads of this process, is BUSY_TIMEOUT at most; between two tries the other threads can read."""
        give_up = time.monotonic() + BUSY_TIMEOUT
        while True:
            if not self._lock.acquire(timeout=max(0.0, give_up - time.monotonic())):
                raise self._unusable(sqlite3.OperationalError("database is locked"))
            try:
                return action()
            except sqlite3.Error as error:
                if "locked" not in str(error) or self.connection.in_transaction or time.monotonic() >= give_up:
                    raise self._unusable(error) from None
            finally:
                self._lock.release()
            sleep(PAUSE)

    def _unusable(self, error: sqlite3.Error) -> JournalError:
        from movidesk.messages import _  # here, because each script imports this module

        folder = os.path.dirname(self.path) or "."
        damaged = names_damage(str(error))
        if not os.path.isdir(folder):
            advice = _("the folder {folder} does not exist: create it, owned by Asterisk's user")
        elif os.statvfs(folder).f_flag & os.ST_RDONLY:
            advice = _("its disk is mounted read-only: see dmesg for why, and mount it read-write")
        elif not os.access(folder, os.W_OK | os.X_OK):
            advice = _("the folder {folder} is not writable for this user: give it to Asterisk's user")
        elif damaged:
            advice = _("the file is damaged: move it aside (keep it), a fresh one is made at once")
        elif os.statvfs(folder).f_bavail == 0:
            advice = _("its disk is full: free some space")
        elif "locked" in str(error):
            advice = _("another program holds its lock: find it with fuser {path}")
        else:
            advice = _("see [journal] path in movidesk.conf")
        return JournalError(_("journal {path}: {error}; {advice}").format(
            path=self.path, error=error, advice=advice.format(folder=folder, path=self.path)), damaged)

    def _migrate(self) -> None:
        """Bring the file to this version's schema. Each step commits together with its own number."""
        from movidesk.journal.schema import MIGRATIONS, statements

        self._use_wal()
        for number, script in enumerate(MIGRATIONS, 1):
            with self.transaction():
                version = self.count("PRAGMA user_version")
                if version > len(MIGRATIONS):
                    raise JournalError(f"journal {self.path}: written by a newer movidesk-agi (schema {version}, this one knows "
                                       f"{len(MIGRATIONS)}): upgrade, or restore the backup made before")
                if version < number:
                    for statement in statements(script):
                        self.execute(statement)
                    self.execute(f"PRAGMA user_version = {number}")

    def _use_wal(self) -> None:
        """Switch the file to WAL. Where two processes begin one file at once SQLite fails here; elsewhere it waits."""
        give_up = time.monotonic() + BUSY_TIMEOUT
        while True:
            try:
                self.connection.execute("PRAGMA journal_mode = WAL")
                return
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() > give_up:
                    raise
                sleep(0.01)

    def _begin_boot(self) -> None:
        """Make steady times of an earlier boot harmless: that clock began anew.

        Requests count as if the last one was sent now, a pause lasts another minute, retries are due, the old line and the failed
        tries are gone.
        """
        boot = _boot_id()
        known = self.note("boot")
        if known and known[0] == boot:
            return
        with self.transaction():
            known = self.note("boot")
            if known and known[0] == boot:
                return
            self.set_note("boot", boot)
            if known:
                self._forget_steady_times()

    def _forget_steady_times(self) -> None:
        now = self.steady()
        # Redis knows of those that it has granted ('-': and that they are over); the others are reported to it.
        self.execute("UPDATE requests SET at = at + :now - (SELECT max(at) FROM requests), called = 0, finished = 0,"
                     " grant_id = CASE grant_id WHEN '' THEN '' ELSE '-' END", now=now)
        self.execute(f"UPDATE events SET due = 0 WHERE status = 'pending' AND due > 0 AND NOT ({HELD_NOTE})")
        self.execute("UPDATE events SET due = :until, note = replace(note, :converting, :converts)"
                     f" WHERE status = 'pending' AND {HELD_NOTE}", until=now + HOLD, converting=CONVERTING, converts=CONVERTS)
        self.execute("UPDATE calls SET seen_until = 0, wants = 0, aside_until = 0, asks_until = 0, rank = 0, place = 0,"
                     " rings_since = 0 WHERE ended IS NULL")
        for table in ("queues", "shared_queues", "elsewhere", "waits", "speeds", "members", "refusals", "trials", "outcomes"):
            self.execute(f"DELETE FROM {table}")
        self.execute("DELETE FROM notes WHERE name IN ('taken', 'lowered', 'closed_cause', 'fleet_alone')")
        if self.note("closed"):
            self.set_note("closed", f"{now + WINDOW!r} 1")

    # -- counters (movidesk.journal.counters) -----------------------------------------------------------------------

    def observe(self, name: str, label: str = "", queue: str = "", seconds: float | None = None, times: int = 1) -> None:
        """Count that something happened (records.py has the names). seconds: how long it took, if that is of interest.

        Outside of a transaction, this process's next one writes it: counting costs no commit of its own (see `flush`).
        """
        if self._writer == get_ident():
            self._count(name, label, queue, seconds, times)
        else:
            self._observed.append((name, label, queue, seconds, times))

    def flush(self) -> None:
        """Write now what was observed outside of transactions."""
        if self._observed:
            with self.transaction():
                pass

    def add_count(self, name: str, queue: str, label: str, bucket: float, count: int, seconds: float) -> None:
        """Add to a counter. After the first MOST_QUEUES further queues count as one. Within a transaction."""
        values = {"name": name, "queue": queue, "label": label, "bucket": bucket, "count": count, "seconds": seconds}
        if self.execute("UPDATE counters SET count = count + :count, seconds = seconds + :seconds"
                        " WHERE name = :name AND queue = :queue AND label = :label AND bucket = :bucket", **values).rowcount:
            return
        too_many = "SELECT count(DISTINCT queue) >= :most AND sum(queue = :queue) = 0 FROM counters"
        if queue not in ("", OTHER) and self.value(too_many, most=MOST_QUEUES, queue=queue):
            self.add_count(name, OTHER, label, bucket, count, seconds)
            return
        self.execute("INSERT INTO counters (name, queue, label, bucket, count, seconds)"
                     " VALUES (:name, :queue, :label, :bucket, :count, :seconds)", **values)

    def _count(self, name: str, label: str, queue: str, seconds: float | None, times: int) -> None:
        bucket = 0.0 if seconds is None else next(bound for bound in BOUNDS if seconds <= bound)
        self.add_count(name, queue, label, bucket, times, (seconds or 0.0) * times)

    def _write_observed(self) -> int:
        """Count what was observed outside of transactions; returns how much that is. Within a transaction."""
        observed = list(self._observed)  # other threads add to it
        for one in observed:
            self._count(*one)
        return len(observed)

    # -- notes, which the store itself needs (movidesk.journal.notes) ------------------------------------------------

    def note(self, name: str) -> tuple[str, float] | None:
        """A named note and when it was written (epoch seconds), or None."""
        return self.row(_note, "SELECT value, at FROM notes WHERE name = :name", name=name)

    def set_note(self, name: str, value: str) -> None:
        """Write a note. Within a transaction."""
        self.execute("REPLACE INTO notes (name, value, at) VALUES (:name, :value, :at)", name=name, value=value, at=self.clock())

    def remove_note(self, name: str) -> None:
        """Remove a note, if it stands. Within a transaction."""
        self.execute("DELETE FROM notes WHERE name = :name", name=name)


class Transaction:
    """See Store.transaction. (A class, because contextlib costs each script half a millisecond.)"""

    def __init__(self, store: Store):
        self._store = store

    def __enter__(self) -> Store:
        self._store._patiently(self._store._begin)
        return self._store

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 traceback: TracebackType | None) -> None:
        connection = self._store.connection
        try:
            try:
                if kind is None:
                    written = self._store._write_observed() if self._store._observed else 0
                    connection.execute("COMMIT")
                    del self._store._observed[:written]
            finally:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
        except sqlite3.Error as failed:
            raise self._store._unusable(failed) from None
        finally:
            self._store._writer = 0
            self._store._lock.release()
        if isinstance(error, sqlite3.Error):
            raise self._store._unusable(error) from None


def names_damage(text: str) -> bool:
    """Whether an error of SQLite, or a text with it, says that the file is damaged."""
    return "malformed" in text or "not a database" in text


def _note(value: str, at: float) -> tuple[str, float]:
    return value, at


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
