"""What the journal hands out: rows of its tables as values, and the words that stand in them."""

from __future__ import annotations

from collections import namedtuple

LEASE = 60.0         # seconds for which an event handed out belongs to its taker
HOLD = 3600.0        # seconds for which an event waits for its message or conversion, at most

PENDING, DELIVERED, REFUSED = "pending", "delivered", "refused"
DISMISSED = "dismissed"  # refused, and an admin has given it up

ASKED = "asked, not answered"  # the note of an arrival whose question left: Movidesk may have heard it
HELD = "waits for the caller's message"
CONVERTS = "waits until this is converted: "  # and the file's name
CONVERTING = "waits while this is converted: "

#: uniqueid: of the channel on which the call began, of which its id is made. channel: of the one that it is on since an
#: attended transfer; '' while that is the same. arrived and ended are epoch seconds; ended is None while the call is open.
Call = namedtuple("Call", "id call_id uniqueid mode state queue number extension code arrived ended channel", defaults=("",))
#: call: the id of its call's row. at and settled are epoch seconds, due is steady time.
Event = namedtuple("Event", "id call kind at extension link status attempts due note settled")
#: An event with the call it belongs to; handed out for delivery, also the number of the request claimed for it.
Job = namedtuple("Job", "event call request_id", defaults=(0,))
#: What `CallStore.record` did: the call (None where there is none) and the event's kind, or None with the reason why not.
Recorded = namedtuple("Recorded", "call kind reason")
#: Permission to send a request: its number; else 0, the seconds until asking again makes sense, and why. paused: because of a
#: pause (Limits.pause_left).
Claim = namedtuple("Claim", "request_id wait reason paused", defaults=(False,))

#: The columns that a Call, an Event and a Job are made of, in a SELECT.
CALL = ", ".join("calls." + field for field in Call._fields)
EVENT = ", ".join("events." + field for field in Event._fields)
JOB = EVENT + ", " + CALL

#: One of the three reasons for which an event waits, as a condition on events; that of the index events_held.
HELD_NOTE = "note >= 'waits' AND note < 'waitt'"
#: Who stands in a line, as a condition on calls; :now is the steady time.
WAITS = "ended IS NULL AND state IN ('received', 'waiting') AND calls.code NOT IN ('0', '1', '2') AND seen_until > :now"
#: Who of them asks before those behind: not one whose own questions fail (Trials.question_failed).
COMES_FIRST = WAITS + " AND aside_until <= :now"


def job_from(*row) -> Job:
    """The Job of a row of JOB's columns."""
    split = len(Event._fields)
    return Job(Event(*row[:split]), Call(*row[split:]))
