"""`make demo`: calls through a real Asterisk, with real SIP phones, against the simulator, told as they went.

Each scenario is a small function that plays one call and a line in SCENARIOS that says what ticket must come of it.
Exit status: 0 if every ticket is as it should be, else 1.
"""
from __future__ import annotations

import sys
import textwrap
import threading
import time
from collections.abc import Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Callable, NamedTuple

import requests
from tabulate import tabulate

from movidesk_rehearsal import demo_run
from movidesk_rehearsal.asterisk import AsteriskFailed
from movidesk_rehearsal.asterisk_tree import AsteriskTree
from movidesk_rehearsal.demo_run import Printer
from movidesk_rehearsal.phones import BUSY, RINGS, Agent, Behaviour, Caller, PhoneFailed, answers
from movidesk_rehearsal.rehearsal import QUEUE, NotInTime, Rehearsal, wait_for
from movidesk_rehearsal.timeline import MOVIDESK, Line, clock, tickets_of, timeline
from movidesk_sim.links import fetch
from movidesk_sim.model import CANCELED, LOST, MADE, RECEIVED, Ticket

AGENTS = ("5252", "5253")
NUMBER = "4733990777"  # which the sample leads to the Movidesk queue
LIMIT = 100            # requests a minute: the calls follow each other faster than in life
MESSAGE_SECONDS = 3
CALL_SECONDS = 30.0    # no call of the demo takes longer
KEPT_TALK = 20.0       # seconds until an agent hangs up who is called afterwards, from a page that is kept open
CLOCK_SLACK = 1.5      # seconds: the API's dates have whole seconds
ORIGINS = {RECEIVED: "received", MADE: "made", LOST: "lost", CANCELED: "abandoned"}
NAMES = {"5252": "Ana Souza", "5253": "Bruno Lima"}
MADE_TOKEN, AMI_SECRET = "a-secret-of-the-demo", "another-secret-of-the-demo"

# What the demo adds to the sample queue-control: 600 is an ordinary queue of Asterisk's, watched; 700 leaves messages in a
# voicemail box; 47... is the outside world, where agent 5253's phone stands for the customer's.
DIALPLAN = """
[from-trunk](+)
exten => 600,1,Gosub(movidesk-watch,s,1(77))
 same => n,Answer()
 same => n,Queue(sales)
 same => n,Hangup()
exten => 700,1,Set(MOVIDESK_VOICEMAIL=77@default)
 same => n,Goto(movidesk-queue,77,1)

[from-internal](+)
exten => _47!,1,Dial(PJSIP/5253,20)
"""
QUEUES = """
[general]
[sales]
strategy = linear
membergosub = movidesk-answered
member => PJSIP/5252
"""
VOICEMAIL = """
[general]
format = wav
minsecs = 1
maxsecs = 3
[default]
77 => 1234,The demo
"""


class Stage:
    """The rehearsal and its phones, on which a scenario plays."""

    def __init__(self, rehearsal: Rehearsal) -> None:
        self.rehearsal = rehearsal
        self.agents: dict[str, Agent] = {extension: Agent(rehearsal.pbx, extension, audio=True) for extension in AGENTS}

    def __enter__(self) -> Stage:
        for agent in self.agents.values():
            agent.start()
        return self

    def __exit__(self, *_exception) -> None:
        for agent in self.agents.values():
            agent.close()

    def set_up(self, **behaviours: Behaviour) -> None:
        """The group open, its agents free and in order; phones behave as given (`a5252=BUSY`)."""
        model = self.rehearsal.model
        model.in_call.clear()
        group = model.groups[QUEUE]
        group.opens, group.closes, group.last_offered = "00:00", "24:00", ""
        for name, behaviour in behaviours.items():
            self.agents[name[1:]].become(behaviour)

    def talk_elsewhere(self) -> None:
        """Every agent is in a call of which this PBX knows nothing."""
        self.rehearsal.model.in_call.update((extension, "a call elsewhere") for extension in AGENTS)

    def be_free(self) -> None:
        self.rehearsal.model.in_call.clear()

    def wait_asked(self, number: str) -> None:
        """Wait until Movidesk has heard of this caller."""
        wait_for(f"receivedCall for {number}", lambda: tickets_of(self.rehearsal, number))


# The scenarios: each is given the stage and a caller who has not called yet.

def answered(stage: Stage, caller: Caller) -> None:
    stage.set_up(a5252=answers(after=1, hang_up_after=3))
    caller.start().wait(CALL_SECONDS)


def waits_then_answered(stage: Stage, caller: Caller) -> None:
    stage.set_up(a5252=answers(after=1, hang_up_after=2))
    stage.talk_elsewhere()
    caller.start()
    stage.wait_asked(caller.number)
    stage.be_free()
    caller.wait(CALL_SECONDS)


