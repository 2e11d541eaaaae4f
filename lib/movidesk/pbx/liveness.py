"""Whether a process delivers events: what the service and `movidesk deliver` leave behind for others to see.

Scripts load this module to look for alarms.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress

ROUND = "round"   # a timer of the journal: the last `deliver --once`
ALIVE = ".alive"  # ending of the service's heartbeat file (movidesk.pbx.heartbeat), beside the journal


def delivery_path(journal: str) -> str:
    """The lock of the processes that deliver (movidesk.housekeeping.at_work)."""
    return journal + ".deliver"


def delivering(journal: str) -> None:
    """This process delivers the events of this journal: it says so at least once a minute. Raises OSError."""
    os.utime(delivery_path(journal))


def last_delivery(journal: str) -> float | None:
    """When a process, a service or another, last said that it delivers the events of this journal (epoch seconds); None if none
    ever has."""
    said = []
    for path in delivery_path(journal), journal + ALIVE:
        with suppress(OSError):
            said.append(os.stat(path).st_mtime)
    return max(said, default=None)


def is_held(journal: str) -> bool:
    """Whether a process that runs on delivers the events of this journal: `movidesk serve` or `movidesk deliver`."""
    try:
        file = os.open(delivery_path(journal), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return False
    except BlockingIOError:
        return True
    finally:
        os.close(file)
