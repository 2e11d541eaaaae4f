"""A lock between processes on an open file, with a deadline, because the process that holds it may be frozen or stopped."""

from __future__ import annotations

import time

from movidesk import sleep

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import IO

TIMEOUT = 3.0   # seconds
LOOK = 0.0005   # seconds between two tries: shorter than the pause between two batches (emergency.PAUSE)


def lock(file: IO[str] | int, exclusively: bool = True, timeout: float | None = None) -> None:
    """Lock an open file (or its descriptor) until it is closed. Raises TimeoutError if others hold the lock for `timeout`
    seconds (default: TIMEOUT)."""
    import fcntl

    timeout = TIMEOUT if timeout is None else timeout
    give_up = time.monotonic() + timeout
    while True:
        try:
            fcntl.flock(file, (fcntl.LOCK_EX if exclusively else fcntl.LOCK_SH) | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() >= give_up:
                raise TimeoutError(f"another process has held the lock of {getattr(file, 'name', 'a file')} for "
                                   f"{timeout:g} s") from None
            sleep(LOOK)
