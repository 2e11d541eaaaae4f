"""What judges after bench/faults.py: what Movidesk has, beside what the callers and the phones saw.

At least once means that Movidesk may hear a request again, or hear a question after its call has gone on. Each such repetition
must have its reason in what was broken at that moment; one without a reason counts as wrong.
"""
from __future__ import annotations

import re
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from movidesk_rehearsal.rehearsal import Rehearsal
from movidesk_sim.model import EXAMPLE_TOKEN, Ticket

ORDER = {"receivedCall": 0, "transferedCall": 1, "startTransferedCall": 1,
         "completedCall": 2, "canceledCall": 2, "lostCall": 2, "startCanceledCall": 2}
WRONG = ("lost", "with two endings", "with a wrong ending", "with a wrong agent", "with a wrong number",
         "two tickets of one visit", "out of order", "that nobody made", "told in a wrong form", "repeated without a reason")
#: Legitimate: the sender cannot know that its request was taken, and the API has no other way than to send it again.
REPEATED = "repeated, because its answer was spoiled or its sender disturbed"
#: Legitimate: whoever asked had given up (timeout) or was killed; the question was on its way already when the call went on.
OVERTAKEN = "questions overtaken by the call they were asked for"
AFTERMATH = 5.0  # seconds after a request in which a disturbance can still keep its sender from noting the answer
#: Any of these in a file, an output or a process list is a leak.
TOKEN_PARTS = [part.encode() for part in (EXAMPLE_TOKEN[:8], EXAMPLE_TOKEN[-12:])]


@dataclass
class Visit:
    """One caller's time in one queue. endings and agents: those that are true of it ('' = no agent had the call)."""

    queue: int
    endings: set[str] = field(default_factory=lambda: {"canceled"})
    agents: set[str] = field(default_factory=lambda: {""})
    certain: bool = True  # False where it may have been too short to be noticed before Asterisk was killed
    call_id: str = ""     # '' where only Asterisk knows it


@dataclass
class Story:
    """What one caller did, in order. numbers: under which its tickets may be. blurred: Asterisk died in the middle of a step."""

    numbers: set[str]
    visits: list[Visit] = field(default_factory=list)
    blurred: bool = False


class Witness:
    """Stands beside the simulator: when each request began, what was done to it, and what the simulator complained of."""

    def __init__(self, rehearsal: Rehearsal):
        self.disturbed: list[tuple[float, float]] = []  # when senders were killed, frozen, or could not note an answer
        self.complaints: list[tuple[str, float]] = []   # the text, and when the request began
        self.accepted: list[dict] = []
        self._now = threading.local()
        model, faults = rehearsal.model, rehearsal.simulator.faults
        self._take, self._record, self._problem = faults.take, model.record, model.problem
        faults.take, model.record, model.problem = self.take, self.record, self.problem

    def take(self, endpoint):
        self._now.begun = time.time()
        self._now.fault = self._take(endpoint)
        return self._now.fault

    def record(self, method, endpoint, params, answer) -> None:
        self._record(method, endpoint, params, answer)
        if answer.status == 200:
            facts = {name: value for name, value in params.items() if name != "token"}
            self.accepted.append({"what": (method, endpoint, *sorted(facts.items())), "id": facts.get("id", ""),
                                  "name": endpoint.replace("asterisk_", ""), "at": time.time(), "begun": self._now.begun,
                                  "spoiled": self._now.fault is not None})

    def problem(self, text: str) -> None:
        self._problem(text)
        self.complaints.append((text, self._now.begun))

    def excuses(self, first: dict, again: dict) -> bool:
        """Whether the sender may not have known of the first when it sent it again."""
        return first["spoiled"] or any(begin <= first["at"] + AFTERMATH and end >= first["begun"]
                                       for begin, end in self.disturbed if begin <= again["begun"])


