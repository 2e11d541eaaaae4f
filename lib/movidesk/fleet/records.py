"""What the fleet tells: of this PBX, of the others, and why it cannot."""

from __future__ import annotations

from movidesk import NamedTuple

#: How this PBX stands (Standing.mode). POOL: it shares the line and the limit. WAITS: Redis is away, and the others may still use
#: this PBX's part of the limit; nothing is sent. ALONE: it uses its own part, with its own line. REFUSED: it may not join.
POOL, WAITS, ALONE, REFUSED = "pool", "waits", "alone", "refused"


def ms(seconds: float) -> int:
    """A time in whole milliseconds, as Redis is told it."""
    return round(1000 * seconds)


class Away(Exception):
    """Redis does not answer, or does not take what it is told; the text says why, without a password."""


class Refused(Away):
    """This PBX may not join; the text is one line that says why and what to do."""


class Standing(NamedTuple):
    """How this PBX stands in its fleet."""

    mode: str        # POOL, WAITS, ALONE or REFUSED
    since: float     # when Redis first failed, epoch seconds; 0.0 if it answers
    why: str         # why; '' if it answers
    part: int        # requests a minute that this PBX may send by itself; 0: fewer than one
    until_alone: float  # seconds until it may use its own part, if it waits


class Member(NamedTuple):
    """A PBX of the fleet, as Redis knows it."""

    name: str        # [pbx] name
    version: str     # of movidesk-agi
    seen: float      # seconds since its last call
    leased: bool     # whether it lends its part of the limit to the others; else it is away
    pbxs: int        # its [fleet] pbxs
    limit: int       # requests a minute that it may send for the account, as it counts
    part: int        # its part of them
    waiting: int     # callers in its line
    outbox: int      # calls with an event that Movidesk has not been told
    clock: float     # seconds by which its wall clock is ahead of Redis' clock
    share: str       # its [fleet] share


class Overview(NamedTuple):
    """The fleet, as Redis knows it."""

    members: list[Member]
    pool: int        # requests a minute that those with a lease share, without the parts of those that have just joined
    used: int        # how many of them the last minute has used
    opens_in: float  # seconds until the window opens after a restart of Redis; 0.0 if it is open
    paused: float    # seconds that are left of a pause after a 429
