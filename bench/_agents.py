"""The agents of the virtual day: their phones, their own calls, their shifts."""
from __future__ import annotations

import random

RING = 4.0  # seconds


class Agent:
    """One agent. `talking`, `ringing`: the caller, or None; `own_call`: whether the phone is in a call unknown to Movidesk.

    Own calls last OWN_LASTS seconds. The next one is due some time after the last (scene.own_calls is the mean, exponential). If
    the agent is on the phone then, it begins within OWN_SOON seconds of the end of the customer's call. Shifts: online in
    Movidesk for ONLINE seconds in the mean, then offline for OFFLINE.
    """

    OWN_SOON, OWN_LASTS = 20.0, 120.0
    ONLINE, OFFLINE = 1800.0, 600.0
    RINGS_IN_VAIN, IN_VAIN = 20.0, 0.05  # seconds that a phone rings, and the part of the calls that nobody picks up

    def __init__(self, day, extension: str, draw: random.Random):
        self.day, self.extension, self._draw = day, extension, draw
        self.talking = self.ringing = None
        self.own_call = self._own_call_due = False
        self._pick_up = draw.uniform(2.0, 8.0)

    def begin(self) -> None:
        """Start what happens to the agent without a caller."""
        if self.day.scene.own_calls:
            self._wait_for_own_call()
        if self.day.scene.shifts:
            self.day.at(self.day.now + self._draw.expovariate(1 / self.ONLINE), self._log, False)

    def is_busy(self) -> bool:
        return self.own_call or self.talking is not None or self.ringing is not None

    def state(self) -> str:
        """As DEVICE_STATE() has it."""
        return "RINGING" if self.ringing is not None else "INUSE" if self.is_busy() else "NOT_INUSE"

    def ring(self, caller) -> float | None:
        """The phone rings: seconds until its agent picks up; None if nobody does."""
        self.ringing = caller
        if not self.day.scene.rings:
            return RING
        return None if self._draw.random() < self.IN_VAIN else self._draw.lognormvariate(0, 0.5) * self._pick_up

    def takes(self, caller) -> None:
        """The agent talks to this caller."""
        self.talking = caller

    def ended(self, caller) -> None:
        """The customer's call is over."""
        self.talking = None
        if self._own_call_due:
            self.day.at(self.day.now + self._draw.uniform(0, self.OWN_SOON), self._begin_own_call)

    def _wait_for_own_call(self) -> None:
        self.day.at(self.day.now + self._draw.expovariate(1 / self.day.scene.own_calls), self._begin_own_call)

    def _begin_own_call(self) -> None:
        self._own_call_due = self.is_busy()
        if not self._own_call_due:
            self.own_call = True
            self.day.at(self.day.now + self.OWN_LASTS, self._end_own_call)

    def _end_own_call(self) -> None:
        self.own_call = False
        self._wait_for_own_call()

    def _log(self, online: bool) -> None:
        """The agent logs out of Movidesk, or in again."""
        self.day.movidesk.agents[self.extension].online = online
        self.day.at(self.day.now + self._draw.expovariate(1 / (self.ONLINE if online else self.OFFLINE)), self._log, not online)
