"""The emergency file: where an event goes that the journal cannot take (disk full, locked, damaged, no folder).

One JSON line each, appended and on disk before the verb goes on; beside the journal where that folder can be written, else
in $TMPDIR or /var/tmp. The service takes the lines into the journal when it is back, and then removes them.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
import zlib

from movidesk import calls

MAX_LINE = 4096  # bytes; no event of ours is longer


def paths(journal: str) -> list[str]:
    """Where the emergency lines of this journal may be, best first."""
    elsewhere = "movidesk-%d-%08x.emergency" % (os.geteuid(), zlib.crc32(journal.encode()))
    return [journal + ".emergency", os.path.join(os.environ.get("TMPDIR") or "/var/tmp", elsewhere)]


def save(journal: str, event: dict) -> str:
    """Append one event; returns the file it is in. Raises OSError where no place takes it."""
    line = json.dumps(event).encode() + b"\n"
    trouble = None
    for path in paths(journal):
        try:
            # Not through a link that somebody else put there, and never a file of somebody else's.
            file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            trouble = error
            continue
        try:
            if os.fstat(file).st_uid != os.geteuid():
                raise PermissionError("%s belongs to somebody else" % path)
            fcntl.flock(file, fcntl.LOCK_EX)
            begin = os.fstat(file).st_size
            try:
                if os.write(file, line) != len(line):
                    raise OSError("%s: only a part could be written" % path)
                os.fsync(file)
            except OSError:
                os.ftruncate(file, begin)
                raise
            return path
        except OSError as error:
            trouble = error
        finally:
            os.close(file)
    raise trouble


def waiting(journal: str) -> list[tuple[str, float]]:
    """The emergency files of this journal that hold events, and when (epoch seconds) each was last written."""
    found = []
    for path in paths(journal):
        try:
            about = os.stat(path, follow_symlinks=False)
        except OSError:
            continue  # there is none, or not for us
        if about.st_size and about.st_uid == os.geteuid():
            found.append((path, about.st_mtime))
    return found


def take_in(journal, pbx: str) -> tuple[int, list[str]]:
    """Move all emergency lines into the journal; returns how many, and the lines that made no sense.

    A file is emptied only after its last line is in the journal: a crash in between records nothing twice, because the
    journal ignores what it has. Raises JournalError while the journal is still away.
    """
    taken, nonsense = 0, []
    for path in paths(journal.path):
        try:
            file = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
        except FileNotFoundError:
            continue
        with os.fdopen(file, "rb+") as lines:
            if os.fstat(lines.fileno()).st_uid != os.geteuid():
                nonsense.append("%s belongs to somebody else and was left alone" % path)
                continue
            fcntl.flock(lines, fcntl.LOCK_EX)
            for line in lines:
                try:
                    _record(journal, pbx, json.loads(line))
                    taken += 1
                except (ValueError, KeyError, TypeError) as error:
                    nonsense.append("%s: %r: %s" % (path, line[:200], error))
            lines.truncate(0)
    return taken, nonsense


def _record(journal, pbx: str, event: dict) -> None:
    kind, at, call_id = event["kind"], float(event["at"]), event["call_id"]
    if not 0 < at <= time.time() + 86400:
        raise ValueError("the time %r is none" % at)
    if kind in (calls.RECEIVED, calls.ARRIVED):
        last = journal.latest(event["uniqueid"])
        if last and last.arrived <= at <= (last.ended or at):
            return  # the arrival was recorded; what failed came after it
        mode = calls.CONTROL if kind == calls.RECEIVED else calls.WATCH
        journal.arrive(pbx, event["uniqueid"], event["queue"], event["number"], mode, arrived=at)
    elif kind == "hangup":
        journal.hang_up(call_id, event["link"], at=at)
    else:
        journal.record(call_id, kind, event["extension"], event["link"], event["queue"], event["number"],
                       event["uniqueid"], arrived=at, at=at)
