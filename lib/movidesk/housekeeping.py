"""The background jobs of `movidesk serve`, `deliver` and `deliver --once`, besides answering AGI and delivering events.

    every minute     import the emergency file, end calls whose channel is gone, check for alarms
    every hour       delete calls and recordings older than keep_days
    every 5 seconds  convert recordings, if [recordings] convert is set
    every 15 s       write the metrics for node_exporter, if [metrics] textfile is set
    every 2 seconds  tell the fleet how this PBX stands, if [fleet] redis is set
    every 15 seconds look at the other PBXs and their clocks, if [fleet] redis is set
    every second     while the standby replaces the journal: deliver its events, and try the journal again
"""

from __future__ import annotations

import fcntl
import importlib
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import TypeVar

from movidesk import alarms
from movidesk.checks.files import standby_problem
from movidesk.config import ConfigError
from movidesk.context import Context
from movidesk.delivery.worker import Delivery, deliver_standby
from movidesk.journal import Job, JournalError, standby, standby_folder
from movidesk.pbx import fleet_watch, liveness, sweep
from movidesk.recordings import conversion, files

log = logging.getLogger("movidesk.housekeeping")

Done = TypeVar("Done")

BEAT_EVERY = 2.0       # seconds; a lease (movidesk.fleet.script) lasts for several
PRUNE_EVERY = 3600.0   # seconds
PRUNED = "pruned"      # a timer that all processes share
PRUNE_SECONDS = 10.0   # `once` prunes at most this long
CONVERT_SECONDS = 30.0  # `once` begins no further file after this time
STANDBY_LOOK = 1.0     # seconds
TEXTFILE_EVERY = 15.0  # seconds; Prometheus asks every 15 to 60
HOLD_AGAIN = 60.0      # seconds until the lock file is tried again if it could not be created
BEGINS = 0.2           # seconds until the next try while a standby begins or ends
PRUNE_BREAK = 0.05     # seconds between two steps of pruning, so that events can be recorded


def load_metrics() -> None:
    """Import what [metrics] needs. Raises ConfigError where that is not installed."""
    try:
        importlib.import_module("movidesk.metrics.textfile")
    except ModuleNotFoundError as error:
        raise ConfigError(f"[metrics] needs more packages ({error.name}): pip install 'movidesk-agi[metrics]'") from None


def open_journal(context: Context) -> None:
    """Open a context's journal, so that a problem shows at the start. Raises JournalError."""
    try:
        _ = context.journal
    except JournalError:
        deliver_standby(context)  # systemd or cron tries again and again; otherwise agents would stay "in call" meanwhile
        raise


class RestingDelivery(Delivery):
    """A Delivery that pauses while the standby replaces the journal: `deliver_standby` sends its events."""

    def take(self) -> tuple[Job | None, float | None]:
        try:
            with standby.not_beginning(self.context.config):
                return (None, None) if standby_folder.in_use(self.context.config) else super().take()
        except TimeoutError:
            return None, BEGINS


