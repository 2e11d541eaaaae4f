"""Calls in a virtual clock: callers, Movidesk's model, and the product's verbs and delivery between them, in one process."""
from __future__ import annotations

import heapq
import itertools
import random
import tempfile

from movidesk.agi import runner, variables
from movidesk.config import Config, load
from movidesk.context import Context
from movidesk.delivery import api
from movidesk.delivery.worker import IDLE, Delivery
from movidesk.journal import Journal
from movidesk_sim.model import Limit, Movidesk

TALK, PATIENCE, RING, LIMIT = 180.0, 120.0, 4.0, 10
BEGIN = 1_800_000_000.0
DRAIN = 3600.0  # seconds after the last arrival in which reports may still be delivered


class Caller:
    """One caller and what happened to it; `talk` and `patience` are drawn beforehand, alike for every strategy."""

    def __init__(self, number: int, queue: int, arrived: float, talk: float, patience: float):
        self.number, self.queue, self.arrived = number, queue, arrived
        self.talk, self.gives_up = talk, arrived + patience
        self.id = f"day-{number}"
        self.offered = self.answered = self.left = None
        self.lost = False


def traffic(load: float, since: float, until: float, draw: random.Random, first: int, queues: int = 1, fixed: bool = False):
    """Callers who come at random, `load` a minute, numbered from `first`. fixed: everybody has the same patience."""
    at = since
    for number in itertools.count(first):
        at += draw.expovariate(load / 60)
        if at > until:
            return
        yield Caller(number, 77 + number % queues, at, draw.expovariate(1 / TALK),
                     PATIENCE if fixed else draw.expovariate(1 / PATIENCE))


class Day:
    """The clock, the callers and Movidesk; a strategy adds how callers wait and how reports are sent.

    shared: every agent serves all queues; else each serves one.
    """

    def __init__(self, load: float, agents: int, seed: int, hours: float, queues: int = 1, fixed: bool = False,
                 shared: bool = False):
        self.now = BEGIN
        self._agenda, self._order = [], itertools.count()
        self.movidesk = Movidesk(lambda: self.now, limit=Limit(LIMIT))
        self.movidesk.log = []  # all of it: those who poll fill a bounded one within the hour
        self.hours, self.end = hours, BEGIN + hours * 3600
        extensions = [str(5000 + n) for n in range(agents)]
        for queue in range(queues):
            self.movidesk.add_group(77 + queue, extensions if shared else extensions[queue::queues])
        self.callers = list(traffic(load, BEGIN, self.end, random.Random(seed), 0, queues, fixed))

    def at(self, when: float, action, *arguments) -> None:
        heapq.heappush(self._agenda, (when, next(self._order), action, arguments))

    def run(self) -> dict:
        for caller in self.callers:
            self.at(caller.arrived, self.arrive, caller)
        while self._agenda and self._agenda[0][0] <= self.end:
            self._step()
        result = self.figures()
        while self._agenda and self._agenda[0][0] <= self.end + DRAIN:
            self._step()
        result["undelivered"] = self.undelivered()
        return result

    def _step(self) -> None:
        self.now, _, action, arguments = heapq.heappop(self._agenda)
        action(*arguments)

    def arrive(self, caller: Caller) -> None:
        self.at(caller.gives_up, self.give_up, caller)
        self.look(caller)

    def waiting(self, caller: Caller) -> bool:
        return caller.answered is None and caller.left is None

    def give_up(self, caller: Caller) -> None:
        if self.waiting(caller):
            caller.left = self.now
            self.report(caller, "canceled")

    def offer(self, caller: Caller, extension: str) -> None:
        caller.offered = self.now
        self.at(self.now + RING, self.answer, caller, extension)

    def answer(self, caller: Caller, extension: str) -> None:
        if self.waiting(caller):
            caller.answered = self.now
            self.report(caller, "transferred", extension)
            self.at(self.now + caller.talk, self.hang_up, caller)

    def hang_up(self, caller: Caller) -> None:
        caller.left = self.now
        self.report(caller, "completed")

    def figures(self) -> dict:
        log = self.movidesk.log
        served = [caller for caller in self.callers if caller.answered]
        waits = [caller.answered - caller.arrived for caller in served]
        stuck = sum(1 for call in self.movidesk.in_call.values()
                    if (self.callers[int(call.rpartition("-")[2])].left or self.end) < self.end - 60)
        return {"answered": len(served) / self.hours, "wait": sum(waits) / max(1, len(waits)),
                "overtakings": self.overtakings(), "429": sum(entry["status"] == 429 for entry in log),
                "stuck": stuck, "requests": sum(entry["status"] != 429 for entry in log) / self.hours / 60}

    def overtakings(self) -> int:
        """How many callers were offered an agent while one who had come to that queue earlier was still waiting."""
        count = 0
        for caller in self.callers:
            if caller.offered:
                count += any(other.queue == caller.queue and other.arrived < caller.arrived
                             and (other.offered or other.left or 9e99) > caller.offered and other.left != other.arrived
                             for other in self.callers[max(0, caller.number - 120):caller.number])
        return count

    def look(self, caller: Caller) -> None:
        raise NotImplementedError

    def report(self, caller: Caller, kind: str, extension: str = "") -> None:
        raise NotImplementedError

    def undelivered(self) -> int:
        raise NotImplementedError


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

    def __init__(self, caller: Caller):
        super().__init__()
        self.uniqueid = str(caller.number)
        self.env = {"agi_callerid": "4733990777"}

    def get(self, name: str, default: str = "") -> str:
        return super().get(name, default)

    def set(self, name: str, value) -> None:
        self[name.lstrip("_")] = str(value)

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

    def __init__(self, *scene):
        super().__init__(*scene)
        self.context = VirtualContext(self.config(), self.clock, self.wake, is_script=False,
                                      journal=Journal(":memory:", self.clock))
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
            file.write(f"[movidesk]\ntoken = {self.movidesk.token}\nrequests_per_minute = {LIMIT}\n[pbx]\nname = day\n")
            file.flush()
            return load(file.name).require()

    def verb(self, caller: Caller, name: str, *arguments: str) -> VirtualChannel:
        channel = self.channels.setdefault(caller.number, VirtualChannel(caller))
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
        if wait is not None:
            self.deliver_in(min(IDLE, wait))

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
