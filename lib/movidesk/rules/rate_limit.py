"""The budget: which request goes next when Movidesk takes ten a minute for the whole account. Pure; the journal applies it.

The journal counts the requests of the last `WINDOW` seconds; what is free of the limit is given by who is waiting for it:

    SCREEN     transferred: the agent talks already and has no screen yet
    HEAD       the first in line asks, and has reason to
    FREEING    an ending that frees an agent, while somebody waits
    PROBE      the first in line asks at its slow pace, without a reason
    COMPLETED  such an ending, while nobody waits
    SLACK      other canceled and lost, links, arrivals that are registered late: nobody waits for them

A class goes when the free places exceed what higher classes want at this moment and what is kept for them. SLACK ages:
past its PATIENCE one such request is given a place before the next HEAD, so that none starves. So does PROBE: past
PROBE_PATIENCE it goes like a HEAD.
"""

from __future__ import annotations

from movidesk import NamedTuple

SCREEN, HEAD, FREEING, PROBE, COMPLETED, SLACK = range(6)

#: Seconds for which a request counts: Movidesk's minute, and half a second for the network between its clock and ours.
WINDOW = 60.5
#: Seconds after which a waiting SLACK request is given a place, and the least time between two such favours. One in four
#: minutes is 2.5 % of ten a minute: it fits between 180 answered calls an hour and the physical 200.
PATIENCE = 240.0
#: Seconds after which a PROBE that is due goes like a HEAD, and the least time between this and the last PROBE of any queue: at
#: most three a minute, so that many quiet queues do not delay the ends of calls.
PROBE_PATIENCE, PROBE_FAVOUR = 30.0, 20.0
#: The part of the limit that a PROBE leaves free, and a SLACK request while anybody waits or rings, and while callers have
#: come lately: the next must find a place, also when thousands of calls of an outage are to be told.
PROBE_LEAVES, SLACK_LEAVES, SLACK_KEEPS = 0.4, 0.5, 0.3

#: Seconds between two steps by which a lowered rate recovers, and the least to which "no limit" is lowered at once.
RECOVER_EVERY, LEAST_LOWERED = 120.0, 10
#: Requests a minute that stand for no limit: more than one PBX can send.
UNLIMITED = 100_000


class Demand(NamedTuple):
    """What wants a place now."""

    screens: int = 0       # due events of the class SCREEN
    heads: int = 0         # heads that go before the one who asks
    freeing: int = 0       # due events of the class FREEING
    anybody: bool = False  # whether anybody waits or rings
    aged: int = 0          # SLACK requests that are due for their favour: 0 or 1
    lately: bool = False   # whether a caller asked in the last ten windows


def event_class(kind: str, somebody_waits: bool, had_agent: bool) -> int:
    """The class of an event that is to be delivered; had_agent: its call was offered to one, whom its ending frees."""
    if kind in ("transferred", "start_transferred"):
        return SCREEN
    if kind == "completed" or had_agent and kind in ("canceled", "lost"):
        return FREEING if somebody_waits else COMPLETED
    return SLACK


def may_go(klass: int, free: int, demand: Demand, limit: int, aged: bool = False, places: int = 1) -> bool:
    """Whether a request of this class may take one of `free` places; aged: it has waited past its PATIENCE.

    places: how many it needs free, where others are to follow it at once.
    """
    slack_aged = aged and klass == SLACK
    if aged:
        klass = HEAD
    wanted = 0
    if klass > SCREEN:
        wanted += demand.screens + (0 if slack_aged else demand.aged)
    if klass >= HEAD and not slack_aged:
        wanted += demand.heads
    if klass > FREEING:
        wanted += demand.freeing
    if klass == PROBE:
        wanted += int(limit * PROBE_LEAVES)
    if klass == SLACK:
        wanted += int(limit * (SLACK_LEAVES if demand.anybody else SLACK_KEEPS if demand.lately else 0))
    return free >= wanted + min(places, limit)


def strikes_after(strikes: int, until: float, sent: float) -> int:
    """How many 429s in a row count, after one more to a request that left at `sent`; until: when the last pause ended.

    Requests that were under way together are refused together: only one that left after the pause is another strike.
    """
    return strikes + 1 if sent >= until else max(1, strikes)


def pause_after(retry_after: float, strikes: int) -> float:
    """Seconds of silence after a 429: what Movidesk asked for, doubled with each further strike (blocking is said to
    lengthen with every error) up to an hour."""
    return max(retry_after, min(3600.0, retry_after * 2.0 ** min(strikes - 1, 12)))


def lowered(rate: int, used: int) -> int:
    """The requests a minute that we allow ourselves after a 429 below our limit, which means that other programs use the
    account too: half of `rate`, at least one. Where there was no limit, about as many as we sent in the last minute (`used`)."""
    return min(rate // 2, max(used, LEAST_LOWERED)) if rate == UNLIMITED else max(1, rate // 2)


def recovered(limit: int, rate: int, seconds: float) -> int:
    """A lowered rate so many seconds after the last 429: a quarter more, one at least, every RECOVER_EVERY, up to the limit."""
    for _ in range(int(seconds // RECOVER_EVERY)):
        if rate >= limit:
            break
        rate += max(1, rate // 4)
    return min(rate, limit)


def is_suspect(used: int, limit: int) -> bool:
    """Whether a connection that was cut may stand for a 429: its request took one of the last two places of the limit.

    Some clients of Movidesk's API saw this instead of a 429. used: requests in the window, this one among them.
    """
    return used >= limit - 1
