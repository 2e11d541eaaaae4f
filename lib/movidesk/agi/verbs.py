"""The verbs that the dialplan calls, one function each, the same for a script and for FastAGI.

Each records first and talks to the channel afterwards. movidesk.agi.runner runs them.
"""

from __future__ import annotations

import os
import re

from movidesk import NamedTuple
from movidesk.agi import caller, variables
from movidesk.agi.channel import Channel
from movidesk.context import UNUSABLE_EXTENSION, Context
from movidesk.rules import call_states

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from movidesk.agi.successor import Successor
    from movidesk.journal import Call, Recorded

LEAVING_MESSAGE = "message"  # MOVIDESK_ENDING while the caller leaves one


class VerbError(Exception):
    """A verb was called with a wrong argument; the text names the value."""


# -- queue control -----------------------------------------------------------------------------------------------------

def received(context: Context, channel: Channel, queue: str = "") -> bool:
    """The caller waits in `queue`: ask Movidesk who is free. Sets EXT, CODE, WAIT, POSITION, EXPECTED and __MOVIDESK_ID."""
    from movidesk.agi import question  # no other verb asks

    answer = question.unasked()
    try:
        _check_queue(queue)
        call = _arrive(context, channel, queue)
        channel.set("__" + variables.ID, call.call_id)
        answer.update(question.ask(context, channel, call))
        return answer[variables.EXT] != "" and context.config["pbx", "report_transfer"] == "ring"
    finally:
        for name, value in answer.items():
            channel.set(name, value)


def transferred(context: Context, channel: Channel, extension: str = "") -> bool:
    """The agent has answered. Runs on either channel. Without an extension it is the one that was offered."""
    return _record(context, channel, call_states.TRANSFERRED, extension=_extension(context, extension) if extension else "")


def completed(context: Context, channel: Channel, recording: str = "") -> bool:
    """The talk with the agent is over."""
    return _record(context, channel, call_states.COMPLETED, recording=recording)


def lost(context: Context, channel: Channel, recording: str = "") -> bool:
    """No agent will answer: code 0, 1 or 2, or we gave up; with the message that the caller left.

    Where MOVIDESK_ENDING says that the message is only now being left, the caller leaves the line at once, and Movidesk
    is told when the channel has hung up and the message is complete.
    """
    if caller.variable_or_empty(channel, variables.ENDING) != LEAVING_MESSAGE:
        return _record(context, channel, call_states.LOST, recording=recording)
    _record(context, channel, call_states.LOST, held=True)
    return False


def canceled(context: Context, channel: Channel) -> bool:
    """The caller hung up before an agent had the call."""
    return _record(context, channel, call_states.CANCELED)


def hangup(context: Context, channel: Channel, message: str = "") -> bool:
    """The caller's channel is ending: so does its call, as its state says.

    message: what the caller left in a voicemail box (VM_MESSAGEFILE), which then is the call's recording.
    """
    call_id = _catch_up(context, channel)
    return _hang_up(context, channel, call_id, own_recording(context, channel, call_id, message),
                    caller.variable_or_empty(channel, variables.NEXT))


def _hang_up(context: Context, channel: Channel, call_id: str, recording: str, left: str) -> bool:
    link = _link(context, call_id, recording)
    converts = os.path.basename(recording) if link and context.config["recordings", "convert"] else ""
    return _tell(channel, call_id, context.journal.calls.hang_up(call_id, link, converts=converts, left=left))


def moved(context: Context, channel: Channel, peer: str = "") -> bool:
    """The caller's channel hangs up because another takes its place: an attended transfer. The call goes on there.

    peer: that channel's name, where the dialplan knows it. Where there is none the call ends as `hangup` ends it.
    """
    from movidesk.agi import successor

    heir = hand_over(context, channel, peer)
    if heir is None:
        return hangup(context, channel, message_in_box(channel))
    call_id = _catch_up(context, channel)
    channel.say(f"{call_id} continues on {heir.name}", 3)
    news = False
    for other in context.journal.calls.move(call_id, heir.uniqueid, heir.number):
        try:
            successor.stop_recording(context.config, heir, other.call_id)
        except (successor.Gone, successor.NotAdopted) as error:
            channel.say(f"{other.call_id}: its recording could not be stopped: {error}")
        file = f"{caller.variable_or_empty(channel, 'ASTSPOOLDIR')}/monitor/{re.sub(r'[^0-9A-Za-z_.-]', '', other.call_id)}.wav"
        news |= _hang_up(context, channel, other.call_id, file, call_states.MOVED)
    return news


