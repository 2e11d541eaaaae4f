"""The verbs: what the dialplan asks of us, one function each, the same for a script and for FastAGI.

Each records first and talks to the channel afterwards. movidesk.entry runs them.
"""

from __future__ import annotations

import os
import re

from movidesk import agi, calls, line
from movidesk.desk import Desk
from movidesk.sending import request_name

UNASKED = "E"

LEAVING_MESSAGE = "message"  # MOVIDESK_ENDING while the caller leaves one

AFTER_ERROR = 10   # seconds until a caller asks again whose question failed
LONGEST_WAIT = 60  # seconds; a caller is never told to wait longer, whatever Movidesk asks for


class VerbError(Exception):
    """A verb was called in a way that makes no sense; the text names the value."""


# -- queue control -----------------------------------------------------------------------------------------------------

def received(desk: Desk, channel: agi.Channel, queue: str = "") -> bool:
    """The caller waits in `queue`: ask Movidesk who is free. Sets EXT, CODE, WAIT, POSITION and __MOVIDESK_ID."""
    answer = unasked()
    try:
        _check_queue(queue)
        call = _arrive(desk, channel, queue)
        channel.set("__" + agi.ID, call.call_id)
        answer.update(_ask(desk, channel, call))
        return answer[agi.EXT] != "" and desk.config["pbx", "report_transfer"] == "ring"
    finally:
        for name, value in answer.items():
            channel.set(name, value)


def unasked() -> dict[str, object]:
    """What `received` sets where Movidesk could not be asked."""
    return {agi.EXT: "", agi.CODE: UNASKED, agi.WAIT: AFTER_ERROR, agi.POSITION: ""}


def _ask(desk: Desk, channel: agi.Channel, call) -> dict[str, object]:
    """Ask Movidesk for an agent for this call, if it is its turn; the variables to set."""
    desk.config.require("movidesk")
    silence = desk.silence()
    if silence:
        channel.say("%s waits: Movidesk refuses the token" % call.call_id, 3)
        return {agi.WAIT: _seconds(silence)}
    rest = desk.rest(desk.pace[1])
    if rest:
        channel.say("%s waits: Movidesk does not answer" % call.call_id, 3)
        return {agi.WAIT: _seconds(rest)}
    timeout = desk.config["movidesk", "timeout"]
    turn = desk.journal.turn(call, desk.limit(), desk.is_script, 3 * timeout + AFTER_ERROR, _refusal(channel, call), desk.pace)
    if not turn.ask:
        if turn.reason:
            channel.say("%s waits: %s" % (call.call_id, turn.reason), 3)
        return {agi.CODE: turn.code or UNASKED, agi.WAIT: turn.wait, agi.POSITION: turn.position}
    from movidesk import api, trial

    result = desk.send(turn.ask, "received", queue=call.queue, number=call.number, id=call.call_id, arrived=call.arrived,
                       failures=lambda: _blamed_now(desk, call))
    if isinstance(result, api.Delivered):
        return {agi.POSITION: 1, **_judge(desk, channel, call, result.text)}
    channel.say("%s: receivedCall: %s" % (call.call_id, result.why))
    if isinstance(result, api.Rejected):
        desk.journal.refused(call, result.why)
        _failed(desk, channel, call, result.why, refused=True)
        return {agi.POSITION: 1}
    if result.status is not None or not result.sent:
        desk.journal.not_taken(call)
    if result.status != 429:
        _failed(desk, channel, call, result.why)
    after = trial.TOKEN_RETRY if result.status in (401, 403) else AFTER_ERROR
    return {agi.POSITION: 1, agi.WAIT: _seconds(result.after or after)}


def _blamed_now(desk: Desk, call):
    """The trial of this caller's question if it fails, with the tries that count against it from now on: earlier ones say nothing
    about whether Movidesk answers at this moment."""
    _, before, after = desk.journal.question(call)
    return after._replace(blamed=after.blamed - (before.blamed if before else 0))


