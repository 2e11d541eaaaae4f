"""The bound for a line that knows more than any PBX can: at every moment the state of every agent's phone, and what Movidesk
knows of each agent. It cannot choose whom Movidesk names. Nothing delays it, it keeps no request for the agents' screens, and it
never tells Movidesk of callers who left before they asked."""
from __future__ import annotations

from collections import deque

from _day import Caller, Day
from _product import VirtualClient


class Clairvoyant(Day):
    """The first caller asks while at least this part of the phones that Movidesk may name is idle."""

    def __init__(self, scene, seed: int, share: float):
        super().__init__(scene, seed)
        self.share = share
        self._lines = {queue: [] for queue in self.movidesk.groups}  # callers who wait, in order of arrival
        self._events: tuple[deque, deque] = (deque(), deque())       # (caller, kind, extension): screens, ends
        self._sent = deque()                                          # when requests went
        self._next = 0.0

    def look(self, caller: Caller) -> None:
        self._lines[caller.queue].append(caller)
        self._go()

    def refused(self, caller: Caller, reason: str) -> None:
        self._lines[caller.queue].insert(0, caller)
        self.at(self.now, self._go)

    def report(self, caller: Caller, kind: str, extension: str = "") -> None:
        if kind == "canceled":
            if caller in self._lines[caller.queue]:
                self._lines[caller.queue].remove(caller)
            if caller.id not in self.movidesk.tickets:
                return
        self._events[kind != "transferred"].append((caller, kind, extension))
        self._go()

    def undelivered(self) -> int:
        return len(self._events[0]) + len(self._events[1])

    def _go(self) -> None:
        """Send what may be sent, then again when a place is free, or in a second."""
        while self._sent and self._sent[0] <= self.now - self.movidesk.limit.seconds:
            self._sent.popleft()
        while len(self._sent) < self.scene.limit and (self._tell(0) or self._ask() or self._tell(1)):
            self._sent.append(self.now)
        if self._next <= self.now and self.now < self.end:
            self._next = self.now + 0.25
            self.at(self._next, self._go)

    def _tell(self, urgency: int) -> bool:
        if not self._events[urgency]:
            return False
        caller, kind, extension = self._events[urgency].popleft()
        VirtualClient(self).send(kind, id=caller.id, extension=extension, at=self.now)
        return True

    def _ask(self) -> bool:
        for queue, line in self._lines.items():
            if line and self._may_ask(queue):
                caller = line.pop(0)
                answer = VirtualClient(self).send("received", queue=queue, number="4733990777", id=caller.id,
                                                  arrived=caller.arrived)
                self.offer(caller, answer.text.strip('"'))
                return True
        return False

    def _may_ask(self, queue: int) -> bool:
        offerable = [self.agents[extension] for extension in self.movidesk.groups[queue].agents
                     if self.movidesk.agents[extension].online and extension not in self.movidesk.in_call
                     and not self.movidesk.held_for(extension)]
        idle = sum(not agent.is_busy() for agent in offerable)
        return idle > 0 and idle >= self.share * len(offerable)
