"""One thread reads the journal for all viewers, only while somebody looks; each viewer has a stream of what has changed.

A viewer's stream (server-sent events) blocks a worker of the web server, which has MAX_VIEWERS of them for that alone: recordings
and made calls keep theirs. A slow viewer misses states, but never gets an old one late: a stream sends what is true when it can
send. It ends after STREAM_SECONDS, and the browser opens another: a phone that has gone away holds its place no longer than that.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from movidesk.config import Config
from movidesk.journal import JournalError
from movidesk.messages import in_language
from movidesk.web.panel.sections import Maker
from movidesk.web.panel.source import Source

log = logging.getLogger("movidesk.web.panel")

LOOK_EVERY = 1.0        # seconds between two looks at the journal
BEAT = 10.0             # seconds after which a stream says that it is alive; assets/panel.js waits for three of them
NOTICE = 1.0            # seconds after which a stream notices that its browser has gone
STREAM_SECONDS = 240.0  # less than server.ANSWER_SECONDS
MAX_VIEWERS = 32        # streams at once


class TooManyViewers(Exception):
    """MAX_VIEWERS look already."""


class Board:
    """What all viewers see. version: of the page's files. steady: seconds that nobody sets, for intervals."""

    def __init__(self, config: Config, maker: Maker, version: str, clock: Callable[[], float] = time.time,
                 steady: Callable[[], float] = time.monotonic):
        self.version = version
        self._maker, self._source, self._clock, self._steady = maker, Source(config), clock, steady
        self._news = threading.Condition()      # for the viewers
        self._wake = threading.Event()          # for the reader
        self._viewers: Counter[str] = Counter()  # by language
        self._kept: dict[tuple[str, str], tuple[int, str]] = {}  # (language or '', section): the look that changed it, its JSON
        self._looks, self._looked, self._closed = 0, 0.0, False
        self._utc_offset = 0

    def start(self) -> None:
        """Begin the thread."""
        threading.Thread(target=self._run, name="panel", daemon=True).start()

    def close(self) -> None:
        """End the thread and all streams."""
        with self._news:
            self._closed = True
            self._news.notify_all()
        self._wake.set()

    def enter(self, language: str, has_left: Callable[[], bool] = lambda: False) -> Viewer:
        """A stream for one more viewer. has_left: whether its browser has closed the connection. Raises TooManyViewers."""
        with self._news:
            if self._closed or sum(self._viewers.values()) >= MAX_VIEWERS:
                raise TooManyViewers
            self._viewers[language] += 1
        self._wake.set()
        return Viewer(self, language, has_left, self._steady)

    def leave(self, language: str) -> None:
        """A viewer's stream has ended."""
        with self._news:
            self._viewers[language] -= 1
            self._viewers += Counter()  # without languages that nobody has

    @property
    def closed(self) -> bool:
        """Whether the panel has ended."""
        return self._closed

    def wait(self, language: str, seen: int, timeout: float) -> bool:
        """Wait until something newer than the look `seen` is there for this language, or the panel ends; whether that is so."""
        with self._news:
            return self._news.wait_for(lambda: self._closed or self._newest(language) > seen, timeout)

    def since(self, language: str, seen: int) -> tuple[int, str]:
        """The number of the last look, and as JSON what has changed since the look `seen`."""
        with self._news:
            changed = [f"{json.dumps(name)}:{text}" for (of, name), (look, text) in self._kept.items()
                       if of in ("", language) and look > seen]
            seen = max(seen, self._newest(language))
            return seen, (f'{{"now":{self._clock():.3f},"looked":{self._looked:.3f},"offset":{self._utc_offset},'
                          f'"sections":{{{",".join(changed)}}}}}')

    def _newest(self, language: str) -> int:
        """The last look that has changed something in this language; 0 if there is none yet."""
        if (language, "alarms") not in self._kept:
            return 0
        return max(look for (of, _), (look, _) in self._kept.items() if of in ("", language))

    # -- the reader --------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._closed:
            self._wake.clear()  # before the viewers are counted: one who comes now is seen here, or ends the wait below
            with self._news:
                languages = sorted(self._viewers)
            if not languages:
                self._rest()
                continue
            try:
                self._look(languages)
            except Exception:  # the outermost level of this thread: the next look tries again, and the page sees that none came
                log.exception("the panel could not read the journal")
            self._wait_for_next_look()
        self._source.close()

    def _rest(self) -> None:
        """Nobody looks: give the journal back, forget what is old, and sleep."""
        self._source.close()
        with self._news:
            if self._viewers:
                return
            self._kept.clear()
        self._wake.wait()

    def _wait_for_next_look(self) -> None:
        """A new viewer whose language is not there yet does not wait."""
        end = self._steady() + LOOK_EVERY
        while not self._closed and self._wake.wait(max(0.0, end - self._steady())):
            self._wake.clear()
            with self._news:
                if any((language, "alarms") not in self._kept for language in self._viewers):
                    return

    def _look(self, languages: list[str]) -> None:
        now, own = self._clock(), {}
        try:
            with self._source.opened() as journal:
                with in_language(languages[0]):
                    common = self._maker.look(journal, now)
                own[languages[0]] = common.pop("alarms")
                for language in languages[1:]:
                    with in_language(language):
                        own[language] = self._maker.alarms(journal)
        except JournalError as error:
            self._source.close()
            common = {"broken": str(error)}  # the other sections stay as they are
            for language in languages:
                with in_language(language):
                    own[language] = self._maker.alarms_without_journal(error)
        self._keep({("", name): value for name, value in common.items()}
                   | {(language, "alarms"): value for language, value in own.items()}, now)

    def _keep(self, found: dict[tuple[str, str], Any], now: float) -> None:
        """Keep what a look has found, by language ('' for all) and section, and tell the viewers if anything has changed."""
        encoded = {name: json.dumps(value, separators=(",", ":")) for name, value in found.items()}
        with self._news:
            self._looks, self._looked = self._looks + 1, now
            self._utc_offset = time.localtime(now).tm_gmtoff
            for name in [name for name in self._kept if name[0] and name not in found]:
                del self._kept[name]  # nobody looks in this language
            changed = {name: (self._looks, text) for name, text in encoded.items()
                       if name not in self._kept or self._kept[name][1] != text}
            self._kept.update(changed)
            if changed:
                self._news.notify_all()


class Viewer:
    """The stream of one viewer, an iterable of bytes. The web server closes it when it is read or its connection is gone."""

    def __init__(self, board: Board, language: str, has_left: Callable[[], bool], steady: Callable[[], float]):
        self._board, self._language, self._has_left, self._steady = board, language, has_left, steady
        self._messages, self._left = self._read(), threading.Lock()

    def __iter__(self) -> Iterator[bytes]:
        return self._messages

    def close(self) -> None:
        if self._left.acquire(blocking=False):
            self._board.leave(self._language)

    def _read(self) -> Iterator[bytes]:
        seen, ends = 0, self._steady() + STREAM_SECONDS
        yield f"retry: 1000\nevent: version\ndata: {self._board.version}\n\n".encode()
        beat = self._steady() + BEAT
        while self._steady() < ends and not self._has_left():
            has_news = self._board.wait(self._language, seen, min(BEAT, NOTICE))
            if self._board.closed:
                return
            if has_news or self._steady() >= beat:
                seen, text = self._board.since(self._language, seen)
                yield f"event: news\ndata: {text}\n\n".encode()
                beat = self._steady() + BEAT
