"""Wakes the delivery loop of `movidesk serve` from any process: a named pipe beside the journal (as nullmailer has it).

Pulling costs one open and one write, waits for nothing and may fail: the event is on disk, the loop looks by itself
every few seconds, and a missing reader only means that no service runs.
"""

from __future__ import annotations

import errno
import os


def path_beside(journal: str) -> str:
    return journal + ".wake"


def pull(path: str) -> bool:
    """Wake whoever waits on this trigger; False where nobody does."""
    try:
        pipe = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENXIO, errno.EACCES, errno.ENOTDIR):
            return False
        raise
    try:
        os.write(pipe, b"!")
    except BlockingIOError:
        return True  # the pipe is full of calls to wake up: one more adds nothing
    except BrokenPipeError:
        return False
    finally:
        os.close(pipe)
    return True


class Trigger:
    """The waiting end. Raises OSError where the pipe cannot be made."""

    def __init__(self, path: str):
        self.path = path
        if not os.path.exists(path):
            os.mkfifo(path, 0o660)
        # Read and write: with a writer of our own the pipe never reports end of file.
        self._pipe = os.open(path, os.O_RDWR | os.O_NONBLOCK)

    def wait(self, seconds: float) -> bool:
        """Wait to be woken, at most so long; True where somebody pulled."""
        import select  # which the pulling end, a script, does without

        ready, _, _ = select.select([self._pipe], [], [], max(0.0, seconds))
        if ready:
            os.read(self._pipe, 65536)
        return bool(ready)

    def pull(self) -> None:
        pull(self.path)

    def fileno(self) -> int:
        """The pipe, for signal.set_wakeup_fd: what is written to it wakes the waiter."""
        return self._pipe

    def close(self) -> None:
        os.close(self._pipe)
