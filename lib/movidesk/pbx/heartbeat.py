"""The heartbeat of `movidesk serve`: a file that is touched twice a second as long as FastAGI accepts connections.

AGI() waits for a frozen service for ever, because the kernel accepts connections in its place. So `movidesk-verb` looks at
the file's time first, and runs the script where the file is more than a few seconds old. Without the file it tries FastAGI:
the service may run on another host. A clean stop removes the file; after kill -9 an old one is left, and scripts run.

The file stands beside the journal. It is a link to one in memory ([journal] standby) where there is such a place: a slow, full
or read-only disk then neither holds up the accept loop nor makes a healthy service look frozen.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from contextlib import suppress

from movidesk.config import Config

log = logging.getLogger("movidesk.pbx.heartbeat")

EVERY = 0.5          # seconds between two touches
FROZEN = 10.0        # seconds without one after which the service is certainly frozen: systemd would have killed it


def path_beside(journal: str) -> str:
    return journal + ".alive"


def silent_for(journal: str) -> float:
    """For how many seconds the service of this journal has shown no life; 0.0 where there is no heartbeat."""
    try:
        return max(0.0, time.time() - os.stat(path_beside(journal)).st_mtime)
    except OSError:
        return 0.0


class Heartbeat:
    """The writing end. watchdog: called at each beat, to tell systemd; may raise OSError.

    If the file cannot be written that is logged once, and nothing stops: without it the dialplan tries FastAGI.
    """

    def __init__(self, config: Config, watchdog: Callable[[], None] = lambda: None,
                 steady: Callable[[], float] = time.monotonic):
        self.path = path_beside(config["journal", "path"])
        self._target = os.path.join(config["journal", "standby"], config.own_name + ".alive")
        self._watchdog, self._steady = watchdog, steady
        self._last = float("-inf")
        self._well = True

    def beat(self) -> None:
        """Called by the accept loop, as often as it likes."""
        if self._steady() - self._last < EVERY:
            return
        self._last = self._steady()
        try:
            try:
                os.utime(self.path)
            except (FileNotFoundError, PermissionError):  # the second: another user's service was here
                self._begin()
            self._watchdog()
            self._well = True
        except OSError as error:
            if self._well:
                log.error("the heartbeat file %s cannot be written: %s; once it is too old, calls use the scripts", self.path,
                          error)
            self._well = False

    def _begin(self) -> None:
        target = self.path
        try:
            _make(self._target)
            target = self._target
        except OSError as error:
            log.info("the heartbeat file is on the journal's disk, not in memory: %s", error)
        if target == self.path:
            _remove(self.path)  # a link that leads nowhere
            _make(self.path)
        elif not os.path.islink(self.path) or os.readlink(self.path) != target:
            _remove(self.path)
            os.symlink(target, self.path)
        os.utime(self.path)

    def end(self) -> None:
        """Remove the file: the service stops cleanly, and calls are refused at once by a closed port."""
        for path in self.path, self._target:
            _remove(path)


def _make(path: str) -> None:
    """Make a file of ours, unless it is there; never through a link. Raises OSError where it is somebody else's."""
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o640)
    try:
        if os.fstat(file).st_uid != os.geteuid():
            raise PermissionError(f"{path} belongs to somebody else")
    finally:
        os.close(file)


def _remove(path: str) -> None:
    try:
        with suppress(FileNotFoundError):
            os.unlink(path)
    except OSError as error:
        log.warning("%s cannot be removed: %s", path, error)
