"""The emergency file: it keeps events that the journal cannot record (disk full, locked, damaged, no folder).

Each event is one JSON line, and on disk before the verb goes on. The file is beside the journal; if that folder cannot be
written, in /var/tmp; else in $TMPDIR (Asterisk and the service may have different ones). When the journal can be used again, the
call's next verb records the call's lines, and the service all lines. Invalid lines are logged whole.

    save      appends to FILE, under FILE's lock
    take_in   renames FILE to FILE.taking, under FILE's lock; records its lines, in batches under its own lock; removes it

So a verb that saves never waits for a long file. If a process dies meanwhile, the next one records the file from its
beginning: the journal ignores what it already has.
"""

from __future__ import annotations

import io
import os
import stat
import sys
import time
from itertools import islice

from movidesk import sleep
from movidesk.rules import call_states

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import IO, Any, TypedDict

    from movidesk.config import Config
    from movidesk.journal import Journal

    class Kept(TypedDict):
        """An event in the emergency file: what a verb knows of it. The dialplan writes the same (movidesk-keep)."""

        kind: str              # one of KINDS
        at: float              # epoch seconds
        arrived: float | None  # when the caller came, epoch seconds; None where the dialplan does not say
        uniqueid: str          # of the channel on which the caller came
        queue: str             # '' where none is known
        call_id: str           # '' where the channel knows of none
        number: str            # the caller's, as Movidesk gets it
        extension: str         # of the agent; '' for none
        link: str              # of the recording; '' for none
        channel: str           # of `moved`: the unique id of the channel on which the call goes on; else ''
        left: str              # of `hangup`: where the caller goes (CallStore.hang_up)
        leaving: str           # of `moved`: the unique id of the channel that the call leaves; else ''
        held: bool             # of `lost`: whether the caller is leaving a message

    Parsed = Mapping[str, Any]  # a line of the file as JSON has it: anything may stand in it

SHARED = "/var/tmp"  # every process of the machine knows this place, whatever its environment
TAKING = ".taking"  # ending of a file that is taken in
BATCH = 20       # lines that are recorded while a verb of one of their calls may wait
PAUSE = 0.002    # seconds between two batches
MAX_LINE = 4096  # bytes that are logged of a line that makes no sense; ours are shorter
KINDS = frozenset({call_states.RECEIVED, call_states.TRANSFERRED, call_states.COMPLETED, call_states.LOST, call_states.CANCELED,
                   call_states.HANGUP, call_states.MOVED, call_states.ARRIVED,
                   call_states.START_TRANSFERRED, call_states.START_CANCELED, call_states.LINK})
_TEXTS = ("kind", "call_id", "uniqueid", "queue", "number", "extension", "link")


def paths(config: Config) -> list[str]:
    """Where the emergency lines of this configuration may be, best first.

    All but the first are found without its content: it may be missing when a line is written, and back when it is taken in.
    """
    beside = [] if config.problems.get("journal") else [config["journal", "path"] + ".emergency"]
    folders = dict.fromkeys([SHARED, os.environ.get("TMPDIR") or SHARED])
    return beside + [os.path.join(folder, config.own_name + ".emergency") for folder in folders]


def save(config: Config, event: Kept) -> str:
    """Append one event; returns the file it is in. Raises OSError where no place takes it."""
    import json  # a verb that only looks does without

    line = json.dumps(event).encode() + b"\n"
    trouble = OSError("there is no place for the emergency file")
    for path in paths(config):
        try:
            file = _open_locked(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        except OSError as error:
            trouble = error
            continue
        begin = os.fstat(file).st_size
        try:
            try:
                if os.write(file, line) != len(line):
                    raise OSError(f"{path}: only a part could be written")
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


def _open_locked(path: str, flags: int) -> int:
    """Open a file of ours and lock it against everybody else. Raises OSError, also where a process keeps the lock for long."""
    from movidesk import file_lock

    while True:
        # Not through a link that somebody else put there, and never a file of somebody else's, nor a folder or a pipe, at which
        # opening could wait.
        file = os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, 0o600)
        try:
            about = os.fstat(file)
            if not _is_ours(about):
                raise PermissionError(f"{path} belongs to somebody else and was left alone" if stat.S_ISREG(about.st_mode) else
                                      f"{path} is no file and was left alone: remove it")
            file_lock.lock(file)
            if _is_at(file, path):
                return file
        except OSError:
            os.close(file)
            raise
        os.close(file)  # it was renamed or removed while we waited


