"""The parts into which several PBXs divide the account's request limit while they cannot ask Redis. Pure functions.

With N PBXs and a limit of L requests a minute:

    L >= N   each may send L / N a minute, rounded down
    L < N    each may send one request in N * `spacing` seconds, in a turn of its own; no minute has more than L turns, even if
             requests reach Movidesk `late`. When a PBX's turn is follows from Redis' clock, as the PBX knew it last, and from
             a number that Redis gave it

A PBX lends its part to the others by a lease. Redis counts the parts of those whose lease has lapsed as used up (`pool`), and of
those who have just joined: until a window and the longest request are over, what they sent before may still count.
"""

from __future__ import annotations

from movidesk.rules.rate_limit import WINDOW

#: Seconds of a turn: callers look that often.
TURN = 5.0
#: Seconds by which a PBX may be wrong about Redis' clock.
CLOCK_ERROR = 1.0


def part(limit: int, pbxs: int) -> int:
    """Requests a minute that one of so many PBXs may send by itself; 0: fewer than one."""
    return limit // max(1, pbxs)


def pool(limit: int, pbxs: int, away: int) -> int:
    """Requests a minute that the PBXs with a lease share, if so many are away or have just joined."""
    return max(0, limit - away * max(1, part(limit, pbxs)))


def spacing(limit: int, late: float = 0.0) -> float:
    """Seconds from the beginning of one PBX's turn to that of the next, where there are more PBXs than the limit. late: seconds
    by which a request of the turn may reach Movidesk late."""
    return (WINDOW + TURN + 2 * CLOCK_ERROR + late) / limit


def is_turn(number: int, limit: int, pbxs: int, now: float, late: float = 0.0) -> bool:
    """Whether it is the turn of the PBX with this number (from 0); now: Redis' clock, in seconds; late: see `spacing`."""
    step = spacing(limit, late)
    return 0 <= number < pbxs and (now - number * step) % (pbxs * step) < TURN
