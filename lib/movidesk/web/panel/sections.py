"""What the panel shows, by section, as values for JSON.

Times are epoch seconds, which the page counts from, or local times as text (ISO 8601): the page never asks the browser's clock or
time zone. So a section changes only if something happens, and only then is it sent.
"""

from __future__ import annotations

import re
from typing import Any

from movidesk import alarms, call_facts, facts, remedies
from movidesk.config import Config
from movidesk.context import Context
from movidesk.journal import Call, Journal, JournalError
from movidesk.journal.call_search import Wanted
from movidesk.reports import figures, periods
from movidesk.rules import call_states

CALLERS = 50  # of one queue that are shown; the others are counted
CALLS = 20    # last calls that are shown
FOUND = 50    # calls that a search shows
TODAY_EVERY = 15.0  # seconds between two counts of today's calls
#: Digits that a search needs if numbers are masked: nobody finds out a number by its parts. The end that is shown counts, too.
WHOLE_NUMBER, SHOWN_END = 8, 4

Sections = dict[str, Any]


class Maker:
    """Makes the sections of one configuration."""

    def __init__(self, config: Config):
        self._config = config
        self._counted, self._hours = float("-inf"), list[Any]()  # when today's calls were last counted, and what was found
        self._masked = config["pbx", "mask_numbers"] == "yes"
        self._queue_names, self._agent_names = config["pbx", "queue_names"] or {}, config["pbx", "agent_names"] or {}

    def look(self, journal: Journal, now: float) -> Sections:
        """All sections, the alarms in the thread's language. Raises JournalError."""
        seen = facts.look(journal)
        known = facts.read(self._config, journal, seen, now)
        return {
            "queues": self._queues(known["line"] or [], seen, now),
            "agents": self._agents(journal),
            "requests": _requests(known["requests"], now),
            "outbox": _outbox(known["outbox"], now),
            "today": {"hours": self._today(journal, now)},
            "calls": self.calls(journal, journal.overview.last_calls(CALLS), now),
            "alarms": self._alarms(known["alarms"]),
            "broken": "",
        }

    def alarms_without_journal(self, error: JournalError) -> list[Any]:
        """The section `alarms` if the journal cannot be read, in the thread's language."""
        return self._alarms(facts.without_journal(self._config, error)["alarms"])

    def alarms(self, journal: Journal) -> list[Any]:
        """The section `alarms` alone, in the thread's language. Raises JournalError."""
        standing = alarms.standing(Context(self._config, journal=journal))
        return self._alarms([{"name": alarm.name, "text": alarm.text} for alarm in standing])

    def search(self, journal: Journal, typed: str, now: float) -> Any:
        """The newest calls with this number or a part of it; if numbers are masked, with this end. Raises JournalError."""
        number = typed.strip().lower()
        if number != call_states.ANONYMOUS:
            number = re.sub("[^0-9+]", "", number)
        digits = number.lstrip("+")
        if not digits or self._masked and digits.isdigit() and SHOWN_END < len(digits) < WHOLE_NUMBER:
            return {"calls": [], "too_short": bool(digits)}
        found = journal.search.newest(Wanted(ending=number) if self._masked else Wanted(number), FOUND)
        return {"calls": self.calls(journal, found, now), "too_short": False}

    def calls(self, journal: Journal, found: list[Call], now: float) -> list[Any]:
        """What became of these calls and of their events."""
        return [self._call(call_facts.of(call, journal.calls.events(call), now, self._masked)) for call in found]

    def _call(self, call: call_facts.CallFacts) -> Any:
        is_over, was_answered = call["ended"] is not None, call["answered"] is not None
        return {
            "id": call["id"], "call_id": call["call_id"], "at": call["arrived"], "mode": call["mode"],
            "queue": self._queue(call["queue"]), "number": call["number"], "agent": self._agent(call["agent"]),
            "outcome": call["outcome"], "why": call["code"] if call["mode"] == call_states.MADE else "",
            "waited": call["waited"] if is_over or was_answered else None, "talked": call["talked"] if is_over else None,
            "recorded": bool(call["recording"]), "reported": call["reported"],
            "events": [{"kind": event["kind"], "at": event["at"], "status": event["status"], "tries": event["tries"],
                        "note": event["note"]} for event in call["events"]],
        }

    def _queues(self, lines: list[facts.Line], seen: facts.Seen, now: float) -> list[Any]:
        """The waiting lines, then the callers in Asterisk's own queues."""
        found = []
        for line in sorted(lines, key=lambda line: line["queue"]):
            found.append({"queue": self._queue(line["queue"]), "mode": call_states.CONTROL, "waiting": line["waiting"],
                          "since": round(now - line["longest"], 1), "expected": line["expected"],
                          "callers": [self._caller(call) for call in seen.waiting[line["queue"]][:CALLERS]]})
        others: dict[str, list[Call]] = {}
        for call in seen.open_calls:
            if call.state == call_states.ARRIVED:
                others.setdefault(call.queue, []).append(call)
        for queue, callers in sorted(others.items()):
            found.append({"queue": self._queue(queue), "mode": call_states.WATCH, "waiting": len(callers),
                          "since": round(min(call.arrived for call in callers), 1), "expected": None,
                          "callers": [self._caller(call) for call in callers[:CALLERS]]})
        return found

    def _caller(self, call: Call) -> Any:
        return {"number": self._number(call.number), "since": round(call.arrived, 1), "priority": call.priority}

    def _agents(self, journal: Journal) -> list[Any]:
        return [{"agent": self._agent(call.extension), "outcome": call_facts.OUTCOMES[call.state], "since": round(since, 1),
                 "number": self._number(call.number), "queue": self._queue(call.queue)}
                for call, since in journal.overview.engaged()]

    def _today(self, journal: Journal, now: float) -> list[Any]:
        """Today's hours, from the first with a call to the last."""
        if not 0.0 <= now - self._counted < TODAY_EVERY:
            self._counted, self._hours = now, _hours_of_today(journal, now)
        return self._hours

    def _alarms(self, standing: list[facts.AlarmFacts]) -> list[Any]:
        advice = remedies.of(self._config)
        return [{"name": alarm["name"], "text": alarm["text"], "mild": alarm["name"] in alarms.MILD,
                 "why": advice.get(alarm["name"], ("", ""))[0], "remedy": advice.get(alarm["name"], ("", ""))[1]}
                for alarm in standing]

    def _number(self, number: str) -> str:
        return call_states.masked(number) if self._masked else number

    def _queue(self, queue: str) -> Any:
        return {"number": queue, "name": self._queue_names.get(queue, "")}

    def _agent(self, extension: str) -> Any:
        return {"number": extension, "name": self._agent_names.get(extension, "")}


def _hours_of_today(journal: Journal, now: float) -> list[Any]:
    day = periods.today(now)
    begin, end = periods.bounds(periods.Period(day, day))
    tallies = figures.Tallies(periods.hours(begin, end), [(begin, day.isoformat())], within=0)
    for calls in journal.history.since(begin):
        tallies.count(calls, end)
    rows = tallies.by_hour()
    busy = [place for place, row in enumerate(rows) if row.figures.calls]
    return [{"hour": row.name, "answered": row.figures.answered, "lost": row.figures.lost, "abandoned": row.figures.abandoned}
            for row in rows[busy[0]:busy[-1] + 1]] if busy else []


def _requests(known: facts.Requests | None, now: float) -> Any:
    if known is None:
        return None
    return {"used": known["used"], "rate": known["rate"] if known["limit"] is not None else None, "night": known["night"],
            "lowered": known["limit"] is not None and known["rate"] < known["limit"], "limit": known["limit"],
            "paused": round(now + known["paused"]) if known["paused"] else None}


def _outbox(known: facts.Outbox | None, now: float) -> Any:
    if known is None:
        return None
    return {"pending": known["pending"], "refused": known["refused"],
            "since": round(now - known["age"], 1) if known["age"] else None}
