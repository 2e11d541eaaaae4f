"""The `movidesk` command: run the service, show calls and events, check the installation.

Exit status: 0 good, 1 trouble, 2 misuse.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import resource
import sys
import threading
from collections.abc import Callable, Sequence

from tabulate import tabulate

from movidesk import __version__, alarms, config, facts, journal, messages
from movidesk.context import Context
from movidesk.journal import emergency, standby_folder, wakeup
from movidesk.pbx import heartbeat
from movidesk.rules import call_states

GOOD, TROUBLE, MISUSE = 0, 1, 2
ROUND_SECONDS = 50.0  # `deliver --once` begins no further event after this time
ONCE_SECONDS = 30.0  # how long `deliver --once` waits for the request limit: cron starts the next run after 60
#: Folders of system programs such as asterisk and runuser, which are not in cron's PATH.
SYSTEM_PATH = ("/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/local/bin", "/usr/bin", "/bin")


def main(arguments: list[str] | None = None) -> int:
    arguments = sys.argv[1:] if arguments is None else arguments
    messages.follow_locale()
    simulated = _of_simulator(arguments)
    if simulated is not None:
        return _simulate(simulated)
    options = _parser().parse_args(arguments)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core file would contain the token
    os.environ["PATH"] = os.pathsep.join(dict.fromkeys([*filter(None, os.environ.get("PATH", "").split(os.pathsep)),
                                                        *SYSTEM_PATH]))
    try:
        exit_status: int = options.run(options, config.load(options.config))
        sys.stdout.flush()
        return exit_status
    except BrokenPipeError:  # of `| head`, which has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (config.ConfigError, journal.JournalError, OSError) as error:
        print(f"movidesk: {error}", file=sys.stderr)
    except KeyboardInterrupt:
        pass
    return TROUBLE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="movidesk", description="Connects Asterisk with Movidesk's telephony API.",
        epilog="Exit status: 0 good, 1 trouble, 2 misuse. Times are local; Movidesk receives UTC.")
    parser.add_argument("--version", action="version", version="movidesk-agi " + __version__)
    parser.add_argument("--config", metavar="FILE", help=f"default: ${config.PATH_VARIABLE}, else {config.DEFAULT_PATH}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def command(name: str, run: Callable[[argparse.Namespace, config.Config], int], text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        sub.set_defaults(run=run)
        return sub

    command("serve", serve, "answer FastAGI and deliver events, until stopped")
    command("deliver", deliver, "deliver events without FastAGI").add_argument(
        "--once", action="store_true", help="send what is due, then exit (for cron)")
    command("status", status, "show the waiting line, the requests of the last minute and the waiting events").add_argument(
        "--json", action="store_true", help="for programs")
    command("calls", show_calls, "show the last calls and the status of each event").add_argument(
        "-n", type=_count, default=20, metavar="COUNT", help="how many calls (20)")
    outbox = command("outbox", show_outbox, "show the events that wait or were set aside (refused), and why")
    what = outbox.add_mutually_exclusive_group()
    for name, text in (("--replay", "send a refused event again"),
                       ("--dismiss", "give up a refused event: it is never sent, and its alarm ends")):
        what.add_argument(name, metavar="EVENT", type=_event, default=argparse.SUPPRESS, help=text + "; its number, or 'all'")
    command("number", show_numbers, "show what Movidesk would get for a caller's number, and why ([numbers])").add_argument(
        "numbers", nargs="+", metavar="NUMBER", help="as the trunk sends it")
    command("check", check, "check configuration, journal and connections")
    commands.add_parser("simulate", help="run a simulator of Movidesk for tests (see simulate --help)")
    return parser


def _of_simulator(arguments: list[str]) -> list[str] | None:
    """The arguments after `simulate`, which has a parser of its own; None for another command. --config means nothing to it."""
    rest = arguments[2:] if arguments[:1] == ["--config"] else arguments
    if rest[:1] and rest[0].startswith("--config="):
        rest = rest[1:]
    return rest[1:] if rest[:1] == ["simulate"] else None


def _count(text: str) -> int:
    count = int(text)
    if count < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return count


def _event(text: str) -> int | None:
    if text == "all":
        return None
    if not text.isascii() or not text.isdigit():
        raise argparse.ArgumentTypeError(f"must be an event's number or 'all', not {text!r}")
    return int(text)


def _simulate(arguments: list[str]) -> int:
    try:
        from movidesk_sim.web import main as simulate
    except ImportError as error:
        print(f"movidesk: the simulator needs more packages ({error.name}): pip install 'movidesk-agi[sim]'",
              file=sys.stderr)
        return TROUBLE
    return simulate(arguments) or GOOD


def _start_log() -> None:
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")


def serve(options: argparse.Namespace, settings: config.Config) -> int:
    from movidesk.service import Service

    _start_log()
    Service(settings).run()
    return GOOD


def deliver(options: argparse.Namespace, settings: config.Config) -> int:
    from movidesk.housekeeping import Housekeeping, RestingDelivery, open_journal

    _start_log()
    settings.require()
    context = Context(settings)
    open_journal(context)
    if options.once:
        return _deliver_once(context)
    pull = wakeup.Trigger(wakeup.path_beside(context.journal.path))
    Housekeeping(context, pull.pull).start()
    RestingDelivery(context).run(pull, threading.Event())
    return GOOD


def _deliver_once(context: Context) -> int:
    """One run, for cron: deliver within the minute, then do housekeeping, which may last into the next run."""
    from movidesk.housekeeping import Housekeeping, RestingDelivery, at_work

    housekeeping = Housekeeping(context)
    with at_work(context.journal.path, once=True) as alone:
        if not alone:
            return _leave_it_to_the_other(context.journal.path)
        housekeeping.recover()
        good = RestingDelivery(context).once(ONCE_SECONDS, ROUND_SECONDS)
    housekeeping.once()
    return GOOD if good else TROUBLE


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


def status(options: argparse.Namespace, settings: config.Config) -> int:
    if options.json:
        messages.use_english()
    known = _facts(settings)
    print(json.dumps(known, indent=2) if options.json else _table(facts.rows(known, settings)))
    return TROUBLE if known["trouble"] else GOOD


def _facts(settings: config.Config) -> facts.Facts:
    """The facts for `status`; only the problems if the journal cannot be read and the standby replaces it."""
    try:
        settings.require("journal")
        return facts.read(settings, _open(settings))
    except journal.JournalError as error:
        if not standby_folder.in_use(settings):
            raise
        return facts.without_journal(settings, error)


def _open(settings: config.Config) -> journal.Journal:
    path = settings["journal", "path"]
    if not os.path.exists(path) and os.path.isdir(os.path.dirname(path)):
        print(f"movidesk: {path}: no journal yet; the first call, or movidesk serve, creates it", file=sys.stderr)
    return journal.Journal(path)


def show_calls(options: argparse.Namespace, settings: config.Config) -> int:
    settings.require("journal")
    book = _open(settings)
    rows = []
    for call in reversed(book.overview.last_calls(options.n)):
        events = book.calls.events(call)
        rows.append((alarms.local(call.arrived), call.call_id, call.queue, call.number, _agent(call, events), _state(call),
                     ", ".join(_outcome(event) for event in events)))
    headers = ("arrived", "call", "queue", "number", "ext", "state", "events")
    print(_table(rows, headers) if rows else "no calls yet")
    return GOOD


def _agent(call: journal.Call, events: list[journal.Event]) -> str:
    """The extension that has the call, had it or is being offered it; '' of a call that ended before an agent answered."""
    had = call.mode == call_states.MADE or any(event.kind in (call_states.TRANSFERRED, call_states.START_TRANSFERRED)
                                               for event in events)
    return call.extension if had or call.ended is None else ""


def _state(call: journal.Call) -> str:
    """The call's state; for a made call that failed also the reason, which is in its code."""
    return f"{call.state}: {call.code}" if call.mode == call_states.MADE and call.code else call.state