class Housekeeping:
    """The background jobs of a context. wake: wakes the delivery if there are new events; stop: ends the threads."""

    def __init__(self, context: Context, wake: Callable[[], None] = lambda: None, stop: threading.Event | None = None):
        self._context, self._wake = context, wake
        self._stop = stop or threading.Event()
        self.sweep_now = threading.Event()  # set: sweep before the minute is over
        self.beat_now = threading.Event()  # set: tell the fleet at once

    def start(self) -> None:
        """Run all jobs, each in its own thread."""
        trouble = standby_problem(self._context.config)
        if trouble:
            log.warning("[journal] standby: %s", trouble)
        threads = {"sweep": self._sweep_on, "prune": self._prune_on, "at work": self._hold_place,
                   "standby": self._stand_by}
        if self._context.config["recordings", "convert"]:
            threads["convert"] = self._convert_on
        if self._context.config["metrics", "textfile"]:
            said = self._write_metrics()  # before the alarms are looked at: the file may be old
            threads["metrics"] = lambda: self._write_metrics_on(said)
        if self._context.config["fleet", "redis"]:
            threads["fleet"] = self._beat_on
        self._leave_fleet()
        for name, target in threads.items():
            threading.Thread(target=target, name=name, daemon=True).start()

    def recover(self) -> None:
        """The first part of one run: sweep, and log alarms. Raises JournalError, OSError."""
        self._say_delivering()
        try:
            back = standby.end(self._context)
        except JournalError:
            deliver_standby(self._context)  # otherwise agents would stay "in call"
            raise
        self._context.journal.notes.start_timer(liveness.ROUND)
        if back:
            sweep.recover(self._context)
        self._leave_fleet()
        self._look_at_fleet()
        for alarm in alarms.standing(self._context):
            if self._context.journal.notes.acquire_timer("alarm_logged_" + alarm.name, alarms.SAY_EVERY):
                log.error("alarm %s: %s", alarm.name, alarm.text)

    def metrics_once(self) -> None:
        """Write the file for node_exporter, if there is one; also if the journal cannot be used, so before all else."""
        if self._context.config["metrics", "textfile"]:
            self._write_metrics()

    def once(self) -> int:
        """The rest of one run, in bounded time. Returns the number of links that may now be sent."""
        if self._context.journal.notes.acquire_timer(PRUNED, PRUNE_EVERY):
            self._prune(PRUNE_SECONDS)
        if self._context.config["recordings", "convert"]:
            return self._safely("converting recordings", lambda: self._convert(CONVERT_SECONDS)) or 0
        return 0

    def _sweep_on(self) -> None:
        """Sweep at the start, at the first call after a restart of Asterisk, and once a minute."""
        alarm_log = alarms.Log(log)

        def sweep_once() -> None:
            try:
                if not standby_folder.in_use(self._context.config) and sweep.recover(self._context):
                    self._wake()
            finally:
                alarm_log.look(alarms.standing(self._context))

        while not self._stop.is_set():
            self.sweep_now.clear()
            self._safely("saying that events are delivered", self._say_delivering)
            self._safely("the sweep and the check for alarms", sweep_once)
            self.sweep_now.wait(sweep.EVERY)

    def _say_delivering(self) -> None:
        with suppress(FileNotFoundError):  # _hold_place will create it
            liveness.delivering(self._context.config["journal", "path"])

    def _stand_by(self) -> None:
        while not self._stop.wait(STANDBY_LOOK):
            self._safely("the standby journal", self._look_at_standby)

    def _look_at_standby(self) -> None:
        """Deliver the standby's events, and return to the journal as soon as it can be used."""
        if standby_folder.in_use(self._context.config) and self._is_back():
            self.sweep_now.set()
            self._wake()
        deliver_standby(self._context)

    def _is_back(self) -> bool:
        with suppress(JournalError):  # the reason is on the console and in the alarm
            if standby.end(self._context):
                log.warning("the journal can be used again: %s", self._context.journal.path)
                return True
        return False

    def _write_metrics_on(self, said: str) -> None:
        """Write the textfile again and again. said: what was wrong with it the first time."""
        while not self._stop.wait(TEXTFILE_EVERY):
            said = self._write_metrics(said)

    def _write_metrics(self, said: str = "") -> str:
        """Write the textfile. Returns what is wrong with it, and logs that unless it was `said`; it is also an alarm."""
        trouble = ""
        try:
            load_metrics()
            from movidesk.metrics import textfile

            textfile.write(self._context)
        except (OSError, ConfigError) as error:
            trouble = str(error)
        except Exception:  # the outermost level of this thread
            log.exception("writing metrics failed")
        if trouble not in ("", said):
            log.error("%s", trouble)
        return trouble

    def _beat_on(self) -> None:
        """Tell the fleet how this PBX stands, when something has changed and every BEAT_EVERY seconds."""
        standing, looked = "", float("-inf")
        while not self._stop.is_set():
            self.beat_now.clear()
            now = self._safely("telling the fleet", self._beat)
            if now is not None and now != standing:
                if now:
                    log.warning("fleet: %s", now)
                elif standing:
                    log.warning("fleet: Redis answers again")
                standing = now
            if time.monotonic() - looked >= fleet_watch.EVERY:
                looked = time.monotonic()
                self._safely("looking at the fleet", self._look_at_fleet)
            self.beat_now.wait(BEAT_EVERY)

    def _beat(self) -> str:
        """Returns why Redis cannot be used; '' if it can."""
        pool = self._context.journal.pool
        if pool is None or standby_folder.in_use(self._context.config):
            return ""
        return "" if pool.beat(self._context.limit()) else pool.standing().why

    def _leave_fleet(self) -> None:
        """Without [fleet], forget what another configuration has left of other PBXs: nobody reports of them any more."""
        if not self._context.config["fleet", "redis"]:
            self._safely("leaving the fleet", self._context.journal.leave_fleet)

    def _look_at_fleet(self) -> None:
        pool = self._context.journal.pool
        if pool is not None and not standby_folder.in_use(self._context.config):
            fleet_watch.look(self._context.journal, pool.member)

    def _prune_on(self) -> None:
        while not self._stop.is_set():
            self._prune()
            self._stop.wait(PRUNE_EVERY)

    def _convert_on(self) -> None:
        while not self._stop.wait(conversion.EVERY):
            if self._safely("converting recordings", self._convert):
                self._wake()

    def _prune(self, seconds: float = float("inf")) -> None:
        """Delete old recordings, and old calls in small steps, so that events can be recorded in between."""
        self._safely("deleting old recordings", lambda: files.delete_old(self._context.config, self._context.clock()))
        self._safely("pruning the journal", lambda: self._prune_journal(seconds))

    def _prune_journal(self, seconds: float) -> None:
        begun = time.monotonic()
        while self._context.journal.outbox.prune(self._context.config["journal", "keep_days"]):
            if self._stop.wait(PRUNE_BREAK) or time.monotonic() - begun > seconds:
                return

    def _convert(self, seconds: float = float("inf")) -> int:
        """Convert waiting recordings and release their links. A lock lets only one process do it."""
        with locked(self._context.journal.path + ".convert", fcntl.LOCK_EX | fcntl.LOCK_NB) as mine:
            return conversion.work_off(self._context, seconds) if mine else 0

    def _hold_place(self) -> None:
        """Hold the lock that keeps `movidesk deliver --once` from delivering as well."""
        def hold() -> None:
            with at_work(self._context.journal.path, once=False):
                self._stop.wait()

        while not self._stop.is_set():
            self._safely("the lock against movidesk deliver --once", hold)
            self._stop.wait(HOLD_AGAIN)

    @staticmethod
    def _safely(what: str, action: Callable[[], Done]) -> Done | None:
        try:
            return action()
        except (JournalError, OSError) as error:
            log.error("%s failed: %s", what, error)
        except Exception:  # the outermost level of these threads: the next round tries again
            log.exception("%s failed", what)
        return None


def at_work(journal: str, once: bool) -> AbstractContextManager[bool]:
    """The lock of a process that delivers the events of this journal. once: an exclusive lock for one run; it yields False if
    another process delivers already. Otherwise a shared lock for a service: it waits until a current run has ended."""
    return locked(liveness.delivery_path(journal), fcntl.LOCK_EX | fcntl.LOCK_NB if once else fcntl.LOCK_SH)


@contextmanager
def locked(path: str, how: int) -> Iterator[bool]:
    """Hold a lock (flock) on a file; yields whether we got it. It ends with the process. Anybody who can read the file can lock
    it. Raises OSError."""
    file = os.open(path, os.O_RDONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(file, how)
            mine = True
        except BlockingIOError:
            mine = False
        yield mine
    finally:
        os.close(file)
