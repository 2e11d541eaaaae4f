"""`movidesk calls`: a table of calls, all about one call, calls as they happen; for people and for programs."""

from __future__ import annotations

import csv
import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator

import click

from movidesk import call_facts, messages, sleep
from movidesk.call_facts import CallFacts, EventFacts, outcome
from movidesk.cli import book
from movidesk.cli.terminal import GOOD, TROUBLE, Row, print_fields, print_table, progress, safe_cell, width
from movidesk.config import Config
from movidesk.facts import span
from movidesk.journal import DELIVERED, DISMISSED, REFUSED, Call, Journal
from movidesk.journal.call_search import Wanted
from movidesk.messages import _
from movidesk.rules import call_states

TABLE, JSON, CSV = "table", "json", "csv"
DEFAULT = 20      # calls in a table
PAGE = 1000       # calls that are read at once where all are wanted
LOOK_EVERY = 1.0  # seconds between two looks for something new
WIDE = 110        # columns of a terminal that shows also the call id
#: Columns of the CSV.
FIELDS = ("id", "call_id", "uniqueid", "mode", "queue", "priority", "number", "agent", "state", "outcome", "code", "arrived",
          "answered", "ended", "waited", "talked", "recording", "reported")


class Lister:
    """Prints calls in one of the three forms."""

    def __init__(self, settings: Config, form: str, grows: bool = False):
        """grows: more rows may come later, for which the columns of a table must have room."""
        if form != TABLE:
            messages.use_english()
        self.journal = book.opened(settings)
        self._masked = settings["pbx", "mask_numbers"] == "yes"
        self._print: Callable[[list[CallFacts]], None] = {TABLE: self._table, JSON: self._json, CSV: self._csv}[form]
        self._rows = csv.DictWriter(sys.stdout, FIELDS, extrasaction="ignore", lineterminator="\n")
        self._grows, self._begun = grows, False

    def facts(self, call: Call) -> CallFacts:
        """All about a call."""
        return call_facts.of(call, self.journal.calls.events(call), time.time(), self._masked)

    def print(self, calls: Iterable[Call]) -> None:
        """Print these calls; a heading stands before the first ones."""
        self._print([self.facts(call) for call in calls])
        self._begun = True
        sys.stdout.flush()

    def _json(self, calls: list[CallFacts]) -> None:
        for call in calls:
            print(json.dumps(call))

    def _csv(self, calls: list[CallFacts]) -> None:
        if not self._begun:
            self._rows.writeheader()
        self._rows.writerows({name: safe_cell(value) for name, value in call.items()}
                             for call in calls)

    def _table(self, calls: list[CallFacts]) -> None:
        is_wide = (width() or WIDE) >= WIDE
        prioritized = self._grows or any(call["priority"] for call in calls)
        headers = {_("id"): 5, _("arrived"): 11, _("queue"): 5, _("number"): 13, _("agent"): 5, _("waited"): 6, _("talked"): 6,
                   _("outcome"): 9, _("rec"): 3, **dict.fromkeys([_("priority")] * prioritized + [_("call")] * is_wide, 0)}
        if not self._grows:
            headers = dict.fromkeys(headers, 0)
        if calls or not self._begun:
            print_table(headers, [_row(call, prioritized, is_wide) for call in calls], with_headers=not self._begun)


def show(settings: Config, wanted: Wanted, count: int | None, form: str) -> int:
    """Print the newest `count` calls that are wanted, in order of arrival; None: all."""
    lister = Lister(settings, form, grows=count is None)
    found = list(reversed(lister.journal.search.newest(wanted, count))) if count else []
    if form == TABLE and count and not found:
        print(_("no calls yet") if wanted == Wanted() else _("no such calls"))
    elif count:
        lister.print(found)
    else:
        _print_all(lister, wanted)
    return GOOD


def _print_all(lister: Lister, wanted: Wanted) -> None:
    """With a progress bar, if the calls go into a file."""
    done, last = 0, lister.journal.search.position().call
    with progress(0 if sys.stdout.isatty() else last, _("reading")) as step:
        for page in _pages(lister.journal, wanted):
            lister.print(page)
            reached = page[-1].id if page else last
            step(reached - done)
            done = reached


def _pages(journal: Journal, wanted: Wanted) -> Iterator[list[Call]]:
    """All calls that are wanted, some at a time; at least one list, which may be empty."""
    page = journal.search.after(wanted, 0, PAGE)
    yield page
    while page:
        page = journal.search.after(wanted, page[-1].id, PAGE)
        yield page


