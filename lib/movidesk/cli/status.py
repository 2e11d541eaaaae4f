"""`movidesk status`: the alarms first, then the waiting line, the requests and the events that wait; or all PBXs of the fleet."""

from __future__ import annotations

import json
import sys
import time

import click

from movidesk import facts, fleet_facts, messages, sleep
from movidesk.cli import book
from movidesk.cli.terminal import GOOD, TROUBLE, Row, print_fields, print_table
from movidesk.config import Config
from movidesk.journal import JournalError, standby_folder
from movidesk.messages import _


def show(settings: Config) -> int:
    """Print the facts for people."""
    known = read(settings)
    print_fields(facts.rows(known, settings))
    return TROUBLE if known["trouble"] else GOOD


def watch(settings: Config, seconds: float) -> int:
    """Print the facts again and again, on a clear screen, until this is interrupted."""
    try:
        while True:
            try:
                known, error = read(settings), ""
            except JournalError as failed:
                known, error = None, str(failed)
            click.clear()
            print(time.strftime("%Y-%m-%d %H:%M:%S"), end="\n\n")
            print_fields(facts.rows(known, settings) if known else [(_("trouble"), error)])
            sys.stdout.flush()
            sleep(seconds)
    except KeyboardInterrupt:
        return GOOD


def show_json(settings: Config) -> int:
    """Print the facts for programs."""
    messages.use_english()
    known = read(settings)
    print(json.dumps(known, indent=2))
    return TROUBLE if known["trouble"] else GOOD


def read(settings: Config) -> facts.Facts:
    """The facts; only the problems if the journal cannot be read and the standby replaces it. Raises JournalError."""
    try:
        return facts.read(settings, book.opened(settings))
    except JournalError as error:
        if not standby_folder.in_use(settings):
            raise
        return facts.without_journal(settings, error)


def show_fleet(settings: Config, as_json: bool) -> int:
    """Print the fleet's facts, for people or for programs. Raises JournalError; UsageError without a fleet."""
    if not settings["fleet", "redis"]:
        raise click.UsageError(_("{path} has no [fleet] redis: this PBX is the only one").format(path=settings.path))
    from movidesk.fleet.membership import Membership

    if as_json:
        messages.use_english()
    journal = book.opened(settings)
    membership = Membership(settings, journal.steady, time.time)
    try:
        known = fleet_facts.read(settings, journal, membership)
    finally:
        membership.close()
    if as_json:
        print(json.dumps(known, indent=2))
    else:
        print_fields(fleet_facts.rows(known))
        if known["pbxs"]:
            print()
            print_table(dict.fromkeys(fleet_facts.headings(), 0), [Row(cells) for cells in fleet_facts.table(known)])
    return TROUBLE if known["alarms"] or known["why"] else GOOD
