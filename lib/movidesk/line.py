"""The line: callers of a Movidesk queue in order of arrival, of whom only the first asks. Pure; the journal applies it.

The first in line asks at once when there is a reason to expect another answer than the last one: it found the line
empty, the phone it was offered did not answer, the caller before it was served and not all agents are known to be
taken, or a `completed` of the queue was delivered. Without a reason it asks at a pace that slows while nothing changes.
"""

from __future__ import annotations

from collections import namedtuple

from movidesk import budget

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

#: A queue: when its head last asked, the pace, whether something changed since, how many agents were taken when Movidesk
#: last said that all are (UNKNOWN: it did not), the last code that somebody of this line was told.
BUSY = "4"
Queue = namedtuple("Queue", "name asked pace news full code", defaults=(0.0, 0.0, True, UNKNOWN, BUSY))

#: What a caller is to do: ask or wait, its place, seconds until it looks again, and the code that it is told meanwhile.
Turn = namedtuple("Turn", "ask position wait code reason")


def reason_to_ask(queue: Queue, taken: int, refused: bool) -> bool:
    """Whether the head may expect another answer than the last. taken: agents with callers, as Movidesk sees it;
    refused: the phone it was offered did not take it."""
    if refused:
        return True
    return queue.news and not (queue.full != UNKNOWN and taken >= queue.full)


def request_class(queue: Queue, taken: int, refused: bool, now: float) -> int | None:
    """The class of the head's request, or None while it should not ask."""
    if reason_to_ask(queue, taken, refused):
        return budget.HEAD
    return budget.PROBE if now >= queue.asked + queue.pace else None


def at_first_arrival(queue: Queue) -> Queue:
    """The queue when a caller comes to its empty line: nothing that an earlier line was told holds. A code 0, 1 or 2 of the
    night would turn away whoever comes behind the first caller of the day."""
    return queue._replace(news=True, full=UNKNOWN, code=BUSY)


def after_answer(queue: Queue, extension: str, code: str, taken: int, now: float, pace: tuple[float, float]) -> Queue:
    """The queue after its head was answered; pace: the shortest and the longest time between two questions in seconds.

    taken counts the agent that was just offered.
    """
    shortest, longest = pace
    if extension:
        known_full = queue.full != UNKNOWN and taken >= queue.full
        return queue._replace(asked=now, pace=shortest, news=not known_full)
    slower = min(longest, max(shortest, queue.pace * 1.5))
    return queue._replace(asked=now, pace=slower, news=False, full=taken if code in ("3", "4") else UNKNOWN,
                          code=code or queue.code)


def look_again(position: int, until: float, script: bool) -> int:
    """Whole seconds until a caller in this place looks again; until: seconds before which nothing can change."""
    least = SCRIPT_LOOK if script else LOOK
    if position > 2:
        return max(least, min(FAR_LOOK, position))
    return int(max(least, min(FAR_LOOK, until)))
