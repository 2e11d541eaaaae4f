"""The context that verbs, delivery and the service work at: configuration, journal and API client in one place."""

from __future__ import annotations

import sys
import time

from movidesk.config import Config
from movidesk.delivery.availability import Sending
from movidesk.journal import Journal, JournalError, wakeup

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from movidesk.delivery.api import Client

#: The journal's notes: why Asterisk does not say which calls are alive (since when it does not); when verbs last looked for
#: alarms. Those about requests are in movidesk.delivery.availability.
NOT_TOLD, ALARMS_LOOKED = "not_told", "alarms_looked"
LOOK_EVERY = 60        # seconds between two looks for alarms by verbs


class Context(Sending):
    """What the verbs work with: configuration, journal, API. Each is opened when it is first needed.

    An event needs no network and no HTTP library: the client is imported by the first request.
    """

    def __init__(self, config: Config, clock: Callable[[], float] = time.time, wake: Callable[[], object] | None = None,
                 is_script: bool = True, journal: Journal | None = None):
        self.config = config
        self.clock = clock
        self.is_script = is_script
        self._wake = wake
        self._journal = journal
        self._client: Client | None = None

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
        from movidesk.journal.recovery import set_aside

        self._journal = None
        done = set_aside(self.config["journal", "path"], self.clock)
        if done:
            kept, unfinished = done
            print(f"movidesk: the journal was damaged: it is kept as {kept}, and a fresh one begun; {unfinished} unfinished "
                  "calls of it could be read and go on", file=sys.stderr)

    @property
    def client(self) -> Client:
        if self._client is None:
            self.config.require("movidesk")
            from movidesk.delivery.api import Client

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
            wakeup.pull(wakeup.path_beside(self.config["journal", "path"]))

    def with_journal(self, journal: Journal) -> Context:
        """The same on another journal, whose events no delivery loop waits for."""
        return Context(self.config, self.clock, lambda: None, self.is_script, journal)
