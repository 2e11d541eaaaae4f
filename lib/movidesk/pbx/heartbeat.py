"""The heartbeat of `movidesk serve`: a file that is touched twice a second while FastAGI accepts connections.

AGI() would wait for a frozen service for ever, because the kernel still accepts connections. So `movidesk-verb` first checks the
file's time, and runs the script if the file is more than a few seconds old. Without the file it tries FastAGI, because the
service may run on another host. A clean stop removes the file. After kill -9 an old file remains, and scripts run.

The file is beside the journal. If possible it is a link to a file in memory ([journal] standby). Then a slow, full or read-only
disk does not block the accept loop, and does not make a working service look frozen.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from contextlib import suppress

from movidesk import __version__
from movidesk.config import Config
from movidesk.pbx import liveness

log = logging.getLogger("movidesk.pbx.heartbeat")

EVERY = 0.5          # seconds between two touches
FROZEN = 10.0        # seconds without a touch after which the service is certainly frozen: systemd would have killed it


def path_beside(journal: str) -> str:
    return journal + liveness.ALIVE


def silent_for(journal: str) -> float:
    """For how many seconds the service of this journal has not touched its file; 0.0 if there is no file."""
    try:
        return max(0.0, time.time() - os.stat(path_beside(journal)).st_mtime)
    except OSError:
        return 0.0


#: A FastAGI path that is no verb: the service tells which version it runs, and with which movidesk.conf.
PING = "ping"


def ping_answer(config: Config) -> str:
    """What a service with this configuration answers to PING: a line `movidesk-agi VERSION MODIFIED`, the last being
    Config.modified."""
    return f"movidesk-agi {__version__} {config.modified:.6f}\n"


class Heartbeat:
    """Touches the file. watchdog: called at each beat, to notify systemd; may raise OSError.

    If the file cannot be written, that is logged once and the service goes on.
    """

    def __init__(self, config: Config, watchdog: Callable[[], None] = lambda: None,
                 steady: Callable[[], float] = time.monotonic):
        self.path = path_beside(config["journal", "path"])
        self._target = os.path.join(config["journal", "standby"], config.own_name + ".alive")
        self._watchdog, self._steady = watchdog, steady
        self._last = float("-inf")
        self._well = True

    def beat(self) -> None:
        """Touch the file. The accept loop may call this at any rate."""
        if self._steady() - self._last < EVERY:
            return
        self._last = self._steady()
        try:
            try:
                os.utime(self.path)
            except (FileNotFoundError, PermissionError):  # PermissionError: the file of another user's service
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
            _remove(self.path)  # a dangling link
            _make(self.path)
        elif not os.path.islink(self.path) or os.readlink(self.path) != target:
            _remove(self.path)
            os.symlink(target, self.path)
        os.utime(self.path)

    def end(self) -> None:
        """Remove the file when the service stops: connections to the closed port then fail at once."""
        for path in self.path, self._target:
            _remove(path)


def _make(path: str) -> None:
    """Create our file if it does not exist, never through a link. Raises OSError if it belongs to another user."""
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o640)
    try:
        if os.fstat(file).st_uid != os.geteuid():
            raise PermissionError(f"{path} belongs to another user")
    finally:
        os.close(file)


def _remove(path: str) -> None:
    try:
        with suppress(FileNotFoundError):
            os.unlink(path)
    except OSError as error:
        log.warning("%s cannot be removed: %s", path, error)