def _is_ours(about: os.stat_result) -> bool:
    """Whether this is a file, and of this process's user."""
    return stat.S_ISREG(about.st_mode) and about.st_uid == os.geteuid()


def _is_at(file: int, path: str) -> bool:
    """Whether this open file is still the one of that name."""
    try:
        return os.path.samestat(os.fstat(file), os.stat(path, follow_symlinks=False))
    except FileNotFoundError:
        return False


def waiting(config: Config) -> list[tuple[str, float]]:
    """The emergency files that hold events, and when (epoch seconds) each was last written."""
    found = []
    for path in paths(config):
        for name in (path, path + TAKING):
            try:
                about = os.stat(name, follow_symlinks=False)
            except OSError:
                continue  # there is none, or not for us
            if about.st_size and _is_ours(about):
                found.append((name, about.st_mtime))
    return found


def take_in(journal: Journal, config: Config, uniqueid: str = "") -> tuple[int, list[str]]:
    """Move all emergency lines into the journal; returns how many, and the lines that made no sense.

    uniqueid: record only this channel's lines, and leave the files as they are; they are ignored when the files are taken in.
    A file is removed only after its last line is in the journal. Raises JournalError while the journal is still away.
    """
    taker = _Taker(journal, config)
    if uniqueid:
        taker.in_order(uniqueid.encode("utf-8", "surrogateescape"))
        return taker.taken, taker.nonsense
    if len(waiting(config)) > 1:
        _Taker(journal, config).in_order()
    for path in paths(config):
        try:
            taker.all(path)
        except OSError as error:
            taker.nonsense.append(str(error))
    return taker.taken, taker.nonsense


def _lines(path: str, text: bytes) -> list[bytes]:
    """The lines with this text of the file that is taken in, and then of the one that is written: while that is locked, nobody
    renames it to the other. Raises OSError."""
    newer: IO[bytes]
    try:
        newer = os.fdopen(_open_locked(path, os.O_RDONLY), "rb")
    except FileNotFoundError:
        newer = io.BytesIO()
    with newer as lines:
        try:
            with os.fdopen(_open_locked(path + TAKING, os.O_RDONLY), "rb") as older:
                found = [line for line in older if text in line]
        except FileNotFoundError:
            found = []  # nobody takes it in now
        return found + [line for line in lines if text in line]


def _at(line: bytes) -> float:
    """The time of a line; 0.0 where it makes no sense, which is said when it is to be recorded."""
    import json

    try:
        return _time(json.loads(line)["at"])
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return 0.0


class _Taker:
    """Records lines. taken: how many it did; nonsense: what is wrong with the others."""

    def __init__(self, journal: Journal, config: Config):
        self._journal, self._config = journal, config
        self.taken = 0
        self.nonsense: list[str] = []

    def in_order(self, uniqueid: bytes = b"") -> None:
        """One channel's lines, or all, of all files in order of time: a call's lines may be in several. The files stay."""
        from heapq import merge

        found = []
        for path in paths(self._config):
            try:
                found.append([(_at(line), path, line) for line in _lines(path, uniqueid)])
            except OSError as error:
                self.nonsense.append(str(error))
        for _, path, line in merge(*found, key=lambda entry: entry[0]):  # within a file its own order stays: clocks are set back
            self._record(path, [line], uniqueid)

    def all(self, path: str) -> None:
        """The lines that a process which died has left, then all others."""
        try:
            self._batches(path + TAKING)
        except PermissionError as error:  # somebody else's
            self.nonsense.append(str(error))
        if self._set_apart(path):
            self._batches(path + TAKING)
        else:
            self._batches(path, sys.maxsize, lambda name: os.truncate(name, 0))

    def _set_apart(self, path: str) -> bool:
        """Rename the file, so that verbs which save begin another; False where the folder does not let us."""
        try:
            file = _open_locked(path, os.O_RDONLY)
        except FileNotFoundError:
            return True
        try:
            if os.path.lexists(path + TAKING):  # another process has come first, or somebody blocks the name
                return _is_ours(os.lstat(path + TAKING))
            if os.fstat(file).st_size:
                os.rename(path, path + TAKING)
            return True
        except PermissionError:
            return False
        finally:
            os.close(file)

    def _batches(self, path: str, size: int = BATCH, done: Callable[[str], None] = os.unlink) -> None:
        """Record a file's lines from the first to the last, then let done(path) remove them."""
        offset = 0
        begun: int | None = None
        while True:
            try:
                lines = os.fdopen(_open_locked(path, os.O_RDONLY), "rb")
            except FileNotFoundError:
                return
            with lines:
                if begun not in (None, os.fstat(lines.fileno()).st_ino):
                    return  # another process has taken it in, and then renamed the next
                begun = os.fstat(lines.fileno()).st_ino
                lines.seek(offset)
                batch = list(islice(lines, size))
                self._record(path, batch)
                if not batch:
                    done(path)
                    return
                offset += sum(map(len, batch))
            sleep(PAUSE)  # also before the last look: the dialplan writes without a lock (movidesk-keep)

    def _record(self, path: str, lines: Iterable[bytes], uniqueid: bytes = b"") -> None:
        import json

        for line in lines:
            if uniqueid not in line:
                continue
            try:
                event = json.loads(line)
                if uniqueid in (b"", event["uniqueid"].encode("utf-8", "surrogateescape")):
                    record(self._journal, self._config, event)
                    self.taken += 1
            except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
                self.nonsense.append(f"{path}: {line[:MAX_LINE]!r}: {error}")


