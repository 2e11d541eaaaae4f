"""What all processes of a PBX must remember of its fleet: a small file in memory ([journal] standby), because each answer of
Redis changes it. Its fields: movidesk.fleet.membership.

The file belongs to the journal: its name comes from the journal's folder, and root creates it for the owner of that folder. If it
cannot be used, the process goes on with values of its own (`trouble` says why).
"""

from __future__ import annotations

import json
import logging
import os
import stat
from contextlib import contextmanager, suppress
from hashlib import sha256
from threading import Lock
from typing import TYPE_CHECKING, Any

from movidesk import file_lock
from movidesk.fleet.records import Away

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from movidesk.config import Config

#: Seconds for which others may hold the file's lock. They hold it for microseconds, unless they are stopped meanwhile.
PATIENCE = 0.3
#: Bytes that are read; the file has a few hundred.
LONGEST = 65536

log = logging.getLogger(__name__)


class Memory:
    """The file. fresh: () -> the values of a file that is not there, or is of an earlier boot (another `instance`).

    trouble: why the file cannot be used, so that this process knows nothing of the others; '' if it can.
    """

    def __init__(self, config: Config, fresh: Callable[[], dict[str, Any]]):
        self.path = os.path.join(config["journal", "standby"], f"movidesk-{hashed(place(config))}.fleet")
        self._folder, self._fresh = os.path.dirname(config["journal", "path"]), fresh
        self.trouble = ""
        self._own: dict[str, Any] | None = None  # what the file does not hold, because it could not be written
        self._last: dict[str, Any] | None = None
        self._guard = Lock()

    def read(self) -> dict[str, Any]:
        """The values; the last known ones while another process holds the lock. Raises nothing."""
        try:
            with self.change() as values:
                return dict(values)
        except Away:
            return dict(self._last or self._fresh())

    @contextmanager
    def change(self) -> Iterator[dict[str, Any]]:
        """`with memory.change() as values:` holds the lock; what is changed is written. Raises Away if others hold
        the lock for too long."""
        with self._guard:
            try:
                file = self._open()
            except OSError as error:
                self._fails(error)
                self._own = self._last = dict(self._own or self._unsure())
                yield self._own
                self._last = dict(self._own)
                return
            try:
                self._lock(file)
                text = os.pread(file, LONGEST, 0)
                values = self._values(text)
                self._last = dict(values)
                yield values
                self._last = dict(values)
                self._write(file, text, values)
            finally:
                os.close(file)

    def _open(self) -> int:
        flags = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
        owner = _owner(self._folder)
        with suppress(FileNotFoundError):
            # Without O_CREAT: in a folder that belongs to all, Linux may refuse it for another user's file, even to root.
            return self._checked(os.open(self.path, flags), owner)
        try:
            file = os.open(self.path, flags | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:  # another process was faster
            return self._checked(os.open(self.path, flags), owner)
        if os.geteuid() == 0:
            os.fchown(file, owner, -1)
        return file

    def _checked(self, file: int, owner: int) -> int:
        about = os.fstat(file)
        if not stat.S_ISREG(about.st_mode) or about.st_uid not in (owner, 0, os.geteuid()):
            os.close(file)
            raise PermissionError(0, "belongs to another user, or is not a file")
        return file

    def _lock(self, file: int) -> None:
        try:
            file_lock.lock(file, timeout=PATIENCE)
        except TimeoutError:
            raise Away(f"another process has held the lock of {self.path} for {PATIENCE:g} s") from None

    def _values(self, text: bytes) -> dict[str, Any]:
        values, fresh = {}, self._fresh()
        with suppress(ValueError):  # cut by a crash: as if it were not there
            values = dict(json.loads(text or b"{}"))
        if values.keys() != fresh.keys() or values["instance"] != fresh["instance"]:
            values = fresh
        if self._own is not None:
            values = {**self._own, "lapse": max(values["lapse"], self._own["lapse"]),
                      "refused": values["refused"] or self._own["refused"]}
        return values

    def _unsure(self) -> dict[str, Any]:
        """Other processes may have had an answer a moment ago."""
        fresh = self._fresh()
        return {**self._last, "lapse": max(self._last["lapse"], fresh["lapse"])} if self._last else fresh

    def _write(self, file: int, before: bytes, values: dict[str, Any]) -> None:
        text = json.dumps(values).encode()
        try:
            if text != before.rstrip():
                os.pwrite(file, text.ljust(len(before)), 0)
        except OSError as error:
            self._fails(error)
            self._own = dict(values)
            return
        self._own, self.trouble = None, ""

    def _fails(self, error: OSError) -> None:
        if not self.trouble:
            log.warning("fleet: %s cannot be used (%s): what this PBX's processes learn of Redis is not shared between them",
                        self.path, error.strerror)
        self.trouble = f"{self.path}: {error.strerror}"


def place(config: Config) -> str:
    """What tells this PBX's journal from any other on this machine, whoever opens it, and by whichever configuration."""
    folder, name = os.path.split(config["journal", "path"])
    try:
        about = os.stat(folder)
    except OSError:
        return str(config["journal", "path"])
    return f"{about.st_dev} {about.st_ino} {name}"


def _owner(folder: str) -> int:
    try:
        return os.stat(folder).st_uid
    except OSError:
        return os.geteuid()


def hashed(text: str) -> str:
    """A short name for a text, which does not reveal it: 16 hexadecimal digits."""
    return sha256(text.encode()).hexdigest()[:16]
