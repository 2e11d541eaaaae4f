"""The waiting line: the callers of a Movidesk queue in order of arrival. Only the first (the head) asks Movidesk for an agent.
At a raised limit those behind it ask beside it, while more agents are known to be free than callers ask (`may_ask_beside`). Pure
functions; the journal applies them.

A caller of priority n stands in line as if it had come n times PRIORITY_SECONDS earlier (`rank`). So callers of one priority
stand in order of arrival, and nobody waits for ever: a caller of priority n overtakes nobody who came more than n times
PRIORITY_SECONDS before it.

The head asks at once if the answer may differ from the last one (`Queue.changed`): the line was empty when it came; a phone that
had not refused before did not answer; the previous caller was served and agents may be free; or a call of one of the queue's
agents has ended. Otherwise it asks at intervals that grow while nothing changes, also if Movidesk names only phones that have
refused recently.

Where the states of the agents' phones are known, a phone that becomes free is such a change, and while all are busy the head asks
only at its longest interval. A head that has waited as long as most earlier callers did before they gave up does not ask for a
moment: the agent's phone would ring for nobody (`is_about_to_leave`). Nobody overtakes it meanwhile.
"""

from __future__ import annotations

import math

from movidesk import NamedTuple
from movidesk.rules import call_states, rate_limit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

#: Seconds that a caller may be late, beyond the wait that it was given: prompts are played in that time. After that the next
#: caller may ask first; the caller has its place again when it returns.
GRACE = 15.0
#: How many seconds earlier a caller counts as arrived for each step of its priority, and the highest priority. With five minutes
#: priority 2 goes before everybody without a priority, as callers wait ten minutes at most (MOVIDESK_MAX_WAIT); 1 before most.
PRIORITY_SECONDS, HIGHEST_PRIORITY = 300.0, 9
#: The default of the shortest and the longest interval between two requests of a head, in seconds.
PACE = (6, 30)
#: Seconds until a waiting caller runs `received` again: at least, through the service (it takes a millisecond) and as a script
#: (forty); for each place of those behind the second; and at most.
LOOK, SCRIPT_LOOK, PLACE_LOOK, FAR_LOOK = 1, 3, 1, 5
#: A raised limit moves the line faster, so callers look more often. In units of the time in which the limit gives one request
#: (6 s at ten a minute), the longest intervals: of the first two, who must notice a free agent; and for each place behind them,
#: half of the three requests that an answered call needs.
FIRST_REQUESTS, PLACE_REQUESTS = 4, 1.5
#: Requests a minute above which intervals get no shorter: while `received` runs, Asterisk hears no key. And the longest interval
#: once they are shorter: those far behind make up for those in front, so that 500 callers cost the same at every limit.
QUICKEST, RAISED_FAR_LOOK = 1000, 8
#: From this limit on several callers of a queue may ask at the same time, and at most so many of the PBX: see `may_ask_beside`.
BESIDE_FROM, MOST_BESIDE = 100, 8
#: Seconds since Movidesk last named an agent, after which it does not count as free there: it may have logged out.
BESIDE_NAMED = 900.0
#: The least for the head of a line through the service: it asks soon after a request is free. While `received` runs, Asterisk
#: hears no key.
HEAD_LOOK = 0.2
UNKNOWN = -1
#: The code for a caller while all phones of its queue refuse: "all agents are in a call".
BUSY = "4"

#: Reasons why a phone did not answer (a state of DEVICE_STATE(), or a DIALSTATUS). ENGAGED: its agent is in another call, or
#: declined. DEAD: somebody must fix the phone.
ENGAGED = frozenset(("INUSE", "RINGING", "RINGINUSE", "ONHOLD", "HOLDINUSE", "BUSY", "DECLINED"))
DEAD = frozenset(("UNAVAILABLE", "CHANUNAVAIL", "CONGESTION", "INVALIDARGS"))
#: States of a phone that is in another call, or off. A refusal for such a reason is over as soon as the phone is free.
ELSEWHERE = frozenset(("INUSE", "RINGINUSE", "ONHOLD", "HOLDINUSE", "UNAVAILABLE"))
#: How long a refusal counts: seconds for each refusal in a row, and at most; for a DEAD phone, and for others.
DEAD_LASTS, REFUSAL_LASTS = (300.0, 3600.0), (120.0, 600.0)
#: Nobody is expected to leave who has waited for fewer seconds: a new caller always asks at once.
LEFT_AFTER = 20.0
#: How many earlier callers must have left after as long a wait before a caller is expected to leave, and of how many of the last
#: callers of all queues the waits are compared.
LEFT_LEAST, WAITS_KEPT = 5, 300
#: Seconds since Movidesk last named an extension for a queue, after which it is forgotten when Movidesk next names one for that
#: queue (not while it has a caller).
MEMBER_LASTS = 43200.0


