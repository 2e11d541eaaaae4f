"""A TCP server with a bounded number of connections: what the service's three ports share."""

from __future__ import annotations

import logging
import socketserver
import threading

log = logging.getLogger("movidesk.listener")


class Listener(socketserver.ThreadingTCPServer):
    """A thread for each connection, at most `places` of them; one more is closed at once.

    setting: where the address comes from, for the error (OSError) of a port that is taken.
    """

    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 512

    def __init__(self, setting: str, address: tuple[str, int], handler, places: int):
        self._setting = setting
        self._places = threading.BoundedSemaphore(places)
        try:
            super().__init__(address, handler)
        except OSError as error:
            raise OSError(error.errno, "%s = %s:%d: %s" % (setting, *address, error.strerror)) from None

    def process_request(self, request, client_address) -> None:
        if not self._places.acquire(blocking=False):
            log.error("%s: too many connections at once; one more was closed", self._setting)
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request, client_address) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()
