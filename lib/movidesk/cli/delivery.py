"""`movidesk serve` and `movidesk deliver`."""

from __future__ import annotations

import logging
import sys
import threading

from movidesk import config, messages
from movidesk.cli.terminal import GOOD, TROUBLE
from movidesk.context import Context
from movidesk.journal import wakeup
from movidesk.pbx import heartbeat

ROUND_SECONDS = 50.0  # `deliver --once` begins no further event after this time
ONCE_SECONDS = 30.0  # how long `deliver --once` waits for the request limit: cron starts the next run after 60


def serve(settings: config.Config) -> int:
    """Run the service until it is stopped."""
    from movidesk.service import Service

    _start_log()
    Service(settings).run()
    return GOOD


def deliver(settings: config.Config) -> int:
    """Deliver events until this is stopped."""
    from movidesk.housekeeping import Housekeeping, RestingDelivery, open_journal

    _start_log()
    context = Context(settings.require())
    open_journal(context)
    pull = wakeup.Trigger(wakeup.path_beside(context.journal.path))
    Housekeeping(context, pull.pull).start()
    RestingDelivery(context).run(pull, threading.Event())
    return GOOD


def once(settings: config.Config) -> int:
    """One run, for cron: deliver within the minute, then do housekeeping, which may last into the next run."""
    from movidesk.housekeeping import Housekeeping, RestingDelivery, at_work, open_journal

    _start_log()
    context = Context(settings.require())
    housekeeping = Housekeeping(context)
    housekeeping.metrics_once()
    open_journal(context)
    with at_work(context.journal.path, once=True) as alone:
        if not alone:
            return _leave_it_to_the_other(context.journal.path)
        housekeeping.recover()
        good = RestingDelivery(context).once(ONCE_SECONDS, ROUND_SECONDS)
    housekeeping.once()
    return GOOD if good else TROUBLE


def _start_log() -> None:
    """Logs are in English, so that they can be searched."""
    messages.use_english()
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")


def _leave_it_to_the_other(path: str) -> int:
    """Another process delivers the events of the journal at `path`: say so, and whether that process is frozen."""
    silent = heartbeat.silent_for(path)
    if silent > heartbeat.FROZEN:
        print(f"movidesk: nothing is delivered: movidesk serve holds the lock of {path} and has not responded for {silent:.0f} "
              f"s; restart it (systemctl restart movidesk), or remove {heartbeat.path_beside(path)} if it does not run here",
              file=sys.stderr)
        return TROUBLE
    print(f"movidesk: movidesk serve, or another movidesk deliver, already delivers from {path}: nothing to do",
          file=sys.stderr)
    return GOOD
