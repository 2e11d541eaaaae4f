"""The phones of the agents whom Movidesk has named: whether Asterisk knows them, and whether they are registered."""

from __future__ import annotations

import os
import re
from contextlib import closing
from typing import TYPE_CHECKING

from movidesk import journal
from movidesk.agi import variables
from movidesk.checks.finding import Finding, note, ok, trouble
from movidesk.config import Config
from movidesk.messages import _

if TYPE_CHECKING:
    from movidesk.checks.asterisk import Asterisk

OFF, ON = "off", "on"
#: Channel technology -> the line that lists its devices, and what a line of the list begins with for a device: (name, state).
LISTS = {
    "PJSIP": ("pjsip show endpoints", re.compile(r"^ Endpoint:  ([^\s/]+)\S* +(.*?)\s+\d+ of ", re.MULTILINE)),
    "SIP": ("sip show peers", re.compile(r"^([^\s/]+)\S* +\(?(\S+)", re.MULTILINE)),
}
LATELY = 3600.0  # seconds; an agent whom Movidesk has not named for longer may have gone home
UNREGISTERED = ("Unavailable", "Invalid", "Unspecified")


def findings(config: Config, asterisk: Asterisk) -> list[Finding]:
    """The agents' phones, each that is missing or off, or how many are well."""
    agents = _known(config)
    subject = _("agents' phones")
    if not agents:
        return [note(subject, _("Movidesk has named no agent yet"))]
    prefix, suffix = asterisk.globals.get(variables.DIAL_PREFIX) or "PJSIP/", asterisk.globals.get(variables.DIAL_SUFFIX, "")
    hints = asterisk.globals.get(variables.HINTS, "")
    technology = prefix.partition("/")[0]
    if hints:
        states, source = _hints(asterisk, hints), "core show hints"
    elif technology in LISTS and "/" not in suffix:
        source, form = LISTS[technology]
        after = prefix.partition("/")[2]
        states = {
            name[len(after) :]: OFF if state.startswith(UNREGISTERED) else ON
            for name, state in form.findall(asterisk.ask_all([source])[source])
            if name.startswith(after)
        }
    else:
        return [
            note(subject, _("not checked: {prefix} says nothing of a phone's state (see MOVIDESK_HINTS)").format(prefix=prefix))
        ]
    if not states:
        return [note(subject, _("not checked: Asterisk lists none ({source})").format(source=source))]
    return _judged(agents, states, prefix, source) or [ok(subject, _("{count} are registered").format(count=len(agents)))]


def _known(config: Config) -> dict[str, float]:
    """The extensions that Movidesk has named, and how many seconds ago it last did."""
    if not os.path.exists(config["journal", "path"]):
        return {}
    try:
        with closing(journal.Journal(config["journal", "path"])) as book:
            return book.agents.known()
    except journal.JournalError:
        return {}  # the finding about the journal says why


def _hints(asterisk: Asterisk, context: str) -> dict[str, str]:
    text = asterisk.ask_all(["core show hints"])["core show hints"]
    listed = re.findall(rf"^ *(\S+?)@{re.escape(context)} .*State:(\S+)", text, re.MULTILINE)
    return {extension: OFF if state in UNREGISTERED else ON for extension, state in listed}


def _judged(agents: dict[str, float], states: dict[str, str], prefix: str, source: str) -> list[Finding]:
    subject, why = _("agents' phones"), _("callers wait although Movidesk offers these agents")
    missing = [agent for agent in agents if agent not in states]
    off = [agent for agent in agents if states.get(agent) == OFF]
    lately = [agent for agent in off if agents[agent] < LATELY]
    found = []
    if missing:
        remedy = _(
            "give the agents in Movidesk the extensions of their phones, or set MOVIDESK_DIAL_PREFIX (now {prefix}); "
            "see: asterisk -rx '{source}'"
        ).format(prefix=prefix, source=source)
        found.append(trouble(subject, _("Asterisk knows no phone {names}").format(names=", ".join(missing)), why, remedy))
    if lately:
        remedy = _(
            "switch the phones on and look at their accounts; agents who are away should go offline in Movidesk; "
            "see: asterisk -rx '{source}'"
        ).format(source=source)
        found.append(trouble(subject, _("not registered: {names}").format(names=", ".join(lately)), why, remedy))
    elif off:
        found.append(note(subject, _("not registered, and not offered in the last hour: {names}").format(names=", ".join(off))))
    return found
