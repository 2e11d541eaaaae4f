"""Dialplans that poll, in the virtual day."""
from __future__ import annotations

from _day import Caller, Day
from _product import VirtualClient
from movidesk.delivery import api


class Polling(Day):
    """Every caller asks on its own; events go out at once, and are dropped or tried again when refused."""

    def __init__(self, scene, seed: int, every: float, again: bool):
        super().__init__(scene, seed)
        self.every, self.again, self.owed = every, again, 0

    def look(self, caller: Caller) -> None:
        if not self.waiting(caller):
            return
        outcome = self.send("received", caller, arrived=caller.arrived)
        if isinstance(outcome, api.Delivered) and len(outcome.text.strip('"')) > 1:
            self.offer(caller, outcome.text.strip('"'))
        else:
            self.at(self.now + self.every, self.look, caller)

    def refused(self, caller: Caller, reason: str) -> None:
        self.at(self.now, self.look, caller)

    def send(self, kind: str, caller: Caller, **fields):
        return VirtualClient(self).send(kind, queue=caller.queue, number="4733990777", id=caller.id, **fields)

    def report(self, caller: Caller, kind: str, extension: str = "", when: float = 0.0) -> None:
        if caller.id not in self.movidesk.tickets:
            self.owed += 1  # Movidesk never heard of this caller and would only refuse: spare the request
            return
        outcome = self.send(kind, caller, extension=extension, at=when or self.now)
        if isinstance(outcome, api.Retry):
            self.owed += 0 if when else 1
            if self.again:
                self.at(self.now + self.every, self.report, caller, kind, extension, when or self.now)
        elif isinstance(outcome, api.Rejected):
            self.owed += 0 if when else 1
        elif when:
            self.owed -= 1

    def undelivered(self) -> int:
        return self.owed
