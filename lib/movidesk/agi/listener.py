"""A TCP server with a limit on the number of connections and on their age, and one thread per connection."""

from __future__ import annotations

import logging
import socket
import socketserver
import threading
import time
from contextlib import suppress
from typing import Union

log = logging.getLogger("movidesk.agi.listener")


#: A connection, as socketserver has it: of TCP a socket.
Request = Union[socket.socket, tuple[bytes, socket.socket]]


class Listener(socketserver.ThreadingTCPServer):
    """A server with one thread per connection. It accepts at most `places` connections at once and closes any more.

    setting: the setting with the address, for the error (OSError) if the port is in use. life: seconds after which a connection
    is closed, even if it is active; None: no limit.
    """

    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 512

    def __init__(self, setting: str, address: tuple[str, int], handler: type[socketserver.BaseRequestHandler], places: int,
                 life: float | None = None):
        self._setting, self._life = setting, life
        self._begun: dict[Request, float] = {}
        self._places = threading.BoundedSemaphore(places)
        try:
            super().__init__(address, handler)
        except OSError as error:
            raise OSError(error.errno, f"{setting} = {address[0]}:{address[1]}: {error.strerror}") from None

    def process_request(self, request: Request, client_address: object) -> None:
        if not self._places.acquire(blocking=False):
            log.error("%s: too many connections at once; one more was closed", self._setting)
            self.shutdown_request(request)
            return
        self._begun[request] = time.monotonic()
        try:
            super().process_request(request, client_address)
        except RuntimeError as error:  # too many threads, or no memory
            log.error("%s: a connection was closed: %s", self._setting, error)
            self._give_back(request)
            self.shutdown_request(request)

    def process_request_thread(self, request: Request, client_address: object) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._give_back(request)

    def _give_back(self, request: Request) -> None:
        del self._begun[request]
        self._places.release()

    def service_actions(self) -> None:
        """serve_forever calls this twice a second: close the connections that are too old."""
        if not self._life:
            return
        for request, begun in list(self._begun.items()):
            if isinstance(request, socket.socket) and time.monotonic() - begun > self._life:
                log.error("%s: a connection of more than %g s was closed", self._setting, self._life)
                self._cut(request)

    @staticmethod
    def _cut(connection: socket.socket) -> None:
        with suppress(OSError):  # it has already ended
            connection.shutdown(socket.SHUT_RDWR)
