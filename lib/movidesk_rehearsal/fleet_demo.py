"""`make demo FLEET=2`: several Asterisks, one Redis, one Movidesk; callers call each PBX in turn and are served in order.

Exit status: 0 if every ticket is as it should be, nobody was overtaken and Movidesk never answered 429, else 1.
"""
from __future__ import annotations

import sys
import textwrap
import time
from collections.abc import Sequence
from contextlib import ExitStack
from typing import NamedTuple

from tabulate import tabulate

from movidesk_rehearsal import demo_run
from movidesk_rehearsal.asterisk_tree import AsteriskTree
from movidesk_rehearsal.demo_run import Printer
from movidesk_rehearsal.fleet import Fleet
from movidesk_rehearsal.phones import Agent, Caller, answers
from movidesk_rehearsal.rehearsal import wait_for
from movidesk_rehearsal.timeline import MOVIDESK, clock, tickets_of, timeline
from movidesk_sim.model import Ticket

AGENTS = ("5252", "5253")
NUMBER = "4733990777"  # which the sample leads to the Movidesk queue
ROUNDS = 3             # callers at each PBX
BETWEEN = 1.0          # seconds between two callers
TALK = 4.0
CALL_SECONDS = 150.0   # no call of the demo takes longer
ANSWERED = ("receivedCall", "transferedCall", "completedCall")


class Call(NamedTuple):
    """A caller of the demo, and the number of its PBX from 0."""

    pbx: int
    caller: Caller


class Moment(NamedTuple):
    """A line of the one timeline."""

    at: float
    pbx: str
    number: str
    who: str
    what: str


def play(fleet: Fleet, opened: ExitStack, printer: Printer) -> list[Call]:
    """The phones on, a caller at each PBX in turn; returns when all have been served."""
    for pbx in fleet.pbxs:
        for extension in AGENTS:  # the phone is on the agent's desk, and each PBX reaches it
            opened.enter_context(Agent(pbx.pbx, extension, answers(after=0.5, hang_up_after=TALK)))
    calls = []
    for count in range(ROUNDS * len(fleet.pbxs)):
        place = count % len(fleet.pbxs)
        caller = Caller(fleet.pbxs[place].pbx, NUMBER, f"4733990{count + 1:03}", audio=False)
        opened.enter_context(caller)
        calls.append(Call(place, caller))
        printer.say(f"  {clock(caller.started_at)}  {caller.number} calls at {fleet.pbxs[place].name}")
        time.sleep(BETWEEN)
    printer.say()
    printer.say("They wait ...")
    for call in calls:
        call.caller.wait(CALL_SECONDS)
    wait_for("complete tickets", lambda: all(ticket.complete for ticket in fleet.pbxs[0].tickets()), CALL_SECONDS)
    return calls


def moments(fleet: Fleet, calls: Sequence[Call]) -> list[Moment]:
    """What all PBXs, phones and Movidesk saw of all calls, in one order."""
    found = []
    for place, caller in calls:
        pbx = fleet.pbxs[place]
        found += [Moment(line.at, pbx.name, caller.number, line.who, line.what) for line in timeline(pbx, caller, ())]
    return sorted(found)


def offers(fleet: Fleet) -> list[str]:
    """The callers in the order in which Movidesk named an agent for them."""
    found = [entry["params"]["clientNumber"] for entry in fleet.model.log
             if entry["endpoint"] == "asterisk_receivedCall" and entry["answer"].strip('"') in AGENTS]
    return list(dict.fromkeys(found))


def judge(fleet: Fleet, calls: Sequence[Call]) -> list[str]:
    """What is wrong, over all calls."""
    numbers = [caller.number for _, caller in calls]
    faults = [problem["text"] for problem in fleet.model.problems]
    if offers(fleet) != numbers:
        faults.append(f"agents were named in the order {', '.join(offers(fleet))}")
    refused = sum(entry["status"] == 429 for entry in fleet.model.log)
    if refused:
        faults.append(f"Movidesk answered {refused} times 429")
    for number in numbers:
        tickets = tickets_of(fleet.pbxs[0], number)
        if [ticket.state for ticket in tickets] != ["completed"]:
            faults.append(f"{number}: {[ticket.state for ticket in tickets]} instead of one completed ticket")
    return faults


