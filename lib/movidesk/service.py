"""`movidesk serve`: the FastAGI server and the delivery loop, in one process.

An accelerator and never a single point of failure: where it does not answer, the dialplan runs the same verbs as scripts.
"""

from __future__ import annotations

import logging
import os
import signal
import socketserver
import threading
from contextlib import suppress

from movidesk import agi, alarms, convert, entry, recordings, standby, sweep, trigger
from movidesk.config import Config, ConfigError
from movidesk.delivery import Delivery
from movidesk.desk import Desk
from movidesk.heartbeat import Heartbeat
from movidesk.journal import JournalError
from movidesk.listener import Listener

log = logging.getLogger("movidesk.service")

SESSION_TIMEOUT = 30.0  # seconds in which Asterisk must send its next line
SESSION_LIFE = 300.0    # seconds; the longest verb asks Movidesk, and that takes three time-outs
MAX_SESSIONS = 1000     # connections at once; one more is closed, and the dialplan runs the script
PRUNE_EVERY = 3600.0    # seconds
STANDBY_LOOK = 1.0      # seconds


class LoggedChannel(agi.Channel):
    """A channel whose console lines stand in the service's log too."""

    def say(self, text: str, level: int = 1) -> None:
        log.log(logging.WARNING if level == 1 else logging.INFO, "%s", text)
        super().say(text, level)


class _Session(socketserver.StreamRequestHandler):
    timeout = SESSION_TIMEOUT
    disable_nagle_algorithm = True

    def handle(self) -> None:
        peer = "%s:%d" % self.client_address[:2]
        try:
            channel = LoggedChannel(self.rfile, self.wfile)
            verb = channel.env.get("agi_network_script", "").partition("?")[0].strip("/")
            self.server.saw(channel.uniqueid)
            entry.run(verb, channel, self.server.desk, channel.arguments)
        except agi.ChannelGone as error:
            log.info("%s: %s", peer, error)
        except agi.ProtocolError as error:
            log.warning("%s does not speak AGI: %s", peer, error)

    def finish(self) -> None:
        try:
            super().finish()
        except OSError as error:
            log.info("closing a connection: %s", error)


class FastAGI(Listener):
    """Answers `agi://HOST:PORT/VERB` with the handlers of `verbs` (see entry.run). Over MAX_SESSIONS the verb runs as a script.

    saw: is given the unique id of each session's channel. beat: called by the accept loop twice a second at least.
    """

    def __init__(self, address: tuple[str, int], desk: Desk, saw=lambda uniqueid: None, beat=lambda: None):
        self.desk, self.saw, self._beat = desk, saw, beat
        super().__init__("[agid] listen", address, _Session, MAX_SESSIONS, SESSION_LIFE)

    def service_actions(self) -> None:
        super().service_actions()
        self._beat()

    def handle_error(self, request, client_address) -> None:
        log.exception("a session with %s failed", client_address)


class _Delivery(Delivery):
    """Rests while the standby takes the journal's place: what became of an event comes back with it."""

    def take(self):
        return (None, None) if standby.in_use(self.desk.config) else super().take()


