"""The emergency file: where an event goes that the journal cannot take (disk full, locked, damaged, no folder).

One JSON line each, appended and on disk before the verb goes on; beside the journal where that folder can be written, else
in $TMPDIR or /var/tmp. When the journal is back the call's next verb records its lines, and the service all, which it then
removes; lines that make no sense are logged whole.
"""

from __future__ import annotations

import os
import time

from movidesk import calls

MAX_LINE = 4096  # bytes that are logged of a line without sense; ours are shorter
KINDS = frozenset({calls.RECEIVED, calls.TRANSFERRED, calls.COMPLETED, calls.LOST, calls.CANCELED, "hangup", calls.ARRIVED,
                   calls.START_TRANSFERRED, calls.START_CANCELED, calls.LINK})
_TEXTS = ("kind", "call_id", "uniqueid", "queue", "number", "extension", "link")


def paths(config) -> list[str]:
    """Where the emergency lines of this configuration may be, best first.

    The second place is found without its content: it may be missing when a line is written, and back when it is taken in.
    """
    name = os.path.abspath(config.path).replace(os.sep, "-").strip("-")
    elsewhere = "movidesk-%d-%s.emergency" % (os.geteuid(), name[-150:])
    beside = [] if config.problems.get("journal") else [config["journal", "path"] + ".emergency"]
    return [*beside, os.path.join(os.environ.get("TMPDIR") or "/var/tmp", elsewhere)]


def save(config, event: dict) -> str:
    """Append one event; returns the file it is in. Raises OSError where no place takes it."""
    import fcntl  # these two a verb that only looks does without
    import json

    line = json.dumps(event).encode() + b"\n"
    trouble = None
    for path in paths(config):
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


def waiting(config) -> list[tuple[str, float]]:
    """The emergency files that hold events, and when (epoch seconds) each was last written."""
    found = []
    for path in paths(config):
        try:
            about = os.stat(path, follow_symlinks=False)
        except OSError:
            continue  # there is none, or not for us
        if about.st_size and about.st_uid == os.geteuid():
            found.append((path, about.st_mtime))
    return found


def take_in(journal, config, uniqueid: str = "") -> tuple[int, list[str]]:
    """Move all emergency lines into the journal; returns how many, and the lines that made no sense.

    uniqueid: record only this channel's lines, and leave the file as it is; whoever empties it finds them recorded.
    A file is emptied only after its last line is in the journal: a crash in between records nothing twice, because the
    journal ignores what it has. Raises JournalError while the journal is still away.
    """
    import fcntl
    import json

    taken, nonsense = 0, []
    for path in paths(config):
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
                if uniqueid.encode("utf-8", "surrogateescape") not in line:
                    continue
                try:
                    event = json.loads(line)
                    if uniqueid in ("", event["uniqueid"]):
                        _record(journal, config, event)
                        taken += 1
                except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
                    nonsense.append("%s: %r: %s" % (path, line[:MAX_LINE], error))
            if not uniqueid:
                lines.truncate(0)
    return taken, nonsense


def _record(journal, config, event: dict) -> None:
    kind, at, came = event["kind"], _time(event["at"]), event.get("arrived")
    came = None if came is None else _time(came)
    for field in _TEXTS:
        if not isinstance(event[field], str):
            raise TypeError("%s %.40r is no text" % (field, event[field]))
    pbx, uniqueid, call_id = config["pbx", "name"], event["uniqueid"], event["call_id"]
    extension = config.agent(event["extension"])
    if kind not in KINDS or not 0 < len(call_id or uniqueid) <= calls.MAX_ID:
        raise ValueError("the event %r of call %r is none" % (kind, call_id[:40]))
    if kind in (calls.RECEIVED, calls.ARRIVED):
        if not _is_here(journal, uniqueid, came, at):
            mode = calls.CONTROL if kind == calls.RECEIVED else calls.WATCH
            journal.arrive(pbx, uniqueid, event["queue"], event["number"], mode, arrived=came or at)
        return
    if kind == "hangup":
        call_id = journal.catch_up(pbx, uniqueid, call_id, event["queue"], event["number"], came, extension, at)
        journal.hang_up(call_id, event["link"], at=at)
        return
    call = None if call_id else journal.visit(uniqueid, came) or journal.latest(uniqueid)
    journal.record(call_id or (call.call_id if call else calls.call_id(pbx, uniqueid)), kind, extension, event["link"],
                   event["queue"], event["number"], uniqueid, arrived=came or at, at=at, held=event.get("held") is True)


def _is_here(journal, uniqueid: str, came: float | None, at: float) -> bool:
    """Whether the journal has this arrival: the same visit, or, where the dialplan did not say when the caller came, a call
    of the channel in whose time it falls."""
    if came is not None:
        return journal.visit(uniqueid, came) is not None
    last = journal.latest(uniqueid)
    return last is not None and last.arrived <= at <= (last.ended or at)


def _time(value) -> float:
    at = float(value)
    if not 0 < at <= time.time() + 86400:
        raise ValueError("the time %r is none" % at)
    return at
