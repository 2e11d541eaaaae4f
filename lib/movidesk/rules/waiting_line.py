"""The line: callers of a Movidesk queue in order of arrival, of whom only the first asks. Pure; the journal applies it.

The first in line asks at once when there is a reason to expect another answer than the last one (`Queue.news`): it found the
line empty, a phone that had not refused before did not take its call, the caller before it was served and not all agents are
known to be taken, or the call of one of the queue's agents is over. Without a reason it asks at a pace that slows while
nothing changes: also where Movidesk names only phones that have refused lately.
"""

from __future__ import annotations

from movidesk import NamedTuple
from movidesk.rules import call_states, rate_limit

#: Seconds that a caller may stay silent beyond the wait it was told: prompts are played in that time. After that its
#: place passes on; it has it again when it comes back.
GRACE = 15.0
#: The shortest and the longest time between two questions of a waiting head, in seconds, where nothing else is configured.
PACE = (6, 30)
#: Seconds between two looks of those who wait, through the service (a millisecond each) and as scripts (forty).
LOOK, SCRIPT_LOOK = 1, 3
#: Seconds between two looks of a caller far behind.
FAR_LOOK = 5
UNKNOWN = -1
#: The code that a caller gets while all phones of its queue refuse: all agents are in a call.
BUSY = "4"

#: Why a phone does not take a call (a state of DEVICE_STATE(), or a DIALSTATUS) although nobody is at fault: its agent is in
#: another call, or does not want one. And what somebody must mend.
ENGAGED = frozenset(("INUSE", "RINGING", "RINGINUSE", "ONHOLD", "HOLDINUSE", "BUSY", "DECLINED"))
DEAD = frozenset(("UNAVAILABLE", "CHANUNAVAIL", "CONGESTION", "INVALIDARGS"))
#: Seconds for which a refusal holds, times the refusals in a row, and at the most: of a phone that is dead, and any other.
DEAD_LASTS, REFUSAL_LASTS = (300.0, 3600.0), (120.0, 600.0)
#: Seconds after Movidesk last named an extension for a queue until it no longer counts as one of that queue.
MEMBER_LASTS = 43200.0


class Queue(NamedTuple):
    """What is known of a queue's line."""

    name: str            # the queue's number in Movidesk
    asked: float = 0.0   # when its head last asked, steady time
    pace: float = 0.0    # seconds until it asks again without a reason
    news: bool = True    # whether something has changed since
    full: int = UNKNOWN  # agents that were taken when Movidesk last said that all are; UNKNOWN: it did not
    code: str = BUSY     # the last code that somebody of this line was told


class Turn(NamedTuple):
    """What a caller is to do: ask, or wait."""

    request_id: int  # the request claimed for its question; 0: it waits
    position: int    # its place in line, from 1
    wait: int        # seconds until it looks again
    code: str        # what it is told meanwhile
    reason: str      # why no request is free; '' where that is not the cause


class Refusal(NamedTuple):
    """A phone that did not take a call."""

    extension: str
    reason: str   # a state of DEVICE_STATE(), or a DIALSTATUS; '' if nobody knows
    since: float  # the first of the row, epoch seconds
    at: float     # the last, steady time
    times: int    # how often in a row
    call: int     # the number of the call that it refused last


def request_class(queue: Queue, taken: int, now: float) -> int | None:
    """The class of the head's request, or None while it should not ask. taken: the queue's agents with callers, as Movidesk
    sees it."""
    if queue.news and not (queue.full != UNKNOWN and taken >= queue.full):
        return rate_limit.HEAD
    return rate_limit.PROBE if now >= queue.asked + queue.pace else None


def at_first_arrival(queue: Queue) -> Queue:
    """The queue when a caller comes to its empty line: nothing that an earlier line was told holds. A code 0, 1 or 2 of the
    night would turn away whoever comes behind the first caller of the day."""
    return queue._replace(news=True, full=UNKNOWN, code=BUSY)


def holds(refusal: Refusal | None, now: float) -> bool:
    """Whether the phone is expected to refuse again. It is rung all the same when Movidesk names it; only nothing hurries."""
    if refusal is None:
        return False
    first, longest = DEAD_LASTS if refusal.reason in DEAD else REFUSAL_LASTS
    return 0.0 <= now - refusal.at < min(longest, first * refusal.times)


def is_too_soon(refusal: Refusal | None, call: int, now: float, pace: tuple[float, float]) -> bool:
    """Whether the phone has refused this call so lately that it is not dialled again: Movidesk has nobody else."""
    return refusal is not None and refusal.call == call and 0.0 <= now - refusal.at < pace[0]


def after_answer(queue: Queue, extension: str, code: str, taken: int, now: float, pace: tuple[float, float],
                 doubtful: bool = False) -> Queue:
    """The queue after its head was answered; pace: the shortest and the longest time between two questions in seconds.

    taken counts the agent that was just offered. doubtful: this agent's phone refused lately (`holds`); that it is offered
    is no reason to hope for another.
    """
    if extension and queue.full != UNKNOWN and taken > queue.full:
        queue = queue._replace(full=UNKNOWN)  # there are more agents than were known
    if extension and doubtful:
        return queue._replace(asked=now)
    if extension:
        known_full = queue.full != UNKNOWN and taken >= queue.full
        return queue._replace(asked=now, pace=pace[0], news=not known_full)
    # Where no agent of the queue has a caller, they are busy elsewhere: their number says nothing.
    return _slower(queue, now, pace)._replace(full=taken or UNKNOWN if code in call_states.BUSY_CODES else UNKNOWN,
                                              code=code or queue.code)


def after_refusal(queue: Queue, known: bool, others: int, now: float, pace: tuple[float, float]) -> Queue:
    """The queue after a phone did not take the call that it was offered.

    known: it had refused before, and that still held; others: how many agents of the queue have neither a caller nor a
    refusal that holds. Another is asked for at once, unless Movidesk can only name those who have refused.
    """
    if not known or queue.news and others:
        return queue._replace(news=True, full=UNKNOWN)
    return _slower(queue, now, pace)._replace(code=BUSY)


def _slower(queue: Queue, now: float, pace: tuple[float, float]) -> Queue:
    shortest, longest = pace
    return queue._replace(asked=now, pace=min(longest, max(shortest, queue.pace * 1.5)), news=False)


def look_again(position: int, until: float, script: bool) -> int:
    """Whole seconds until a caller in this place looks again; until: seconds before which nothing can change."""
    least = SCRIPT_LOOK if script else LOOK
    if position > 2:
        return max(least, min(FAR_LOOK, position))
    return int(max(least, min(FAR_LOOK, until)))
