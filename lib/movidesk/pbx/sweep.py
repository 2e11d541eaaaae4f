"""The sweep: ends calls whose channel is gone, according to their state.

If Asterisk is killed, the power fails or a hangup handler cannot run, the journal has calls that no channel will ever end. The
sweep asks Asterisk for its channels and does not guess from a call's age. If Asterisk does not answer, no call is ended.
"""

from __future__ import annotations

import logging
import re

from movidesk.config import Config
from movidesk.context import NOT_TOLD, Context
from movidesk.journal import Journal, emergency
from movidesk.journal.records import EMERGENCY, SWEEP, SWEPT
from movidesk.pbx import console

log = logging.getLogger("movidesk.pbx.sweep")

EVERY = 60.0  # seconds


class NotTold(Exception):
    """Asterisk did not list its channels; the text gives the reason and says what to do."""


class Restarts:
    """Detects a restart of Asterisk from the channels' unique ids, `epoch.counter`: the counter restarts at 0."""

    def __init__(self) -> None:
        self._newest = (0, 0)

    def seen(self, uniqueid: str) -> bool:
        """Whether this channel is the first one seen since a restart of Asterisk."""
        found = re.search(r"(\d{1,18})\.(\d{1,18})$", uniqueid)
        if not found:
            return False
        epoch, counter = int(found[1]), int(found[2])
        newest, self._newest = self._newest, max(self._newest, (epoch, counter))
        return epoch > newest[0] and counter < newest[1]


def recover(context: Context) -> int:
    """Import the emergency file, then sweep; not while the standby is in use. Returns the number of events imported and calls
    ended.

    If Asterisk does not list its channels, no call is ended, and an alarm begins. Raises JournalError.
    """
    taken, nonsense = emergency.take_in(context.journal, context.config)
    for text in nonsense:
        log.error("emergency file: %s", text)
    store = context.journal.store
    if nonsense:
        store.observe(EMERGENCY, "invalid", times=len(nonsense))
    if taken:
        store.observe(EMERGENCY, "imported", times=taken)
        log.warning("%d events imported from the emergency file", taken)
    try:
        swept = sweep(context.journal, context.config)
        context.journal.notes.remove(NOT_TOLD)
        store.observe(SWEEP, "done")
    except NotTold as error:
        swept = 0
        context.journal.notes.set_once(NOT_TOLD, str(error))
        store.observe(SWEEP, "failed")
    if swept:
        store.observe(SWEPT, times=swept)
    store.flush()
    return taken + swept


def live_channels(config: Config) -> set[str]:
    """The unique ids of Asterisk's channels, from the source in [pbx] asterisk. Raises NotTold."""
    command = config["pbx", "asterisk"]
    return _from_manager(config) if command == "ami" else _from_console(command)


def _from_manager(config: Config) -> set[str]:
    from movidesk.pbx import ami  # imports pyst2's manager, which few PBXs need

    try:
        return ami.channels(*config.manager)
    except ami.AmiError as error:
        host, port = config["made_calls", "ami"]
        raise NotTold(f"Asterisk's manager at {host}:{port}: {error}; see [pbx] asterisk = ami in movidesk.conf") from None


def _from_console(command: str) -> set[str]:
    try:
        text = console.ask(command, "core show channels concise")
    except console.ConsoleError as error:
        raise NotTold(str(error)) from None
    found = set()
    for line in text.splitlines():
        if line.count("!") < 13:
            continue  # a greeting or a warning
        found.add(line.rpartition("!")[2].strip())
    return found


def sweep(journal: Journal, config: Config) -> int:
    """End the calls whose channel is gone, and return their number. Raises NotTold if Asterisk does not list its channels.

    The journal is read first, so that a call that begins meanwhile is not compared.
    """
    unended = journal.overview.unended()
    if not unended:
        return 0
    alive = live_channels(config)
    swept = 0
    for call in unended:
        channel = call.channel or call.uniqueid
        if channel not in alive:
            done = journal.calls.hang_up(call.call_id, channel=channel)  # not if it has moved to another channel meanwhile
            if done.kind:
                swept += 1
                log.warning("%s: its channel is gone: %s", call.call_id, done.kind)
    return swept
