"""Hours of calls with a virtual clock: callers, agents with phones, and Movidesk's model. `_product.py` and `_polling.py` add how
callers wait."""
from __future__ import annotations

import heapq
import itertools
import random
from typing import NamedTuple

from _agents import Agent
from movidesk_sim.model import Limit, Movidesk

TALK, PATIENCE, LIMIT = 180.0, 120.0, 10
BEGIN = 1_800_000_000.0
DRAIN = 3600.0  # seconds after the last arrival in which events may still be delivered
SCREEN, ENDS = "asterisk_transferedCall", "asterisk_completedCall"


class Scene(NamedTuple):
    """What happens in these hours."""

    load: float             # calls a minute; they arrive at random
    agents: int
    hours: float = 4.0
    queues: int = 1
    shared: bool = False    # every agent serves all queues; otherwise one
    fixed: bool = False     # each caller gives up after exactly PATIENCE; otherwise after an exponential time with that mean
    own_calls: float = 0.0  # seconds between two calls of an agent that Movidesk does not know (_agents.py); 0: none
    shifts: bool = False    # agents log out of Movidesk and in again (_agents.py)
    rings: bool = False     # each agent takes its own time to pick up, and some calls ring in vain; otherwise RING seconds
    limit: int = LIMIT      # requests a minute

    def __str__(self) -> str:
        words = [f"{self.load:g}/{self.agents}"]
        if self.queues > 1:
            words.append(f"{self.queues} queues{', shared agents' if self.shared else ''}")
        words += [text for on, text in ((self.fixed, "fixed patience"), (self.own_calls, f"own calls every {self.own_calls:g} s"),
                                        (self.shifts, "shifts"),
                                        (self.rings, "varied ringing"), (self.limit != LIMIT, f"limit {self.limit}")) if on]
        return ", ".join(words)


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
    """The clock, the callers, the agents and Movidesk; a strategy adds how callers wait and how events are sent."""

    def __init__(self, scene: Scene, seed: int):
        self.scene, self.now = scene, BEGIN
        self._agenda, self._order = [], itertools.count()
        self.movidesk = Movidesk(lambda: self.now, limit=Limit(scene.limit))
        self.movidesk.log = []  # all of it: those who poll fill a bounded one within the hour
        self.hours, self.end, self.drain = scene.hours, BEGIN + scene.hours * 3600, DRAIN
        draw = random.Random(seed + 1000)
        self.agents = {str(5000 + n): Agent(self, str(5000 + n), random.Random(draw.random())) for n in range(scene.agents)}
        extensions = list(self.agents)
        for queue in range(scene.queues):
            self.movidesk.add_group(77 + queue, extensions if scene.shared else extensions[queue::scene.queues])
        self.callers = list(traffic(scene.load, BEGIN, self.end, random.Random(seed), 0, scene.queues, scene.fixed))
        self.busy_offers = 0

    def at(self, when: float, action, *arguments) -> None:
        heapq.heappush(self._agenda, (when, next(self._order), action, arguments))

    def run(self) -> dict:
        for caller in self.callers:
            self.at(caller.arrived, self.arrive, caller)
        for agent in self.agents.values():
            agent.begin()
        while self._agenda and self._agenda[0][0] <= self.end:
            self._step()
        result = self.figures()
        while self._agenda and self._agenda[0][0] <= self.end + self.drain:
            self._step()
        return {**result, **self.delays(), "undelivered": self.undelivered()}

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
        """Ring the phone, if it is free; otherwise ask again at once."""
        agent = self.agents[extension]
        if agent.is_busy():
            self.busy_offers += 1
            return self.refused(caller, agent.state())
        caller.offered = self.now
        rings = agent.ring(caller)
        if rings is None:
            return self.at(self.now + Agent.RINGS_IN_VAIN, self.not_taken, caller, extension)
        self.at(self.now + rings, self.answer, caller, extension)

    def answer(self, caller: Caller, extension: str) -> None:
        self.agents[extension].ringing = None
        if self.waiting(caller):
            caller.answered = self.now
            self.agents[extension].takes(caller)
            self.report(caller, "transferred", extension)
            self.at(self.now + caller.talk, self.hang_up, caller, extension)

    def not_taken(self, caller: Caller, extension: str) -> None:
        """The phone rang in vain."""
        self.agents[extension].ringing = None
        if self.waiting(caller):
            self.refused(caller, "NOANSWER")

    def hang_up(self, caller: Caller, extension: str) -> None:
        caller.left = self.now
        self.agents[extension].ended(caller)
        self.report(caller, "completed")

    def figures(self) -> dict:
        log = self.movidesk.log
        served = [caller for caller in self.callers if caller.answered]
        waits = [caller.answered - caller.arrived for caller in served]
        stuck = sum(1 for call in self.movidesk.in_call.values()
                    if (self.callers[int(call.rpartition("-")[2])].left or self.end) < self.end - 60)
        return {"answered": len(served) / self.hours, "wait": sum(waits) / max(1, len(waits)),
                "overtakings": self.overtakings(), "429": sum(entry["status"] == 429 for entry in log),
                "stuck": stuck, "requests": sum(entry["status"] != 429 for entry in log) / self.hours / 60,
                "busy": self.busy_offers / self.hours}

    def delays(self) -> dict[str, list[float]]:
        """Seconds from pick-up to the agent's screen, and from a call's end to the agent being free in Movidesk, of each call."""
        told = {}
        for entry in self.movidesk.log:
            if entry["status"] == 200:
                told.setdefault((entry["endpoint"], entry["params"]["id"]), entry["time"])
        served = [caller for caller in self.callers if caller.answered and caller.answered <= self.end]
        return {"screen": [told.get((SCREEN, caller.id), self.now) - caller.answered for caller in served],
                "freeing": [told.get((ENDS, caller.id), self.now) - caller.left for caller in served
                            if caller.left and caller.left <= self.end]}

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

    def refused(self, caller: Caller, reason: str) -> None:
        """The offered phone did not take the call; the caller asks again."""
        raise NotImplementedError

    def report(self, caller: Caller, kind: str, extension: str = "") -> None:
        raise NotImplementedError

    def undelivered(self) -> int:
        raise NotImplementedError
