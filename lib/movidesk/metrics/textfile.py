"""The metrics as a file for node_exporter's textfile collector.

node_exporter reads `*.prom` whenever Prometheus asks. So the file is written under another name and then renamed; with half a
file all textfile metrics of the machine would be missing.
"""

from __future__ import annotations

import glob
import os
import time
from contextlib import suppress

from movidesk.context import Context
from movidesk.metrics import collector

LEFT = 600.0  # seconds after which a file that was not renamed belongs to a process that was killed


def write(context: Context) -> str:
    """Write the file that [metrics] textfile names; returns its path. Raises OSError, which names it."""
    path = context.config["metrics", "textfile"]
    new = f"{path}.{os.getpid()}"  # two services do not write into one file
    try:
        content = collector.text(context)
        with open(new, "wb", opener=_create) as file:
            os.fchmod(file.fileno(), 0o644)  # node_exporter is another user
            file.write(content)
        os.rename(new, path)
        _remove_left(path)
    except OSError as error:
        with suppress(OSError):  # it may not be there
            os.unlink(new)
        raise OSError(f"[metrics] textfile = {path}: {error.strerror}") from None
    return path


def _remove_left(path: str) -> None:
    """Remove what killed processes left beside the file."""
    for left in glob.glob(glob.escape(path) + ".[0-9]*"):
        with suppress(OSError):  # another service removes it, or it is another user's
            if left[len(path) + 1:].isdigit() and time.time() - os.lstat(left).st_mtime > LEFT:
                os.unlink(left)


def _create(path: str, flags: int) -> int:
    """Open a file, but not through a link that somebody else put there."""
    return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
