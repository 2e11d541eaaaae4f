"""One scene's hold on the office of bench/faults.py --asterisk: waiting for what phones do, and the truth about one caller.

The truth comes from the phones alone: who was rung, who answered and when, who hung up. What happened within CLOSE seconds of a
hangup, or when Asterisk was killed, may have been either.
"""
from __future__ import annotations

import random
import time
from typing import Callable

from _judge import Story, Visit
from movidesk_rehearsal.phones import Caller

CLOSE = 0.5      # seconds
PATIENCE = 12.0  # seconds for which a caller of the longer scenes waits for somebody


class Stage:
    """One scene's hold on the office: waiting, and the truth about one caller."""

    def __init__(self, office, story: Story, draw: random.Random, killed_at: float):
        self.office, self.story, self.draw, self._killed_at = office, story, draw, killed_at
        self.number, = story.numbers

    @property
    def cut(self) -> float:
        """When Asterisk was killed since the scene began; 0.0 where it was not."""
        return self.office.killed_at if self.office.killed_at != self._killed_at else 0.0

    def pause(self, least: float, most: float) -> None:
        self.wait(lambda: False, self.draw.uniform(least, most))

    def wait(self, condition: Callable, seconds: float):
        """The first true value of the condition; None where it has none in time, or where Asterisk dies."""
        end = time.monotonic() + seconds
        while not self.cut:
            found = condition()
            if found or time.monotonic() > end:
                return found or None
            time.sleep(0.05)
        return None

    def taker(self, caller: Caller, since: float, seconds: float, numbers: set[str] | None = None, extensions=None):
        """The leg of the phone (of these extensions, if given) that takes the caller; None where nobody does."""
        def found():
            legs = self.office.legs(numbers or {self.number}, since, extensions)
            return "gone" if caller.ended else next((leg for leg in legs if leg.answered), None)

        leg = self.wait(found, seconds)
        return None if leg == "gone" else leg

    def visit(self, queue: int) -> Visit:
        self.story.visits.append(Visit(queue))
        return self.story.visits[-1]

    def settle(self, visit: Visit, since: float, ended: float = 0.0, seen: bool = False, abandoned: str = "canceled",
               until: float = float("inf"), begun: bool = True) -> None:
        """Put the truth into a visit that began at `since`: the phones' answers in it decide.

        ended: when the caller hung up; seen: it certainly was in the queue; until: when the next visit began;
        begun: False where a blind transfer led there, of which only a phone that rings is proof.
        """
        ended = self.cut or ended
        legs = [leg for leg in self.office.legs(self.story.numbers, since)
                if leg.invited < until and leg.phone.extension in self.office.phones_of(visit.queue)]
        taken = [leg for leg in legs if leg.answered]
        visit.certain = bool(seen or legs or begun and not self.cut)
        visit.agents = {leg.phone.extension for leg in taken[:1]} or {""}
        if not taken:
            visit.endings = {abandoned}
        elif ended - taken[0].answered > CLOSE or until < float("inf"):
            visit.endings = {"completed"}
        else:
            visit.endings = {"completed", abandoned}

    def leave(self, caller: Caller) -> float:
        """The caller hangs up, unless the call is over; when."""
        ended = time.time()
        if not self.cut and not caller.ended:
            caller.hang_up()
            caller.wait()
        return ended

    def pass_on(self, leg, order: Callable) -> bool:
        """Give a phone the order to transfer; whether Asterisk said 202. It tries only then, and tells no phone if it fails."""
        order()
        self.wait(lambda: (self.office.look(), leg.referred or leg.ended)[1], 5.0)
        return leg.referred and not self.cut