def _outcome(event: journal.Event) -> str:
    if event.status == journal.DELIVERED:
        return f"{event.kind} delivered"
    if event.status == journal.REFUSED:
        return f"{event.kind} REFUSED ({event.note})"
    if event.status == journal.DISMISSED:
        return f"{event.kind} dismissed ({event.note})"
    return f"{event.kind} pending{f' ({event.note})' if event.note else ''}"


def show_outbox(options: argparse.Namespace, settings: config.Config) -> int:
    settings.require("journal")
    book = _open(settings)
    if "replay" in options:
        return _settle(book, options.replay, book.outbox.replay, "event %d will be sent again")
    if "dismiss" in options:
        return _settle(book, options.dismiss, book.outbox.dismiss, "event %d is dismissed")
    rows = []
    for status_ in (journal.REFUSED, journal.PENDING):
        for event, call, _ in book.outbox.jobs(status_):
            again = "" if status_ == journal.REFUSED or event.due <= book.steady() else facts.span(event.due - book.steady())
            rows.append((event.id, alarms.local(event.at), call.call_id, event.kind, status_, event.attempts, again, event.note))
    headers = ("event", "at", "call", "kind", "status", "tries", "again in", "why")
    kept = emergency.waiting(settings)
    if rows or not kept:
        print(_table(rows, headers) if rows else "the outbox is empty: Movidesk has received all events")
    for path, since in kept:
        print(f"more events wait in {path} since {alarms.local(since)}: movidesk serve (or deliver) imports them")
    return TROUBLE if kept or any(row[4] == journal.REFUSED for row in rows) else GOOD


def _settle(book: journal.Journal, which: int | None, act: Callable[[int], bool], done: str) -> int:
    """Replay or dismiss (`act`) a refused event, or all of them (None)."""
    if which is not None:
        if not act(which):
            print(f"movidesk: no refused event has the number {which}", file=sys.stderr)
            return TROUBLE
        print(done % which)
    else:
        while refused := book.outbox.jobs(journal.REFUSED):
            for job in refused:
                act(job.event.id)
                print(done % job.event.id)
    wakeup.pull(wakeup.path_beside(book.path))
    return GOOD


def show_numbers(options: argparse.Namespace, settings: config.Config) -> int:
    from movidesk.delivery import numbers

    settings.require("numbers", form=False)
    rows = [(text, *numbers.convert(call_states.client_number(text), settings)) for text in options.numbers]
    print(_table(rows, ("number", "sent", "why")))
    wrong = numbers.problem(settings)
    if wrong:
        print(f"movidesk: {wrong}", file=sys.stderr)
    return TROUBLE if wrong else GOOD


def check(options: argparse.Namespace, settings: config.Config) -> int:
    from movidesk.checks import all_checks

    good = True
    for name, problem in all_checks(settings):
        good = good and not problem
        print(f"{'ok' if not problem else 'TROUBLE':<8} {name}{': ' + problem if problem else ''}")
    return GOOD if good else TROUBLE


def _table(rows: Sequence[tuple[object, ...]], headers: tuple[str, ...] = ()) -> str:
    """A table for a terminal. Control characters in texts from outside are replaced."""
    shown = [["".join(c if c.isprintable() else "?" for c in str(cell)) for cell in row] for row in rows]
    return tabulate(shown, headers, tablefmt="simple" if headers else "plain", disable_numparse=True)


if __name__ == "__main__":
    sys.exit(main())
