"""What happened to one call, from all who saw it: the phones, Asterisk, the journal and Movidesk, in one order.

A call is known everywhere by its caller's number, which therefore has to differ between the calls of a rehearsal.
"""
from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import NamedTuple

from dateutil import tz

from movidesk_rehearsal.phones import Agent, Caller, Event
from movidesk_rehearsal.rehearsal import Rehearsal
from movidesk_sim.model import MADE, REASONS, Ticket

ASTERISK, JOURNAL, MOVIDESK = "Asterisk", "journal", "Movidesk"

_ZONE = "/etc/localtime"  # Asterisk's log keeps to it, whatever TZ says
_LOG_LINE = re.compile(r"\[(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3})\] \w+\[\d+\]\[(C-[0-9a-f]+)\] (.*)")
# What of Asterisk's log an admin wants to read, and in which words.
_ASTERISK_DID = (
    (re.compile(r"app_verbose\.c: (Movidesk .*)"), "{0}"),
    (re.compile(r"Started music on hold, class '([^']*)'"), "music on hold ({0})"),
    (re.compile(r"Begin MixMonitor Recording"), "records the talk"),
    (re.compile(r"Playing '((?:vm|queue)-[^'.]*)"), "plays {0}"),
    (re.compile(r"Executing \[[^\]]*\] Record\("), "beeps, and records the caller's message"),
)
_JOURNAL_DID = re.compile(r"movidesk: \S+: (transferred|completed|lost|canceled)$")

_CALLER_DID = {
    "ringing": "hears it ring", "progress": "hears early sound", "answered": "is answered",
    "failed": "is refused with {0}", "cancelled": "hangs up before the answer",
}
_AGENT_DID = {
    "ringing": "rings", "answered": "answers", "rejected": "refuses with SIP {0}",
    "failed": "fails with {0}", "cancelled": "stops ringing",
}


class Line(NamedTuple):
    at: float  # seconds since the epoch
    who: str
    what: str


def timeline(rehearsal: Rehearsal, caller: Caller, agents: Iterable[Agent]) -> list[Line]:
    """Everything that is known of the caller's call, oldest first; of a made call, in which that number is called, too."""
    lines = []
    if caller.events("sent"):
        lines.append(Line(caller.started_at, "caller", f"{caller.number} calls {caller.to}"))
    lines += [Line(caller.started_at, f"agent {ticket.agent}", f"clicks on {caller.number} in Movidesk")
              for ticket in tickets_of(rehearsal, caller.number) if ticket.origin == MADE]
    lines += _phone_lines("caller", caller.events(), _CALLER_DID)
    for agent in agents:
        theirs = {event.call_id for event in agent.events("invited") if event.detail == f"sip:{caller.number}"}
        events = [event for event in agent.events() if event.call_id in theirs]
        lines += _phone_lines(f"agent {agent.extension}", events, _AGENT_DID)
    ids = [ticket.id for ticket in tickets_of(rehearsal, caller.number)]
    lines += _log_lines(rehearsal.pbx.log(), ids)
    lines += _request_lines(rehearsal, ids)
    return sorted(lines, key=lambda line: line.at)


def tickets_of(rehearsal: Rehearsal, number: str) -> list[Ticket]:
    return [ticket for ticket in rehearsal.tickets() if ticket.number == number]


def clock(at: float) -> str:
    """Local time, to the millisecond."""
    return datetime.fromtimestamp(at).strftime("%H:%M:%S.%f")[:-3]


def _phone_lines(who: str, events: Sequence[Event], words: dict) -> list[Line]:
    lines = []
    for event in events:
        if event.name == "ended":
            lines.append(Line(event.at, who, "hears the line close" if event.detail == "pbx" else "hangs up"))
        elif event.name in words:
            lines.append(Line(event.at, who, words[event.name].format(event.detail)))
    return lines


def _log_lines(log: str, ids: Sequence[str]) -> list[Line]:
    """Asterisk tags each line with the call it belongs to (C-...); which that is, its lines with our id tell."""
    found = [match.groups() for match in map(_LOG_LINE.match, log.splitlines()) if match]
    tags = {tag for _, tag, text in found if any(f"movidesk: {call_id}: " in text for call_id in ids)}
    zone = tz.tzfile(_ZONE) if os.path.exists(_ZONE) else tz.UTC
    lines, recorded = [], set()
    for time, tag, text in found:
        if tag not in tags:
            continue
        at = datetime.strptime(time, "%Y-%m-%d %H:%M:%S.%f").replace(tzinfo=zone).timestamp()
        record = _JOURNAL_DID.search(text)
        if record and record.group(1) not in recorded:  # a call that is lost is told once more with its message
            recorded.add(record.group(1))
            lines.append(Line(at, JOURNAL, f"{record.group(1)}, on disk"))
        lines += [Line(at, ASTERISK, words) for words in _asterisk_did(text)]
    return lines


def _asterisk_did(text: str) -> list[str]:
    matches = ((pattern.search(text), words) for pattern, words in _ASTERISK_DID)
    return [words.format(*match.groups()) for match, words in matches if match]


def _request_lines(rehearsal: Rehearsal, ids: Sequence[str]) -> list[Line]:
    lines = []
    for entry in list(rehearsal.model.log):
        if entry["params"].get("id") in ids:
            shown = " ".join(f"{name}={_short(value)}" for name, value in entry["params"].items() if name != "id")
            name = entry["endpoint"].replace("asterisk_", "")
            lines.append(Line(entry["time"], MOVIDESK, f"{name} {shown}{_answer(entry)}"))
    return lines


def _short(value: str) -> str:
    """A parameter; of a signed link what comes before its signature."""
    return value.partition("?")[0]


def _answer(entry: dict) -> str:
    word = entry["answer"].strip('"')
    if entry["status"] != 200:
        return f" -> HTTP {entry['status']} {word}"
    if not word:
        return ""
    return f" -> {word}, {REASONS[word]}" if word in REASONS else f" -> {word}"
