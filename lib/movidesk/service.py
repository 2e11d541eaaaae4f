"""`movidesk serve`: the FastAGI server, the delivery loop, housekeeping and the web servers, in one process.

It makes verbs faster but is not a single point of failure: if it does not answer, the dialplan runs the same verbs as scripts.
"""

from __future__ import annotations

import importlib
import io
import logging
import os
import pkgutil
import signal
import socketserver
import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import movidesk
from movidesk.agi import caller, runner
from movidesk.agi.channel import Channel, ChannelGone, ProtocolError
from movidesk.agi.listener import Listener
from movidesk.config import Config, ConfigError
from movidesk.config.options import is_loopback
from movidesk.context import Context
from movidesk.housekeeping import Housekeeping, RestingDelivery, load_metrics, open_journal
from movidesk.journal import wakeup
from movidesk.pbx import sweep
from movidesk.pbx.heartbeat import PING, Heartbeat, ping_answer
from movidesk.rules import call_states

if TYPE_CHECKING:
    from movidesk.web.panel.app import Panel
    from movidesk.web.server import Web

log = logging.getLogger("movidesk.service")

SESSION_TIMEOUT = 30.0  # seconds in which Asterisk must send its next line
SESSION_LIFE = 300.0    # seconds; the longest verb sends a request, which takes at most three time-outs
MAX_SESSIONS = 1000     # simultaneous connections; any more are closed, and the dialplan runs the script

#: Verbs that run on the channel of the agent, whose number is not the customer's.
ON_AGENTS_CHANNEL = (call_states.TRANSFERRED, call_states.START_TRANSFERRED)

# Need packages or memory for settings that few have; the service loads them at its start where they are set.
LOADED_WITH_SETTINGS = ("movidesk.fleet", "movidesk.web", "movidesk.made_calls", "movidesk.metrics", "movidesk.reports",
                        "movidesk.pbx.ami", "movidesk.cli")


class LoggedChannel(Channel):
    """A channel whose console lines also go to the service's log, each with the last digits of the caller's number."""

    def say(self, text: str, level: int = 1, of_caller: bool = True) -> None:
        number = ""
        if of_caller:
            number = self.customer or (caller.client_number(self) if self.verb not in ON_AGENTS_CHANNEL else "")
        log.log({0: logging.ERROR, 1: logging.WARNING}.get(level, logging.INFO), "%s%s", text,
                f" ({call_states.masked(number)})" if number else "")
        super().say(text, level)

    @property
    def verb(self) -> str:
        """The path of the FastAGI request."""
        return self.env.get("agi_network_script", "").partition("?")[0].strip("/")


class Session(socketserver.StreamRequestHandler):
    """One FastAGI connection: one verb on one channel."""

    server: FastAGI
    rfile: io.BufferedReader
    timeout = SESSION_TIMEOUT
    disable_nagle_algorithm = True

    def handle(self) -> None:
        host, port = self.client_address[:2]
        peer = f"{host}:{port}"
        try:
            if not self.rfile.peek(1):
                return  # a program that only looks whether somebody listens
            channel = LoggedChannel(self.rfile, self.wfile)
            if channel.verb == PING:
                self.wfile.write(ping_answer(self.server.context.config).encode())
                return
            self.server.saw(channel.uniqueid)
            runner.run(channel.verb, channel, self.server.context, channel.arguments)
        except OSError as error:  # it was cut, or silent for too long
            log.info("%s: %s", peer, error)
        except ChannelGone as error:
            log.info("%s: %s", peer, error)
        except ProtocolError as error:
            log.warning("%s does not speak AGI: %s", peer, error)

    def finish(self) -> None:
        try:
            super().finish()
        except OSError as error:
            log.info("closing a connection: %s", error)


class FastAGI(Listener):
    """Runs verbs for `agi://HOST:PORT/VERB` (see runner.run). Over MAX_SESSIONS the dialplan runs the script instead.

    saw: called with the unique id of each session's channel. beat: the accept loop calls it at least twice a second.
    """

    def __init__(self, address: tuple[str, int], context: Context, saw: Callable[[str], None] = lambda uniqueid: None,
                 beat: Callable[[], None] = lambda: None):
        self.context, self.saw, self._beat = context, saw, beat
        super().__init__("[agid] listen", address, Session, MAX_SESSIONS, SESSION_LIFE)

    def service_actions(self) -> None:
        super().service_actions()
        self._beat()

    def handle_error(self, request: object, client_address: object) -> None:
        log.exception("a session with %s failed", client_address)


