"""Recovery from a damaged journal: rename it, create a new one, and copy the unfinished calls that can still be read."""

from __future__ import annotations

import glob
import os
import sqlite3
import time
from contextlib import contextmanager

from movidesk import file_lock
from movidesk.journal import PENDING, REFUSED, Call, Event, Journal, JournalError
from movidesk.journal.records import CALL, EVENT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import TypeVar

    Row = TypeVar("Row")


def set_aside(path: str, clock: Callable[[], float] = time.time, timeout: float | None = None) -> tuple[str, int] | None:
    """Rename a damaged journal, and copy the calls that are not completely reported to a new one.

    Returns the new name of the damaged file and the number of calls copied; None if another process has done it: processes that
    find the damage at the same time wait for each other and check the file again. Raises JournalError, also if another process
    takes longer than `timeout` seconds (default: file_lock.TIMEOUT), and OSError.
    """
    with _alone(path, timeout):
        try:
            Journal(path, clock).store.check()
            return None
        except JournalError as error:
            if not error.damaged:
                raise
        kept = f"{path}.damaged-{time.strftime('%Y%m%d-%H%M%S')}"
        for suffix in ("", "-wal", "-shm"):
            if os.path.exists(path + suffix):
                os.rename(path + suffix, kept + suffix)
        fresh = Journal(path, clock)
        try:
            return kept, fresh.calls.take_over(_unfinished(kept))
        finally:
            fresh.close()


@contextmanager
def _alone(path: str, timeout: float | None) -> Iterator[None]:
    with open(path + ".lock", "a", encoding="ascii") as lock:
        try:
            file_lock.lock(lock, timeout=timeout)
        except TimeoutError as error:
            raise JournalError(f"journal {path}: damaged, and {error} while it creates a new one; find a frozen process with "
                               f"fuser {lock.name}") from None
        yield


def kept_aside(path: str) -> list[tuple[str, float]]:
    """The damaged journals beside this one, and when (epoch seconds) each was last written."""
    found = []
    for name in sorted(glob.glob(glob.escape(path) + ".damaged-*")):
        try:
            if not name.endswith(("-wal", "-shm")):
                found.append((name, os.stat(name).st_mtime))
        except FileNotFoundError:
            continue  # the admin has just moved it away
    return found


def _unfinished(path: str) -> list[tuple[Call, list[Event]]]:
    """The calls of a damaged file that are open or have undelivered events, with all their events, as far as they can be read.

    Reading a table ends at a damaged page. So each table is read from both ends, to find the rows on both sides of it.
    """
    file = sqlite3.connect(path)
    try:
        calls: dict[int, Call] = {}
        events: dict[int, Event] = {}
        for order in ("ASC", "DESC"):
            _walk(file, calls, Call, f"SELECT {CALL} FROM calls ORDER BY id {order}")
            _walk(file, events, Event, f"SELECT {EVENT} FROM events ORDER BY id {order}")
    finally:
        file.close()
    told: dict[int, list[Event]] = {}
    for _, event in sorted(events.items()):
        told.setdefault(event.call, []).append(event)
    return [(call, told.get(number, [])) for number, call in sorted(calls.items())
            if call.ended is None or any(event.status in (PENDING, REFUSED) for event in told.get(number, []))]


def _walk(file: sqlite3.Connection, found: dict[int, Row], make: Callable[..., Row], sql: str) -> None:
    try:
        for row in file.execute(sql):
            found[row[0]] = make(*row)
    except (sqlite3.Error, TypeError):  # TypeError: rows with other columns
        return