def hand_over(context: Context, channel: Channel, peer: str) -> Successor | None:
    """Make the channel that takes over this call the caller's channel. Returns its Successor, or None if there is none.

    Needs no journal, and does nothing the second time.
    """
    from movidesk.agi import successor

    heir = successor.find(channel, peer)
    if heir is None:
        return None
    try:
        successor.adopt(channel, context.config, heir)
    except successor.Gone:
        return None
    except successor.NotAdopted as error:
        channel.say(f"{caller.variable_or_empty(channel, variables.ID)} continues on {heir.name}, but its end may be reported "
                    f"up to a minute late: {error}")
    return heir


def message_in_box(channel: Channel) -> str:
    """The file of the message that the caller has left in a voicemail box, or ''."""
    leaving = caller.variable_or_empty(channel, variables.ENDING) == LEAVING_MESSAGE
    return caller.variable_or_empty(channel, "VM_MESSAGEFILE") if leaving else ""


def _catch_up(context: Context, channel: Channel) -> str:
    """Record what the dialplan saw and the journal did not, because it was away or a verb was killed: that the caller
    came, and that an agent answered. Returns the call's id."""
    call_id = caller.variable_or_empty(channel, variables.ID)
    answered_by = caller.variable_or_empty(channel, variables.ANSWERED_BY)
    return context.journal.calls.catch_up(
        context.config["pbx", "name"], caller.began_on(channel), call_id, caller.variable_or_empty(channel, variables.QUEUE),
        caller.client_number(channel),
        None if call_id else caller.arrival_time(context, channel), _extension(context, answered_by) if answered_by else "")


def own_recording(context: Context, channel: Channel, call_id: str, message: str) -> str:
    """The recording of a call that hangs up. A message in a voicemail box is copied first."""
    if not message:
        return caller.variable_or_empty(channel, variables.RECORDING)
    from movidesk.recordings import files

    try:
        name = call_id or f"{files.UNKNOWN}-{channel.uniqueid}"
        return files.own_message(message, context.config["recordings", "folder"], name)
    except OSError as error:
        channel.say(f"{call_id}: its message stays in the voicemail box, without a link: {error}")
        return ""


# -- no queue control --------------------------------------------------------------------------------------------------

def arrived(context: Context, channel: Channel, queue: str = "") -> bool:
    """The caller enters Asterisk's own queue. Sets __MOVIDESK_ID; nothing is told to Movidesk yet."""
    _check_queue(queue)
    call = _arrive(context, channel, queue, call_states.WATCH)
    channel.set("__" + variables.ID, call.call_id)
    channel.say(f"{call.call_id}: arrived", 3)
    return False


def start_transferred(context: Context, channel: Channel, queue: str = "", extension: str = "") -> bool:
    """Asterisk's own queue has put the caller through to an agent."""
    return _record(context, channel, call_states.START_TRANSFERRED, queue=queue,
                   extension=_extension(context, context.config.agent(extension)))


def start_canceled(context: Context, channel: Channel, queue: str = "") -> bool:
    """The caller left Asterisk's own queue without an agent."""
    return _record(context, channel, call_states.START_CANCELED, queue=queue)


# -- both --------------------------------------------------------------------------------------------------------------

def link(context: Context, channel: Channel, recording: str = "") -> bool:
    """A recording became available after its call was reported."""
    call_id = caller.call_id(context, channel)
    if not _link(context, call_id, recording):
        raise VerbError(f"link: {recording[:80]!r} is no address, and no recording that [recordings] link can turn into one")
    return _record(context, channel, call_states.LINK, recording=recording)


