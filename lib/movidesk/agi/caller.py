"""Reads a call's data from its channel: who calls, since when, and the call's id."""

from __future__ import annotations

import re

from movidesk.agi import variables
from movidesk.agi.channel import Channel, ChannelGone, ProtocolError
from movidesk.context import Context
from movidesk.rules import call_states, waiting_line

LATEST = 86400  # seconds; MOVIDESK_ARRIVED may differ from our clock by at most this, because no caller waits longer
RESTRICTION, RESTRICTED = 0x60, 0x20  # in agi_callingpres: the bits, and their value for a withheld number or name (Q.931)
NUMBER_PRESENTATION = "CALLERID(num-pres)"


def variable_or_empty(channel: Channel, name: str) -> str:
    """A variable of the channel; '' also if the channel is gone, because the event is recorded anyway."""
    try:
        return channel.get(name)
    except (ChannelGone, ProtocolError):
        return ""


def arrival_time(context: Context, channel: Channel) -> float | None:
    """When the caller arrived according to the dialplan, in epoch seconds; None if it is not set."""
    text = variable_or_empty(channel, variables.ARRIVED)
    at = float(text) if re.fullmatch(r"[0-9]{1,10}(\.[0-9]{1,6})?", text) else 0.0
    return at if abs(context.clock() - at) < LATEST else None


def began_on(channel: Channel) -> str:
    """The unique id of the channel on which this channel's call began. MOVIDESK_HANDLER is inherited, MOVIDESK_ARRIVED is not: a
    channel with MOVIDESK_ARRIVED is the caller's, and not an agent's phone that makes its own call."""
    return callers_uniqueid(channel) if variable_or_empty(channel, variables.ARRIVED) else channel.uniqueid


def priority(channel: Channel) -> tuple[int, str]:
    """The caller's priority in line, 0 if none is set; and what is wrong with the variable, which then counts as 0, or ''."""
    text = variable_or_empty(channel, variables.PRIORITY)
    if re.fullmatch(f"[0-{waiting_line.HIGHEST_PRIORITY}]?", text):
        return int(text or 0), ""
    return 0, f"{variables.PRIORITY} = {text[:40]} is no whole number from 0 to {waiting_line.HIGHEST_PRIORITY}: 0 is used"


def callers_uniqueid(channel: Channel) -> str:
    """The unique id of the channel on which the caller came, also if this is the channel that answered."""
    return variable_or_empty(channel, variables.HANDLER) or channel.uniqueid


def client_number(channel: Channel) -> str:
    """The caller's number in the form that Movidesk accepts; `anonymous` if it is withheld.

    Some trunks deliver a number together with the caller's wish that nobody sees it (SIP: Privacy: id; ISDN: CLIR).
    """
    number, presentation = channel.env.get("agi_callerid", ""), channel.env.get("agi_callingpres", "")
    if re.fullmatch("[0-9]{1,3}", presentation) and int(presentation) & RESTRICTION == RESTRICTED:
        # The name or the number is restricted: the channel knows which. If it is gone, we take it for the number.
        return call_states.client_number(number, variable_or_empty(channel, NUMBER_PRESENTATION) or call_states.PROHIBITED)
    return call_states.client_number(number)


def call_id(context: Context, channel: Channel) -> str:
    """The id of the channel's call: MOVIDESK_ID (an agent's channel inherits it), or the id of the channel's last call.

    Raises ChannelGone if the channel is gone and the journal does not know it.
    """
    known = ""
    gone: ChannelGone | None = None
    try:
        known = channel.get(variables.ID)
    except ChannelGone as error:
        gone = error
    if known:
        return known
    call = context.journal.calls.latest(channel.uniqueid)
    if call and (gone or call.ended is None):
        return call.call_id
    if gone:
        raise gone  # it may be an agent's channel, on which no call must begin
    # If the caller came while the journal could not be used, the channel that answers has no MOVIDESK_ID, but knows the caller's
    # channel. So does a channel that has replaced the caller's, which may have had its own call before.
    uniqueid = channel.get(variables.HANDLER) or channel.uniqueid
    if call and not (uniqueid != channel.uniqueid and channel.get(variables.ARRIVED)):
        return call.call_id
    call = context.journal.calls.latest(uniqueid)
    return call.call_id if call else call_states.call_id(context.config["pbx", "name"], uniqueid)