def follow(settings: Config, wanted: Wanted, count: int, form: str) -> int:
    """Print the last calls, then each call whenever something happens to it, until this is interrupted."""
    lister = Lister(settings, form, grows=True)
    search, position = lister.journal.search, lister.journal.search.position()
    lister.print(reversed(search.newest(wanted, count)))
    try:
        while True:
            sleep(LOOK_EVERY)
            reached = search.position()  # before the search: what happens meanwhile is found again, and not lost
            lister.print(search.changed(wanted, position))
            position = reached
    except KeyboardInterrupt:
        return GOOD


def show_one(settings: Config, name: str, form: str) -> int:
    """Print everything about one call: its number in the table, its call id, or the unique id of its channel."""
    lister = Lister(settings, form)
    call = lister.journal.search.one(name)
    if call is None:
        raise click.ClickException(_("there is no call {name!r} in the journal").format(name=name))
    if form != TABLE:
        lister.print([call])
        return GOOD
    facts = lister.facts(call)
    print_fields(_about(facts))
    events = lister.journal.calls.events(call)
    print()
    rows = [Row((clock(event["at"]), event["kind"], event["agent"], _told(event, due.due - lister.journal.steady())),
                [text for text in (_note(event), event["link"]) if text])
            for event, due in zip(facts["events"], events)]
    print_table({_("at"): 8, _("event"): 11, _("agent"): 5, "Movidesk": 20}, rows)
    return TROUBLE if facts["reported"] == REFUSED else GOOD


def _about(call: CallFacts) -> list[tuple[str, str]]:
    ended = call["ended"]
    fields = [(_("call"), f"{call['call_id']} ({call['id']})"), (_("channel"), call["uniqueid"]),
              (_("kind"), _mode(call["mode"])), (_("queue"), call["queue"]), (_("number"), call["number"]),
              (_("priority"), str(call["priority"] or "")),
              (_("agent"), call["agent"]), (_("outcome"), outcome(call)), (_("arrived"), date(call["arrived"])),
              (_("ended"), date(ended) if ended else _("goes on")), (_("waited"), _span(call["waited"])),
              (_("talked"), _span(call["talked"])), (_("recording"), call["recording"])]
    return [(heading, text) for heading, text in fields if text]


def _told(event: EventFacts, seconds: float) -> str:
    """What Movidesk knows of an event. seconds: until it may be sent."""
    settled, tries = event["settled"], event["tries"]
    if event["status"] == DELIVERED and settled:
        return _("received at {time}").format(time=clock(settled))
    if event["status"] == REFUSED:
        return _("refused at {time}, tries: {count}").format(time=clock(settled or event["at"]), count=tries)
    if event["status"] == DISMISSED:
        return _("dismissed")
    if seconds > 0:
        return _("waits, again in {time}, tries: {count}").format(time=span(seconds), count=tries)
    return _("waits, tries: {count}").format(count=tries)


def _note(event: EventFacts) -> str:
    """What there is to say about an event: Movidesk's answer, or why it is not sent."""
    answered = event["note"] and event["status"] == DELIVERED
    return _("answer: {text}").format(text=event["note"]) if answered else event["note"]


def _row(call: CallFacts, prioritized: bool, is_wide: bool) -> Row:
    cells = [call["id"], f"{call['arrived'][5:10]} {call['arrived'][11:16]}", call["queue"], call["number"], call["agent"],
             _span(call["waited"]), _span(call["talked"]), outcome(call), _("yes") if call["recording"] else ""]
    more = [call["priority"] or ""] * prioritized + [call["call_id"]] * is_wide
    return Row([*cells, *more], list(_notes(call)))


def _notes(call: CallFacts) -> Iterator[str]:
    """What is not as it should be with a call."""
    if call["mode"] == call_states.MADE and call["code"]:
        yield _("not connected: {why}").format(why=call["code"])
    for event in call["events"]:
        why = f" ({event['note']})" if event["note"] else ""
        if event["status"] == REFUSED:
            yield _("Movidesk refused {event}").format(event=event["kind"]) + why
        elif event["status"] == DISMISSED:
            yield _("{event} was dismissed").format(event=event["kind"]) + why
        elif event["status"] != DELIVERED and (call["ended"] or event["kind"] != call_states.RECEIVED):
            yield _("{event} is not sent yet").format(event=event["kind"]) + why


def _mode(mode: str) -> str:
    return {call_states.CONTROL: _("queue control"), call_states.WATCH: _("Asterisk's own queue"),
            call_states.MADE: _("made call")}[mode]


def _span(seconds: int | None) -> str:
    return "" if seconds is None else span(seconds)


def date(iso: str) -> str:
    """The local date and time of an ISO 8601 text."""
    return f"{iso[:10]} {iso[11:19]}"


def clock(iso: str) -> str:
    """The local time of an ISO 8601 text."""
    return iso[11:19]