class Service:
    """The service's parts; `run` returns when `stop` is called or on SIGTERM or SIGINT.

    Raises ConfigError, JournalError or OSError (the port is taken) before it begins to serve.
    """

    def __init__(self, config: Config):
        config.require()
        self._stop = threading.Event()
        self.desk = Desk(config, wake=lambda: self._trigger.pull(), is_script=False)
        try:
            self.desk.journal  # opened now, so that what is wrong with it is said at the start
        except JournalError:
            standby.deliver(self.desk)  # each time systemd tries again: else nobody would, and agents would stay in call
            raise
        self._trigger = trigger.Trigger(trigger.path_beside(config["journal", "path"]))
        self.desk.client   # and requests is loaded before the first caller asks
        self._restarts, self._sweep_now = sweep.Restarts(), threading.Event()
        self.heartbeat = Heartbeat(config, _pat_watchdog)
        self.fastagi = FastAGI(config["agid", "listen"], self.desk, self._saw, self.heartbeat.beat)
        self.web = self._open_web()

    def stop(self, *_) -> None:
        self._stop.set()
        self._sweep_now.set()
        self._trigger.pull()

    def run(self) -> None:
        signal.signal(signal.SIGTERM, self.stop)
        signal.signal(signal.SIGINT, self.stop)
        # A signal may reach any thread, but its handler runs in this one, and only when this one wakes up.
        signal.set_wakeup_fd(self._trigger.fileno(), warn_on_full_buffer=False)
        threads = {"fastagi": self.fastagi.serve_forever, "sweep": self._sweep, "prune": self._prune,
                   "standby": self._stand_by}
        if self.web:
            threads["web"] = self.web.run
        if self.desk.config["recordings", "convert"]:
            threads["convert"] = self._convert
        self.heartbeat.beat()  # before the first caller comes: an old file may be there
        for name, target in threads.items():
            threading.Thread(target=target, name=name, daemon=True).start()
        log.info("FastAGI on %s:%d, journal %s", *self.fastagi.server_address[:2], self.desk.journal.path)
        tell_systemd("READY=1")
        _Delivery(self.desk).run(self._trigger, self._stop)
        self.fastagi.shutdown()
        self.heartbeat.end()
        self.fastagi.server_close()
        if self.web:
            self.web.close()
        self.desk.journal.close()
        log.info("stopped")

    def _open_web(self):
        """The web servers that are configured, None for none. What they need is loaded only then."""
        config = self.desk.config
        if not (config["recordings", "publish"] or config["made_calls", "listen"]):
            return None
        try:
            from movidesk.web import recordings as web_recordings
            from movidesk.web import server
        except ModuleNotFoundError as error:
            raise ConfigError("[recordings] publish and [made_calls] listen need more packages (%s): pip install "
                              "'movidesk-agi[web]'" % error.name) from None
        web = server.Web()
        if config["recordings", "publish"]:
            log.info("recordings on %s:%d", *web.listen(
                "[recordings] publish", config["recordings", "publish"], web_recordings.create_app(config)))
        if config["made_calls", "listen"]:
            from movidesk.made import Dialler  # with pyst2's manager
            from movidesk.web import made_calls

            log.info("made calls on %s:%d", *web.listen(
                "[made_calls] listen", config["made_calls", "listen"],
                made_calls.create_app(config, Dialler(self.desk)), made_calls.MAX_CALLS))
        return web

    def _saw(self, uniqueid: str) -> None:
        if self._restarts.seen(uniqueid):
            log.warning("Asterisk has begun anew: %s is its channel", uniqueid)
            self._sweep_now.set()

    def _sweep(self) -> None:
        """Take in what the journal missed, end the calls that died with Asterisk, look for alarms: at the start, at the
        first call after Asterisk began anew, and once a minute."""
        told = alarms.Log(log)
        while not self._stop.is_set():
            self._sweep_now.clear()
            try:
                if not standby.in_use(self.desk.config) and sweep.recover(self.desk):
                    self._trigger.pull()
                told.look(alarms.standing(self.desk))
            except JournalError as error:
                log.error("the sweep waits: %s", error)
            except Exception:  # the edge of this thread: the next minute tries again
                log.exception("the sweep failed")
            self._sweep_now.wait(sweep.EVERY)

    def _stand_by(self) -> None:
        """While the standby takes the journal's place: deliver what it owes, and go back as soon as the journal can be used."""
        while not self._stop.wait(STANDBY_LOOK):
            try:
                if standby.in_use(self.desk.config) and self._is_back():
                    self._sweep_now.set()
                    self._trigger.pull()
                standby.deliver(self.desk)
            except (JournalError, OSError) as error:
                log.error("the standby: %s", error)
            except Exception:  # the edge of this thread: the next look tries again
                log.exception("the standby failed")

    def _is_back(self) -> bool:
        with suppress(JournalError):  # its reason stands on the console, and in the alarm
            if standby.end(self.desk):
                log.warning("the journal can be used again: %s", self.desk.journal.path)
                return True
        return False

    def _prune(self) -> None:
        """Forget old calls, in small steps between which events are recorded, and delete old recordings."""
        while True:
            try:
                while self.desk.journal.prune(self.desk.config["journal", "keep_days"]):
                    if self._stop.wait(0.05):
                        return
                recordings.delete_old(self.desk.config, self.desk.clock())
            except Exception:  # the edge of this thread: the next hour tries again
                log.exception("pruning the journal and the recordings failed")
            if self._stop.wait(PRUNE_EVERY):
                return

    def _convert(self) -> None:
        """Convert the recordings of calls that have ended, and send their links."""
        while not self._stop.wait(convert.EVERY):
            try:
                if convert.work_off(self.desk):
                    self._trigger.pull()
            except Exception:  # the edge of this thread: the next look tries again
                log.exception("converting recordings failed")


def _pat_watchdog() -> None:
    if os.environ.get("WATCHDOG_USEC"):  # the unit has WatchdogSec
        tell_systemd("WATCHDOG=1")


def tell_systemd(state: str) -> None:
    """Tell systemd (Type=notify) how the service is; does nothing where systemd did not ask. Raises OSError."""
    import socket

    address = os.environ.get("NOTIFY_SOCKET", "")
    if address:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
            notify.settimeout(1.0)  # a systemd that does not read must not hold up the accept loop
            notify.sendto(state.encode(), "\0" + address[1:] if address[0] == "@" else address)
