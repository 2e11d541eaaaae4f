"""SIP phones on a real Asterisk for bench/faults.py: an office with queues, and what its phones saw. `_scenes.py` plays in it."""
from __future__ import annotations

import os
import queue
import random
import threading
import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import _chaos
import _scenes
import _stage
from _judge import Story
from movidesk_rehearsal import asterisk_config
from movidesk_rehearsal.phones import Agent, Caller, PhoneFailed, answers, rejects
from movidesk_rehearsal.rehearsal import QUEUE, Rehearsal

SALES, WATCHED = 78, 90
#: The agents' phones: 5253 belongs to two groups, 5255 is always busy.
AGENTS = {"5252": answers(0.1), "5253": answers(0.5), "5254": answers(0.8), "5255": rejects(486), "5256": answers(0.1),
          "5257": answers(0.4), "5258": answers(0.2), "5259": answers(1.0)}
GROUPS = {QUEUE: ["5252", "5253", "5254", "5255", "5258", "5259"], SALES: ["5256", "5257", "5253"], WATCHED: ["5262", "5263"]}
MEMBERS = {"5262": answers(0.1), "5263": answers(0.3)}     # whom Asterisk's own Dial() rings
COLLEAGUES = {"5264": answers(0.05), "5265": answers(0.2)}  # no agents: callers are passed on to them
STALE, NOTICE = 4.0, 3.0  # seconds after which a frozen service is known to be, and for which callers may notice it then
DESKS = 3  # receptionists 5270.., each with a queue 80.. of one agent 5280..

#: The caller's name is who a phone of the office claims to be, so that each call is told apart. `601`: a phone's own call.
DIALPLAN = """
[from-trunk](+)
exten => watched,1,Gosub(movidesk-watch,s,1(90))
 same => n,Dial(PJSIP/5262&PJSIP/5263,20,tgU(movidesk-answered))
 same => n,Hangup()
exten => _527X,1,Dial(PJSIP/${EXTEN},20)

[from-internal](+)
exten => _7[78],1,Goto(queue,${EXTEN},1)
exten => _8X,1,Goto(queue,${EXTEN},1)
exten => 601,1,Answer()
 same => n,Wait(60)

[queue]
exten => _XX,1,ExecIf($["${CALLERID(name):0:2}" = "48"]?Set(CALLERID(num)=${CALLERID(name)}))
 same => n,Goto(movidesk-queue,${EXTEN},1)
"""


@dataclass
class Leg:
    """A call as one phone of the office saw it: epoch seconds, 0.0 where it did not come to that."""

    phone: Agent
    call_id: str
    number: str  # of who called
    invited: float
    answered: float = 0.0
    ended: float = 0.0
    referred: bool = False


@dataclass
class Desk:
    """A receptionist's phone, and the queue into which it passes callers, whose one agent the scene steers."""

    phone: Agent
    agent: Agent
    queue: int


