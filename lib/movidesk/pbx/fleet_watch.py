"""Looks at the fleet every few seconds and notes in the journal what is wrong with it. Alarms are read from these notes: so no
script that shows them loads Redis' client, or waits for the network.
"""

from __future__ import annotations

from movidesk.fleet.records import Away
from movidesk.journal import Journal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from movidesk.fleet.membership import Membership
    from movidesk.fleet.records import Member

EVERY = 15.0  # seconds
APART = 5.0   # seconds by which clocks may differ
#: Notes: why Redis cannot be used; the same if that is because this PBX may not join; which PBXs are silent, after how many are
#: there; by how much clocks differ.
REDIS, REFUSED, SILENT, CLOCKS = "fleet_redis", "fleet_refused", "fleet_silent", "fleet_clocks"


def look(journal: Journal, membership: Membership) -> None:
    """Note what is wrong, and remove the notes of what is not. Raises JournalError."""
    why = ""
    try:
        why = str(membership.remembered()["why"])
        members = membership.overview().members
    except Away as error:
        why, members = why or str(error), []
    _keep(journal, REDIS, why)
    _keep(journal, REFUSED, why if membership.is_refused() else "")
    _keep(journal, SILENT, _silent(members, membership.pbxs) if members else "")
    _keep(journal, CLOCKS, _apart(members))


def _keep(journal: Journal, name: str, text: str) -> None:
    """A note keeps the time at which it began, as long as its text stays the same; why Redis cannot be used may change."""
    known = journal.notes.get(name)
    if not text:
        journal.notes.remove(name)
    elif name == REDIS and known and known[0] != text:
        journal.notes.amend(name, text)
    elif known is None or known[0] != text:
        journal.notes.set(name, text)


def _silent(members: list[Member], pbxs: int) -> str:
    """How many PBXs are there, and the names of those that were; '' if all are. One that is too many has left for good."""
    there = sum(member.leased for member in members)
    if there >= pbxs:
        return ""
    return " ".join([str(there), ", ".join(member.name for member in members if not member.leased)]).strip()


def _apart(members: list[Member]) -> str:
    """The clocks of the PBXs against Redis' clock, if any two of these differ too much; else ''."""
    clocks = {member.name: member.clock for member in members if member.leased}
    seen = [0.0, *clocks.values()]
    if max(seen) - min(seen) <= APART:
        return ""
    return ", ".join(f"{name} {round(clock):+d} s" for name, clock in clocks.items())
