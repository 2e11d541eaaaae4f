"""The request limit: which request goes next, as Movidesk accepts only ten a minute per account. Pure functions; the journal
applies them.

The journal counts the requests of the last `WINDOW` seconds. Every request has a class, from the most to the least urgent:

    SCREEN     transferred: the agent talks already and has no screen yet
    HEAD       the first in line asks, and has reason to
    FREEING    an ending that frees an agent, while somebody waits
    PROBE      the first in line asks at its slow pace, without a reason
    COMPLETED  such an ending, while nobody waits
    SLACK      other canceled and lost, links, arrivals that are registered late: nobody waits for them

A SCREEN goes as soon as a request is free. Any other goes if two conditions hold (`may_go`):

1. More requests are free than higher classes want at this moment, and than are kept for callers who may still come
   (PROBE_LEAVES, SLACK_LEAVES, SLACK_KEEPS).
2. Every agent whose phone rings will find a free request for its screen when it picks up (`leaves_screens`): the journal knows
   when the requests in the window count no longer, and how soon agents pick up. A HEAD or PROBE needs one more, for the agent
   whom Movidesk may name. While a HEAD has to wait for that, up to MOST_PASS FREEING requests go before it.

Two classes age, so that neither waits for ever: a SLACK request older than SLACK_AGES_AFTER goes before the next HEAD, and a
PROBE that has been due for PROBE_AGES_AFTER goes like a HEAD.
"""

from __future__ import annotations

from bisect import bisect_right

from movidesk import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

SCREEN, HEAD, FREEING, PROBE, COMPLETED, SLACK = range(6)

#: Seconds after which an agent who is called may pick up, if nothing is known yet (`earliest_pickup`).
RING = 2.0
#: Answered calls: how many `earliest_pickup` needs, how many are kept, and the part of them that may have been answered sooner.
RINGS_LEAST, RINGS_KEPT, RINGS_QUICKER = 5, 50, 0.1
#: How many FREEING requests may go before a HEAD that waits for its second place.
MOST_PASS = 2
#: How many moments `until_may_go` looks at, at most: it runs while the journal is locked.
MOST_STEPS = 100
#: Seconds during which a request counts: Movidesk's minute, plus half a second for the network.
WINDOW = 60.5
#: Seconds; Movidesk may have counted a request that took longer at any moment of that time.
SLOW = 0.5
#: Seconds after which a SLACK request has aged, and the least time between two that go for that reason. One in four minutes is
#: 2.5 % of ten a minute. That is free at 180 answered calls an hour: with three requests each, 200 use the whole limit.
SLACK_AGES_AFTER = 240.0
#: Seconds after which a PROBE that is due goes like a HEAD, and the least time since the last PROBE of any queue. That allows at
#: most three a minute, so that many quiet queues do not delay the endings of calls.
PROBE_AGES_AFTER, PROBE_AGED_EVERY = 30.0, 20.0
#: The part of the limit that stays free of PROBE requests; of SLACK requests while somebody waits or rings; and of SLACK requests
#: if a caller arrived recently. So a new caller finds a free request even while thousands of calls wait after an outage.
PROBE_LEAVES, SLACK_LEAVES, SLACK_KEEPS = 0.4, 0.5, 0.4

#: Seconds between two steps in which a lowered rate recovers; the lowest rate after the first 429 if there was no limit.
RECOVER_EVERY, LEAST_LOWERED = 120.0, 10
#: Requests a minute that mean "no limit": more than one PBX can send.
UNLIMITED = 100_000


class Demand(NamedTuple):
    """What wants a request at this moment, and who may need one soon."""

    screens: int = 0       # due events of the class SCREEN
    heads: int = 0         # first callers of other queues that go before this request
    freeing: int = 0       # due events of the class FREEING
    anybody: bool = False  # whether anybody waits or rings
    aged: int = 0          # SLACK requests that have aged and may go now: 0 or 1
    lately: bool = False   # whether a caller asked in the last ten windows
    passed: int = 0        # FREEING requests since the last question
    pickups: tuple[float, ...] = ()  # seconds until each agent who is called may pick up (0.0: at any moment), ascending
    ring: float = RING     # seconds until an agent who is called from now on may pick up


class Window(NamedTuple):
    """What is left of the limit at this moment."""

    limit: int
    free: int                        # requests that may be sent now
    opens: tuple[float, ...] = ()    # seconds until each of the requests that leave the window soon has left it, ascending


def event_class(kind: str, somebody_waits: bool, had_agent: bool) -> int:
    """The class of an event; had_agent: the call was offered to an agent, whom its ending frees."""
    if kind in ("transferred", "start_transferred"):
        return SCREEN
    if kind == "completed" or had_agent and kind in ("canceled", "lost"):
        return FREEING if somebody_waits else COMPLETED
    return SLACK


