"""Waiting for what another thread or process does."""
from __future__ import annotations

import socket
import time

TIMEOUT = 30  # seconds after which a test that waits for the other side fails


def until(condition, seconds: float = TIMEOUT):
    """Wait until `condition()` is true, and return it; AssertionError where it does not become so in time."""
    end = time.monotonic() + seconds
    while True:
        found = condition()
        if found:
            return found
        assert time.monotonic() < end, f"waited {seconds:g} s in vain"
        time.sleep(0.01)


def until_it_listens(port: int) -> None:
    """Wait until somebody accepts connections at this port of 127.0.0.1."""
    def listens() -> bool:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            return False
        return True
    until(listens)


def free_port() -> int:
    """A port of 127.0.0.1 at which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]
