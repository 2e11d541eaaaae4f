"""The waitress server, with the limits that a service on a PBX needs. It serves any WSGI application.

One thread reads all requests and sends all answers, so a slow client uses a socket but no thread. A worker gets a request when it
is complete. waitress itself limits the size of a request and the number of workers, but four things do not fit: its time limit
restarts with each byte, at its limit of connections it lets clients wait, its answers to malformed requests repeat parts of them,
and it keeps connections open. So the classes below replace those of waitress (`channel_class`, `task_class`, `parser_class`).
This is not a documented interface of waitress: its version is pinned in requirements/, and tests/test_web.py fails if a newer one
behaves differently.
"""

from __future__ import annotations

import logging
import socket
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from waitress import wasyncore
from waitress.channel import HTTPChannel
from waitress.parser import HTTPRequestParser, ParsingError
from waitress.server import TcpWSGIServer
from waitress.task import ThreadedTaskDispatcher, WSGITask
from waitress.utilities import RequestEntityTooLarge

from movidesk import sleep

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication
    from waitress.adjustments import Adjustments
    from waitress.utilities import Error

log = logging.getLogger("movidesk.web")

MAX_CONNECTIONS = 64      # simultaneous connections to one address; any more are closed
REQUEST_SECONDS = 10.0    # for a complete request to arrive
ANSWER_SECONDS = 300.0    # to create and send a complete answer; a player can then request the next range
MAX_HEAD = 65536          # bytes of a request's first line and headers
MAX_BODY = 8192           # bytes of its body
CHUNK = 65536             # bytes that are read from a file at once
HELD = 262144             # bytes of an answer that are kept for a slow client; its worker waits before it adds more
WORKERS = 4               # threads for requests that do not block
LATE_EVERY = 0.1          # seconds between two checks for connections over their time limit

#: Key of the WSGI environment: the status that the application must answer with, because the request is malformed or too large.
REFUSED = "movidesk.refused"


class _Parser(HTTPRequestParser):  # type: ignore[misc]  # waitress has no types
    error: Error | None
    # What the application sees of a request that could not be parsed.
    command, path, query, request_uri, url_scheme = "?", "", "", "", "http"

    def parse_header(self, header_plus: bytes) -> None:
        try:
            super().parse_header(header_plus)
        except ValueError:  # urlsplit and int raise it; waitress would close the connection without an answer
            raise ParsingError("malformed") from None

    def received(self, data: bytes) -> int:
        consumed: int = super().received(data)
        body = self.body_rcv
        if body is not None and not self.error:
            # The announced size, before the body has arrived.
            size = len(body) + body.chunk_remainder if self.chunked else self.content_length
            if size > MAX_BODY:
                self.error = RequestEntityTooLarge("too large")
                self.completed = True
        if self.completed:
            self.expect_continue = False  # no body will follow; waitress would send "100 Continue" and wait
        return consumed


class _Task(WSGITask):  # type: ignore[misc]  # waitress has no types
    """One answer of the application, also to a malformed request; then the connection is closed."""

    def __init__(self, channel: _Channel, request: _Parser):
        super().__init__(channel, request)
        self.version = "1.1"

    def execute(self) -> None:
        self.set_close_on_finish()
        super().execute()

    def get_environment(self) -> dict[str, object]:
        environ: dict[str, object] = super().get_environment()
        if self.request.error:
            environ[REFUSED] = self.request.error.code
        # waitress logs the path when a client has gone; in a malformed link it may contain the signature.
        self.request.path = "(its path is not logged)"
        return environ


class _Channel(HTTPChannel):  # type: ignore[misc]  # waitress has no types
    parser_class = _Parser
    task_class = error_task_class = _Task

    def __init__(self, server: Server, sock: socket.socket, addr: tuple[str, int], adj: Adjustments,
                 map: dict[int, object] | None = None):
        super().__init__(server, sock, addr, adj, map)
        self.sendbuf_len = CHUNK  # waitress reads as much as the kernel might take, megabytes, for each slow player
        self.since, self.has_request = time.monotonic(), False

    def is_late(self, now: float) -> bool:
        """Whether the request has not arrived, or the client has not read the answer, within the time limit."""
        if not self.has_request and (self.requests or self.close_when_flushed):
            self.since, self.has_request = now, True
        return now - self.since > (ANSWER_SECONDS if self.has_request else REQUEST_SECONDS)