def _arrive(context: Context, channel: Channel, queue: str, mode: str = call_states.CONTROL) -> Call:
    """The channel's open call in this queue. If there is none, it begins now."""
    priority, wrong = caller.priority(channel) if mode == call_states.CONTROL else (0, "")
    call = context.journal.calls.arrive(
        context.config["pbx", "name"], caller.began_on(channel), queue, caller.client_number(channel), mode,
        caller.arrival_time(context, channel), caller.variable_or_empty(channel, "UNIQUEID") or channel.uniqueid,
        priority=priority)
    channel.customer = call.number
    if wrong and not caller.variable_or_empty(channel, variables.ID):  # once per visit
        channel.say(f"{call.call_id}: {wrong}")
    return call


def _record(context: Context, channel: Channel, kind: str, recording: str = "", extension: str = "", queue: str = "",
            held: bool = False) -> bool:
    call_id = caller.call_id(context, channel)
    done = context.journal.calls.record(call_id, kind, extension, _link(context, call_id, recording), queue,
                                        caller.client_number(channel), channel.uniqueid, held=held)
    return _tell(channel, call_id, done)


def _link(context: Context, call_id: str, recording: str) -> str:
    """The address of a recording of this call; '' for none."""
    if not recording:
        return ""
    from movidesk.recordings import links

    return links.link(context.config, context.journal.calls.find(call_id), recording, context.clock())


def _tell(channel: Channel, call_id: str, done: Recorded) -> bool:
    """Say on the console what was recorded, or why nothing was. Returns whether something was."""
    if done.call:
        channel.customer = done.call.number
    channel.say(f"{call_id}: {done.kind or f'ignored, {done.reason}'}", 3)
    return done.kind is not None


def _check_queue(queue: str) -> None:
    if not (queue.isascii() and queue.isdigit() and len(queue) <= 10):
        raise VerbError(f"the queue {queue[:40]!r} is no number of at most 10 digits")


def _extension(context: Context, extension: str) -> str:
    if not context.config["pbx", "extension_pattern"].fullmatch(extension):
        context.journal.notes.set(UNUSABLE_EXTENSION, extension[:80])
        raise VerbError(f"the extension {extension[:40]!r} does not match extension_pattern = "
                        f"{context.config['pbx', 'extension_pattern'].pattern}")
    return extension


class Verb(NamedTuple):
    """What a verb runs: a function of the context, the channel and the named arguments, which says whether there is something
    new to deliver."""

    run: Callable[..., bool]
    arguments: tuple[str, ...]  # their names, in the order in which the dialplan gives them; all of them may be left out


#: Scripts, FastAGI paths and the journal's events have these names.
VERBS = {
    call_states.RECEIVED: Verb(received, ("queue",)),
    call_states.TRANSFERRED: Verb(transferred, ("extension",)),
    call_states.COMPLETED: Verb(completed, ("recording",)),
    call_states.LOST: Verb(lost, ("recording",)),
    call_states.CANCELED: Verb(canceled, ()),
    call_states.HANGUP: Verb(hangup, ("message",)),
    call_states.MOVED: Verb(moved, ("peer",)),
    call_states.ARRIVED: Verb(arrived, ("queue",)),
    call_states.START_TRANSFERRED: Verb(start_transferred, ("queue", "extension")),
    call_states.START_CANCELED: Verb(start_canceled, ("queue",)),
    call_states.LINK: Verb(link, ("recording",)),
}


def named_arguments(verb: str, values: list[str]) -> dict[str, str]:
    """The arguments of a verb by their names. Empty ones at the end count as left out: the dialplan passes as many as the longest
    verb takes. Raises VerbError for a verb that does not exist, or too many arguments."""
    if verb not in VERBS:
        raise VerbError(f"no verb {verb[:40]!r}; known: {', '.join(VERBS)}")
    names = VERBS[verb].arguments
    while values and not values[-1]:
        values = values[:-1]
    if len(values) > len(names):
        raise VerbError(f"{verb} takes at most {len(names)} arguments, not {values!r}")
    return dict(zip(names, values))
