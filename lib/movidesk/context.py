"""The context of verbs, delivery and service: configuration, journal and API client in one object."""

from __future__ import annotations

import sys
import time

from movidesk.config import Config, ConfigError
from movidesk.delivery.availability import RequestSender
from movidesk.journal import Journal, JournalError, wakeup

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from movidesk.delivery.api import Client
    from movidesk.fleet.membership import Membership

#: Notes in the journal: why and since when Asterisk does not list its channels; when verbs last checked for alarms. Those about
#: requests are in movidesk.delivery.availability.
NOT_TOLD, ALARMS_LOOKED = "not_told", "alarms_looked"
#: A note: the last extension, of Movidesk's answers or of who answered, that does not match extension_pattern.
UNUSABLE_EXTENSION = "unusable_extension"
LOOK_EVERY = 60        # seconds between two checks for alarms by verbs


class Context(RequestSender):
    """Configuration, journal and API client. Each is opened on first use.

    Recording an event needs no network and no HTTP library: the first request imports the client.
    """

    def __init__(self, config: Config, clock: Callable[[], float] = time.time, wake: Callable[[], object] | None = None,
                 is_script: bool = True, journal: Journal | None = None, tell_fleet: Callable[[], object] | None = None):
        self.config = config
        self.clock = clock
        self.is_script = is_script
        self._wake, self._tell_fleet = wake, tell_fleet
        self._journal = journal
        self._client: Client | None = None

    @property
    def journal(self) -> Journal:
        if self._journal is None:
            # Other problems of the configuration do not matter here: no event is lost while the journal's path is known.
            self.config.require("journal", "pbx", form=False)
            path = self.config["journal", "path"]
            try:
                self._journal = Journal(path, self.clock, member=self.member)
            except JournalError as error:
                if not error.damaged:
                    raise
                self.set_aside()
                self._journal = Journal(path, self.clock, member=self.member)
        return self._journal

    @property
    def has_journal(self) -> bool:
        """Whether the journal is open, so that events can be recorded in spite of problems in the configuration."""
        return self._journal is not None

    def set_aside(self) -> None:
        """Rename a damaged journal, and create a new one with the unfinished calls that can still be read.

        Waits for another process that does so, but not if the standby is in use. Raises JournalError, OSError.
        """
        from movidesk.journal import standby_folder
        from movidesk.journal.recovery import set_aside

        self._journal = None
        timeout = 0.0 if standby_folder.in_use(self.config) else None
        done = set_aside(self.config["journal", "path"], self.clock, timeout)
        if done:
            kept, unfinished = done
            print(f"movidesk: the journal was damaged: it was renamed to {kept}, and a new one was created; {unfinished} "
                  "unfinished calls could be read and go on", file=sys.stderr)

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
        """The shortest and the longest interval between two requests of a queue's first caller, in seconds."""
        return self.config["line", "ask_every"], self.config["line", "ask_at_least_every"]

    def wake(self) -> None:
        """Tell the delivery loop, in this process or another, that there is something to send."""
        if self._wake is not None:
            self._wake()
        else:
            wakeup.pull(wakeup.path_beside(self.config["journal", "path"]))

    def member(self, steady: Callable[[], float]) -> Membership | None:
        """This PBX's place in its fleet; None if [fleet] redis is not set. Raises ConfigError."""
        if self.config.problems.get("") or self.config.problems.get("movidesk"):
            return None  # nothing can be sent, and events are recorded all the same
        self.config.require("fleet")
        if not self.config["fleet", "redis"]:
            return None
        try:
            from movidesk.fleet.membership import Membership
        except ModuleNotFoundError as error:
            raise ConfigError(f"[fleet] redis needs one more package ({error.name}): pip install 'movidesk-agi[fleet]'") from None
        return Membership(self.config, steady, self.clock, is_script=self.is_script)

    def tell_fleet(self) -> None:
        """Something has changed that the other PBXs of the fleet should know. The service tells them at once; a script does so
        itself."""
        if self._tell_fleet is not None:
            self._tell_fleet()
        elif self.journal.pool is not None:
            try:
                self.journal.pool.beat(self.limit())
            except JournalError as error:  # the next call of Redis tells the same
                print(f"movidesk: the fleet is told later: {error}", file=sys.stderr)

    def with_journal(self, journal: Journal) -> Context:
        """A context with another journal. Its `wake` does nothing, because no delivery loop serves that journal."""
        return Context(self.config, self.clock, lambda: None, self.is_script, journal)
