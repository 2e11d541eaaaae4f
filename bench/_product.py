"""The product in the virtual day: its own verbs and delivery talk to Movidesk's model in this process."""
from __future__ import annotations

import random
import re
import tempfile

from _day import Caller, Day
from movidesk.agi import runner, variables
from movidesk.config import Config, load
from movidesk.context import Context
from movidesk.delivery import api
from movidesk.delivery.worker import IDLE, Delivery
from movidesk.journal import Journal


class VirtualClient:
    """The API client's place: requests go to the model in this process."""

    def __init__(self, day: Day):
        self.day = day

    @property
    def token(self) -> str:
        return self.day.movidesk.token

    def send(self, event: str, **fields):
        endpoint = api.ENDPOINTS[event]
        answer = self.day.movidesk.request(endpoint.method, endpoint.path, {"token": self.token, **api.query(event, **fields)})
        return api.outcome(answer.status, answer.body, answer.headers.get("Retry-After"), self.day.now)


class VirtualChannel(dict):
    """A channel's variables, and as much of Asterisk as the verbs need."""

    def __init__(self, caller: Caller, agents: dict):
        super().__init__({"MOVIDESK_CHECK_PHONE": "yes", "MOVIDESK_DIAL_PREFIX": "PJSIP/"})
        self.agents = agents
        self.uniqueid = str(caller.number)
        self.env = {"agi_callerid": "4733990777"}

    def get(self, name: str, default: str = "") -> str:
        return super().get(name, default)

    def set(self, name: str, value) -> None:
        self[name.lstrip("_")] = str(value)

    def evaluate(self, text: str) -> str:
        """The text with the state of each phone in place of its DEVICE_STATE()."""
        return " ".join(self.agents[extension].state() for extension in re.findall(r"PREFIX}(\d+)", text))

    def say(self, text: str, level: int = 1, of_caller: bool = True) -> None:
        pass


class VirtualContext(Context):
    """The product's context, at which requests go to the day's client whatever token is taken over."""

    virtual_client = None

    @property
    def client(self):
        return self.virtual_client


class Product(Day):
    """The product's own verbs and delivery."""

    def __init__(self, scene, seed: int):
        super().__init__(scene, seed)
        self.open(VirtualContext(self.config(), self.clock, self.wake, is_script=False, journal=Journal(":memory:", self.clock)))

    def open(self, context: VirtualContext) -> None:
        """Begin with an empty journal."""
        self.context = context
        self.context.virtual_client = VirtualClient(self)
        self.delivery = Delivery(self.context, jitter=random.Random(1).random)
        self.channels: dict[int, VirtualChannel] = {}
        self.said: dict[int, tuple[float, str]] = {}  # of a caller's number: when it began to wait, and MOVIDESK_EXPECTED then
        self._look_at: float | None = None

    def clock(self) -> float:
        """The time of the virtual day, in epoch seconds."""
        return self.now

    def config(self) -> Config:
        with tempfile.NamedTemporaryFile("w", suffix=".conf") as file:
            file.write(f"[movidesk]\ntoken = {self.movidesk.token}\nrequests_per_minute = {self.scene.limit}\n"
                       "[pbx]\nname = day\n")
            file.flush()
            return load(file.name).require()

    def verb(self, caller: Caller, name: str, *arguments: str) -> VirtualChannel:
        channel = self.channels.setdefault(caller.number, VirtualChannel(caller, self.agents))
        if runner.run(name, channel, self.context, list(arguments)) != runner.OK:
            raise SystemExit(f"{name} failed for {caller.id}")
        return channel

    def look(self, caller: Caller) -> None:
        if not self.waiting(caller):
            return
        channel = self.verb(caller, "received", str(caller.queue))
        if channel.get(variables.EXT):
            self.offer(caller, channel.get(variables.EXT))
        else:
            self.unanswered(caller, channel)

    def unanswered(self, caller: Caller, channel: VirtualChannel) -> None:
        self.said.setdefault(caller.number, (self.now, channel.get(variables.EXPECTED)))
        self.at(self.now + float(channel.get(variables.WAIT)), self.look, caller)

    def refused(self, caller: Caller, reason: str) -> None:
        self.channels[caller.number].set(variables.REFUSAL, reason)
        self.at(self.now, self.look, caller)

    def report(self, caller: Caller, kind: str, extension: str = "") -> None:
        self.verb(caller, "transferred" if kind == "transferred" else "hangup", *([extension] if extension else []))

    def wake(self) -> None:
        self.at(self.now, self.deliver)

    def deliver(self) -> None:
        while True:
            job, wait = self.delivery.take()
            if job is None:
                break
            self.delivery.deliver(job)
        if wait is not None or self.context.journal.next_events.is_something_due():
            self.deliver_in(min(IDLE, wait or IDLE))  # as Delivery.run does

    def deliver_in(self, seconds: float) -> None:
        """Look again in so many seconds, unless the next look is nearer."""
        when = self.now + max(0.001, seconds)  # less would be lost beside the epoch's seconds
        if self._look_at is None or when < self._look_at:
            self._look_at = when
            self.at(when, self._look, when)

    def _look(self, when: float) -> None:
        if when == self._look_at:
            self._look_at = None
            self.deliver()

    def undelivered(self) -> int:
        totals = self.context.journal.overview.totals()
        return totals["pending"] + totals["refused"]
