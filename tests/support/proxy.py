"""A network that fails as networks do, between clients and a server on this machine."""
from __future__ import annotations

import socket
import struct
import threading
import time
from contextlib import suppress

TO_SERVER, TO_CLIENT = "to server", "to client"
BOTH = (TO_SERVER, TO_CLIENT)
CHUNK = 65536
#: Closing with this is a reset, as a router sends it that does not know the connection.
RESET = struct.pack("ii", 1, 0)


class Proxy:
    """Leads connections at `port` of 127.0.0.1 to `target`, another port there; a context manager.

    `delay` is how many seconds each piece of data takes, in each direction. hold() lets packets vanish silently, in one
    direction or both; after release() they arrive after all, as TCP sends them again: also those of a client that has given up.
    cut() closes all connections and refuses new ones until mend().
    """

    def __init__(self, target: int, *, delay: float = 0.0) -> None:
        self.target, self.delay = target, delay
        self._open = {direction: threading.Event() for direction in BOTH}
        self._connections: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._listener: socket.socket | None = None
        self.port = 0
        self.accepted = 0  # connections so far
        self.release()
        self.mend()

    def __enter__(self) -> Proxy:
        return self

    def __exit__(self, *_exception) -> None:
        self.close()

    def hold(self, *directions: str) -> None:
        """Deliver nothing in these directions (none named: both) until release()."""
        for direction in directions or BOTH:
            self._open[direction].clear()

    def release(self) -> None:
        for event in self._open.values():
            event.set()

    def cut(self) -> None:
        """Reset all connections; nobody listens any more."""
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.shutdown(socket.SHUT_RDWR)  # wakes accept()
            listener.close()
        with self._lock:
            connections, self._connections = self._connections, set()
        for connection in connections:
            _reset(connection)

    def mend(self) -> None:
        """Listen again, at the same port."""
        if self._listener is not None:
            return
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def close(self) -> None:
        self.cut()
        self.release()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return  # cut() has closed it
            self.accepted += 1
            threading.Thread(target=self._connect, args=(client, listener), daemon=True).start()

    def _connect(self, client: socket.socket, listener: socket.socket) -> None:
        try:
            server = socket.create_connection(("127.0.0.1", self.target), 10)
        except OSError:
            _reset(client)
            return
        server.settimeout(None)
        with self._lock:
            if self._listener is not listener:  # cut meanwhile
                _reset(client)
                _reset(server)
                return
            self._connections |= {client, server}
        for side in (client, server):
            side.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        pumps = [threading.Thread(target=self._pump, args=arguments, daemon=True)
                 for arguments in ((client, server, TO_SERVER), (server, client, TO_CLIENT))]
        for pump in pumps:
            pump.start()
        for pump in pumps:
            pump.join()
        with self._lock:
            self._connections -= {client, server}
        client.close()
        server.close()

    def _pump(self, source: socket.socket, sink: socket.socket, direction: str) -> None:
        try:
            data = source.recv(CHUNK)
            while data:
                time.sleep(self.delay)
                self._open[direction].wait()
                sink.sendall(data)
                data = source.recv(CHUNK)
            self._open[direction].wait()
            if source in self._connections:  # it has said all; else cut() has woken us
                sink.shutdown(socket.SHUT_WR)
        except OSError:
            for side in (source, sink):
                _reset(side)


def _reset(connection: socket.socket) -> None:
    with suppress(OSError):  # it is closed already
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        connection.shutdown(socket.SHUT_RD)  # wakes recv() in another thread, and tells the other side nothing
    connection.close()