class PhoneCallers:
    """SIP phones on a real Asterisk, which is killed, too. Each call is one scene (`_scenes.py`)."""

    clock_jumps = False  # Asterisk's clock and the scripts' are one
    at_once = 8
    call_is_over = 15.0  # seconds since Asterisk was killed after which no trouble is excused by that

    def __init__(self, folder: Path, seed: int, counts: Counter):
        self.counts = counts
        self.stories: list[Story] = []
        self.settings = {"line": ["ask_every = 1", "ask_at_least_every = 1"]}
        self.agents = GROUPS[QUEUE]
        self._seed = seed
        self._up, self.killed_at, self._kills = threading.Event(), 0.0, []
        self._legs: dict[str, dict[str, Leg]] = {}
        self._read: dict[str, int] = {}
        self._lock = threading.Lock()
        self._busy: list[tuple[str, float, float]] = []  # extension, from, until: calls that the phone made itself
        self._signs: list[tuple[float, float]] = []      # when a call began, and its caller's first sign that it goes on
        self.desks: queue.Queue[Desk] = queue.Queue()

    def open(self, rehearsal: Rehearsal) -> None:
        self.rehearsal, self.pbx = rehearsal, rehearsal.pbx
        for number, extensions in GROUPS.items():
            rehearsal.model.add_group(number, extensions)
        steered = [f"528{i}" for i in range(DESKS)]
        desks = [f"527{i}" for i in range(DESKS)]
        for i, extension in enumerate(steered):
            rehearsal.model.add_group(80 + i, [extension])
        behaviours = {**AGENTS, **MEMBERS, **COLLEAGUES,
                      **dict.fromkeys(desks, answers(0.05)), **dict.fromkeys(steered, answers(0.6))}
        self.pbx.agents = tuple(behaviours)
        self.pbx.use_pjsip(asterisk_config.pjsip_conf(self.pbx.agents, "from-trunk", "from-internal"))
        rehearsal.more = DIALPLAN
        rehearsal.variables.update(MOVIDESK_ANNOUNCE="0", MOVIDESK_MAX_WAIT="60", MOVIDESK_RECORD="no")
        rehearsal.write_dialplan()
        self.pbx.start()
        self.phones = {extension: Agent(self.pbx, extension, behaviour).start() for extension, behaviour in behaviours.items()}
        for i in range(DESKS):
            self.desks.put(Desk(self.phones[desks[i]], self.phones[steered[i]], 80 + i))
        self._up.set()

    def close(self) -> None:
        for phone in self.phones.values():
            phone.cut_off()
        self.look()
        self._count_what_rang_in_vain()
        self._count_what_waited_for_the_frozen()
        for phone in self.phones.values():
            phone.close()
        self.pbx.close()

    def breakers(self, chaos: _chaos.Chaos) -> list:
        self.chaos = chaos

        def kill_scripts() -> None:
            """While the service is away, so that scripts run."""
            with chaos.disturbing():
                chaos.rehearsal.stop_service(kill=True)
                end = time.monotonic() + 2.0
                while time.monotonic() < end:
                    chaos.counts["scripts killed -9"] += _kill_children(self.pbx.pid, "/movidesk/", chaos.draw)
                    time.sleep(0.01)
            chaos.rehearsal.start_service()

        def kill_asterisk() -> None:
            chaos.counts["Asterisk killed -9"] += 1
            self._up.clear()
            self.killed_at = time.time()
            self._kills.append(self.killed_at)
            self.pbx.restart(kill=True)
            for phone in self.phones.values():
                phone.register()
            self._up.set()

        return [kill_scripts] * 3 + [kill_asterisk] * 2

    # One call

    def call(self, number: int) -> None:
        """One scene of the office, drawn by the call's number."""
        draw = random.Random(self._seed * 1_000_000 + number)
        kind, scene = draw.choices(list(_scenes.SCENES.items()), [weight for weight, _ in _scenes.SCENES.values()])[0]
        self._up.wait()
        story = Story({f"47{number:08d}"})
        began, killed_at = time.time(), self.killed_at
        try:
            scene[1](_stage.Stage(self, story, draw, killed_at))
        except PhoneFailed as error:
            # Asterisk was killed between two words of a call: its phone may have tried again with the next Asterisk.
            story.blurred = True
            if self.killed_at < began - self.call_is_over:
                self.counts["WRONG: a phone failed in a scene"] += 1
                print(f"{kind} of {story}: {error}")
            else:
                self.counts["calls blurred by the death of Asterisk"] += 1
        self.counts["scene: " + kind] += 1
        if self.killed_at != killed_at:
            self.counts["calls that died with Asterisk"] += 1
        if story.visits or story.blurred:
            with self._lock:
                self.stories.append(story)

    @contextmanager
    def calling(self, to: str, number: str, name: str = ""):
        """A call on its way; whoever makes it leaves at the end."""
        caller = Caller(self.pbx, to, number, name=name, audio=False)
        try:
            try:
                caller.start()
            except PhoneFailed:
                if caller.events():
                    raise
                caller.start()  # another phone had taken its RTP port first
            yield caller
        finally:
            caller.cut_off()
            signs = [event.at for event in caller.events() if event.name in ("ringing", "answered")]
            self._signs += [(caller.started_at, min(signs))] if signs else []
            caller.close()

    @staticmethod
    def phones_of(queue: int) -> set[str]:
        """The phones that a queue rings."""
        return set(GROUPS.get(queue, [f"52{queue}"]))

    def in_own_call(self, extension: str, begin: float, end: float) -> None:
        with self._lock:
            self._busy.append((extension, begin, end))

    # What the phones saw

    def look(self) -> None:
        """Take in what the phones have logged since the last look."""
        with self._lock:
            for extension, phone in self.phones.items():
                events = phone.events()
                for event in events[self._read.get(extension, 0):]:
                    self._note(phone, event)
                self._read[extension] = len(events)

    def _note(self, phone: Agent, event) -> None:
        legs = self._legs.setdefault(phone.extension, {})
        if event.name == "invited":
            legs.setdefault(event.call_id, Leg(phone, event.call_id, event.detail.replace("sip:", ""), event.at))
        leg = legs.get(event.call_id)
        if leg is None:
            return  # an order of ours for a call of another phone
        if event.name == "answered":
            leg.answered = leg.answered or event.at
        leg.referred |= event.name == "referred"
        if event.name in ("ended", "cancelled", "rejected", "failed"):
            leg.ended = leg.ended or event.at

    def legs(self, numbers: set[str], since: float = 0.0, extensions=None) -> list[Leg]:
        """The calls of these callers that reached a phone, in order of their answers; unanswered ones last."""
        self.look()
        with self._lock:
            found = [leg for extension, legs in self._legs.items() if extensions is None or extension in extensions
                     for leg in legs.values() if leg.number in numbers and leg.invited >= since]
        return sorted(found, key=lambda leg: leg.answered or float("inf"))

    def _count_what_rang_in_vain(self) -> None:
        """Phones of agents that a queue rang though they were in a call, made or taken."""
        for extension in AGENTS:
            legs = list(self._legs.get(extension, {}).values())
            # A call that dies with Asterisk has no end for its phone.
            taken = [(leg.answered, min([leg.ended or leg.answered, *(at for at in self._kills if at > leg.answered)]))
                     for leg in legs if leg.answered]
            made = [(begin, end) for phone, begin, end in self._busy if phone == extension]
            for leg in legs:
                for kind, spans in (("talking to another caller", taken), ("in a call of their own", made)):
                    meanwhile = [span for span in spans if span[0] + _stage.CLOSE < leg.invited < span[1] - _stage.CLOSE]
                    self.counts["WRONG: rung while " + kind] += bool(meanwhile)
                    for begin, end in meanwhile:
                        print(f"{extension} was rung at {leg.invited:.2f} for {leg.number} while {kind}, from {begin:.2f} to "
                              f"{end:.2f}")


    def _count_what_waited_for_the_frozen(self) -> None:
        """Callers who came when the service was frozen for a while already must not wait for it."""
        waits = [sign - began for begin, end in self.chaos.frozen for began, sign in self._signs if begin + STALE < began < end]
        if waits:
            self.counts[f"calls begun beside a service frozen for {STALE:g} s"] += len(waits)
            self.counts[f"WRONG: more than {NOTICE:g} s silent beside a frozen service"] += sum(wait > NOTICE for wait in waits)


def _kill_children(parent: int | None, holding: str, draw: random.Random) -> int:
    """kill -9 half of the children of a process whose command line holds a text; how many."""
    killed = 0
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if int((process / "stat").read_text().rpartition(")")[2].split()[1]) != parent:
                continue
            if holding in (process / "cmdline").read_text() and draw.random() < 0.5:
                os.kill(int(process.name), 9)
                killed += 1
        except (OSError, ProcessLookupError):
            continue  # it has ended
    return killed