def record(journal: Journal, config: Config, event: Parsed) -> None:
    """Record what `save` was given; nothing where the journal has it.

    Raises ValueError, KeyError, TypeError or OverflowError where it makes no sense.
    """
    kind, at, came = event["kind"], _time(event["at"]), event.get("arrived")
    came = None if came is None else _time(came)
    for field in _TEXTS:
        if not isinstance(event[field], str):
            raise TypeError(f"{field} {event[field]!r:.40} is not a string")
    pbx, uniqueid, call_id = config["pbx", "name"], event["uniqueid"], event["call_id"]
    extension = config.agent(event["extension"])
    if kind not in KINDS or not 0 < len(call_id or uniqueid) <= call_states.MAX_ID:
        raise ValueError(f"unknown event {kind!r}, or a call id of the wrong length: {call_id or uniqueid!r:.40}")
    if kind in (call_states.RECEIVED, call_states.ARRIVED):
        if not _is_here(journal, uniqueid, came, at):
            mode = call_states.CONTROL if kind == call_states.RECEIVED else call_states.WATCH
            journal.calls.arrive(pbx, uniqueid, event["queue"], event["number"], mode, arrived=came or at, once=True)
        return
    if kind in (call_states.HANGUP, call_states.MOVED):
        call_id = journal.calls.catch_up(pbx, uniqueid, call_id, event["queue"], event["number"], came, extension, at)
        if kind == call_states.HANGUP:
            journal.calls.hang_up(call_id, event["link"], at=at, left=_text(event, "left"))
        elif _text(event, "channel"):
            for other in journal.calls.move(call_id, event["channel"], event["number"], _text(event, "leaving")):
                journal.calls.hang_up(other.call_id, at=at, left=kind)
        return
    call = None if call_id else journal.calls.visit(uniqueid, came) or journal.calls.latest(uniqueid, at)
    call_id = call_id or (call.call_id if call else call_states.call_id(pbx, uniqueid))
    journal.calls.record(call_id, kind, extension, event["link"],
                         event["queue"], event["number"], uniqueid, arrived=came or at, at=at, held=event.get("held") is True)


def _text(event: Parsed, field: str) -> str:
    """A field that older lines lack."""
    text = event.get(field, "")
    if not isinstance(text, str):
        raise TypeError(f"{field} {text!r:.40} is not a string")
    return text


def _is_here(journal: Journal, uniqueid: str, came: float | None, at: float) -> bool:
    """Whether the journal has this arrival: the same visit, or, where the dialplan did not say when the caller came, a call
    of the channel in whose time it falls."""
    if came is not None:
        return journal.calls.visit(uniqueid, came) is not None
    call = journal.calls.latest(uniqueid, at)
    return at <= (call.ended or at) if call else journal.calls.began_late(uniqueid)


def _time(value: Any) -> float:
    at = float(value)
    if not 0 < at <= time.time() + 86400:
        raise ValueError(f"{at!r} is not a time, or lies in the future")
    return at
