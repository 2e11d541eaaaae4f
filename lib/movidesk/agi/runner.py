"""Runs a verb, in the same way for a script and for FastAGI, so that no failure reaches the dialplan.

`run` sets MOVIDESK_RESULT last: the one sign that the dialplan trusts. What the journal cannot take goes to the emergency
file, and comes back before the call's next event.
"""

from __future__ import annotations

import os
import sys

from movidesk.agi import caller, variables, verbs
from movidesk.agi.channel import Channel, ChannelGone, ProtocolError
from movidesk.config import ConfigError
from movidesk.context import ALARMS_LOOKED, LOOK_EVERY, Context
from movidesk.journal import JournalError, standby_folder
from movidesk.journal.records import FAIL_OPEN
from movidesk.rules import call_states

TYPE_CHECKING = False
if TYPE_CHECKING:
    from movidesk.journal.emergency import Kept

OK, ERROR = "ok", "error"


def _attempt(verb: str, channel: Channel, context: Context, arguments: dict[str, str]) -> tuple[str, bool]:
    """Run the verb. If the journal cannot be used, keep its event elsewhere. Returns its result, and whether to wake the
    delivery."""
    try:
        if standby_folder.in_use(context.config):
            from movidesk.journal import standby

            standby.leave_if_possible(context)
        _take_in(context, channel)
        return OK, verbs.VERBS[verb].run(context, channel, **arguments)
    except (JournalError, ConfigError) as error:
        # The journal that cannot be opened may be the default, for a file that could not be read: that comes first.
        reasons = dict.fromkeys([*context.config.problems.get("", ()), str(error)])
        asks_again = verb == call_states.RECEIVED and caller.variable_or_empty(channel, variables.ID)
        channel.say(f"{verb[:40]} failed: {'; '.join(reasons)}", 3 if asks_again else 1)
        if isinstance(error, JournalError) or not context.has_journal:
            _without_journal(context, channel, verb, arguments, error)
        return ERROR, False  # and do not wake the delivery: it would only compete for the same journal


def run(verb: str, channel: Channel, context: Context, arguments: list[str]) -> str:
    """Run one verb on a channel; sets MOVIDESK_RESULT and returns it.

    Raises ChannelGone where the channel went away; what the verb had to record is recorded by then.
    """
    result, news = ERROR, True
    try:
        named = verbs.named_arguments(verb, arguments)
        result, news = _attempt(verb, channel, context, named)
    except ChannelGone:
        context.wake()
        raise
    except (verbs.VerbError, ProtocolError, ValueError) as error:
        channel.say(f"{verb[:40]} failed: {error}")
        _count_failure(context, channel, "request")
    except Exception as error:  # the edge: whatever it was, the call goes on
        import traceback

        traceback.print_exc(file=sys.stderr)
        channel.say(f"{verb[:40]} failed: {type(error).__name__}: {error}")
        _keep(context, channel, verb, named)
        _count_failure(context, channel, "failure")
    try:
        if result == OK:
            _say_alarms(context, channel)
        channel.set(variables.RESULT, result)
    except ProtocolError as error:  # the peer is not Asterisk, so there is no console to write to
        print(f"movidesk: {verb[:40]}: {error}", file=sys.stderr)
    finally:
        # Last of all: the delivery works while the channel goes on, not while it waits for us.
        if news:
            context.wake()
    return result


def _count_failure(context: Context, channel: Channel, cause: str) -> None:
    """A verb failed although the journal may be fine: count it for the metrics."""
    if context.has_journal:
        try:
            context.journal.store.observe(FAIL_OPEN, cause)
            context.journal.store.flush()
        except JournalError as error:
            channel.say(f"the failure is not counted: {error}")


def _say_alarms(context: Context, channel: Channel) -> None:
    """Show the alarms on the console (movidesk.alarms), at most once in LOOK_EVERY seconds."""
    try:
        if context.config.problems or context.journal.notes.acquire_timer(ALARMS_LOOKED, LOOK_EVERY):
            from movidesk import alarms

            alarms.say_on_console(context, lambda text: channel.say(text, of_caller=False))
    except (JournalError, OSError) as error:  # what the verb had to record is recorded
        channel.say(f"alarms: {error}")


def _take_in(context: Context, channel: Channel) -> None:
    """Record this call's lines of the emergency file first, so that its events stay in order."""
    from movidesk.journal import emergency

    try:
        if emergency.waiting(context.config):
            emergency.take_in(context.journal, context.config, caller.callers_uniqueid(channel))
    except OSError as error:
        channel.say(f"the emergency file cannot be taken in now: {error}")


def _without_journal(context: Context, channel: Channel, verb: str, arguments: dict[str, str], error: Exception) -> None:
    """Keep what the journal could not take in the emergency file and in the standby. A caller is then offered an agent from
    the standby, unless MOVIDESK_FALLBACK is set."""
    event, asks = _emergency_event(context, channel, verb, arguments), verb == call_states.RECEIVED
    lost = _save(context, channel, event) if event else ""
    if asks:  # the verb may not even have begun
        from movidesk.agi import question

        for name, value in question.unasked().items():
            channel.set(name, value)
    if getattr(error, "damaged", False):
        try:
            context.set_aside()
        except (OSError, JournalError) as trouble:
            channel.say(f"{verb}: {trouble}")
    try:
        if isinstance(error, JournalError) and not any(context.config.problems.get(part)
                                                       for part in ("movidesk", "pbx", "journal")):
            from movidesk.journal import standby

            with standby.use(context, str(error)) as other:
                other.journal.store.observe(FAIL_OPEN, "journal")
                other.journal.store.flush()
                lost = _record_there(other, channel, event, lost)
                if asks and not caller.variable_or_empty(channel, variables.FALLBACK):
                    _ask_there(other, channel, arguments)
    except (OSError, JournalError) as trouble:
        channel.say(f"{verb}: the standby cannot be used either: {trouble}")
    _say_lost(channel, verb, event, lost)


