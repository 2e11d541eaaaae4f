"""The standby: a second journal in memory, used while the journal cannot be used (disk full, read-only, locked, no folder).

Callers still reach agents, in order and within the limit. It is the same code with another file, in our own folder below
[journal] standby, which the service and the scripts share. Its events are also in the emergency file (movidesk.agi.runner),
because memory does not survive a reboot.

    begin   a process finds the journal unusable; it copies what can be read: open calls, places in line, the last requests
    use     under a shared lock
    end     a process finds the journal usable again and the lock free; it copies everything back, also what was delivered
"""

from __future__ import annotations

import os
import time
from contextlib import ExitStack, closing, contextmanager, suppress

from movidesk import file_lock
from movidesk.journal import Journal, JournalError, standby_folder
from movidesk.journal.records import STANDBY
from movidesk.journal.store import names_damage

READ_TIMEOUT = 1.0  # seconds that a look at the standby waits while it begins or ends
RETURN_EVERY = 5.0  # seconds between two tries of scripts to return to the journal: each may take journal.BUSY_TIMEOUT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import IO, Protocol, TypeVar

    from movidesk.config import Config
    from movidesk.fleet.membership import Membership

    class Owner(Protocol):
        """What the standby needs of a movidesk.context.Context."""

        config: Config
        clock: Callable[[], float]
        is_script: bool

        @property
        def journal(self) -> Journal: ...

        def limit(self) -> int: ...

        def member(self, steady: Callable[[], float]) -> Membership | None: ...

        def set_aside(self) -> None: ...

        def with_journal(self: AnyOwner, journal: Journal) -> AnyOwner: ...

    AnyOwner = TypeVar("AnyOwner", bound=Owner)


def reason(config: Config) -> str:
    """Why the journal cannot be used: the reason with which the standby began."""
    try:
        with open(os.path.join(standby_folder.folder(config), "lock"), encoding="utf-8") as lock:
            return lock.read() or "the journal cannot be used"
    except OSError as error:
        return str(error)


@contextmanager
def _locked(config: Config, exclusively: bool, timeout: float | None = None) -> Iterator[IO[str]]:
    """Hold the standby's lock; yields its file. Raises OSError if it cannot be created, or is not free in time."""
    own = standby_folder.folder(config)
    try:
        os.mkdir(own, 0o700)
    except FileExistsError:
        about = os.lstat(own)
        if not os.path.isdir(own) or os.path.islink(own) or about.st_uid != os.geteuid() or about.st_mode & 0o077:
            raise PermissionError(f"{own} belongs to another user or is not a private folder") from None
    with open(os.path.join(own, "lock"), "a+", encoding="utf-8") as lock:
        file_lock.lock(lock, exclusively, timeout)
        yield lock


@contextmanager
def not_beginning(config: Config) -> Iterator[None]:
    """While this is held no standby can begin. Otherwise a standby could copy an event that is handed out meanwhile, and both
    would send it.

    Raises TimeoutError while one begins or ends. Does nothing if no standby can be created here.
    """
    with ExitStack() as held:
        try:
            held.enter_context(_locked(config, exclusively=False, timeout=0.0))
        except TimeoutError:
            raise
        except OSError:
            pass  # movidesk check reports it, and the service at its start
        yield


@contextmanager
def use(context: AnyOwner, why: str) -> Iterator[AnyOwner]:
    """A context that uses the standby. Begins the standby if necessary, for the reason `why`.

    Raises OSError or JournalError if the standby cannot be used either.
    """
    while True:
        with _locked(context.config, exclusively=False):
            if standby_folder.in_use(context.config):
                with closing(Journal(standby_folder.journal(context.config), context.clock, member=context.member)) as book:
                    yield context.with_journal(book)
                return
        with _locked(context.config, exclusively=True) as lock:
            if not standby_folder.in_use(context.config):
                _begin(context)
                lock.truncate(0)
                lock.write(why)


@contextmanager
def to_read(config: Config) -> Iterator[Journal | None]:
    """The standby, for a look at it; None if it is not in use. It does not end meanwhile.

    Raises JournalError, OSError; TimeoutError while it begins or ends.
    """
    if not standby_folder.in_use(config):
        yield None
        return
    with _locked(config, exclusively=False, timeout=READ_TIMEOUT):
        if not standby_folder.in_use(config):
            yield None
            return
        with closing(Journal(standby_folder.journal(config))) as book:
            yield book


def _begin(context: Owner) -> None:
    from movidesk.journal import standby_copy

    begun = standby_folder.journal(context.config) + ".new"
    _remove(begun)               # left by a process that was killed while it began a standby
    _remove(standby_folder.journal(context.config))  # or ended one: SQLite would use an old -wal with the new file
    with closing(Journal(begun, context.clock)) as book:
        book.store.observe(STANDBY)
        limit, member = context.limit(), context.member(book.store.steady)
        if member is not None:  # Redis knows what it has granted; the PBX alone sends its part at most
            limit = max(1, member.part(limit))
        standby_copy.begin(context.config["journal", "path"], book.store, limit)
    os.rename(begun, standby_folder.journal(context.config))


def _remove(path: str) -> None:
    """Remove a journal's files. After the first one, in_use returns False."""
    for suffix in "", "-wal", "-shm":
        if os.path.exists(path + suffix):
            os.unlink(path + suffix)


def end(context: Owner) -> bool:
    """Return to the journal if it can be used again. True: the journal is in use; False: another process still uses the standby.

    A damaged journal is set aside first. Raises JournalError while the journal cannot be used, OSError if the standby cannot be
    removed.
    """
    if not standby_folder.in_use(context.config):
        return True
    try:
        if names_damage(reason(context.config)):  # of a page that the merge may not need
            context.set_aside()
        return _merge(context)
    except JournalError as error:
        if not error.damaged:
            raise
        context.set_aside()
        return _merge(context)


def _merge(context: Owner) -> bool:
    """Copy the standby back to the journal and remove it; False if another process uses it."""
    from movidesk.journal import standby_merge

    context.journal.notes.set("standby", "")  # before the lock: this is slow if another program locks the journal
    try:
        with _locked(context.config, exclusively=True, timeout=0.0):
            if standby_folder.in_use(context.config):
                standby_merge.merge(standby_folder.journal(context.config), context.journal.store)
                _remove(standby_folder.journal(context.config))
    except TimeoutError:
        return False
    return True


def leave_if_possible(context: Owner) -> None:
    """Called before a verb while the standby is in use. Raises JournalError, with the reason, unless the standby could be ended.

    A script tries to end it every RETURN_EVERY seconds. In the service a thread does, so that no verb waits.
    """
    tried = os.path.join(standby_folder.folder(context.config), "tried")
    try:
        if context.is_script and not 0.0 <= time.time() - _time_of(tried) < RETURN_EVERY and end(context):
            return
    except JournalError as error:
        with suppress(OSError), open(tried, "ab"):
            os.utime(tried)
        raise JournalError(str(error)) from None  # not marked as damaged: the standby itself is fine
    except OSError as error:
        raise JournalError(f"{reason(context.config)}; the standby stays in use: {error}") from None
    raise JournalError(reason(context.config))


def _time_of(path: str) -> float:
    try:
        return os.stat(path).st_mtime
    except OSError:
        return 0.0
