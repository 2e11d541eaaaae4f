"""What the journal hands out: rows of its tables as values, and the words that stand in them."""

from __future__ import annotations

from movidesk import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

LEASE = 60.0         # seconds for which an event handed out belongs to its taker
HOLD = 3600.0        # seconds for which an event waits for its message or conversion, at most

PENDING, DELIVERED, REFUSED = "pending", "delivered", "refused"
DISMISSED = "dismissed"  # refused, and an admin has given it up

#: Upper ends of the spans in which durations are counted (Store.observe), in seconds.
BOUNDS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1200.0, 1800.0, 3600.0, float("inf"))
#: What is counted (Store.observe), with its label. Durations are in seconds.
CALL_ANSWERED = "call_answered"      # mode; from the arrival to the agent's answer
CALL_ENDED = "call_ended"            # mode and ending; the talk of an answered call, the wait of another one
SCREEN = "screen"                    # from the agent's answer until Movidesk knew of it; 0 if that was before
REQUEST = "request"                  # event and result; until Movidesk's answer
SWEEP, SWEPT = "sweep", "swept"      # whether Asterisk listed its channels; calls that a sweep ended
EMERGENCY = "emergency"              # of lines of the emergency file: whether they were imported
FAIL_OPEN = "fail_open"              # the cause for which a call went on without what it had asked for
STANDBY = "standby"                  # a standby began
FAILED = "failed"                    # the ending of a made call that did not reach its agent
CLOSED = "closed"                    # the ending of a lost call whose caller Movidesk had told that it is closed
OTHER = "other"                      # stands for all queues after the first MOST_QUEUES
MOST_QUEUES = 100                    # a dialplan may pass a caller's number for a queue

ASKED = "asked, not answered"  # the note of an arrival whose question left: Movidesk may have heard it
HELD = "waits for the caller's message"
CONVERTS = "waits until this is converted: "  # and the file's name
CONVERTING = "waits while this is converted: "


class Call(NamedTuple):
    """A row of `calls`."""

    id: int              # the row's number
    call_id: str         # Movidesk's
    uniqueid: str        # of the channel on which the call began, of which its id is made
    mode: str            # CONTROL, WATCH or MADE (call_states)
    state: str           # call_states
    queue: str           # Movidesk's number of the queue; '' where none is known
    number: str          # the caller's, as Movidesk gets it
    extension: str       # of the agent who was offered the call, or has it; '' for none
    code: str            # the last code of receivedCall, or ''; of a made call why it did not come about
    arrived: float       # epoch seconds
    ended: float | None  # epoch seconds; None while the call is open
    channel: str = ""    # unique id of the channel that it is on since an attended transfer; '' where it began there
    priority: int = 0    # from 0 to waiting_line.HIGHEST_PRIORITY
    rank: float = 0.0    # its place in line (waiting_line.rank); 0.0 if an older version began it: before the others
    place: int = 0       # its place when it began to wait; 0 if it has not had to wait
    fate: str = ""       # how it really ended if Movidesk was told `completed` of a call that nobody answered; else ''
    picked_up: float | None = None  # when an agent did, epoch seconds; None if none has, or an older version recorded it


class Event(NamedTuple):
    """A row of `events`: one report for Movidesk."""

    id: int                # the row's number
    call: int              # Call.id
    kind: str              # call_states
    at: float              # when it happened, epoch seconds
    extension: str         # '' for none
    link: str              # of the recording; '' for none
    status: str            # PENDING, DELIVERED, REFUSED or DISMISSED
    attempts: int          # how often it was sent
    due: float             # steady time from which on it may be sent
    note: str              # Movidesk's answer, why the last try failed, or what it waits for
    settled: float | None  # when it was delivered or refused, epoch seconds; None before


class Job(NamedTuple):
    """An event with the call it belongs to."""

    event: Event
    call: Call
    request_id: int = 0  # of the request that was claimed for it when it was handed out for delivery


class Recorded(NamedTuple):
    """What `CallStore.record` did."""

    call: Call | None  # None where there is none
    kind: str | None   # the event's; None where nothing was recorded
    reason: str        # why nothing was; else ''


class Rejection(NamedTuple):
    """An event that Movidesk answered with 400, 404 or another 4xx that is meant for the event."""

    event: int        # Event.id
    kind: str
    why: str          # `HTTP 400: ...`
    queue: str
    call_id: str
    registered: int   # 1 if Movidesk had accepted the call's beginning, else 0


class Claim(NamedTuple):
    """Permission to send a request."""

    request_id: int       # its number; 0: not given
    wait: float           # seconds until asking again makes sense
    reason: str           # why it was not given
    paused: bool = False  # whether that is because of a pause (Limits.pause_left)


#: The columns that a Call, an Event and a Job are made of, in a SELECT.
CALL = ", ".join("calls." + field for field in Call._fields)
EVENT = ", ".join("events." + field for field in Event._fields)
JOB = EVENT + ", " + CALL

#: One of the three reasons for which an event waits, as a condition on events; that of the index events_held.
HELD_NOTE = "note >= 'waits' AND note < 'waitt'"
#: Who stands in a line, as a condition on calls; :now is the steady time.
WAITS = "ended IS NULL AND state IN ('received', 'waiting') AND calls.code NOT IN ('0', '1', '2') AND seen_until > :now"
#: The order of a line, as columns of calls; the index calls_line has it.
LINE_ORDER = "rank, id"
#: Who of them asks before those behind: not one whose own questions fail (Trials.question_failed).
COMES_FIRST = WAITS + " AND aside_until <= :now"
#: Whether Movidesk is being asked for a caller at this moment, as a condition on calls.
ASKS = "asks_until > :now"


def job_from(*row: Any) -> Job:  # a column's type is its own
    """The Job of a row of JOB's columns."""
    split = len(Event._fields)
    return Job(Event(*row[:split]), Call(*row[split:]))
