"""The desk that verbs, delivery and the service work at: configuration, journal and API client in one place."""

from __future__ import annotations

import os
import sys
import time

from movidesk import agi, calls, trigger
from movidesk.config import Config
from movidesk.journal import Call, Journal, JournalError
from movidesk.sending import Sending

#: The journal's notes: why Asterisk does not say which calls are alive (since when it does not); when verbs last looked for
#: alarms. Those about requests are in movidesk.sending.
NOT_TOLD, ALARMS_LOOKED = "not_told", "alarms_looked"
LOOK_EVERY = 60        # seconds between two looks for alarms by verbs
WAV_HEADER = 44        # bytes; a recording of this size holds no sound


class Desk(Sending):
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

    def wake(self) -> None:
        """Tell the delivery loop, in this process or another, that there is something to send."""
        if self._wake is not None:
            self._wake()
        else:
            trigger.pull(trigger.path_beside(self.config["journal", "path"]))

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
        if call and (gone or call.ended is None):
            return call.call_id
        if gone:
            raise gone  # it may be an agent's channel: no call is to begin under its name
        # Where the caller came while the journal was away, the channel of whoever answers knows no id, but the caller's channel;
        # so does a channel that took the caller's place since, which may have had a call of its own before.
        uniqueid = channel.get(agi.HANDLER) or channel.uniqueid
        if call and not (uniqueid != channel.uniqueid and channel.get(agi.ARRIVED)):
            return call.call_id
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
