"""`movidesk calls`: the last calls, and what Movidesk was told of each."""

from __future__ import annotations

from movidesk import alarms
from movidesk.cli import book
from movidesk.cli.terminal import GOOD, Row, print_table
from movidesk.config import Config
from movidesk.journal import DELIVERED, DISMISSED, REFUSED, Call, Event
from movidesk.messages import _
from movidesk.rules import call_states


def show(settings: Config, count: int) -> int:
    """Print the last calls, the newest last."""
    journal = book.opened(settings)
    calls = journal.overview.last_calls(count)[::-1]
    prioritized = any(call.priority for call in calls)
    rows = []
    for call in calls:
        events = journal.calls.events(call)
        rows.append(Row((alarms.local(call.arrived), call.call_id, call.queue, call.number, _agent(call, events), _state(call),
                         *([call.priority or ""] if prioritized else []), ", ".join(_outcome(event) for event in events))))
    if rows:
        print_table((_("arrived"), _("call"), _("queue"), _("number"), _("ext"), _("state"),
                     *([_("priority")] if prioritized else []), _("events")), rows)
    else:
        print(_("no calls yet"))
    return GOOD


def _agent(call: Call, events: list[Event]) -> str:
    """The extension that has the call, had it or is being offered it; '' of a call that ended before an agent answered."""
    had = call.mode == call_states.MADE or any(event.kind in (call_states.TRANSFERRED, call_states.START_TRANSFERRED)
                                               for event in events)
    return call.extension if had or call.ended is None else ""


def _state(call: Call) -> str:
    """The call's state; for a made call that failed also the reason, which is in its code."""
    return f"{call.state}: {call.code}" if call.mode == call_states.MADE and call.code else call.state


def _outcome(event: Event) -> str:
    if event.status == DELIVERED:
        return f"{event.kind} delivered"
    if event.status == REFUSED:
        return f"{event.kind} REFUSED ({event.note})"
    if event.status == DISMISSED:
        return f"{event.kind} dismissed ({event.note})"
    return f"{event.kind} pending{f' ({event.note})' if event.note else ''}"