def busy_then_next(stage: Stage, caller: Caller) -> None:
    stage.set_up(a5252=BUSY, a5253=answers(after=1, hang_up_after=2))
    caller.start().wait(CALL_SECONDS)


def outside_hours(stage: Stage, caller: Caller) -> None:
    stage.set_up()
    group = stage.rehearsal.model.groups[QUEUE]
    group.opens = group.closes = "00:00"
    caller.start().wait(CALL_SECONDS)


def abandoned_waiting(stage: Stage, caller: Caller) -> None:
    stage.set_up()
    stage.talk_elsewhere()
    caller.hang_up_after = 3
    caller.start().wait(CALL_SECONDS)


def abandoned_ringing(stage: Stage, caller: Caller) -> None:
    stage.set_up(a5252=RINGS)
    caller.hang_up_after = 3
    caller.start().wait(CALL_SECONDS)


def queue_answered(stage: Stage, caller: Caller) -> None:
    stage.set_up(a5252=answers(after=1, hang_up_after=2))
    caller.start().wait(CALL_SECONDS)


def queue_abandoned(stage: Stage, caller: Caller) -> None:
    stage.set_up(a5252=RINGS)
    caller.hang_up_after = 3
    caller.start().wait(CALL_SECONDS)


def voicemail(stage: Stage, caller: Caller) -> None:
    outside_hours(stage, caller)


def made_call(stage: Stage, caller: Caller) -> None:
    """Movidesk's button: the agent's phone rings first, then the customer's (5253 stands for it)."""
    stage.set_up(a5252=answers(after=0.5), a5253=answers(after=1, hang_up_after=2))
    caller.started_at = time.time()
    asked = requests.post(stage.rehearsal.simulator.home + "/page/call", timeout=CALL_SECONDS,
                          json={"extension": AGENTS[0], "number": caller.number})
    if not asked.json().get("call_id"):
        raise NotInTime(f"the made call was answered: {asked.text}")


@dataclass(frozen=True)
class Expected:
    """The ticket that must come of a call. `recording`: how the linked file's name ends, empty for no link."""

    origin: int
    state: str
    requests: tuple[str, ...]
    agent: str = ""
    recording: str = ""


class Scenario(NamedTuple):
    """`to`: the extension that the caller dials (see the sample, and DIALPLAN)."""

    title: str
    play: Callable[[Stage, Caller], None]
    expected: Expected
    to: str = NUMBER


ANSWERED = ("receivedCall", "transferedCall", "completedCall")

SCENARIOS = (
    Scenario("An agent answers, and the talk is recorded", answered,
             Expected(RECEIVED, "completed", ANSWERED, agent="5252", recording=".wav")),
    Scenario("All agents are in a call: the caller waits, then one answers", waits_then_answered,
             Expected(RECEIVED, "completed", ("receivedCall",) + ANSWERED, agent="5252", recording=".wav")),
    Scenario("The offered agent is busy: the next one answers", busy_then_next,
             Expected(RECEIVED, "completed", ("receivedCall",) + ANSWERED, agent="5253", recording=".wav")),
    Scenario("Outside business hours: the caller leaves a message", outside_hours,
             Expected(LOST, "lost", ("receivedCall", "lostCall"), recording="-message.wav")),
    Scenario("The caller gives up while waiting", abandoned_waiting,
             Expected(CANCELED, "canceled", ("receivedCall", "canceledCall"))),
    Scenario("The caller gives up while the agent's phone rings", abandoned_ringing,
             Expected(CANCELED, "canceled", ("receivedCall", "canceledCall"))),
    Scenario("Asterisk's own Queue() decides: an agent answers", queue_answered,
             Expected(RECEIVED, "completed", ("startTransferedCall", "completedCall"), agent="5252", recording=".wav"),
             to="600"),
    Scenario("Asterisk's own Queue(): the caller gives up", queue_abandoned,
             Expected(CANCELED, "canceled", ("startCanceledCall",)), to="600"),
    Scenario("Outside business hours: the caller leaves a message in a voicemail box", voicemail,
             Expected(LOST, "lost", ("receivedCall", "lostCall"), recording="-message.wav"), to="700"),
    Scenario("An agent clicks on a number in Movidesk: the PBX calls both", made_call,
             Expected(MADE, "made", ("setMadeCallLink",), agent="5252", recording=".wav")),
)


class Played(NamedTuple):
    """A call that was played: its ticket (None: there is none) and what is wrong, nothing if all is well."""

    title: str
    ticket: Ticket | None
    faults: list[str]


