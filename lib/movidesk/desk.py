"""The desk that verbs, delivery and the service work at: configuration, journal and API client in one place."""

from __future__ import annotations

import os
import sys
import time

from movidesk import agi, calls, trigger
from movidesk.config import Config, load
from movidesk.journal import Call, Journal, JournalError, set_aside

SLOW = 0.5             # seconds; an answer that took longer may have been counted by Movidesk at any moment of them
TRY_TOKEN_AGAIN = 900  # seconds; a refused token is tried this seldom, a new one at once
#: The journal's note: which token (its mark) was refused, and with what words.
TOKEN_REFUSED = "token_refused"
WAV_HEADER = 44        # bytes; a recording of this size holds no sound


class Desk:
    """What the verbs work with: configuration, journal, API. Each is opened when it is first needed.

    An event needs no network and no HTTP library: the client is imported by the first request.
    """

    def __init__(self, config: Config, clock=time.time, wake=None, is_script: bool = True):
        self.config = config
        self.clock = clock
        self.is_script = is_script
        self._wake = wake
        self._journal: Journal | None = None
        self._client = None

    @property
    def journal(self) -> Journal:
        if self._journal is None:
            # Whatever else is wrong with the configuration: while it says where the journal is, no event is lost.
            self.config.require("journal", "pbx", form=False)
            path = self.config["journal", "path"]
            try:
                self._journal = Journal(path, self.clock)
            except JournalError as error:
                if not error.damaged:
                    raise
                self.set_aside()
                self._journal = Journal(path, self.clock)
        return self._journal

    @property
    def has_journal(self) -> bool:
        """Whether the journal is open: then a problem of the configuration has kept no event from it."""
        return self._journal is not None

    def set_aside(self) -> None:
        """Keep a damaged journal under another name; the next use begins a fresh one."""
        self._journal = None
        kept = set_aside(self.config["journal", "path"])
        if kept:
            print("movidesk: the journal was damaged: it is kept as %s, and a fresh one begun" % kept, file=sys.stderr)

    @property
    def client(self):
        if self._client is None:
            self.config.require("movidesk")
            from movidesk.api import Client

            self._client = Client(self.config["movidesk", "url"], self.config["movidesk", "token"],
                                  self.config["movidesk", "timeout"])
        return self._client

    @property
    def pace(self) -> tuple[float, float]:
        """The shortest and the longest time between two questions of a waiting head, in seconds."""
        return self.config["line", "ask_every"], self.config["line", "ask_at_least_every"]

    def send(self, request: int, event: str, **fields):
        """Send one event with the request that was claimed for it; its outcome (api.Client.send)."""
        begun = time.monotonic()
        try:
            return self.client.send(event, **fields)
        finally:
            if time.monotonic() - begun > SLOW:
                self.journal.took_long(request)

    def wake(self) -> None:
        """Tell the delivery loop, in this process or another, that there is something to send."""
        if self._wake is not None:
            self._wake()
        else:
            trigger.pull(trigger.path_beside(self.config["journal", "path"]))

    def note_trouble(self, result) -> None:
        """Keep what a failed request means for all others: a pause after 429, silence after 401 and 403."""
        if result.status == 429:
            self.journal.close_window(result.after)
        elif result.status in (401, 403):
            self.journal.set_note(TOKEN_REFUSED, "%s %s" % (self._token_mark(), result.why))

    def silence(self) -> float:
        """Seconds for which nothing may be sent because Movidesk refused this very token; 0.0 where it may."""
        refused = self.journal.note(TOKEN_REFUSED)
        if refused is None or not refused[0].startswith(self._token_mark()):
            return 0.0
        self._look_for_a_new_token()
        if not refused[0].startswith(self._token_mark()):
            return 0.0
        left = refused[1] + TRY_TOKEN_AGAIN - self.clock()
        return left if 0.0 < left <= TRY_TOKEN_AGAIN else 0.0  # more: the clock was set back

    def _look_for_a_new_token(self) -> None:
        """Take over a configuration that was mended meanwhile; one with problems changes nothing."""
        mended = load(self.config.path)
        if not mended.problems and mended["movidesk", "token"].reveal() != self.config["movidesk", "token"].reveal():
            self.config, self._client = mended, None

    def _token_mark(self) -> str:
        """Tells tokens apart without telling them."""
        from hashlib import sha256

        return sha256(self.config["movidesk", "token"].reveal().encode()).hexdigest()[:12]

    def call_id(self, channel: agi.Channel) -> str:
        """The id of the channel's call: MOVIDESK_ID (an agent's channel inherits it), else the channel's last call."""
        known, gone = "", None
        try:
            known = channel.get(agi.ID)
        except agi.ChannelGone as error:
            gone = error
        if known:
            return known
        call = self.journal.latest(channel.uniqueid)
        if call:
            return call.call_id
        if gone:
            raise gone  # it may be an agent's channel: no call is to begin under its name
        return calls.call_id(self.config["pbx", "name"], channel.uniqueid)

    def link(self, call: Call | None, recording: str) -> str:
        """The address of a recording: what is one already, else the file's name in [recordings] link; '' for none."""
        recording = recording.strip()
        template = self.config["recordings", "link"]
        if recording.startswith(("http://", "https://")):
            return recording.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
        if not recording or not template or is_silent(recording):
            return ""
        from urllib.parse import quote

        link = template.format(
            file=quote(os.path.basename(recording), errors="surrogateescape"), id=quote(call.call_id if call else ""),
            date=time.strftime("%Y-%m-%d", time.localtime(call.arrived if call else self.clock())),
            queue=quote(call.queue if call else ""), extension=quote(call.extension if call else ""))
        if not self.config["recordings", "secret"]:
            return link
        from movidesk import recordings

        return recordings.sign(link, os.path.basename(recording), self.config, self.clock())


def is_silent(path: str) -> bool:
    """Whether a recording on this machine is missing or holds no sound. Only absolute paths are looked at."""
    if not os.path.isabs(path):
        return False
    try:
        return os.path.getsize(path) <= WAV_HEADER
    except FileNotFoundError:
        return True
    except OSError:
        return False  # not ours to see: the web server may
