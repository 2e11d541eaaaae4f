"""The desk that verbs, delivery and the service work at: configuration, journal and API client in one place."""

from __future__ import annotations

import os
import sys
import time

from movidesk import agi, calls, trigger
from movidesk.config import Config, load
from movidesk.journal import Call, Journal, JournalError

SLOW = 0.5             # seconds; an answer that took longer may have been counted by Movidesk at any moment of them
REST_AFTER = 60        # seconds; a Movidesk that has not answered for longer is tried more and more seldom
TRY_TOKEN_AGAIN = 900  # seconds; a refused token is tried this seldom, a new one at once
#: The journal's notes that alarms are read from: which token (its mark) was refused, and with what words; why Movidesk
#: does not answer; why Asterisk does not say which calls are alive. Each dates from when it began.
TOKEN_REFUSED, AWAY, NOT_TOLD = "token_refused", "away", "not_told"
#: Timers of all processes together: when a refused token, a Movidesk that does not answer was last tried; when verbs last
#: looked for alarms.
TOKEN_TRIED, AWAY_TRIED, ALARMS_LOOKED = "token_tried", "away_tried", "alarms_looked"
LOOK_EVERY = 60        # seconds between two looks for alarms by verbs
WAV_HEADER = 44        # bytes; a recording of this size holds no sound


class Desk:
    """What the verbs work with: configuration, journal, API. Each is opened when it is first needed.

    An event needs no network and no HTTP library: the client is imported by the first request.
    """

    def __init__(self, config: Config, clock=time.time, wake=None, is_script: bool = True, journal: Journal | None = None):
        self.config = config
        self.clock = clock
        self.is_script = is_script
        self._wake = wake
        self._journal = journal
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
        """Keep a damaged journal under another name, and begin a fresh one with what can still be read of it."""
        from movidesk.journal.damaged import set_aside

        self._journal = None
        done = set_aside(self.config["journal", "path"], self.clock)
        if done:
            print("movidesk: the journal was damaged: it is kept as %s, and a fresh one begun; %d unfinished calls of it could "
                  "be read and go on" % done, file=sys.stderr)

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
        """Send one event with the request that was claimed for it; its outcome (api.Client.send), heeded by `heard`."""
        begun, sent = time.monotonic(), self.journal.steady()
        try:
            result = self.client.send(event, **fields)
        finally:
            if time.monotonic() - begun > SLOW:
                self.journal.took_long(request)
        self.heard(result, sent)
        return result

    def wake(self) -> None:
        """Tell the delivery loop, in this process or another, that there is something to send."""
        if self._wake is not None:
            self._wake()
        else:
            trigger.pull(trigger.path_beside(self.config["journal", "path"]))

    def heard(self, result, sent: float | None = None) -> None:
        """Keep what an outcome means for all requests: a pause after 429, silence after 401 and 403, the alarms' ends.

        sent: when the request left, in the journal's steady time; None: just now.
        """
        from movidesk.api import Delivered, Retry

        status = result.status if isinstance(result, Retry) else 200
        if status is None and result.cut and self._is_suspected_429():
            return
        if status is None or status >= 500:
            self.journal.begin_note(AWAY, result.why)
            self.journal.is_time(AWAY_TRIED, 0.0)
            return
        self.journal.end_note(AWAY)
        if status == 429:
            self.journal.close_window(result.after, sent)
        elif status in (401, 403):
            self._token_refused(result.why)
        elif isinstance(result, Delivered) and self.refused_token():
            self.journal.end_note(TOKEN_REFUSED)

    def _is_suspected_429(self) -> bool:
        """Whether a connection that was cut is taken for a 429; never while Movidesk does not answer at all."""
        from movidesk.api import RETRY_AFTER_DEFAULT, log

        limit = self.config["movidesk", "requests_per_minute"]
        if self.journal.note(AWAY) or not self.journal.suspect_429(limit, RETRY_AFTER_DEFAULT):
            return False
        log.warning("%s: nothing is sent for %.0f s", self.journal.pause_reason(), self.journal.paused())
        return True

    def _token_refused(self, why: str) -> None:
        """The note's time is that of the first refusal; when the token is tried again stands in a note of its own."""
        if not self.refused_token():
            self.journal.set_note(TOKEN_REFUSED, "%s %s" % (self._token_mark(), why))
        self.journal.is_time(TOKEN_TRIED, 0.0)

    def refused_token(self) -> tuple[str, float] | None:
        """Why and since when (epoch seconds) Movidesk refuses the configuration's token; None where it does not."""
        refused = self.journal.note(TOKEN_REFUSED)
        mark, _, why = refused[0].partition(" ") if refused else ("", "", "")
        return (why, refused[1]) if refused and mark == self._token_mark() else None

    def rest(self, longest: float) -> float:
        """Seconds for which a Movidesk that does not answer is let be: since its last failure half as long as it is away
        already, at most `longest`. A trouble of less than REST_AFTER seconds holds up nobody."""
        away = self.journal.note(AWAY)
        age = self.clock() - away[1] if away else 0.0
        return self.journal.time_left(AWAY_TRIED, min(longest, age / 2)) if age >= REST_AFTER else 0.0

    def silence(self) -> float:
        """Seconds for which nothing may be sent because Movidesk refused this very token; 0.0 where it may."""
        if not self.refused_token():
            return 0.0
        self._look_for_a_new_token()
        if not self.refused_token():
            return 0.0
        return self.journal.time_left(TOKEN_TRIED, TRY_TOKEN_AGAIN)

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
        # Where the caller came while the journal was away, the channel of whoever answers knows no id, but the caller's channel.
        uniqueid = channel.get(agi.HANDLER) or channel.uniqueid
        call = self.journal.latest(uniqueid)
        return call.call_id if call else calls.call_id(self.config["pbx", "name"], uniqueid)

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