def may_go(klass: int, window: Window, demand: Demand, aged: bool = False, places: int = 1) -> bool:
    """Whether a request of this class may go now; aged: it has waited longer than the limit of its class (SLACK_AGES_AFTER,
    PROBE_AGES_AFTER).

    places: how many requests it needs, if others are to follow at once.
    """
    if window.limit < 1:
        return False
    if klass == SCREEN:
        return window.free >= min(places, window.limit)
    asks = klass in (HEAD, PROBE)
    if not leaves_screens(window, demand, places, asks):
        return False
    slack_aged = aged and klass == SLACK
    if aged:
        klass = HEAD
    wanted = demand.screens + (0 if slack_aged else demand.aged)
    passes = klass == FREEING and demand.passed < MOST_PASS and not leaves_screens(window, demand, 1, True)
    if not slack_aged and not passes:
        # Another queue's head needs one for itself, and one for the agent whom it may call.
        wanted += min(2 * demand.heads, max(1, window.limit - 1)) if asks else demand.heads
    if klass > FREEING:
        wanted += demand.freeing
    if klass == PROBE:
        wanted += int(window.limit * PROBE_LEAVES)
    if klass == SLACK:
        wanted += int(window.limit * (SLACK_LEAVES if demand.anybody else SLACK_KEEPS if demand.lately else 0))
    return window.free >= wanted + min(places, window.limit)


def free_in(window: Window, seconds: float) -> int:
    """How many requests may be sent so many seconds from now, if none is sent before."""
    return window.free + bisect_right(window.opens, seconds)


def leaves_screens(window: Window, demand: Demand, places: int, asks: bool) -> bool:
    """Whether each agent who is called now will find a request for its screen when it picks up, after so many more requests.

    asks: the request may have another agent called, who needs one as well.
    """
    pickups = sorted((*demand.pickups, demand.ring)) if asks and window.limit > 1 else demand.pickups
    return all(free_in(window, pickup) - places >= min(number, window.limit - places)
               for number, pickup in enumerate(pickups, demand.screens + 1))


def until_may_go(klass: int, window: Window, demand: Demand, aged: bool = False, places: int = 1) -> float | None:
    """Seconds until such a request may go, if no other is sent before; None if that is later than the window shows."""
    soon = window.opens[:MOST_STEPS]
    steps = {opens - pickup + 1e-6 for opens in soon for pickup in (0.0, demand.ring, *demand.pickups)}
    for step in sorted(step for step in steps if step > 0.0)[:MOST_STEPS]:
        later = Window(window.limit, free_in(window, step), tuple(opens - step for opens in window.opens if opens > step))
        pickups = tuple(max(0.0, pickup - step) for pickup in demand.pickups)
        if may_go(klass, later, demand._replace(pickups=pickups), aged, places):
            return step
    return None


def strikes_after(strikes: int, until: float, sent: float) -> int:
    """The number of 429s in a row after another one; sent: when its request was sent; until: when the last pause ended.

    Simultaneous requests get a 429 together. So only a 429 to a request that was sent after the pause counts as another one.
    """
    return strikes + 1 if sent >= until else max(1, strikes)


def pause_after(retry_after: float, strikes: int) -> float:
    """The pause in seconds after a 429: what Movidesk asked for, doubled with each further 429 up to an hour (it is said to block
    longer with every error)."""
    return max(retry_after, min(3600.0, retry_after * 2.0 ** min(strikes - 1, 12)))


def lowered(rate: int, used: int) -> int:
    """The new rate in requests a minute after a 429 below our limit, which means that other programs use the account too: half of
    `rate`, at least one. If there was no limit, about as many as we sent in the last minute (`used`)."""
    return min(rate // 2, max(used, LEAST_LOWERED)) if rate == UNLIMITED else max(1, rate // 2)


def recovered(limit: int, rate: int, seconds: float) -> int:
    """A lowered rate some seconds after the last 429: every RECOVER_EVERY seconds it rises by a quarter (at least one), up to the
    limit."""
    for _ in range(int(seconds // RECOVER_EVERY)):
        if rate >= limit:
            break
        rate += max(1, rate // 4)
    return min(rate, limit)


def is_suspect(used: int, limit: int) -> bool:
    """Whether a cut connection may mean a 429: its request was one of the last two that the limit allows.

    Some clients of Movidesk's API saw this instead of a 429. used: requests in the window, including this one.
    """
    return used >= limit - 1


def earliest_pickup(rings: Sequence[float]) -> float:
    """Seconds after which an agent who is called may pick up: only RINGS_QUICKER of the last calls were answered sooner. RING if
    fewer than RINGS_LEAST are known. rings: for how many seconds the phones of the last calls rang that were answered."""
    if len(rings) < RINGS_LEAST:
        return RING
    return sorted(rings)[int(len(rings) * RINGS_QUICKER)]


def usual_ring(rings: Sequence[float]) -> float:
    """For how many seconds a phone rings before it is answered: the median, or twice RING if too few are known."""
    return sorted(rings)[len(rings) // 2] if len(rings) >= RINGS_LEAST else 2 * RING