class Queue(NamedTuple):
    """The state of a queue's waiting line."""

    name: str            # the queue's number in Movidesk
    asked: float = 0.0   # when its head last asked, steady time
    pace: float = 0.0    # seconds until it asks again if nothing changes
    changed: bool = True    # whether something has changed since, so that the answer may differ
    busy_agents: int = UNKNOWN  # how many agents had calls when Movidesk last answered that all are busy; UNKNOWN if it did not
    code: str = BUSY     # the last code that a caller of this line got


class Turn(NamedTuple):
    """What a caller does next: ask Movidesk, or wait."""

    request_id: int  # the request claimed for it; 0: it waits
    position: int    # its place in line, from 1
    wait: float      # seconds until it runs `received` again (look_again)
    code: str        # the code that it gets meanwhile
    reason: str      # why no request is free; '' if that is not the cause
    expected: int | None = None  # seconds until an agent will probably answer; None: unknown


class Phones(NamedTuple):
    """The phones of those agents of a queue whom Movidesk may name, because they have no caller as far as it knows."""

    number: int  # how many there are
    idle: int    # how many of them are not known to be busy or unavailable


class Refusal(NamedTuple):
    """A phone that did not answer an offered call, once or several times in a row."""

    extension: str
    reason: str   # a state of DEVICE_STATE(), or a DIALSTATUS; '' if unknown
    since: float  # the first time, epoch seconds
    at: float     # the last time, steady time
    times: int    # how often in a row
    call: int     # the number of the last call that it refused


def rank(arrived: float, priority: int) -> float:
    """The place of a caller in its line: whoever has the lower rank stands further ahead. arrived: steady time."""
    return arrived - priority * PRIORITY_SECONDS


def arrived(rank: float, priority: int) -> float:
    """When the caller with this rank arrived, in steady time."""
    return rank + priority * PRIORITY_SECONDS


def request_class(queue: Queue, taken: int, now: float, phones: Phones | None = None,
                  longest: float = PACE[1], at_once: bool = False) -> int | None:
    """The class of the head's request, or None if it should not ask now.

    taken: how many of the queue's agents have callers, according to Movidesk. phones: None if their states are not known. While
    all of them are busy, the head only asks every `longest` seconds, because an agent who is not known may have logged in.
    at_once: not then, because Movidesk does not know the caller yet, or because the caller comes back from a phone that had not
    refused before, and Movidesk may name another agent.
    """
    if phones is not None and phones.number and not phones.idle and not at_once:
        return rate_limit.PROBE if now >= queue.asked + longest else None
    if queue.changed and not (queue.busy_agents != UNKNOWN and taken >= queue.busy_agents):
        return rate_limit.HEAD
    return rate_limit.PROBE if now >= queue.asked + queue.pace else None


def may_ask_beside(queue: Queue, asking: int, free: int, taken: int, limit: int) -> bool:
    """Whether a caller may ask, although Movidesk has not yet answered those before it.

    Movidesk takes some tenths of a second for an answer, so one question after another would not use a raised limit. But the
    answers may come in any order: if more callers ask than agents are free, one behind could get the last agent. So twice as many
    must be free as ask then.

    asking: for how many callers of all queues Movidesk is being asked; free: agents of the queue whom it has named in the last
    BESIDE_NAMED seconds, and who are known to have neither a caller nor a refusal that counts; taken: see request_class; limit:
    requests a minute.
    """
    if queue.busy_agents != UNKNOWN:
        free = min(free, queue.busy_agents - taken)
    return queue.changed and limit >= BESIDE_FROM and asking < MOST_BESIDE and free >= 2 * (asking + 1)


def after_free_phone(queue: Queue) -> Queue:
    """The queue after the phone of an agent whom Movidesk may name has become free: it asks, whatever Movidesk answered last."""
    return queue._replace(changed=True, busy_agents=UNKNOWN)


def becomes_free(before: str, state: str) -> bool:
    """Whether a phone that was in another call, or off, is free. It is no news that it has stopped ringing, perhaps for a caller
    of ours."""
    return bool(state) and is_phone_free(state) and before in ELSEWHERE


def is_phone_free(state: str) -> bool:
    """Whether a phone in this state may take a call, as far as is known; state: of DEVICE_STATE(), '' if unknown."""
    return state not in ENGAGED and state not in DEAD


