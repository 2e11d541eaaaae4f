"""The states of the agents' phones, asked through a caller's channel: no manager connection is needed."""

from __future__ import annotations

import re

from movidesk.agi import variables
from movidesk.agi.channel import Channel, ProtocolError

#: Characters of an extension up to which its phone's state is asked: 15 such phones fit into a command (channel.MAX_COMMAND).
LONGEST = 40
#: Of how many phones the states are asked in one command.
AT_ONCE = 15

_DEVICE = "${DEVICE_STATE(${MOVIDESK_DIAL_PREFIX}%s${CUT(MOVIDESK_DIAL_SUFFIX,/,1)})}"
_HINT = "${EXTENSION_STATE(%s@${MOVIDESK_HINTS})}"


def states(channel: Channel, extensions: list[str]) -> dict[str, str]:
    """The state of each extension's phone, as DEVICE_STATE() or EXTENSION_STATE() has it, in the way that movidesk-phone asks.

    Empty if the dialplan does not check phones, or does not say how they are dialled, or Asterisk cannot tell. Raises
    ChannelGone.
    """
    check, hints, prefix, suffix = (channel.get(name) for name in (
        variables.CHECK_PHONE, variables.HINTS, variables.DIAL_PREFIX, variables.DIAL_SUFFIX))
    if check != "yes" or not (hints or prefix) or "&" in prefix + suffix:
        return {}
    safe = [extension for extension in extensions if re.fullmatch(rf"[0-9A-Za-z_.*-]{{1,{LONGEST}}}", extension)]
    found: dict[str, str] = {}
    for begin in range(0, len(safe), AT_ONCE):
        some = safe[begin:begin + AT_ONCE]
        try:
            answer = channel.evaluate(" ".join((_HINT if hints else _DEVICE) % extension for extension in some))
        except ProtocolError as error:
            channel.say(f"the states of the phones {', '.join(some)} are not known: {error}", 3)
            continue
        found.update(zip(some, answer.split(" ")))
    return found
