"""Whether the recordings that tickets link to can be fetched, as whoever reads the ticket would."""
from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterable
from typing import Callable, NamedTuple

import requests

from movidesk_sim.model import Ticket

TIMEOUT = 5.0     # seconds for each link
AGAIN = 10.0      # seconds until a link that failed is looked at once more: a recording may still be converted
MAX_KNOWN = 1000  # links that are remembered


def check_links(tickets: Iterable[Ticket]) -> list[dict[str, str | int]]:
    """For every link: its ticket, the HTTP status (0: no answer) and the length of what is there."""
    found = [(ticket.id, link, fetch(link)) for ticket in tickets for link in ticket.links]
    return [{"ticket": ticket, "link": link, "status": look.status, "length": look.length} for ticket, link, look in found]


class Look(NamedTuple):
    """What is at a link. fault: '' if a browser can play it, checking, not_http, no_answer, status or not_audio."""

    fault: str
    status: int = 0  # of HTTP; 0 without an answer
    length: int = 0  # bytes


CHECKING = Look("checking")


def fetch(link: str) -> Look:
    """Ask for the headers of what is there; it may take TIMEOUT."""
    if not link.startswith(("http://", "https://")):
        return Look("not_http")
    try:
        answer = requests.head(link, timeout=TIMEOUT, allow_redirects=False)
    except (requests.RequestException, UnicodeError, ValueError):  # the last two of addresses that are none
        return Look("no_answer")
    length = answer.headers.get("Content-Length", "")
    is_audio = answer.headers.get("Content-Type", "").startswith("audio/")
    fault = "status" if answer.status_code != 200 else "" if is_audio else "not_audio"
    return Look(fault, answer.status_code, int(length) if length.isdecimal() else 0)


class Looks:
    """The looks at links, taken by a thread, so that nobody waits for them."""

    def __init__(self, fetch: Callable[[str], Look] = fetch, clock: Callable[[], float] = time.monotonic) -> None:
        self._fetch, self._clock = fetch, clock
        self._known: dict[str, tuple[Look, float]] = {}
        self._wanted: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def at(self, link: str) -> Look:
        """The last look; CHECKING before there is one. Asking for one that failed has it looked at again, after AGAIN."""
        now = self._clock()
        with self._lock:
            look, until = self._known.get(link, (CHECKING, 0.0))
            if look.fault and until <= now:
                self._known.pop(link, None)
                while len(self._known) >= MAX_KNOWN:
                    del self._known[next(iter(self._known))]
                self._known[link] = (look, now + 2 * TIMEOUT + AGAIN)
                self._begin(link)
        return look

    def _begin(self, link: str) -> None:
        self._wanted.put(link)
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="movidesk-sim-links", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        while True:
            link = self._wanted.get()
            look = self._fetch(link)
            with self._lock:
                self._known[link] = (look, self._clock() + AGAIN)
