"""The facts of `movidesk status`: waiting line, calls, request limit, outbox and alarms."""

from __future__ import annotations

import time
from typing import NamedTuple, TypedDict

from movidesk import alarms
from movidesk.config import Config, nights
from movidesk.context import Context
from movidesk.journal import Call, Journal, JournalError
from movidesk.messages import _
from movidesk.rules import call_states
from movidesk.rules.rate_limit import UNLIMITED

OLD = 60.0  # seconds from which on people are told how old the oldest event is that waits


class Line(TypedDict):
    """The waiting line of one queue."""

    queue: str
    waiting: int    # callers
    longest: float  # seconds since the one that waits longest arrived
    priorities: dict[str, int]  # how many of them have each priority above 0, the highest first
    expected: int | None  # seconds that the next caller would be told to wait; None: unknown


class Calls(TypedDict):
    """Numbers of calls."""

    open: int
    with_agents: int


class Requests(TypedDict):
    """The request limit."""

    used: int          # requests in the last minute
    limit: int | None  # the current limit in requests a minute; None: no limit
    night: bool        # whether that is the night limit
    rate: int          # the rate that we use of it
    paused: float      # seconds until requests are sent again
    why: str           # the reason of the pause; '' if there is none


class Outbox(TypedDict):
    """Numbers of events that wait, and that are set aside (refused)."""

    pending: int
    refused: int
    age: float    # seconds since the oldest one happened that is to be sent; 0.0 if there is none


class AlarmFacts(TypedDict):
    """An alarm that stands."""

    name: str  # as in docs/operations.md
    text: str  # in English for programs


class Trouble(TypedDict):
    """The alarms."""

    trouble: list[str]  # their texts
    alarms: list[AlarmFacts]


class Facts(Trouble):
    """What `movidesk status --json` prints. If no journal can be read, all but `trouble` and `alarms` is None."""

    line: list[Line] | None
    calls: Calls | None
    requests: Requests | None
    outbox: Outbox | None


class Seen(NamedTuple):
    """The calls of one look at the journal."""

    open_calls: list[Call]
    waiting: dict[str, list[Call]]  # those in line, by queue, in their order


def look(journal: Journal) -> Seen:
    """Look at the open calls. Raises JournalError."""
    waiting: dict[str, list[Call]] = {}
    for call in journal.overview.waiting():
        waiting.setdefault(call.queue, []).append(call)
    return Seen(journal.overview.open_calls(), waiting)


def read(settings: Config, journal: Journal, seen: Seen | None = None, now: float | None = None) -> Facts:
    """All facts. seen: a look of just now, at `now` (epoch seconds), so that the journal is not read twice. Raises
    JournalError."""
    now = time.time() if now is None else now
    open_calls, waiting = seen or look(journal)
    totals = journal.overview.totals()
    standing = alarms.standing(Context(settings, journal=journal))
    answers = not {"away", "token"} & {alarm.name for alarm in standing}
    return {
        "line": [_line(settings, journal, found, now, answers) for found in waiting.values()],
        "calls": {"open": totals["open"], "with_agents": sum(c.state == call_states.TRANSFERRED for c in open_calls)},
        "requests": _requests(settings, journal, now),
        "outbox": {"pending": totals["pending"], "refused": totals["refused"],
                   "age": max(0.0, now - journal.overview.oldest_owed(now))},
        **_trouble(standing),
    }


def without_journal(settings: Config, error: JournalError | OSError) -> Facts:
    """Only the problems, because the journal cannot be read."""
    return {"line": None, "calls": None, "requests": None, "outbox": None,
            **_trouble([*alarms.without_journal(settings), alarms.of("journal", str(error))])}


def _trouble(standing: list[alarms.Alarm]) -> Trouble:
    return {"trouble": [alarm.text for alarm in standing],
            "alarms": [{"name": alarm.name, "text": alarm.text} for alarm in standing]}


def _line(settings: Config, journal: Journal, found: list[Call], now: float, answers: bool) -> Line:
    """The line in which these callers stand. answers: whether Movidesk answers, so that they get on."""
    priorities: dict[str, int] = {}
    for priority in sorted((str(call.priority) for call in found if call.priority), reverse=True):
        priorities[priority] = priorities.get(priority, 0) + 1
    scheduler, queue = journal.scheduler, found[0].queue
    expected = scheduler.expected(queue, len(found) + 1, scheduler.queue(queue).code, nights.limit_at(settings, now))
    return {"queue": queue, "waiting": len(found), "longest": now - min(call.arrived for call in found), "priorities": priorities,
            "expected": expected if answers else None}


def _requests(settings: Config, journal: Journal, now: float) -> Requests:
    limit = nights.limit_at(settings, now)
    return {"used": journal.limits.requests_in_window(), "limit": None if limit == UNLIMITED else limit,
            "night": nights.is_night_at(settings, now), "rate": journal.limits.rate(limit),
            "paused": journal.limits.pause_left(), "why": journal.limits.pause_reason() if journal.limits.pause_left() else ""}


def rows(facts: Facts, settings: Config) -> list[tuple[str, str]]:
    """The facts as headings and texts, in the reader's language; trouble first."""
    found = [(_("trouble"), text) for text in facts["trouble"]]
    if facts["line"] is not None:
        found += [(_("line"), _say_line(line)) for line in facts["line"]] or [(_("line"), _("nobody waits"))]
    if facts["calls"] is not None:
        found.append((_("calls"), _("{open} open, {with_agents} with agents").format(**facts["calls"])))
    if facts["requests"] is not None:
        found += [(_("requests") if not place else "", text)
                  for place, text in enumerate(_say_requests(facts["requests"], settings))]
    if facts["outbox"] is not None:
        text = _("{pending} pending, {refused} refused").format(**facts["outbox"])
        if facts["outbox"]["age"] >= OLD:
            text += _(", the oldest is {time} old").format(time=span(facts["outbox"]["age"]))
        found.append((_("outbox"), text))
    return found


def _say_line(line: Line) -> str:
    texts = [_("queue {queue}: {count} waiting, the longest for {time}").format(
        queue=line["queue"], count=line["waiting"], time=span(line["longest"]))]
    texts += [_("{count} of priority {priority}").format(count=count, priority=priority)
              for priority, count in line["priorities"].items()]
    if line["expected"] is not None:
        texts.append(_("the next caller will wait for about {time}").format(time=span(line["expected"])))
    return "; ".join(texts)


def _say_requests(facts: Requests, settings: Config) -> list[str]:
    limit = UNLIMITED if facts["limit"] is None else facts["limit"]
    texts = [_("{used} of {rate} in the last minute").format(**facts) if facts["rate"] < UNLIMITED
             else _("{used} in the last minute, no limit").format(**facts)]
    night = settings["movidesk", "night"]
    if facts["night"] and night:
        begins, ends = (f"{minute // 60:02d}:{minute % 60:02d}" for minute in night)
        texts.append(_("the night limit applies (night = {begins}-{ends}, {time_zone})").format(
            begins=begins, ends=ends, time_zone=settings["movidesk", "time_zone"]))
    if facts["rate"] < limit:
        texts.append(_("lowered from {limit}: other programs use the account, because Movidesk answered 429 although we had sent "
                       "less; the rate rises step by step").format(limit=facts["limit"] or _("no limit")))
    if facts["paused"]:
        texts.append(_("no request is sent for {seconds:.0f} s: {why}").format(seconds=facts["paused"], why=facts["why"]))
    return texts


def span(seconds: float) -> str:
    """A duration as H:MM:SS or M:SS."""
    minutes, rest = divmod(int(max(0, seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
