"""The verbs: what the dialplan asks of us, one function each, the same for a script and for FastAGI.

A verb never fails the dialplan. It records first, talks to the channel afterwards, and `run` sets MOVIDESK_RESULT last:
the one sign that the dialplan trusts.
"""

from __future__ import annotations

import os
import re
import sys

from movidesk import agi, calls, line
from movidesk.config import ConfigError
from movidesk.desk import ALARMS_LOOKED, LOOK_EVERY, Desk
from movidesk.journal import JournalError

OK, ERROR = "ok", "error"
UNASKED = "E"

LEAVING_MESSAGE = "message"  # MOVIDESK_ENDING while the caller leaves one

AFTER_ERROR = 10   # seconds until a caller asks again whose question failed
LONGEST_WAIT = 60  # seconds; a caller is never told to wait longer, whatever Movidesk asks for


class VerbError(Exception):
    """A verb was called in a way that makes no sense; the text names the value."""


# -- queue control -----------------------------------------------------------------------------------------------------

def received(desk: Desk, channel: agi.Channel, queue: str = "") -> bool:
    """The caller waits in `queue`: ask Movidesk who is free. Sets EXT, CODE, WAIT, POSITION and __MOVIDESK_ID."""
    answer = {agi.EXT: "", agi.CODE: UNASKED, agi.WAIT: AFTER_ERROR, agi.POSITION: ""}
    try:
        _check_queue(queue)
        call = _arrive(desk, channel, queue)
        channel.set("__" + agi.ID, call.call_id)
        answer.update(_ask(desk, channel, call))
        return answer[agi.EXT] != "" and desk.config["pbx", "report_transfer"] == "ring"
    finally:
        for name, value in answer.items():
            channel.set(name, value)


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
    turn = desk.journal.turn(call, desk.config["movidesk", "requests_per_minute"], desk.is_script, 3 * timeout + AFTER_ERROR)
    if not turn.ask:
        if turn.reason:
            channel.say("%s waits: %s" % (call.call_id, turn.reason), 3)
        return {agi.CODE: turn.code or UNASKED, agi.WAIT: turn.wait, agi.POSITION: turn.position}
    from movidesk import api

    result = desk.send(turn.ask, "received", queue=call.queue, number=call.number, id=call.call_id, arrived=call.arrived)
    if isinstance(result, api.Delivered):
        return {agi.POSITION: 1, **_judge(desk, channel, call, result.text)}
    channel.say("%s: receivedCall: %s" % (call.call_id, result.why))
    if isinstance(result, api.Rejected):
        desk.journal.refused(call, result.why)
        return {agi.POSITION: 1}
    return {agi.POSITION: 1, agi.WAIT: _seconds(result.after or AFTER_ERROR)}


def _judge(desk: Desk, channel: agi.Channel, call, text: str) -> dict[str, object]:
    """What receivedCall's answer means for the caller."""
    from movidesk import api

    try:
        answer = api.parse_answer(text, desk.config["pbx", "extension_pattern"])
    except api.NonsenseAnswer as error:
        desk.journal.answered(call, "", "", str(error), pace=desk.pace)
        channel.say("%s: %s" % (call.call_id, error))
        return {}
    if call.state == calls.OFFERED and answer.extension == call.extension:
        # The phone that has just refused is offered once more: Movidesk has nobody else. Dialling it at once would
        # spend the whole window on one dead phone.
        answer = api.Answer("", "4")
    report = desk.config["pbx", "report_transfer"] == "ring"
    desk.journal.answered(call, answer.extension, answer.code, text, report, desk.pace)
    channel.say("%s: %s" % (call.call_id, "offered %s" % answer.extension if answer.extension
                            else "code %s" % answer.code), 3)
    return {agi.EXT: answer.extension, agi.CODE: answer.code,
            agi.WAIT: line.look_again(1, desk.pace[0], desk.is_script)}


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
    if _known(channel, agi.ENDING) != LEAVING_MESSAGE:
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
    recording = _recording(desk, channel, call_id, message)
    link = desk.link(desk.journal.find(call_id), recording)
    converts = os.path.basename(recording) if link and desk.config["recordings", "convert"] else ""
    return _tell(channel, call_id, desk.journal.hang_up(call_id, link, converts=converts))