def play(stage: Stage, scenario: Scenario, number: str, show: Callable[[Sequence[Line]], None]) -> Played:
    """Play one call, show its timeline, judge its ticket."""
    rehearsal = stage.rehearsal
    faults: list[str] = []
    problems = len(rehearsal.model.problems)
    with closing(Caller(rehearsal.pbx, scenario.to, number)) as caller:
        try:
            scenario.play(stage, caller)
            wait_for("a complete ticket", lambda: any(ticket.complete for ticket in tickets_of(rehearsal, number)))
            rehearsal.pbx.wait_idle()
        except (PhoneFailed, NotInTime, AsteriskFailed) as error:
            faults.append(str(error))
        show(timeline(rehearsal, caller, stage.agents.values()))
        started = caller.started_at
    tickets = tickets_of(rehearsal, number)
    faults += [problem["text"] for problem in rehearsal.model.problems[problems:]]
    if len(tickets) != 1:
        return Played(scenario.title, None, faults + [f"{len(tickets)} tickets instead of one"])
    faults += judge(rehearsal, tickets[0], scenario.expected, (started, time.time()))
    return Played(scenario.title, tickets[0], faults)


def judge(rehearsal: Rehearsal, ticket: Ticket, expected: Expected, span: tuple[float, float]) -> list[str]:
    """What is wrong with the ticket of a call that took place within `span` (epoch seconds)."""
    compared = (
        ("origin", ticket.origin, expected.origin),
        ("state", ticket.state, expected.state),
        ("agent", ticket.agent, expected.agent),
        ("recordings", list(map(file_of, ticket.links)), [ticket.id + expected.recording] if expected.recording else []),
        ("requests", tuple(rehearsal.requests(ticket.id)), expected.requests),
    )
    faults = [f"{name} is {is_!r}, not {should!r}" for name, is_, should in compared if is_ != should]
    for name, date in ticket.dates.items():
        at = datetime.fromisoformat(date).replace(tzinfo=timezone.utc).timestamp()
        if not span[0] - CLOCK_SLACK <= at <= span[1] + CLOCK_SLACK:
            faults.append(f"{name} is {date}, which was not during the call (in UTC)")
    recording = rehearsal.pbx.spool_dir / "monitor" / f"{ticket.id}{expected.recording}"
    if expected.recording and not (recording.exists() and recording.stat().st_size > 8000):
        faults.append(f"{recording} does not hold half a second of sound")
    faults += [f"{link} cannot be played: {look}" for link in ticket.links for look in [fetch(link)] if look.fault]
    return faults


def file_of(link: str) -> str:
    return link.partition("?")[0].rpartition("/")[2]


def show_lines(printer: Printer, lines: Sequence[Line]) -> None:
    """The timeline of a call."""
    for line in lines:
        who = f"{line.who:<10}"
        arrow = "=>" if line.who == MOVIDESK else "  "
        text = f"  {clock(line.at)}  {arrow} {who}  {line.what}"
        wrapped = textwrap.fill(text, 118, subsequent_indent=" " * 31, break_long_words=False, break_on_hyphens=False)
        printer.say(printer.paint(wrapped, "36") if line.who == MOVIDESK else wrapped)


def introduce(printer: Printer, rehearsal: Rehearsal) -> None:
    printer.title("movidesk-agi: a rehearsal")
    printer.say(textwrap.dedent(f"""\
        Asterisk {rehearsal.pbx.tree.version} runs the PBX of dialplan/samples/queue-control/, on this machine only.
        SIP phones (sipp) are the callers and the agents {' and '.join(AGENTS)}. A simulator is Movidesk; its queue is {QUEUE}.
        It takes {LIMIT} requests a minute here, so that the calls can follow each other at once; the real one takes 10.
        Lines with => are what Movidesk heard; each request also carries the token and the call's id.
        Times are local, dates in requests are UTC.
        What Movidesk's people see, as it happens: {rehearsal.simulator.home}/
        What the supervisor sees, on the panel:    http://{rehearsal.panel}/
        """))


def conclude(printer: Printer, rehearsal: Rehearsal, played: Sequence[Played], seconds: float) -> bool:
    """The tickets and a verdict for each; True where all are as they should be."""
    printer.title("The tickets in Movidesk")
    printer.say(tabulate([ticket_row(number, each.ticket) for number, each in enumerate(played, 1)],
                         ("call", "id", "origin", "number", "agent", "state", "recording"), disable_numparse=True))
    printer.say()
    for number, each in enumerate(played, 1):
        printer.verdict(each.faults, f"{number}. {each.title}")
    printer.say()
    printer.title("The same calls as this PBX saw them: movidesk calls")
    printer.say(rehearsal.cli("calls").stdout)
    wrong = sum(bool(each.faults) for each in played)
    result = f"{wrong} of {len(played)} tickets are wrong"
    if not wrong:
        result = f"All {len(played)} tickets are as they should be"
    printer.title(f"{result} ({seconds:.0f} s).")
    return not wrong


