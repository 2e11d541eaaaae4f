"""How long a waiting caller will probably wait until an agent answers. Pure functions; the journal applies them.

A line moves as it moved for those who were answered last. Each of them had a place when it began to wait, and waited so many
seconds for each place; half of them less than `Speed.seconds`. A caller in place n waits n times that. So all that slows a line
counts, and nothing of it must be known: how long agents talk and ring, their own calls, who gives up, other queues that share the
agents or the request limit.

    fewer than LEAST callers were answered in the last LASTS seconds      unknown
    the first in line has waited longer than any of the last answered     unknown: the line has slowed down
    the request limit is lower than it was then                           longer, as an answered call costs REQUESTS of it
    otherwise                                                             place * Speed.seconds

A single wait is a matter of chance, the more so the fewer places it has: bench/day.py compares what was said with what came.
"""

from __future__ import annotations

from movidesk import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

#: How many of the last answered calls count, how few are not enough, and for how many seconds they count.
MOST, LEAST, LASTS = 40, 5, 1800.0
#: The requests that an answered call costs: received, transferred, completed.
REQUESTS = 3


class Wait(NamedTuple):
    """A caller who had to wait, and was answered."""

    seconds: float  # from its arrival to the agent's answer
    place: int      # its place when it began to wait


class Speed(NamedTuple):
    """How fast a queue's line moves."""

    seconds: float  # for each place
    longest: float  # the longest wait among those that it is made of, in seconds
    rate: int       # requests a minute that were allowed


def speed(waits: Sequence[Wait], rate: int) -> Speed | None:
    """How fast the line moves; None if too little is known. waits: the last MOST of the last LASTS seconds."""
    if len(waits) < LEAST:
        return None
    places = sorted(wait.seconds / wait.place for wait in waits)
    return Speed(places[len(places) // 2], max(wait.seconds for wait in waits), rate)


def expected(place: int, known: Speed, rate: int, first_waits: float) -> float | None:
    """Seconds until an agent answers the caller in this place; None if that is unknown.

    rate: requests a minute that are allowed now; first_waits: seconds for which the first in line has waited.
    """
    if first_waits > known.longest:
        return None
    slowed = min(REQUESTS * 60.0 / rate, known.seconds * known.rate / rate)
    return place * max(known.seconds, slowed)