class Server(TcpWSGIServer):  # type: ignore[misc]  # waitress has no types
    """Serves a WSGI application at one address.

    setting: the setting with the address, for the error (OSError) if the port is in use. sockets: the map for `wasyncore.loop`.
    workers: the thread pool. Several servers may share both. sees_clients_leave: the application finds in its environment
    `waitress.client_disconnected`, which says whether the client has closed the connection.
    """

    channel_class = _Channel

    def __init__(self, setting: str, address: tuple[str, int], application: WSGIApplication, sockets: dict[int, object],
                 workers: ThreadedTaskDispatcher, sees_clients_leave: bool = False):
        self._setting, self._next_look = setting, 0.0
        place = f"{address[0]}:{address[1]}"
        try:
            super().__init__(
                application, sockets, dispatcher=workers, listen=place, ipv6=False, ident="movidesk",
                connection_limit=1 << 30,  # ours is MAX_CONNECTIONS
                outbuf_high_watermark=HELD, channel_request_lookahead=int(sees_clients_leave),
                max_request_header_size=MAX_HEAD, max_request_body_size=2 * MAX_BODY,  # with what stands between chunks
                log_socket_errors=False)   # a player that goes away is no error
        except OSError as error:
            raise OSError(f"{setting} = {place}: {error.strerror}") from None
        except ValueError:  # waitress raises it if a name cannot be resolved
            raise OSError(f"{setting} = {place}: not an IPv4 address of this machine") from None

    def handle_accept(self) -> None:
        if len(self.active_channels) < MAX_CONNECTIONS:
            super().handle_accept()
            return
        log.error("%s: too many connections at once; one more was closed", self._setting)
        with suppress(OSError):  # the client has closed it
            accepted = self.accept()
            if accepted:
                accepted[0].shutdown(socket.SHUT_WR)
                accepted[0].close()

    def readable(self) -> bool:
        """The loop calls this at least once a second; it also closes the connections that are over their time limit."""
        now = time.monotonic()
        if now >= self._next_look:
            self._next_look = now + LATE_EVERY
            for channel in [channel for channel in self.active_channels.values() if channel.is_late(now)]:
                log.info("%s: a connection of %s was too slow and was closed", self._setting, channel.addr[0])
                channel.will_close = True
                with suppress(OSError):  # so that the loop closes it even if its client reads nothing
                    channel.socket.shutdown(socket.SHUT_RDWR)
        is_readable: bool = super().readable()
        return is_readable


class Web:
    """The web servers of this process: one thread for all connections (`run`), and a thread pool for the answers."""

    def __init__(self) -> None:
        # It would log a warning for each request that must wait for a worker.
        logging.getLogger("waitress.queue").setLevel(logging.ERROR)
        self._workers, self._threads = ThreadedTaskDispatcher(), WORKERS
        self._sockets: dict[int, object] = {}
        self._servers: list[Server] = []
        self._ended, self._closing = False, threading.Lock()

    def listen(self, setting: str, address: tuple[str, int], application: WSGIApplication, waiting: int = 0,
               sees_clients_leave: bool = False) -> tuple[str, int]:
        """Serve a WSGI application; returns the address, with its port. Raises OSError, which names the setting.

        waiting: how many of its requests may block at the same time, each in its own worker. sees_clients_leave: see Server.
        """
        server = Server(setting, address, application, self._sockets, self._workers, sees_clients_leave)
        self._servers.append(server)
        self._threads += waiting
        return server.effective_host, int(server.effective_port)

    def run(self) -> None:
        """Serve until `close`; then close ports and connections, and discard unfinished answers."""
        while not self._ended:
            try:
                self._workers.set_thread_count(self._threads)
                while not self._ended:
                    wasyncore.loop(1.0, use_poll=True, map=self._sockets, count=1)
            except Exception:  # the outermost level of this thread; for example: no more threads for this user
                log.exception("the web servers failed and go on")
                sleep(1.0)
        for server in self._servers:
            wasyncore.dispatcher.close(server)  # not yet its trigger
            for channel in list(server.active_channels.values()):
                channel.handle_close()
        self._workers.shutdown(timeout=0.5)
        with self._closing:
            if not self._workers.threads:  # a running one would write to whatever file then has the trigger's descriptor
                for server in self._servers:
                    server.trigger.close()

    def close(self) -> None:
        """End `run`, from any thread."""
        with self._closing:
            if not self._ended:
                self._ended = True
                self._servers[0].trigger.pull_trigger()
