"""What is told of one call: how long it waited and talked, how it ended, its recording, and what Movidesk knows of it."""

from __future__ import annotations

from datetime import datetime
from typing import TypedDict

from movidesk.journal import DELIVERED, DISMISSED, PENDING, REFUSED, Call, Event
from movidesk.journal.call_search import ANSWERED
from movidesk.messages import _
from movidesk.rules import call_states

#: What people call the states of calls.
OUTCOMES = {
    call_states.RECEIVED: "waiting", call_states.WAITING: "waiting", call_states.ARRIVED: "waiting",
    call_states.OFFERED: "ringing", call_states.TRANSFERRED: "talking", call_states.COMPLETED: "completed",
    call_states.CANCELED: "canceled", call_states.START_CANCELED: "canceled", call_states.LOST: "lost",
    call_states.DIALLED: "dialled", call_states.FINISHED: "ended",
}


class EventFacts(TypedDict):
    """One report for Movidesk."""

    event: int           # its number, as in `movidesk outbox`
    kind: str            # call_states
    at: str              # when it happened, ISO 8601
    agent: str
    link: str
    status: str          # pending, delivered, refused or dismissed
    tries: int
    settled: str | None  # when Movidesk accepted or refused it
    note: str            # Movidesk's answer, why the last try failed, or what it waits for


class CallFacts(TypedDict):
    """One call. Times are ISO 8601, local, with the offset from UTC; spans are whole seconds."""

    id: int                # its number in the journal
    call_id: str
    uniqueid: str
    mode: str              # control, watch or made
    queue: str
    priority: int          # from 0 on
    number: str            # the caller's, or the called one's of a made call
    agent: str             # the extension that answered, whose phone rings, or that began a made call; '' for none
    state: str             # call_states, as Movidesk was told
    outcome: str           # what it came to, in the words of OUTCOMES
    code: str              # Movidesk's last code; of a made call that failed the reason
    arrived: str
    answered: str | None
    ended: str | None
    waited: int | None     # until the answer, the end, or now; None of a made call
    talked: int | None     # from the answer to the end, or to now; None where nobody has answered
    recording: str         # the link of the recording or message; '' for none
    reported: str          # the worst status of its events; '' without events
    events: list[EventFacts]


def of(call: Call, events: list[Event], now: float, masked: bool) -> CallFacts:
    """now: epoch seconds. masked: whether the number is shown by its last digits alone."""
    state = call.fate or call.state
    answered = _answered(call, events) if state in ANSWERED else None
    until = now if call.ended is None else call.ended
    made = call.mode == call_states.MADE
    statuses = {event.status for event in events}
    return {
        "id": call.id, "call_id": call.call_id, "uniqueid": call.uniqueid, "mode": call.mode, "queue": call.queue,
        "priority": call.priority, "number": call_states.masked(call.number) if masked else call.number,
        "agent": call.extension if made or state in ANSWERED or call.ended is None else "",
        "state": call.state, "outcome": OUTCOMES[state], "code": call.code,
        "arrived": iso(call.arrived), "answered": None if answered is None else iso(answered),
        "ended": None if call.ended is None else iso(call.ended),
        "waited": None if made else _span(call.arrived, until if answered is None else answered),
        "talked": None if answered is None else _span(answered, until),
        "recording": next((event.link for event in reversed(events) if event.link), ""),
        "reported": next((status for status in (REFUSED, PENDING, DISMISSED, DELIVERED) if status in statuses), ""),
        "events": [_event(event, call.number if masked else "") for event in events],
    }


def _answered(call: Call, events: list[Event]) -> float | None:
    """When the agent picked up. With report_transfer = ring Movidesk was told of the transfer before."""
    if call.picked_up is not None:
        return call.picked_up
    return next((event.at for event in events if event.kind in (call_states.TRANSFERRED, call_states.START_TRANSFERRED)), None)


def outcome(call: CallFacts) -> str:
    """The outcome in the reader's language."""
    return {"waiting": _("waiting"), "ringing": _("ringing"), "talking": _("talking"), "completed": _("completed"),
            "canceled": _("canceled"), "lost": _("lost"), "dialled": _("dialled"), "ended": _("ended")}[call["outcome"]]


def _event(event: Event, hidden: str) -> EventFacts:
    """hidden: a number that must not be shown; '' for none."""
    return {"event": event.id, "kind": event.kind, "at": iso(event.at), "agent": event.extension, "link": event.link,
            "status": event.status, "tries": event.attempts, "settled": None if event.settled is None else iso(event.settled),
            "note": call_states.without_number(event.note, hidden)}


def iso(epoch: float) -> str:
    """A local time with its offset from UTC: 2026-01-31T08:00:00-03:00."""
    return datetime.fromtimestamp(epoch).astimezone().isoformat(timespec="seconds")


def _span(begin: float, end: float) -> int:
    return max(0, round(end - begin))  # the clock may have been set back