def _failed(desk: Desk, channel: agi.Channel, call, why: str, refused: bool = False) -> None:
    """The caller's question was not taken: those behind it may have to ask first."""
    alone = not refused and desk.is_alone(request_name(calls.RECEIVED, call.call_id))
    if desk.journal.question_failed(call, desk.pace[1], alone, refused):
        channel.say("%s: receivedCall fails for this call and no other (%s): those behind it ask first, it asks again every %g s" % (
            call.call_id, why, desk.pace[1]))


def _judge(desk: Desk, channel: agi.Channel, call, text: str) -> dict[str, object]:
    """What receivedCall's answer means for the caller."""
    from movidesk import api

    try:
        answer = api.parse_answer(text, desk.config["pbx", "extension_pattern"])
    except api.NonsenseAnswer as error:
        desk.journal.answered(call, "", "", str(error), pace=desk.pace)
        channel.say("%s: %s" % (call.call_id, error))
        return {}
    report = desk.config["pbx", "report_transfer"] == "ring"
    extension, code = desk.journal.answered(call, answer.extension, answer.code, text, report, desk.pace)
    meaning = "offered %s" % extension if extension else "code %s" % code
    if extension != answer.extension:
        meaning = "offered %s, whose phone has just refused this call: the caller waits as with code %s" % (answer.extension, code)
    channel.say("%s: %s" % (call.call_id, meaning), 3)
    return {agi.EXT: extension, agi.CODE: code, agi.WAIT: line.look_again(1, desk.pace[0], desk.is_script)}


def _refusal(channel: agi.Channel, call) -> str:
    """Why the phone that the caller was offered did not take it, as the dialplan says: one word; '' if it does not say."""
    reason = known(channel, agi.REFUSAL) if call.state == calls.OFFERED else ""
    return reason if re.fullmatch("[A-Z]{1,20}", reason) else ""


def _seconds(wait: float) -> int:
    return max(1, min(LONGEST_WAIT, int(wait + 0.999)))


def transferred(desk: Desk, channel: agi.Channel, extension: str = "") -> bool:
    """The agent has answered. Runs on either channel; the extension is the one that was offered where none is given."""
    return _record(desk, channel, calls.TRANSFERRED, extension=_extension(desk, extension) if extension else "")


def completed(desk: Desk, channel: agi.Channel, recording: str = "") -> bool:
    """The talk with the agent is over."""
    return _record(desk, channel, calls.COMPLETED, recording=recording)


def lost(desk: Desk, channel: agi.Channel, recording: str = "") -> bool:
    """No agent will answer: code 0, 1 or 2, or we gave up; with the message that the caller left.

    Where MOVIDESK_ENDING says that the message is only now being left, the caller leaves the line at once, and Movidesk
    is told when the channel has hung up and the message is complete.
    """
    if known(channel, agi.ENDING) != LEAVING_MESSAGE:
        return _record(desk, channel, calls.LOST, recording=recording)
    _record(desk, channel, calls.LOST, held=True)
    return False


def canceled(desk: Desk, channel: agi.Channel) -> bool:
    """The caller hung up before an agent had the call."""
    return _record(desk, channel, calls.CANCELED)


def hangup(desk: Desk, channel: agi.Channel, message: str = "") -> bool:
    """The caller's channel is ending: so does its call, as its state says.

    message: what the caller left in a voicemail box (VM_MESSAGEFILE), which then is the call's recording.
    """
    call_id = _catch_up(desk, channel)
    return _hang_up(desk, channel, call_id, own_recording(desk, channel, call_id, message), known(channel, agi.NEXT))


def _hang_up(desk: Desk, channel: agi.Channel, call_id: str, recording: str, left: str) -> bool:
    link = desk.link(desk.journal.find(call_id), recording)
    converts = os.path.basename(recording) if link and desk.config["recordings", "convert"] else ""
    return _tell(channel, call_id, desk.journal.hang_up(call_id, link, converts=converts, left=left))


