"""One HTTP exchange with a deadline for all of it, including name resolution, to which no socket timeout applies.

It runs in its own thread. If it does not end in time, its connection is closed, and a request that has not been sent by then is
never sent: a late request would not count for the limit, and could overtake another one.
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

MOST = 32  # simultaneous exchanges, including those that were given up and still wait for name resolution

_current = threading.local()  # .exchange: the exchange of this thread


class TooLate(Exception):
    """The exchange did not end in time, or could not begin; the text says why."""


class Exchanges:
    """Runs exchanges, at most MOST at once."""

    def __init__(self) -> None:
        self._free = threading.BoundedSemaphore(MOST)

    def run(self, work: Callable[[], Result], seconds: float) -> Result:
        """Return the result of work(), or raise its exception; raise TooLate if it takes longer than `seconds`."""
        if not self._free.acquire(blocking=False):
            raise TooLate(f"not sent, {MOST} requests are waiting already (does DNS work?)")
        exchange = _Exchange(work, seconds, self._free.release)
        try:
            exchange.start()
        except RuntimeError as error:  # no memory, or too many threads
            self._free.release()
            raise TooLate(f"not sent: {error}") from None
        return exchange.result()


class _Exchange(threading.Thread, Generic[Result]):
    """The work in its thread. The lock protects _given_up and _socket."""

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
        except BaseException as error:  # `result` raises it again
            self._error = error
        finally:
            with self._lock:
                self._socket = None  # another exchange may use it from now on
            self._over.set()
            self._release()

    def result(self) -> Result:
        if not self._over.wait(self._end - time.monotonic()):
            with self._lock:
                self._given_up = True
                if self._socket is None:
                    raise TooLate(f"no connection within {self._seconds:g} s (does DNS work?)")
                _cut(self._socket)
            raise TooLate(f"no complete answer within {self._seconds:g} s")
        if self._error is not None:
            raise self._error
        return self._result

    def uses(self, connection: HTTPConnection) -> None:
        """Called before the exchange sends over this connection. Raises TooLate if the exchange was given up, or its time is
        over, because this process was stopped for a while."""
        with self._lock:
            if self._given_up or time.monotonic() > self._end:
                raise TooLate("given up before it was sent")
            self._socket = connection.sock  # the connection itself may drop it while the answer is read


def _cut(sock: socket.socket) -> None:
    with suppress(OSError):  # the other side was faster
        sock.shutdown(socket.SHUT_RDWR)


class _Http(HTTPConnection):
    """A connection that calls `uses` of its exchange. Both methods are needed: a new connection is opened after putrequest (http)
    or before it (https), and a persistent one is not opened again."""

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
    """The adapter of requests, with these connections; also for proxies."""

    def init_poolmanager(self, connections: int, maxsize: int, block: bool = False, **options: Any) -> None:  # as requests has it
        super().init_poolmanager(connections, maxsize, block, **options)
        self.poolmanager.pool_classes_by_scheme = {"http": _HttpPool, "https": _HttpsPool}

    def proxy_manager_for(self, proxy: str, **options: Any) -> ProxyManager:  # as requests has it
        manager: ProxyManager = super().proxy_manager_for(proxy, **options)
        manager.pool_classes_by_scheme = {"http": _HttpPool, "https": _HttpsPool}
        return manager
