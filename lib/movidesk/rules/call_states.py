"""The states of a call, the events that change them, and call ids. Pure functions; the journal applies them.

Three kinds of call share one state machine. The states in `ENDED` are final: each call id gets exactly one ending, even if events
arrive twice, late or out of order.

    control   received -> waiting <-> offered -> transferred -> completed | canceled | lost
    watch     arrived -> transferred -> completed, or start_canceled
    made      dialled -> ended
"""

from __future__ import annotations

CONTROL, WATCH, MADE = "control", "watch", "made"

RECEIVED, WAITING, OFFERED, TRANSFERRED = "received", "waiting", "offered", "transferred"
COMPLETED, CANCELED, LOST = "completed", "canceled", "lost"
ARRIVED, START_TRANSFERRED, START_CANCELED = "arrived", "start_transferred", "start_canceled"
DIALLED, FINISHED = "dialled", "ended"
LINK = "link"
HANGUP = "hangup"  # a verb; the event is the call's ending
MOVED = "moved"  # a verb, not an event for Movidesk: the call continues on another channel

ENDED = frozenset({COMPLETED, CANCELED, LOST, START_CANCELED, FINISHED})

#: Codes of receivedCall after which no agent will answer (queue control document, "Identificación de códigos").
CLOSED_CODES = frozenset("012")
#: Those of them that say that it is closed: a holiday, outside the hours.
OUT_OF_HOURS_CODES = frozenset("01")
#: Codes after which the document asks us to repeat the request.
BUSY_CODES = frozenset("34")

MAX_ID = 256
ANONYMOUS = "anonymous"  # the number of a caller who withholds it
PROHIBITED = "prohib"    # how CALLERID(num-pres) begins for a number that the caller withholds, but the trunk delivers

BEFORE_AGENT = (RECEIVED, WAITING, OFFERED)  # of queue control
_MOVES = {
    CONTROL: {
        TRANSFERRED: {state: TRANSFERRED for state in BEFORE_AGENT},
        COMPLETED: {TRANSFERRED: COMPLETED},
        LOST: {state: LOST for state in BEFORE_AGENT},
        CANCELED: {state: CANCELED for state in BEFORE_AGENT},
    },
    WATCH: {
        START_TRANSFERRED: {ARRIVED: TRANSFERRED},
        COMPLETED: {TRANSFERRED: COMPLETED},
        START_CANCELED: {ARRIVED: START_CANCELED},
    },
    MADE: {FINISHED: {DIALLED: FINISHED}},
}

_FIRST_STATE = {CONTROL: RECEIVED, WATCH: ARRIVED, MADE: DIALLED}


def first_state(mode: str) -> str:
    """The state in which a call of this mode begins."""
    return _FIRST_STATE[mode]


def move(mode: str, state: str, event: str) -> str | None:
    """The state after `event`; None if the event is not possible in this state and must be ignored.

    A link is possible in every state and does not change it: recordings are often ready after the call's end.
    """
    if event == LINK:
        return state
    return _MOVES[mode].get(event, {}).get(state)


def ending_at_hangup(mode: str, state: str, code: str) -> str | None:
    """The ending of a call whose channel hangs up in this state; None if the call has ended already.

    code: the last code of receivedCall, or ''.
    """
    if state in ENDED:
        return None
    if mode == MADE:
        return FINISHED
    if state == TRANSFERRED:
        return COMPLETED
    if mode == WATCH:
        return START_CANCELED
    return LOST if code in CLOSED_CODES else CANCELED


def mode_of(event: str) -> str:
    """The mode of a call if only this event is known (for example because the journal was lost)."""
    if event in (START_TRANSFERRED, START_CANCELED):
        return WATCH
    return MADE if event == LINK else CONTROL


def state_before(event: str) -> str:
    """A state in which `event` is possible, for a call of which only this event is known."""
    if event == COMPLETED:
        return TRANSFERRED
    if event == LINK:
        return FINISHED  # after this event there is nothing more to report
    return first_state(mode_of(event))


def call_id(pbx: str, uniqueid: str, visit: int = 1) -> str:
    """`<pbx>-<uniqueid>`, with `-2`, `-3` if the channel enters a queue again after its call has ended.

    If the unique id already begins with the prefix (Asterisk's systemname), it is not repeated. Raises ValueError if the unique
    id is empty or the result is longer than the 256 characters that the API accepts.
    """
    if not uniqueid:
        raise ValueError("the channel has no unique id")
    prefix = pbx + "-"
    base = uniqueid if uniqueid.startswith(prefix) else prefix + uniqueid
    result = base if visit == 1 else f"{base}-{visit}"
    if len(result) > MAX_ID:
        raise ValueError(f"the call id {result[:40] + '...'!r} has {len(result)} characters; Movidesk accepts {MAX_ID}")
    return result


def client_number(caller_id: str, presentation: str = "") -> str:
    """The caller's number for Movidesk: digits with an optional leading `+`; `anonymous` if there are no digits, or if the number
    is withheld.

    presentation: what CALLERID(num-pres) says, such as prohib_not_screened.
    """
    digits = "".join(c for c in caller_id if c in "0123456789")
    if not digits or presentation.startswith(PROHIBITED):
        return ANONYMOUS
    number = "+" + digits if caller_id.lstrip().startswith("+") else digits
    return number[:128]


def without_number(text: str, number: str) -> str:
    """A text about a call, such as Movidesk's answer, with the caller's number masked wherever it stands in it."""
    digits = number.lstrip("+")
    return text.replace(digits, masked(number)) if len(digits) > 2 and digits.isdigit() else text


def masked(number: str) -> str:
    """A caller's number for logs and archives: `***` and its last four digits, so that one can search for them; the last two of a
    number with less than eight digits."""
    digits = "".join(c for c in number if c in "0123456789")
    return "***" + digits[-4 if len(digits) >= 8 else -2:] if digits else number