def judge(rehearsal: Rehearsal, witness: Witness, stories: list[Story]) -> Counter:
    """What Movidesk has, beside what is true; says what is wrong, and counts it."""
    found: Counter[str] = Counter(calls=sum(len(story.visits) for story in stories), **dict.fromkeys(WRONG, 0))
    found.update({REPEATED: 0, OVERTAKEN: 0})
    tickets: dict[str, list[Ticket]] = {}
    for ticket in rehearsal.tickets():
        tickets.setdefault(ticket.number, []).append(ticket)
    for story in stories:
        mine = [ticket for number in story.numbers for ticket in tickets.pop(number, ())]
        for wrong in _compare(story, mine):
            found[wrong] += 1
            print(f"{'/'.join(sorted(story.numbers))}: {wrong}; true: {story}; told: {[t.to_json() for t in mine]}")
    for number, strange in tickets.items():
        found["that nobody made"] += len(strange)
        print(f"nobody called from {number}: {[ticket.to_json() for ticket in strange]}")
    _judge_requests(rehearsal, witness, found)
    return found


def _compare(story: Story, tickets: list[Ticket]):
    """What is wrong with a story's tickets."""
    if story.blurred:
        return
    for queue in {visit.queue for visit in story.visits} | {ticket.queue for ticket in tickets}:
        visits = [visit for visit in story.visits if visit.queue == queue]
        told = sorted((t for t in tickets if t.queue == queue), key=lambda t: (t.dates.get("callDate", ""), len(t.id), t.id))
        while len(visits) > len(told) and any(not visit.certain for visit in visits):
            visits.remove(next(visit for visit in reversed(visits) if not visit.certain))
        yield from ["lost"] * (len(visits) - len(told))
        yield from ["two tickets of one visit"] * (len(told) - len(visits))
        if len(visits) == len(told):
            for visit, ticket in zip(visits, told):
                yield from _compare_visit(visit, ticket, story.numbers)


def _compare_visit(visit: Visit, ticket: Ticket, numbers: set[str]):
    if ticket.state not in visit.endings:
        yield "with a wrong ending" if ticket.complete else "lost"
    elif ticket.state == "completed" and ticket.agent not in visit.agents:
        yield "with a wrong agent"
    if ticket.number not in numbers or visit.call_id not in ("", ticket.id):
        yield "with a wrong number"


def _judge_requests(rehearsal: Rehearsal, witness: Witness, found: Counter) -> None:
    """Each call's requests: one ending, in order, once each but for a reason."""
    calls: dict[str, list[dict]] = {}
    firsts: dict[tuple, dict] = {}
    for entry in witness.accepted:
        calls.setdefault(entry["id"], []).append(entry)
        if entry["name"] == "receivedCall":  # a question, which every caller may ask again
            continue
        first = firsts.setdefault(entry["what"], entry)
        if first is not entry:
            kind = REPEATED if witness.excuses(first, entry) else "repeated without a reason"
            found[kind] += 1
            if kind in WRONG:
                print(f"{kind}: {entry['what']}; first {first['begun']:.2f} to {first['at']:.2f}, again from "
                      f"{entry['begun']:.2f}")
    for call_id, entries in calls.items():
        told = [entry["name"] for entry in entries]
        wrong = {"with two endings": len({name for name in told if ORDER[name] == 2}) > 1,
                 "out of order": [ORDER[name] for name in told] != sorted(ORDER[name] for name in told)}
        found.update(name for name, is_so in wrong.items() if is_so)
        if any(wrong.values()):
            print(f"{call_id}: {', '.join(name for name in wrong if wrong[name])}; told: {', '.join(told)}")
    for text, begun in witness.complaints:
        late = re.search(r"receivedCall (\S+): id: this call is already", text)
        went_on = [entry["at"] for entry in calls.get(late[1], ()) if ORDER[entry["name"]]] if late else []
        kind = OVERTAKEN if went_on and begun < min(went_on) else "told in a wrong form"
        found[kind] += 1
        print(f"{kind}: {text}")


def leaks(folder: Path, but: Path) -> list[str]:
    """The files in a folder that hold the token or a good part of it, except the configuration."""
    found = []
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink() and path != but:
            with open(path, "rb") as file:
                if any(part in file.read() for part in TOKEN_PARTS):
                    found.append(str(path))
    return found