def is_about_to_leave(waited: float, seconds: float, left: Sequence[float], stayed: Sequence[float]) -> bool:
    """Whether a caller who has waited so long is likely to leave within so many seconds, as earlier callers did.

    left, stayed: how long earlier callers waited before they hung up, and before they were answered. True if most of those who
    waited as long as this one left in that time, and at least LEFT_LEAST did; but only for so many seconds: where callers leave
    at any time, nobody is held back for longer.
    """
    def most_leave(since: float) -> bool:
        leaving = sum(since <= wait < since + seconds for wait in left)
        return leaving >= LEFT_LEAST and 2 * leaving > sum(wait >= since for wait in (*left, *stayed))

    return waited >= LEFT_AFTER and most_leave(waited) and not most_leave(waited - seconds)


def at_first_arrival(queue: Queue) -> Queue:
    """The queue when a caller comes to its empty line: earlier answers are forgotten. Otherwise a code 0, 1 or 2 of last night
    would turn away the second caller of the day."""
    return queue._replace(changed=True, busy_agents=UNKNOWN, code=BUSY)


def is_expected_to_refuse(refusal: Refusal | None, now: float) -> bool:
    """Whether the phone is expected to refuse again. It is still rung when Movidesk names it, but Movidesk is not asked at
    once."""
    if refusal is None:
        return False
    first, longest = DEAD_LASTS if refusal.reason in DEAD else REFUSAL_LASTS
    return 0.0 <= now - refusal.at < min(longest, first * refusal.times)


def is_too_soon(refusal: Refusal | None, call: int, now: float, pace: tuple[float, float]) -> bool:
    """Whether the phone has refused this call so recently that it is not dialled again now."""
    return refusal is not None and refusal.call == call and 0.0 <= now - refusal.at < pace[0]


def after_answer(queue: Queue, extension: str, code: str, taken: int, now: float, pace: tuple[float, float],
                 doubtful: bool = False) -> Queue:
    """The queue after Movidesk answered its head; pace: the shortest and the longest interval between two requests, in seconds.

    taken: includes the agent that was just offered. doubtful: this agent's phone refused recently (`is_expected_to_refuse`), so
    the offer does not mean that other agents are free.
    """
    if extension and queue.busy_agents != UNKNOWN and taken > queue.busy_agents:
        queue = queue._replace(busy_agents=UNKNOWN)  # there are more agents than were known
    if extension and doubtful:
        return queue._replace(asked=now)
    if extension:
        all_busy = queue.busy_agents != UNKNOWN and taken >= queue.busy_agents
        return queue._replace(asked=now, pace=pace[0], changed=not all_busy)
    # If no agent of the queue has a caller, they are busy elsewhere, and their number is unknown.
    return _slower(queue, now, pace)._replace(busy_agents=taken or UNKNOWN if code in call_states.BUSY_CODES else UNKNOWN,
                                              code=code or queue.code)


def after_refusal(queue: Queue, known: bool, others: int, now: float, pace: tuple[float, float]) -> Queue:
    """The queue after a phone did not answer an offered call.

    known: it had refused before, and that still counts (`is_expected_to_refuse`); others: how many agents of the queue have
    neither a caller nor a refusal that counts; pace: see after_answer. The head asks again at once, unless Movidesk can only
    name phones that have refused.
    """
    if not known or queue.changed and others:
        return queue._replace(changed=True, busy_agents=UNKNOWN)
    return _slower(queue, now, pace)._replace(code=BUSY)


def _slower(queue: Queue, now: float, pace: tuple[float, float]) -> Queue:
    shortest, longest = pace
    return queue._replace(asked=now, pace=min(longest, max(shortest, queue.pace * 1.5)), changed=False)


def look_again(position: int, until: float, script: bool, limit: int) -> float:
    """Seconds until a caller in this place runs `received` again: a whole number, or less than one.

    until: seconds during which nothing can change; limit: requests a minute.
    """
    request = 60.0 / min(limit, QUICKEST)
    first, place = FIRST_REQUESTS * request, PLACE_REQUESTS * request
    if position > 2:
        wait = min(FAR_LOOK, PLACE_LOOK * position) if place >= PLACE_LOOK else min(RAISED_FAR_LOOK, place * position)
        wait = max(wait, SCRIPT_LOOK) if script else wait
    else:
        wait = min(max(HEAD_LOOK if position == 1 else LOOK, until), FAR_LOOK, first)
        wait = max(wait, LOOK, min(SCRIPT_LOOK, first)) if script else wait
    return int(wait) if wait >= 1 else math.ceil(100 * wait) / 100
