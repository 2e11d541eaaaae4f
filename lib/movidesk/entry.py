"""How a verb is run, the same for a script and for FastAGI: what surrounds it so that it never fails the dialplan.

`run` sets MOVIDESK_RESULT last: the one sign that the dialplan trusts. What the journal cannot take goes to the emergency
file, and comes back before the call's next event.
"""

from __future__ import annotations

import os
import sys

from movidesk import agi, calls, verbs
from movidesk.config import ConfigError
from movidesk.desk import ALARMS_LOOKED, LOOK_EVERY, Desk
from movidesk.journal import JournalError

OK, ERROR = "ok", "error"


def _given(arguments: list[str]) -> list[str]:
    """The arguments without the empty ones at the end: the dialplan passes as many as the longest verb takes."""
    while arguments and not arguments[-1]:
        arguments = arguments[:-1]
    return arguments


def _handler(verb: str, arguments: list[str]):
    if verb not in verbs.VERBS:
        raise verbs.VerbError("no verb %r; known: %s" % (verb[:40], ", ".join(verbs.VERBS)))
    takes = verbs.VERBS[verb].__code__.co_argcount - 2
    if len(_given(arguments)) > takes:
        raise verbs.VerbError("%s takes at most %d arguments, not %r" % (verb, takes, arguments))
    return verbs.VERBS[verb]


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
    except (verbs.VerbError, agi.ProtocolError, ValueError) as error:
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
    except (JournalError, OSError) as error:  # what the verb had to record is recorded
        channel.say("alarms: %s" % error)


def _take_in(desk: Desk, channel: agi.Channel) -> None:
    """What the journal could not take of this call comes before what it takes now: a call's events stay in order."""
    from movidesk import emergency

    try:
        if emergency.waiting(desk.config):
            emergency.take_in(desk.journal, desk.config, verbs.callers_uniqueid(channel))
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
                                                   calls.START_CANCELED) else verbs.known(channel, agi.QUEUE)
    extension = {calls.TRANSFERRED: arguments[:1], calls.START_TRANSFERRED: arguments[1:2]}.get(verb, [])
    recording = arguments[0] if arguments and verb in (calls.COMPLETED, calls.LOST, calls.LINK) else ""
    call_id = verbs.known(channel, agi.ID)
    number, goes_on = verbs.client_number(channel), ""
    if verb == calls.MOVED:
        from movidesk import successor

        heir = successor.find(channel, "".join(arguments[:1]))
        verb, number, goes_on = (verb, heir.number, heir.uniqueid) if heir else ("hangup", number, "")
        arguments = [verbs.message_in_box(channel)]
    if verb in (calls.MOVED, "hangup"):
        extension = [verbs.known(channel, agi.ANSWERED_BY)]
    if verb == "hangup":
        recording = verbs.own_recording(desk, channel, call_id, "".join(arguments[:1]))
    return {"kind": verb, "at": desk.clock(), "arrived": verbs.came(desk, channel), "uniqueid": verbs.callers_uniqueid(channel),
            "queue": queue, "call_id": call_id, "number": number, "extension": "".join(extension),
            "link": desk.link(None, recording), "channel": goes_on, "left": verbs.known(channel, agi.NEXT),
            "held": verb == calls.LOST and verbs.known(channel, agi.ENDING) == verbs.LEAVING_MESSAGE}


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
