"""The successor: the channel that takes over a call from the caller's channel in an attended transfer.

A receptionist calls a queue, and connects a customer. Asterisk 16 and 22 then do the following:

  she still waits   the customer's channel replaces hers in the dialplan. It has the variables of both, hers first, and the
                    data of her SHARED(), but not our hangup handler: hers runs at once, on her channel.
  she talks         the customer's channel replaces hers in the bridge with the agent. It runs the dialplan that it came from
                    and has none of our variables. Her handler runs, and the agent's channel names the customer's in BRIDGEPEER.

No dialplan function pushes a hangup handler on another channel, but the console and the manager can.
"""

from __future__ import annotations

import os
import re

from movidesk import NamedTuple
from movidesk.agi import variables
from movidesk.agi.channel import Channel
from movidesk.config import Config
from movidesk.pbx import console
from movidesk.rules import call_states

MOST = 1000   # characters; a longer answer to GET VARIABLE may have been cut by Asterisk
_NO_CHANNEL = re.compile(r"Channel '.*' not found|No channel matching|Command '.*' failed")  # if there is none
_ENDS = "0123456789abcdef;"  # possible last characters of a channel's name

#: The variables of a caller's channel; "__": the channels that it dials inherit the variable.
_VARIABLES = ((variables.ID, "__"), (variables.HANDLER, "__"), (variables.WATCHED, "__"), (variables.ARRIVED, ""),
              (variables.QUEUE, ""), (variables.ANSWERED_BY, ""),
              (variables.AGENT, ""), (variables.RECORDING, ""), (variables.ENDING, ""))


class Successor(NamedTuple):
    """The channel that takes over a call."""

    name: str
    uniqueid: str
    number: str        # its caller's, as Movidesk gets it
    takes_place: bool  # whether it has the call's variables already


class Gone(Exception):
    """The successor hung up meanwhile."""


class NotAdopted(Exception):
    """The successor has no hangup handler; the text says why and what to do."""


def find(channel: Channel, peer: str = "") -> Successor | None:
    """The channel that continues the call of this channel, which hangs up; None if there is none.

    peer: the name of the channel that the agent talks to, if the dialplan found one that is not this channel.
    """
    own, handler, arrived = (channel.get(name) for name in ("CHANNEL(name)", variables.HANDLER, variables.ARRIVED))
    if not peer and arrived:
        for name in _names(channel):
            if (name != own and _of(channel, name, variables.ARRIVED) == arrived
                    and _of(channel, name, variables.HANDLER) == handler):
                return _successor(channel, name, True)
        peer = _talks_to(channel, own, handler)
    if peer in ("", own) or _was_dialled(channel, peer, handler):
        return None
    return _successor(channel, peer, False)


def _was_dialled(channel: Channel, name: str, handler: str) -> bool:
    """Whether that channel was dialled in this call, for example by an agent who consults a colleague: then it has inherited
    MOVIDESK_HANDLER, but not MOVIDESK_ARRIVED, which only a caller's channel has."""
    return _of(channel, name, variables.HANDLER) == handler and not _of(channel, name, variables.ARRIVED)


def _talks_to(channel: Channel, own: str, handler: str) -> str:
    """The channel that the agent's phone talks to, if it was dialled through a Local channel, which has left the call by now; or
    ''."""
    called = re.match(r"Local/([0-9]+)@", channel.get(variables.AGENT))
    if not called:
        return ""
    for name in _names(channel):
        if f"/{called[1]}-" in name and _of(channel, name, variables.HANDLER) == handler:
            peer = _of(channel, name, "BRIDGEPEER").split(",")[0]  # of more than two in a bridge it names all others
            if peer not in ("", own) and not _was_dialled(channel, peer, handler):
                return peer
    return ""


def _successor(channel: Channel, name: str, takes_place: bool) -> Successor | None:
    uniqueid = _of(channel, name, "UNIQUEID")
    number = call_states.client_number(_of(channel, name, "CALLERID(num)"), _of(channel, name, "CALLERID(num-pres)"))
    return Successor(name, uniqueid, number, takes_place) if uniqueid else None


def _of(channel: Channel, name: str, variable: str) -> str:
    return channel.get(f"IMPORT({name},{variable})") if _is_plain(name) else ""


def _names(channel: Channel, end: str = "") -> list[str]:
    """The names of all channels that end with `end`."""
    text = channel.get(f"CHANNELS({end + '$' if end else ''})")
    if len(text) < MOST or len(end) > 8:
        return text.split()
    return [name for more in _ENDS for name in _names(channel, more + end)]


def _is_plain(text: str) -> bool:
    """Whether a text needs no quotes in a console command and in an argument of a function."""
    return re.fullmatch(r"[0-9A-Za-z_.:;/@+*#-]*", text) is not None


def adopt(channel: Channel, config: Config, heir: Successor) -> None:
    """Make the successor the caller's channel: variables, the hangup handler, the recording. Raises Gone, NotAdopted."""
    is_callers = _of(channel, heir.name, variables.CHANNEL) == heir.uniqueid
    if is_callers and _of(channel, heir.name, variables.HANDLER) == channel.get(variables.HANDLER):
        return  # adopted before
    values = [] if heir.takes_place else [(prefix + name, channel.get(name)) for name, prefix in _VARIABLES]
    recording = "" if heir.takes_place else channel.get(variables.RECORDING)
    if not is_callers:
        values += [(f"SHARED({variables.CHANNEL})", heir.uniqueid), (variables.CHANNEL, heir.uniqueid),
                   ("CHANNEL(hangup_handler_push)", "movidesk-hangup,s,1")]
    if not all(_is_plain(value) for _, value in values if not value.startswith("movidesk-")):
        raise NotAdopted(f"a variable of {channel.get('CHANNEL(name)')} contains characters that the console does not accept")
    if config["pbx", "asterisk"] == "ami":
        _set_by_manager(config, heir, values)
    else:
        for name, value in values:
            _ask(config, heir, f'dialplan set chanvar {heir.name} {name} "{value}"')
        if recording:
            _ask(config, heir, f'mixmonitor start {heir.name} "{recording},ab"')
    if _of(channel, heir.name, "UNIQUEID") != heir.uniqueid:
        raise Gone()  # perhaps before it got the handler, which then did not run


def stop_recording(config: Config, heir: Successor, call_id: str) -> None:
    """Stop the recording of an earlier call that continues on the successor's channel. Raises Gone, NotAdopted."""
    if config["pbx", "asterisk"] == "ami":
        return
    for line in _ask(config, heir, f"mixmonitor list {heir.name}").splitlines():
        fields = line.split("\t")
        if len(fields) > 1 and os.path.splitext(os.path.basename(fields[1] + ".wav"))[0] == call_id:
            _ask(config, heir, f"mixmonitor stop {heir.name} {fields[0]}")


def _set_by_manager(config: Config, heir: Successor, values: list[tuple[str, str]]) -> None:
    from movidesk.pbx import ami  # imports pyst2's manager, which few PBXs need

    try:
        if not ami.set_variables(*config.manager, heir.name, values):
            raise Gone()
    except ami.AmiError as error:
        raise NotAdopted(f"Asterisk's manager: {error}; see [pbx] asterisk = ami in movidesk.conf") from None


def _ask(config: Config, heir: Successor, line: str) -> str:
    try:
        answer, trouble = console.ask(config["pbx", "asterisk"], line), ""
    except console.ConsoleError as error:
        answer = trouble = str(error)
    if _NO_CHANNEL.search(answer):
        raise Gone()
    if trouble:
        raise NotAdopted(trouble)
    return answer