class Service:
    """The service's parts; `run` returns when `stop` is called or on SIGTERM or SIGINT.

    Raises ConfigError, JournalError or OSError (the port is in use) before it begins to serve.
    """

    def __init__(self, config: Config):
        config.require()
        if config["metrics", "listen"] or config["metrics", "textfile"]:
            load_metrics()  # or say at once what is missing
        load_modules()
        self._stop = threading.Event()
        self.context = Context(config, wake=lambda: self._trigger.pull(), is_script=False,
                               tell_fleet=lambda: self.housekeeping.beat_now.set())
        open_journal(self.context)
        self._trigger: wakeup.Trigger = wakeup.Trigger(wakeup.path_beside(config["journal", "path"]))
        _ = self.context.client  # and requests is loaded before the first caller asks
        self._restarts = sweep.Restarts()
        self.housekeeping = Housekeeping(self.context, self._trigger.pull, self._stop)
        self.heartbeat = Heartbeat(config, _pat_watchdog)
        self.fastagi = FastAGI(config["agid", "listen"], self.context, self._saw, self.heartbeat.beat)
        self.panel: Panel | None = None
        self.web = self._open_web()

    def stop(self, *_: object) -> None:
        self._stop.set()
        self.housekeeping.sweep_now.set()
        self._trigger.pull()

    def run(self) -> None:
        signal.signal(signal.SIGTERM, self.stop)
        signal.signal(signal.SIGINT, self.stop)
        # A signal may arrive in any thread, but its handler runs in this one, and only after this one wakes up.
        signal.set_wakeup_fd(self._trigger.fileno(), warn_on_full_buffer=False)
        threads: dict[str, Callable[[], None]] = {"fastagi": self.fastagi.serve_forever}
        if self.web:
            threads["web"] = self.web.run
        self.heartbeat.beat()  # before the first caller comes: the file may be old
        for name, target in threads.items():
            threading.Thread(target=target, name=name, daemon=True).start()
        self.housekeeping.start()
        log.info("FastAGI on %s:%d, journal %s", *self.fastagi.server_address[:2], self.context.journal.path)
        tell_systemd("READY=1")
        RestingDelivery(self.context).run(self._trigger, self._stop)
        self.fastagi.shutdown()
        self.heartbeat.end()
        self.fastagi.server_close()
        if self.panel:
            self.panel.close()
        if self.web:
            self.web.close()
        self.context.journal.close()
        log.info("stopped")

    def _open_web(self) -> Web | None:
        """Start the configured web servers; None if there are none. Their libraries are imported only if needed."""
        config = self.context.config
        if not (config["recordings", "publish"] or config["made_calls", "listen"] or config["metrics", "listen"]
                or config["panel", "listen"]):
            return None
        try:
            from movidesk.web import recordings as web_recordings
            from movidesk.web import server
        except ModuleNotFoundError as error:
            raise ConfigError("[recordings] publish and listen of [made_calls], [metrics] and [panel] need more packages "
                              f"({error.name}): pip install 'movidesk-agi[web]'") from None
        web = server.Web()
        if config["recordings", "publish"]:
            log.info("recordings on %s:%d", *web.listen(
                "[recordings] publish", config["recordings", "publish"], web_recordings.create_app(config)))
        if config["made_calls", "listen"]:
            from movidesk.made_calls.dialler import Dialler  # with pyst2's manager
            from movidesk.web import made_calls

            log.info("made calls on %s:%d", *web.listen(
                "[made_calls] listen", config["made_calls", "listen"],
                made_calls.create_app(config, Dialler(self.context)), made_calls.MAX_CALLS))
        if config["metrics", "listen"]:
            from movidesk.web import metrics

            log.info("metrics on %s:%d", *web.listen(
                "[metrics] listen", config["metrics", "listen"], metrics.create_app(self.context), metrics.WAITING))
        if config["panel", "listen"]:
            self.panel = self._open_panel(web)
        return web

    def _open_panel(self, web: Web) -> Panel:
        from movidesk.web.panel import app

        config, panel = self.context.config, app.Panel(self.context.config)
        address = config["panel", "listen"]
        assert address
        log.info("panel on %s:%d", *web.listen("[panel] listen", address, panel.app, app.WAITING, sees_clients_leave=True))
        if not is_loopback(address):
            log.warning("[panel] listen = %s:%d is not on loopback: without a web server with TLS in front, the password and "
                        "callers' numbers cross the network in clear text", *address)
        panel.board.start()
        return panel

    def _saw(self, uniqueid: str) -> None:
        if self._restarts.seen(uniqueid):
            log.warning("Asterisk was restarted (see channel %s): calls whose channel is gone are ended now", uniqueid)
            self.housekeeping.sweep_now.set()


def load_modules(path: Iterable[str] = movidesk.__path__, prefix: str = "movidesk.") -> None:
    """Import what scripts import only when they need it: after `make install` the files are those of another version."""
    for module in pkgutil.iter_modules(path, prefix):
        if module.name not in LOADED_WITH_SETTINGS:
            loaded = importlib.import_module(module.name)
            if module.ispkg:
                load_modules(loaded.__path__, module.name + ".")


def _pat_watchdog() -> None:
    if os.environ.get("WATCHDOG_USEC"):  # the unit has WatchdogSec
        tell_systemd("WATCHDOG=1")


def tell_systemd(state: str) -> None:
    """Report the service's state to systemd (Type=notify). Does nothing without systemd. Raises OSError."""
    import socket

    address = os.environ.get("NOTIFY_SOCKET", "")
    if address:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
            notify.settimeout(1.0)  # if systemd does not read, the accept loop must not block
            notify.sendto(state.encode(), "\0" + address[1:] if address[0] == "@" else address)
