"""What Movidesk's rejections tell: of a queue that it does not know, and of call ids that another PBX uses too."""

from __future__ import annotations

import os
from contextlib import closing

from movidesk import journal
from movidesk.checks.finding import Finding, trouble
from movidesk.config import Config
from movidesk.journal import Rejection
from movidesk.messages import _
from movidesk.rules import call_states

#: Events by which Movidesk first hears of a call. start_transferred names an agent as well, who may be unknown there.
ARRIVALS = (call_states.RECEIVED, call_states.START_CANCELED, call_states.START_TRANSFERRED)


def findings(config: Config) -> list[Finding]:
    """What follows from the events that Movidesk rejected and that nobody has dismissed."""
    if not os.path.exists(config["journal", "path"]):
        return []
    try:
        with closing(journal.Journal(config["journal", "path"])) as book:
            rejected = book.overview.rejections()
            queues = {each.queue for each in rejected if each.kind in ARRIVALS}
            known = {
                queue
                for queue in queues
                if book.overview.accepts_calls_of(queue, since=min(each.event for each in rejected if each.queue == queue))
            }
    except journal.JournalError:
        return []  # the finding about the journal says why
    return [*_queues(rejected, queues - known), *_name(config, rejected, known)]


def _queues(rejected: list[Rejection], unknown: set[str]) -> list[Finding]:
    """Queues of which Movidesk rejected each call since the first of these events."""
    found = []
    for queue in sorted(unknown):
        last = [each for each in rejected if each.queue == queue and each.kind in ARRIVALS][-1]
        found.append(
            trouble(
                _("queue {queue}").format(queue=queue),
                _("Movidesk rejects each of its calls ({why})").format(why=last.why),
                _("its callers reach no agent, and there are no tickets"),
                _(
                    "use the ID de fila of a telephony group (Movidesk: Settings, Telephony): Goto(movidesk-queue,ID,1) in your "
                    "dialplan, then: asterisk -rx 'dialplan reload'; give up the old events: movidesk outbox --dismiss all"
                ),
            )
        )
    return found


def _name(config: Config, rejected: list[Rejection], known: set[str]) -> list[Finding]:
    """Calls that Movidesk rejected although it knows their queue, or that it knew and then did not: another PBX may have used
    their ids."""
    name = config["pbx", "name"]
    strange = [
        each
        for each in rejected
        if each.call_id.startswith(name + "-")
        and (
            each.kind in (call_states.RECEIVED, call_states.START_CANCELED)
            and each.queue in known
            or each.kind not in (*ARRIVALS, call_states.LINK)
            and each.registered
        )
    ]
    if not strange:
        return []
    return [
        trouble(
            _("name of this PBX ([pbx] name)"),
            _("Movidesk rejects {kind} of {call}, as if the call were another one ({why}); {count} events in all").format(
                kind=strange[-1].kind, call=strange[-1].call_id, why=strange[-1].why, count=len(strange)
            ),
            _("two PBXs with the name {name} in one account give the same id to two calls: tickets get mixed up").format(
                name=name
            ),
            _(
                "if another PBX of this account has this name: name = {name}-2 in {path} of one of them, then: systemctl restart "
                "movidesk; give up the old events: movidesk outbox --dismiss all"
            ).format(name=name, path=config.path),
        )
    ]