def moved(desk: Desk, channel: agi.Channel, peer: str = "") -> bool:
    """The caller's channel hangs up because another takes its place: an attended transfer. The call goes on there.

    peer: that channel's name, where the dialplan knows it. Where there is none the call ends as `hangup` ends it.
    """
    from movidesk import successor

    heir = hand_over(desk, channel, peer)
    if heir is None:
        return hangup(desk, channel, message_in_box(channel))
    call_id = _catch_up(desk, channel)
    channel.say("%s continues on %s" % (call_id, heir.name), 3)
    news = False
    for other in desk.journal.move(call_id, heir.uniqueid, heir.number):
        try:
            successor.stop_recording(desk.config, heir, other.call_id)
        except (successor.Gone, successor.NotAdopted) as error:
            channel.say("%s: its recording could not be stopped: %s" % (other.call_id, error))
        file = "%s/monitor/%s.wav" % (known(channel, "ASTSPOOLDIR"), re.sub(r"[^0-9A-Za-z_.-]", "", other.call_id))
        news |= _hang_up(desk, channel, other.call_id, file, calls.MOVED)
    return news


def hand_over(desk: Desk, channel: agi.Channel, peer: str):
    """Make the channel that takes over the call of this one its caller's; that successor.Successor, or None where nobody does.

    Needs no journal, and does nothing the second time.
    """
    from movidesk import successor

    heir = successor.find(channel, peer)
    try:
        if heir is not None:
            successor.adopt(channel, desk.config, heir)
    except successor.Gone:
        return None
    except successor.NotAdopted as error:
        channel.say("%s continues on %s, but its end may be reported up to a minute late: %s" % (
            known(channel, agi.ID), heir.name, error))
    return heir


def message_in_box(channel: agi.Channel) -> str:
    """The file of the message that the caller has left in a voicemail box, or ''."""
    return known(channel, "VM_MESSAGEFILE") if known(channel, agi.ENDING) == LEAVING_MESSAGE else ""


def _catch_up(desk: Desk, channel: agi.Channel) -> str:
    """Record what the dialplan saw and the journal did not, because it was away or a verb was killed: that the caller
    came, and that an agent answered. Returns the call's id."""
    call_id, answered_by = known(channel, agi.ID), known(channel, agi.ANSWERED_BY)
    return desk.journal.catch_up(
        desk.config["pbx", "name"], _began_on(channel), call_id, known(channel, agi.QUEUE), client_number(channel),
        None if call_id else came(desk, channel), _extension(desk, answered_by) if answered_by else "")


def came(desk: Desk, channel: agi.Channel) -> float | None:
    """When the dialplan saw the caller come, in epoch seconds; None where it does not say."""
    text = known(channel, agi.ARRIVED)
    at = float(text) if re.fullmatch(r"[0-9]{1,10}(\.[0-9]{1,6})?", text) else 0.0
    return at if abs(desk.clock() - at) < 86400 else None


def own_recording(desk: Desk, channel: agi.Channel, call_id: str, message: str) -> str:
    """The file that belongs to a call which hangs up; a message in a voicemail box is copied from there first."""
    if not message:
        return known(channel, agi.RECORDING)
    from movidesk import recordings

    try:
        name = call_id or "%s-%s" % (recordings.UNKNOWN, channel.uniqueid)
        return recordings.own_message(message, desk.config["recordings", "folder"], name)
    except OSError as error:
        channel.say("%s: its message stays in the voicemail box, without a link: %s" % (call_id, error))
        return ""


# -- no queue control --------------------------------------------------------------------------------------------------

def arrived(desk: Desk, channel: agi.Channel, queue: str = "") -> bool:
    """The caller enters Asterisk's own queue. Sets __MOVIDESK_ID; nothing is told to Movidesk yet."""
    _check_queue(queue)
    call = _arrive(desk, channel, queue, calls.WATCH)
    channel.set("__" + agi.ID, call.call_id)
    channel.say("%s: arrived" % call.call_id, 3)
    return False