def _catch_up(desk: Desk, channel: agi.Channel) -> str:
    """Record what the dialplan saw and the journal did not, because it was away or a verb was killed: that the caller
    came, and that an agent answered. Returns the call's id."""
    known, answered_by = _known(channel, agi.ID), _known(channel, agi.ANSWERED_BY)
    return desk.journal.catch_up(desk.config["pbx", "name"], channel.uniqueid, known, _known(channel, agi.QUEUE), _number(channel),
                                 None if known else _came(desk, channel),
                                 _extension(desk, answered_by) if answered_by else "")


def _came(desk: Desk, channel: agi.Channel) -> float | None:
    """When the dialplan saw the caller come, in epoch seconds; None where it does not say."""
    text = _known(channel, agi.ARRIVED)
    came = float(text) if re.fullmatch(r"[0-9]{1,10}(\.[0-9]{1,6})?", text) else 0.0
    return came if abs(desk.clock() - came) < 86400 else None


def _recording(desk: Desk, channel: agi.Channel, call_id: str, message: str) -> str:
    """The file that belongs to a call which hangs up; a message in a voicemail box is copied from there first."""
    if not message:
        return _known(channel, agi.RECORDING)
    from movidesk import recordings

    try:
        return recordings.own_message(message, desk.config["recordings", "folder"], call_id)
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
    return desk.journal.arrive(desk.config["pbx", "name"], channel.uniqueid, queue, _number(channel), mode,
                               _came(desk, channel))


def _callers_uniqueid(channel: agi.Channel) -> str:
    return _known(channel, agi.HANDLER) or channel.uniqueid


def _number(channel: agi.Channel) -> str:
    return calls.client_number(channel.env.get("agi_callerid", ""))


def _known(channel: agi.Channel, name: str) -> str:
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
                               number=_number(channel), **fields)
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
    received, transferred, completed, lost, canceled, hangup, arrived, start_transferred, start_canceled, link)}


def _given(arguments: list[str]) -> list[str]:
    """The arguments without the empty ones at the end: the dialplan passes as many as the longest verb takes."""
    while arguments and not arguments[-1]:
        arguments = arguments[:-1]
    return arguments


def _handler(verb: str, arguments: list[str]):
    if verb not in VERBS:
        raise VerbError("no verb %r; known: %s" % (verb[:40], ", ".join(VERBS)))
    takes = VERBS[verb].__code__.co_argcount - 2
    if len(_given(arguments)) > takes:
        raise VerbError("%s takes at most %d arguments, not %r" % (verb, takes, arguments))
    return VERBS[verb]


def run(verb: str, channel: agi.Channel, desk: Desk, arguments: list[str]) -> str:
    """Run one verb on a channel; sets MOVIDESK_RESULT and returns it.

    Raises ChannelGone where the channel went away; what the verb had to record is recorded by then.
    """
    result, news = ERROR, True
    try:
        handler = _handler(verb, arguments)
        _take_in(desk, channel)
        news = handler(desk, channel, *_given(arguments))
        result = OK
    except agi.ChannelGone:
        desk.wake()
        raise
    except (JournalError, ConfigError) as error:
        news = False  # a delivery that is woken would only wait for the same journal, and hold it meanwhile
        # The journal that cannot be opened may be the default, for a file that could not be read: that comes first.
        reasons = dict.fromkeys([*desk.config.problems.get("", ()), str(error)])
        channel.say("%s failed: %s" % (verb[:40], "; ".join(reasons)))
        if isinstance(error, JournalError) or not desk.has_journal:
            _save(desk, channel, verb, _given(arguments), getattr(error, "damaged", False))
    except (VerbError, agi.ProtocolError, ValueError) as error:
        channel.say("%s failed: %s" % (verb[:40], error))
    except Exception as error:  # the edge: whatever it was, the call goes on
        import traceback

        traceback.print_exc(file=sys.stderr)
        channel.say("%s failed: %s: %s" % (verb[:40], type(error).__name__, error))
    try:
        if result == OK:
            _say_alarms(desk, channel)
        channel.set(agi.RESULT, result)
    except agi.ProtocolError as error:  # what answers so is no Asterisk, and has no console either
        print("movidesk: %s: %s" % (verb[:40], error), file=sys.stderr)
    finally:
        # Last of all: the delivery works while the channel goes on, not while it waits for us.
        if news:
            desk.wake()
    return result


