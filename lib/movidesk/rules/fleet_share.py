"""The parts into which several PBXs divide the account's request limit while they cannot ask Redis. Pure functions.

With N PBXs and a limit of L requests a minute:

    L >= N   each may send L / N a minute, rounded down
    L < N    each may send one request in `turn_length` seconds, in a turn of its own: in no minute more than L PBXs have theirs

A PBX lends its part to the others by a lease. Redis counts the parts of those whose lease has lapsed as used up (`pool`).
"""

from __future__ import annotations

from movidesk.rules.rate_limit import WINDOW


def part(limit: int, pbxs: int) -> int:
    """Requests a minute that one of so many PBXs may send by itself; 0: fewer than one."""
    return limit // max(1, pbxs)


def pool(limit: int, pbxs: int, away: int) -> int:
    """Requests a minute that the PBXs with a lease share, if so many are away."""
    return max(0, limit - away * max(1, part(limit, pbxs)))


def turn_length(limit: int, pbxs: int) -> float:
    """Seconds from one turn of a PBX to its next."""
    return pbxs * WINDOW / limit
