"""One HTTP exchange with a deadline for the whole of it, the resolving of names included, which no socket's timeout bounds.

It runs in a thread of its own. If it is not over in time its connection is closed, and what has not been sent by then is
never sent: a request that left late would be counted by nobody, and could overtake another.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Generic, TypeVar

from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.poolmanager import ProxyManager

Result = TypeVar("Result")

MOST = 32  # exchanges at once, those among them that were given up and still wait for a resolver

_current = threading.local()  # .exchange: that of this thread


class TooLate(Exception):
    """The exchange was not over in time, or could not begin; the text says what was missing."""


class Exchanges:
    """Runs exchanges, at most MOST at once."""

    def __init__(self) -> None:
        self._free = threading.BoundedSemaphore(MOST)

    def run(self, work: Callable[[], Result], seconds: float) -> Result:
        """The result of work(), or its exception; raises TooLate where it takes longer than so many seconds."""
        if not self._free.acquire(blocking=False):
            raise TooLate(f"not sent, {MOST} requests wait already (are names resolved?)")
        exchange = _Exchange(work, seconds, self._free.release)
        try:
            exchange.start()
        except RuntimeError as error:  # no memory, or too many threads
            self._free.release()
            raise TooLate(f"not sent: {error}") from None
        return exchange.result()


class _Exchange(threading.Thread, Generic[Result]):
    """The work in its thread. given_up and socket change under the lock."""

    def __init__(self, work: Callable[[], Result], seconds: float, release: Callable[[], None]):
        super().__init__(name="exchange", daemon=True)
        self._work, self._seconds, self._release = work, seconds, release
        self._end = time.monotonic() + seconds
        self._lock, self._over = threading.Lock(), threading.Event()
        self._result: Result  # when it is over, unless there is an error
        self._error: BaseException | None = None
        self._socket: socket.socket | None = None
        self._given_up = False

    def run(self) -> None:
        _current.exchange = self
        try:
            self._result = self._work()
        except BaseException as error:  # whatever it is, `result` raises it
            self._error = error
        finally:
            with self._lock:
                self._socket = None  # it may serve another exchange from here on
            self._over.set()
            self._release()

    def result(self) -> Result:
        if not self._over.wait(self._end - time.monotonic()):
            with self._lock:
                self._given_up = True
                if self._socket is None:
                    raise TooLate(f"no connection within {self._seconds:g} s (is the name resolved?)")
                _cut(self._socket)
            raise TooLate(f"no whole answer within {self._seconds:g} s")
        if self._error is not None:
            raise self._error
        return self._result

    def uses(self, connection: HTTPConnection) -> None:
        """The exchange is about to send over this connection. Raises TooLate where nobody waits for it any more."""
        with self._lock:
            if self._given_up:
                raise TooLate("given up before it was sent")
            self._socket = connection.sock  # the connection itself may let go of it while the answer is read


def _cut(sock: socket.socket) -> None:
    with suppress(OSError):  # the other side was faster
        sock.shutdown(socket.SHUT_RDWR)


class _Http(HTTPConnection):
    """A connection that tells its exchange when it is used. Both moments are needed: a new connection is made after the
    request was begun (http) or before it (https); one that is kept open is not made anew."""

    def connect(self) -> None:
        super().connect()
        self._tell()

    def putrequest(self, method: str, url: str, skip_host: bool = False, skip_accept_encoding: bool = False) -> None:
        self._tell()
        super().putrequest(method, url, skip_host, skip_accept_encoding)

    def _tell(self) -> None:
        exchange = getattr(_current, "exchange", None)
        if exchange is not None:
            exchange.uses(self)


class _Https(_Http, HTTPSConnection):
    pass


class _HttpPool(HTTPConnectionPool):
    ConnectionCls = _Http


class _HttpsPool(HTTPSConnectionPool):
    ConnectionCls = _Https


class Adapter(HTTPAdapter):
    """requests' adapter over such connections, also those to a proxy."""

    def init_poolmanager(self, connections: int, maxsize: int, block: bool = False, **options: Any) -> None:  # as requests has it
        super().init_poolmanager(connections, maxsize, block, **options)
        self.poolmanager.pool_classes_by_scheme = {"http": _HttpPool, "https": _HttpsPool}

    def proxy_manager_for(self, proxy: str, **options: Any) -> ProxyManager:  # as requests has it
        manager: ProxyManager = super().proxy_manager_for(proxy, **options)
        manager.pool_classes_by_scheme = {"http": _HttpPool, "https": _HttpsPool}
        return manager
