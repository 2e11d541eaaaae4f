"""What a channel tells about its caller and its call; what it does not tell the journal knows, or nobody."""

from __future__ import annotations

import re

from movidesk.agi import variables
from movidesk.agi.channel import Channel, ChannelGone, ProtocolError
from movidesk.context import Context
from movidesk.rules import call_states

LATEST = 86400  # seconds by which the dialplan's clock and ours may differ: a caller waits no longer


def variable_or_empty(channel: Channel, name: str) -> str:
    """A variable of the channel; '' also where the channel is gone, for the event is recorded all the same."""
    try:
        return channel.get(name)
    except (ChannelGone, ProtocolError):
        return ""


def arrival_time(context: Context, channel: Channel) -> float | None:
    """When the dialplan saw the caller come, in epoch seconds; None where it does not say."""
    text = variable_or_empty(channel, variables.ARRIVED)
    at = float(text) if re.fullmatch(r"[0-9]{1,10}(\.[0-9]{1,6})?", text) else 0.0
    return at if abs(context.clock() - at) < LATEST else None


def began_on(channel: Channel) -> str:
    """The unique id of the channel on which the call of this channel began. MOVIDESK_HANDLER is inherited, MOVIDESK_ARRIVED is
    not: who knows when the call came is its caller, and not an agent's phone that makes a call of its own."""
    return callers_uniqueid(channel) if variable_or_empty(channel, variables.ARRIVED) else channel.uniqueid


def callers_uniqueid(channel: Channel) -> str:
    """The unique id of the channel on which the caller came, also where this is the channel of whoever answered."""
    return variable_or_empty(channel, variables.HANDLER) or channel.uniqueid


def client_number(channel: Channel) -> str:
    """The caller's number in the form that Movidesk takes; '' where it is withheld."""
    return call_states.client_number(channel.env.get("agi_callerid", ""))


def call_id(context: Context, channel: Channel) -> str:
    """The id of the channel's call: MOVIDESK_ID (an agent's channel inherits it), else the channel's last call.

    Raises ChannelGone where the channel is gone and nothing is known of it.
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
        raise gone  # it may be an agent's channel: no call is to begin under its name
    # Where the caller came while the journal was away, the channel of whoever answers knows no id, but the caller's channel;
    # so does a channel that took the caller's place since, which may have had a call of its own before.
    uniqueid = channel.get(variables.HANDLER) or channel.uniqueid
    if call and not (uniqueid != channel.uniqueid and channel.get(variables.ARRIVED)):
        return call.call_id
    call = context.journal.calls.latest(uniqueid)
    return call.call_id if call else call_states.call_id(context.config["pbx", "name"], uniqueid)
