"""`movidesk outbox`: the events that Movidesk has not received, and what an admin can do with them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import click

from movidesk import facts
from movidesk.alarms import local
from movidesk.cli import book
from movidesk.cli.parameters import ALL
from movidesk.cli.terminal import GOOD, TROUBLE, Row, moment, print_table, progress
from movidesk.config import Config
from movidesk.context import Context
from movidesk.journal import PENDING, REFUSED, Journal, emergency, standby_folder, wakeup
from movidesk.messages import _, ngettext


def show(settings: Config) -> int:
    """Print the events that are set aside, then those that wait, and where else events wait."""
    journal = book.opened(settings)
    refused = journal.outbox.jobs(REFUSED)
    rows = []
    for event, call, _request in refused + journal.outbox.jobs(PENDING):
        seconds = 0.0 if event.status == REFUSED else event.due - journal.steady()
        status = event.status if seconds <= 0 else _("again in {time}").format(time=facts.span(seconds))
        rows.append(Row((event.id, moment(event.at), call.call_id, event.kind, status, event.attempts),
                        [event.note] if event.note else []))
    elsewhere = list(_elsewhere(settings))
    if rows:
        print_table({_("event"): 0, _("at"): 0, _("call"): 0, _("kind"): 0, _("status"): 0, _("tries"): 0}, rows)
    elif not elsewhere:
        print(_("the outbox is empty: Movidesk has received all events"))
    totals = journal.overview.totals()
    more = totals["pending"] + totals["refused"] - len(rows)
    if more > 0:
        print(ngettext("and {count} more event", "and {count} more events", more).format(count=more))
    for text in elsewhere:
        print(text)
    return TROUBLE if refused or elsewhere else GOOD


def _elsewhere(settings: Config) -> Iterator[str]:
    """Where events wait that the journal does not have."""
    for path, since in emergency.waiting(settings):
        yield _("more events wait in {path} since {time}: movidesk serve (or deliver) imports them").format(
            path=path, time=local(since))
    if standby_folder.in_use(settings):
        yield _("more events may wait in the second journal in memory ({folder}): see movidesk status").format(
            folder=standby_folder.folder(settings))


def retry_now(settings: Config) -> int:
    """Try every event at once that waits for its next try."""
    journal = book.opened(settings)
    waited = Context(settings, journal=journal).retry_now()
    pending = journal.overview.totals()["pending"]
    if pending and not waited:
        print(_("{pending} pending: due within a minute, or waiting for an earlier event, the limit or a pause").format(
            pending=pending))
        return GOOD
    print(ngettext("{count} event is tried again now ({pending} pending)",
                   "{count} events are tried again now ({pending} pending)", waited).format(count=waited, pending=pending))
    return GOOD


def replay(settings: Config, which: int) -> int:
    """Send a refused event again, or all of them (ALL)."""
    journal = book.opened(settings)
    count = _settle(journal, which, journal.outbox.replay, _("sending again"))
    print(_("event {number} will be sent again").format(number=which) if which != ALL else
          ngettext("{count} event will be sent again", "{count} events will be sent again", count).format(count=count))
    return GOOD


def dismiss(settings: Config, which: int) -> int:
    """Give up a refused event, or all of them (ALL)."""
    journal = book.opened(settings)
    count = _settle(journal, which, journal.outbox.dismiss, _("dismissing"))
    print(_("event {number} is dismissed").format(number=which) if which != ALL else
          ngettext("{count} event is dismissed", "{count} events are dismissed", count).format(count=count))
    return GOOD


def _settle(journal: Journal, which: int, act: Callable[[int], bool], doing: str) -> int:
    """Do this with the refused event of that number, or with all (ALL), and wake the delivery; returns how many there were."""
    if which != ALL and not act(which):
        raise click.ClickException(_("no refused event has the number {number}").format(number=which))
    count = 1 if which != ALL else sum(map(act, _refused(journal, doing)))
    wakeup.pull(wakeup.path_beside(journal.path))
    return count


def _refused(journal: Journal, doing: str) -> Iterator[int]:
    """The numbers of all refused events, with a progress bar for a terminal. The caller changes each before it takes the next."""
    total = journal.overview.totals()["refused"]
    with progress(total, doing) as step:
        while refused := journal.outbox.jobs(REFUSED):
            for job in refused:
                yield job.event.id
                step(1)
