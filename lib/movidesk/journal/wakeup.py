"""Wakes the delivery loop of `movidesk serve` from any process, through a named pipe beside the journal (like nullmailer's
trigger).

Pulling the trigger opens the pipe and writes one byte. It never blocks, and it may fail: the event is on disk, the loop also
checks every few seconds, and a missing reader only means that no service runs.
"""

from __future__ import annotations

import errno
import os


def path_beside(journal: str) -> str:
    return journal + ".wake"


def pull(path: str) -> bool:
    """Wake the process that waits on this trigger. Returns False if there is none."""
    try:
        pipe = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENXIO, errno.EACCES, errno.ENOTDIR):
            return False
        raise
    try:
        os.write(pipe, b"!")
    except BlockingIOError:
        return True  # the pipe is full, so the reader will wake up anyway
    except BrokenPipeError:
        return False
    finally:
        os.close(pipe)
    return True


class Trigger:
    """The reading end. Raises OSError if the pipe cannot be created."""

    def __init__(self, path: str):
        self.path = path
        if not os.path.exists(path):
            os.mkfifo(path, 0o660)
        # Open for reading and writing: with our own writer the pipe never reports end of file.
        self._pipe = os.open(path, os.O_RDWR | os.O_NONBLOCK)

    def wait(self, seconds: float) -> bool:
        """Wait at most `seconds`; True if a process pulled the trigger."""
        import select  # imported here because scripts, which only pull, do not need it

        ready, _, _ = select.select([self._pipe], [], [], max(0.0, seconds))
        if ready:
            os.read(self._pipe, 65536)
        return bool(ready)

    def pull(self) -> None:
        pull(self.path)

    def fileno(self) -> int:
        """The pipe's descriptor, for signal.set_wakeup_fd: a byte written to it ends `wait`."""
        return self._pipe

    def close(self) -> None:
        os.close(self._pipe)
