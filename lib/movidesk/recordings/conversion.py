"""Converts recordings after their calls, with lame, opusenc or ffmpeg.

The end of a call is reported at once, without a link. The link waits in the journal for its file (`CallStore.hang_up`, converts)
and is sent when the file is complete. If there is no tool, or it fails, the link of the unconverted file is sent; also after
journal.HOLD, if no process converts it.

A link never names a file that is gone. Before a file is converted its event is claimed, so that it is not delivered meanwhile.
The old file is deleted when the new link is in the journal. A process that dies before that leaves the old link and the old file;
one that dies after it leaves the new link and both files.
"""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from typing import Protocol

from movidesk.config import Config
from movidesk.journal import Job, Journal
from movidesk.recordings import links

log = logging.getLogger("movidesk.recordings.conversion")

EVERY = 5.0        # seconds between two checks for waiting files
TIMEOUT = 900.0    # seconds for one file
CLAIM = TIMEOUT + 60.0  # seconds for which its event belongs to the process that converts it

#: File name extension -> commands that create it, the best first; IN and OUT stand for the files.
TOOLS = {
    "mp3": ("lame --quiet -V 6 IN OUT", "ffmpeg -nostdin -loglevel error -y -i IN -q:a 6 OUT"),
    "opus": ("opusenc --quiet IN OUT", "ffmpeg -nostdin -loglevel error -y -i IN -c:a libopus OUT"),
}


class Owner(Protocol):
    """What this needs of a movidesk.context.Context."""

    config: Config
    clock: Callable[[], float]

    @property
    def journal(self) -> Journal: ...


class NotConverted(Exception):
    """The file was not converted; the text gives the reason."""


def tool(ending: str) -> list[str]:
    """The command that creates such files on this machine. Raises NotConverted if none is installed."""
    for command in TOOLS[ending]:
        if shutil.which(command.split()[0]):
            return command.split()
    raise NotConverted(f"no tool for .{ending} files: install {' or '.join(command.split()[0] for command in TOOLS[ending])}")


def convert(path: str, ending: str) -> str:
    """Convert a recording and return the path of the new file. The recording itself stays. Raises NotConverted.

    The new file gets its name only when it is complete and on disk.
    """
    target = os.path.splitext(path)[0] + "." + ending
    if os.path.exists(path):
        folder, name = os.path.split(target)
        part = os.path.join(folder, "." + name)
        command = [{"IN": path, "OUT": part}.get(word, word) for word in tool(ending)]
        try:
            done = subprocess.run(["nice", *command], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                  stderr=subprocess.PIPE, timeout=TIMEOUT)
            if done.returncode != 0:
                said = done.stderr.decode("utf-8", "replace").strip().splitlines()
                raise NotConverted(f"{command[0]}: {said[-1] if said else f'exit status {done.returncode}'}")
            with open(part, "rb") as file:
                os.fsync(file.fileno())
            os.replace(part, target)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise NotConverted(f"{command[0]}: {error}") from None
    if not os.path.exists(target):
        raise NotConverted(f"{path} does not exist")
    return target


def work_off(context: Owner, seconds: float = float("inf")) -> int:
    """Convert the waiting recordings, release their links, and return their number. Begin no further file after `seconds`."""
    begun, count = time.monotonic(), 0
    for job, name in context.journal.outbox.conversions():
        if time.monotonic() - begun >= seconds:
            break
        claimed = context.journal.outbox.claim_conversion(job, name, CLAIM)
        if claimed:
            _convert(context, claimed, os.path.join(context.config["recordings", "folder"], name))
            count += 1
    return count


def _convert(context: Owner, job: Job, path: str) -> None:
    try:
        target = convert(path, context.config["recordings", "convert"])
    except NotConverted as error:
        log.warning("%s: %s is not converted: %s", job.call.call_id, os.path.basename(path), error)
        context.journal.outbox.end_conversion(job, job.event.link)
        return
    if context.journal.outbox.end_conversion(job, links.link(context.config, job.call, target, context.clock())):
        _remove(path)
    else:  # another process has claimed the event, for example because this machine was suspended
        log.warning("%s: its link already names %s: both files stay", job.call.call_id, os.path.basename(path))


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass  # a process that died had already deleted it
    except OSError as error:
        log.warning("%s is converted, but cannot be deleted: %s", path, error)