def start_transferred(desk: Desk, channel: agi.Channel, queue: str = "", extension: str = "") -> bool:
    """Asterisk's own queue has put the caller through to an agent."""
    return _record(desk, channel, calls.START_TRANSFERRED, queue=queue,
                   extension=_extension(desk, desk.config.agent(extension)))


def start_canceled(desk: Desk, channel: agi.Channel, queue: str = "") -> bool:
    """The caller left Asterisk's own queue without an agent."""
    return _record(desk, channel, calls.START_CANCELED, queue=queue)


# -- both --------------------------------------------------------------------------------------------------------------

def link(desk: Desk, channel: agi.Channel, recording: str = "") -> bool:
    """A recording became available after its call was reported."""
    call_id = desk.call_id(channel)
    if not desk.link(desk.journal.find(call_id), recording):
        raise VerbError("link: %r is no address, and no recording that [recordings] link can turn into one"
                        % recording[:80])
    return _record(desk, channel, calls.LINK, recording=recording)


def _arrive(desk: Desk, channel: agi.Channel, queue: str, mode: str = calls.CONTROL):
    """The channel's open call in this queue, begun where there is none."""
    return desk.journal.arrive(desk.config["pbx", "name"], _began_on(channel), queue, client_number(channel), mode,
                               came(desk, channel), known(channel, "UNIQUEID") or channel.uniqueid)


def _began_on(channel: agi.Channel) -> str:
    """The unique id of the channel on which the call of this channel began. MOVIDESK_HANDLER is inherited, MOVIDESK_ARRIVED is
    not: who knows when the call came is its caller, and not an agent's phone that makes a call of its own."""
    return callers_uniqueid(channel) if known(channel, agi.ARRIVED) else channel.uniqueid


def callers_uniqueid(channel: agi.Channel) -> str:
    return known(channel, agi.HANDLER) or channel.uniqueid


def client_number(channel: agi.Channel) -> str:
    return calls.client_number(channel.env.get("agi_callerid", ""))


def known(channel: agi.Channel, name: str) -> str:
    """A variable of the channel; '' also where the channel is gone, for the event is recorded all the same."""
    try:
        return channel.get(name)
    except (agi.ChannelGone, agi.ProtocolError):
        return ""


def _record(desk: Desk, channel: agi.Channel, kind: str, recording: str = "", **fields) -> bool:
    call_id = desk.call_id(channel)
    if recording:
        fields["link"] = desk.link(desk.journal.find(call_id), recording)
    done = desk.journal.record(call_id, kind, uniqueid=channel.uniqueid,
                               number=client_number(channel), **fields)
    return _tell(channel, call_id, done)


def _tell(channel: agi.Channel, call_id: str, done) -> bool:
    """Say on the console what was recorded, or why nothing was; True where something was."""
    channel.say("%s: %s" % (call_id, done.kind or "ignored, %s" % done.reason), 3)
    return done.kind is not None


def _check_queue(queue: str) -> None:
    if not (queue.isascii() and queue.isdigit() and len(queue) <= 10):
        raise VerbError("the queue %r is no number of at most 10 digits" % queue[:40])


def _extension(desk: Desk, extension: str) -> str:
    if not desk.config["pbx", "extension_pattern"].fullmatch(extension):
        raise VerbError("the extension %r does not match extension_pattern = %s" % (
            extension[:40], desk.config["pbx", "extension_pattern"].pattern))
    return extension


#: Verb -> handler, which says whether there is something new to deliver. Scripts, FastAGI paths and the journal's events
#: bear the same names.
VERBS = {function.__name__: function for function in (
    received, transferred, completed, lost, canceled, hangup, moved, arrived, start_transferred, start_canceled, link)}
