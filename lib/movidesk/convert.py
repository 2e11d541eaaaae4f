"""Recordings made smaller after their calls, by a tool that the machine has: lame, opusenc or ffmpeg.

A call's end is told at once and without a link; the link waits in the journal for its file (`Journal.hang_up`, converts)
and is sent when that is complete. Where no tool is there, or it fails, the link goes out for the file as it is; so it
does, after journal.HOLD, where no service runs.
"""

from __future__ import annotations

import logging
import os
import shutil
import subprocess

from movidesk.config import Config
from movidesk.journal import Job

log = logging.getLogger("movidesk.convert")

EVERY = 5.0        # seconds between two looks for work
PATIENCE = 900.0   # seconds for one file

#: Ending -> commands that make it, the best first; IN and OUT stand for the files.
TOOLS = {
    "mp3": ("lame --quiet -V 6 IN OUT", "ffmpeg -nostdin -loglevel error -y -i IN -q:a 6 OUT"),
    "opus": ("opusenc --quiet IN OUT", "ffmpeg -nostdin -loglevel error -y -i IN -c:a libopus OUT"),
}


class NotConverted(Exception):
    """The file stays as it is; the text says why."""


def tool(ending: str) -> list[str]:
    """The command that makes such files on this machine. Raises NotConverted where there is none."""
    for command in TOOLS[ending]:
        if shutil.which(command.split()[0]):
            return command.split()
    raise NotConverted("no tool makes .%s files: install %s" % (
        ending, " or ".join(command.split()[0] for command in TOOLS[ending])))


def convert(path: str, ending: str) -> str:
    """Replace a recording by its converted form, and return that one's path. Raises NotConverted.

    The new file has its name only when it is whole and on disk; the old one goes after that. Both steps may be repeated.
    """
    target = os.path.splitext(path)[0] + "." + ending
    if os.path.exists(path):
        folder, name = os.path.split(target)
        part = os.path.join(folder, "." + name)
        command = [{"IN": path, "OUT": part}.get(word, word) for word in tool(ending)]
        try:
            done = subprocess.run(["nice", *command], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                  stderr=subprocess.PIPE, timeout=PATIENCE)
            if done.returncode != 0:
                said = done.stderr.decode("utf-8", "replace").strip().splitlines()
                raise NotConverted("%s: %s" % (command[0], said[-1] if said else "exit status %d" % done.returncode))
            with open(part, "rb") as file:
                os.fsync(file.fileno())
            os.replace(part, target)
            os.unlink(path)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise NotConverted("%s: %s" % (command[0], error)) from None
    if not os.path.exists(target):
        raise NotConverted("%s is not there" % path)
    return target


def work_off(desk) -> int:
    """Convert what waits for it, and let its links go; returns how many."""
    waiting = desk.journal.converting()
    for job, name in waiting:
        desk.journal.converted(job, _link(desk, job, name, desk.config))
    return len(waiting)


def _link(desk, job: Job, name: str, config: Config) -> str:
    """The link of the converted file, or the one that the event has already."""
    try:
        path = convert(os.path.join(config["recordings", "folder"], name), config["recordings", "convert"])
    except NotConverted as error:
        log.warning("%s: %s is not converted: %s", job.call.call_id, name, error)
        return job.event.link
    return desk.link(job.call, path)