def introduce(printer: Printer, fleet: Fleet, version: str) -> None:
    printer.title(f"movidesk-agi: {len(fleet.pbxs)} PBXs, one account")
    printer.say(textwrap.dedent(f"""\
        {len(fleet.pbxs)} Asterisks {version}, each with its own service and journal, a Redis and a simulator of Movidesk, on this
        machine only. SIP phones (sipp) are the callers, and the agents {' and '.join(AGENTS)}, whom each PBX can ring.
        Movidesk takes {fleet.model.limit.requests} requests a minute of all PBXs together; the real one takes 10.
        The Redis is new: nobody knows what was sent in the minute before, so nothing is sent for a minute. The callers wait,
        in the order in which they came.
        """))


def tell(printer: Printer, found: Sequence[Moment]) -> None:
    """The timeline. Lines with => are what Movidesk heard."""
    printer.title("What happened")
    for moment in found:
        arrow = "=>" if moment.who == MOVIDESK else "  "
        text = f"  {clock(moment.at)}  {moment.pbx}  {moment.number}  {arrow} {moment.who:<8}  {moment.what}"
        wrapped = textwrap.fill(text, 130, subsequent_indent=" " * 49, break_long_words=False, break_on_hyphens=False)
        printer.say(printer.paint(wrapped, "36") if moment.who == MOVIDESK else wrapped)
    printer.say()


def conclude(printer: Printer, fleet: Fleet, calls: Sequence[Call], seconds: float) -> bool:
    """The tickets, the status and the verdict; True where all is as it should be."""
    printer.title("The tickets in Movidesk")
    named = offers(fleet)
    rows = []
    for count, (place, caller) in enumerate(calls, 1):
        ticket: Ticket = tickets_of(fleet.pbxs[0], caller.number)[0]
        turn = named.index(caller.number) + 1 if caller.number in named else ""
        rows.append((str(count), fleet.pbxs[place].name, str(turn), ticket.id, ticket.number, ticket.agent, ticket.state))
    printer.say(tabulate(rows, ("came", "at", "served", "id", "number", "agent", "state"), disable_numparse=True))
    printer.say()
    printer.title("movidesk status --fleet")
    printer.say(fleet.pbxs[0].cli("status", "--fleet").stdout)
    faults = judge(fleet, calls)
    printer.verdict(faults, f"{len(calls)} callers at {len(fleet.pbxs)} PBXs, served in the order in which they came, no 429 "
                            f"({seconds:.0f} s)")
    printer.say(f"Logs, configuration and journals are in {fleet.folder} (delete it when you are done). How to: docs/fleet.md")
    return not faults


def main(arguments: Sequence[str] | None = None) -> int:
    parser = demo_run.parser("movidesk_rehearsal.fleet_demo", __doc__ or "")
    parser.add_argument("--pbxs", type=int, default=2, choices=range(2, 6), metavar="2..5", help="how many PBXs")
    options = parser.parse_args(arguments)
    begun = time.monotonic()

    def perform(printer: Printer, tree: AsteriskTree, folder: str) -> bool:
        with Fleet(tree, folder, pbxs=options.pbxs, agents=AGENTS, limit=30, variables={"MOVIDESK_ANNOUNCE": "0"}) as fleet:
            introduce(printer, fleet, tree.version)
            with ExitStack() as opened:
                calls = play(fleet, opened, printer)
                tell(printer, moments(fleet, calls))
                return conclude(printer, fleet, calls, time.monotonic() - begun)

    return demo_run.run(options, "sipp, Redis and Asterisk", "movidesk-fleet-", perform)


if __name__ == "__main__":
    sys.exit(main())