def _keep(context: Context, channel: Channel, verb: str, arguments: dict[str, str]) -> None:
    """Keep the event of a verb that failed because of a bug. If the journal already has it, recording it again changes
    nothing."""
    event = _emergency_event(context, channel, verb, arguments)
    if event:
        _say_lost(channel, verb, event, _save(context, channel, event, "and recorded with the call's next verb"))


def _say_lost(channel: Channel, verb: str, event: Kept | None, why: str) -> None:
    """Say that an event is lost. why: the reason; nothing is said if it is empty."""
    if event is not None and why:
        channel.say(f"{verb} of call {event['call_id'] or channel.uniqueid} IS LOST: {why}", 0)


def _save(context: Context, channel: Channel, event: Kept, until: str = "until the journal is back") -> str:
    """Append the event to the emergency file and say where it is. Returns the reason if that failed, or ''."""
    from movidesk.journal import emergency

    try:
        channel.say(f"{event['kind']} is kept in {emergency.save(context.config, event)} {until}")
        return ""
    except OSError as error:
        return str(error)


def _record_there(context: Context, channel: Channel, event: Kept | None, unsaved: str) -> str:
    """Record the event in the standby. unsaved: why it is in no file, or ''. Returns why it is lost, or ''."""
    from movidesk.journal import emergency

    if event is None:
        return ""
    try:
        _take_in(context, channel)  # the standby may have been locked too
        emergency.record(context.journal, context.config, event)
    except ValueError as error:  # it makes no sense, and will make none when it is taken in
        channel.say(f"{event['kind']}: {error}")
        return unsaved
    if unsaved:
        channel.say(f"{event['kind']} is kept in memory only, until the journal is back: {unsaved}")
    return ""


def _ask_there(context: Context, channel: Channel, arguments: dict[str, str]) -> None:
    """Ask Movidesk for an agent for this caller. If that fails, the console says why."""
    try:
        verbs.received(context, channel, **arguments)
    except (ConfigError, verbs.VerbError) as error:
        channel.say(f"received failed: {error}")


def _emergency_event(context: Context, channel: Channel, verb: str, arguments: dict[str, str]) -> Kept | None:
    """The event that emergency.take_in records later; None if a caller only asks again.

    call_id: empty where the channel knows of none.
    """
    from movidesk.recordings import links

    queue = arguments["queue"] if "queue" in arguments else caller.variable_or_empty(channel, variables.QUEUE)
    extension, recording = arguments.get("extension", ""), arguments.get("recording", "")
    call_id = caller.variable_or_empty(channel, variables.ID)
    if verb == call_states.RECEIVED and call_id:
        return None
    number, goes_on, message = caller.client_number(channel), "", arguments.get("message", "")
    if verb == call_states.MOVED:
        heir = verbs.hand_over(context, channel, arguments.get("peer", ""))
        verb, number, goes_on = (verb, heir.number, heir.uniqueid) if heir else (call_states.HANGUP, number, "")
        message = verbs.message_in_box(channel)
    if verb in (call_states.MOVED, call_states.HANGUP):
        extension = caller.variable_or_empty(channel, variables.ANSWERED_BY)
    if verb == call_states.HANGUP:
        recording = verbs.own_recording(context, channel, call_id, message)
    return {"kind": verb, "at": context.clock(), "arrived": caller.arrival_time(context, channel),
            "uniqueid": caller.callers_uniqueid(channel),
            "queue": queue, "call_id": call_id, "number": number, "extension": extension,
            "link": links.link(context.config, None, recording, context.clock()), "channel": goes_on,
            "left": caller.variable_or_empty(channel, variables.NEXT),
            "leaving": channel.uniqueid if goes_on else "",
            "held": verb == call_states.LOST and caller.variable_or_empty(channel, variables.ENDING) == verbs.LEAVING_MESSAGE}


def main(verb: str) -> None:
    """Run a verb as a script: Asterisk talks to it on stdin and stdout."""
    import resource
    import signal

    from movidesk import config

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # the token is in this process's memory

    # Asterisk sends SIGHUP when the caller hangs up, and Python's default is to die with the event unrecorded.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    code = 0
    try:
        channel = Channel(sys.stdin.buffer, sys.stdout.buffer)
        run(verb, channel, Context(config.load()), sys.argv[1:])
    except ChannelGone:
        pass  # a hangup is normal; what had to be recorded is
    except ProtocolError as error:
        print(f"movidesk: {verb}: {error} (this is an AGI script: Asterisk runs it)", file=sys.stderr)
        code = 1
    sys.stderr.flush()
    # Past here nothing is left to do but to tear the interpreter down, and the caller's channel waits for that.
    os._exit(code)