def _say_alarms(desk: Desk, channel: agi.Channel) -> None:
    """Once in a while a verb looks at what an admin should know, and says it on the console (movidesk.alarms)."""
    try:
        if desk.config.problems or desk.journal.is_time(ALARMS_LOOKED, LOOK_EVERY):
            from movidesk import alarms

            alarms.say_on_console(desk, channel.say)
    except JournalError as error:  # what the verb had to record is recorded
        channel.say("alarms: %s" % error)


def _take_in(desk: Desk, channel: agi.Channel) -> None:
    """What the journal could not take of this call comes before what it takes now: a call's events stay in order."""
    from movidesk import emergency

    try:
        if emergency.waiting(desk.config):
            emergency.take_in(desk.journal, desk.config, _callers_uniqueid(channel))
    except OSError as error:
        channel.say("the emergency file waits: %s" % error)


def _save(desk: Desk, channel: agi.Channel, verb: str, arguments: list[str], damaged: bool) -> None:
    """Write what the journal could not take into the emergency file, and say where it is."""
    from movidesk import emergency

    event = _emergency_event(desk, channel, verb, arguments)
    try:
        if verb == calls.RECEIVED and event["call_id"]:
            channel.say("%s keeps its place: it only asked again" % event["call_id"], 3)
        else:
            path = emergency.save(desk.config, event)
            channel.say("%s is kept in %s until the journal is back" % (verb, path))
        if damaged:
            desk.set_aside()
    except (OSError, JournalError) as error:
        channel.say("%s of call %s IS LOST: %s" % (verb, event["call_id"] or channel.uniqueid, error), 0)


def _emergency_event(desk: Desk, channel: agi.Channel, verb: str, arguments: list[str]) -> dict:
    """What emergency.take_in needs to record the verb later. call_id: empty where the channel knows of none."""
    queue = arguments[0] if arguments and verb in (calls.RECEIVED, calls.ARRIVED, calls.START_TRANSFERRED,
                                                   calls.START_CANCELED) else _known(channel, agi.QUEUE)
    extension = {calls.TRANSFERRED: arguments[:1], calls.START_TRANSFERRED: arguments[1:2]}.get(verb, [])
    recording = arguments[0] if arguments and verb in (calls.COMPLETED, calls.LOST, calls.LINK) else ""
    call_id = _known(channel, agi.ID)
    if verb == "hangup":
        extension = [_known(channel, agi.ANSWERED_BY)]
        recording = _recording(desk, channel, call_id or channel.uniqueid, "".join(arguments[:1]))
    return {"kind": verb, "at": desk.clock(), "arrived": _came(desk, channel), "uniqueid": _callers_uniqueid(channel),
            "queue": queue, "call_id": call_id, "number": _number(channel), "extension": "".join(extension),
            "link": desk.link(None, recording)}


def main(verb: str) -> None:
    """What a script in agi/ does: run its verb on the channel that Asterisk hands it on stdin and stdout."""
    import resource
    import signal

    from movidesk import config

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # the token is in this process's memory

    # Asterisk sends SIGHUP when the caller hangs up, and Python's default is to die with the event unrecorded.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    code = 0
    try:
        channel = agi.Channel(sys.stdin.buffer, sys.stdout.buffer)
        run(verb, channel, Desk(config.load()), sys.argv[1:])
    except agi.ChannelGone:
        pass  # a hangup is normal; what had to be recorded is
    except agi.ProtocolError as error:
        print("movidesk: %s: %s (this is an AGI script: Asterisk runs it)" % (verb, error), file=sys.stderr)
        code = 1
    sys.stderr.flush()
    # Past here nothing is left to do but to tear the interpreter down, and the caller's channel waits for that.
    os._exit(code)