def say_what_next(printer: Printer, rehearsal: Rehearsal, keep: bool) -> None:
    """Where to look. Once all has ended, status and check would find nothing but that."""
    commands = "status, check, calls, outbox, metrics" if keep else "calls --id 2, report --callers"
    printer.say(textwrap.dedent(f"""\
        What to look at next, in {rehearsal.folder} (delete it when you are done):
          pbx/log/full  Asterisk's log      pbx/spool/monitor/  recordings and messages
          service.log   the service's log   movidesk.conf       configuration
        The report of these calls ({commands} work the same way):
          {Path(sys.executable).parent / 'movidesk'} --config {rehearsal.config_path} report
        To install on a PBX: docs/install.md"""))
    if not keep:
        printer.say("The page of Movidesk's people and the supervisor's panel are closed; make demo KEEP=1 keeps them open.")


def hold(printer: Printer, stage: Stage) -> None:
    """Everything stays open until Ctrl-C: pages, recordings, the phones of the agents, who answer by themselves."""
    stage.set_up(a5252=answers(after=3, hang_up_after=KEPT_TALK), a5253=answers(after=3, hang_up_after=KEPT_TALK))
    printer.say()
    printer.title("Open until Ctrl-C, with these calls in them:")
    printer.say(f"  {stage.rehearsal.simulator.home}/  what Movidesk's people see: switches, tickets, recordings")
    printer.say(f"  http://{stage.rehearsal.panel}/  the supervisor's panel")
    with suppress(KeyboardInterrupt):
        threading.Event().wait()


def ticket_row(number: int, ticket: Ticket | None) -> tuple[str, ...]:
    if ticket is None:
        return (str(number), "none", "", "", "", "", "")
    files = ", ".join(map(file_of, ticket.links))
    return (str(number), ticket.id, f"{ticket.origin} {ORIGINS[ticket.origin]}", ticket.number, ticket.agent,
            ticket.state, files)


def summary(ticket: Ticket | None) -> str:
    if ticket is None:
        return "no ticket"
    agent = f", agent {ticket.agent}" if ticket.agent else ""
    state = f", {ticket.state}" if ticket.origin == RECEIVED else ""
    return f"ticket {ticket.id}: {ORIGINS[ticket.origin]}{agent}{state}{', with its recording' * bool(ticket.links)}"


def perform(printer: Printer, rehearsal: Rehearsal, keep: bool) -> bool:
    """Play it all; True where all tickets are as they should be. keep: stay open until Ctrl-C."""
    introduce(printer, rehearsal)
    begun, played = time.monotonic(), []
    with Stage(rehearsal) as stage:
        for count, scenario in enumerate(SCENARIOS, 1):
            printer.title(f"{count}. {scenario.title}")
            played.append(play(stage, scenario, f"47339900{count:02}", lambda lines: show_lines(printer, lines)))
            printer.verdict(played[-1].faults, summary(played[-1].ticket))
            printer.say()
        good = conclude(printer, rehearsal, played, time.monotonic() - begun)
        say_what_next(printer, rehearsal, keep)
        if keep:
            hold(printer, stage)
    return good


def prepare(tree: AsteriskTree, folder: str) -> Rehearsal:
    """The sample queue-control with all that the scenarios need, and the panel."""
    variables = {"MOVIDESK_RECORD": "yes", "MOVIDESK_MESSAGE_MAX": str(MESSAGE_SECONDS)}
    rehearsal = Rehearsal(tree, folder, agents=AGENTS, limit=LIMIT, variables=variables, more=DIALPLAN,
                          manager={"movidesk": AMI_SECRET})
    rehearsal.pbx.write("queues.conf", QUEUES)
    rehearsal.pbx.write("voicemail.conf", VOICEMAIL)
    rehearsal.publish_recordings()
    rehearsal.show_panel({QUEUE: "Support"}, NAMES)
    rehearsal.simulator.call_url = rehearsal.allow_made_calls(MADE_TOKEN, "movidesk", AMI_SECRET)
    for extension, name in NAMES.items():
        rehearsal.model.agents[extension].name = name
    return rehearsal


def main(arguments: Sequence[str] | None = None) -> int:
    parser = demo_run.parser("movidesk_rehearsal.demo", __doc__ or "")
    parser.add_argument("--keep", action="store_true", help="keep the pages open afterwards, until Ctrl-C")
    options = parser.parse_args(arguments)

    def play_all(printer: Printer, tree: AsteriskTree, folder: str) -> bool:
        with prepare(tree, folder) as rehearsal:
            return perform(printer, rehearsal, options.keep)

    return demo_run.run(options, "sipp and Asterisk", "movidesk-demo-", play_all)


if __name__ == "__main__":
    sys.exit(main())
