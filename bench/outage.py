"""Movidesk is away for a day, and callers still come: `bench/outage.py [--calls 2000] [--hours 24]`.

An hour of traffic, the outage with its calls, then the same traffic again until Movidesk has every call of the outage: in
the virtual clock of _day.py, once for each kind of outage and load. A caller whom Movidesk's absence leaves without an
agent does as dialplan/queue.conf does: every other one has a MOVIDESK_FALLBACK, where people talk to it (its call ends as
lost, at once), the rest keep trying until they hang up (canceled) or MOVIDESK_MAX_WAIT is over (lost). A request that
fails takes no time here. The model keeps an agent for a call that it was offered to until that call goes on or ends.

Beside it the same live callers on a line that never had an outage, over the same hours: what the backlog costs them.
The least time is that of the events left over when Movidesk is back, at ten a minute less what these callers use.
Exit 1 where a call or an ending is missing, twice, out of order or wrongly dated, or the limit is broken.

--night: Movidesk is back an hour after a night has begun (19:00 to 07:00) in which it takes so many requests a minute, and the
product knows of it ([movidesk] night). The backlog that takes 17 hours by day is then told within the hour.
"""
from __future__ import annotations

import argparse
import itertools
import logging
import os
import random
import sys
import tempfile
from collections import defaultdict, deque
from multiprocessing import Pool

from _day import BEGIN, LIMIT, PATIENCE, TALK, Caller, Scene, traffic
from _product import Product, VirtualChannel, VirtualClient
from _table import save, show
from movidesk import config
from movidesk.agi import variables
from movidesk.config import Config
from movidesk.delivery import api
from movidesk.delivery.worker import IDLE
from movidesk_sim.model import REASONS, Limit

NIGHT = "19:00-07:00"
LOADS, AGENTS = (1.0, 2.5), 10  # calls a minute
#: What Movidesk answers meanwhile: status (None: nothing), text, Retry-After. A refused token is refused by the model.
KINDS = {"no connection": (None, "the connection was refused", None), "500": (500, "server error", None),
         "429, for 1 h": (429, "too many requests", "3600"), "401": None}
NO_OUTAGE = "none"
NEW_TOKEN = "0a1b2c3d-0000-4000-8000-000000000000"
BEFORE, LONGEST = 1.0, 96.0  # hours of traffic before, and at most after it
MAX_WAIT = 600.0             # MOVIDESK_MAX_WAIT
ORDER = {api.ENDPOINTS[event].path: place for place, events in enumerate(
    (("received",), ("transferred",), ("completed", "lost", "canceled"))) for event in events}
WRONGS = ("missing", "twice", "out of order", "wrong", "problems")
ENDINGS = {"completed": "completedDate", "lost": "completedDate", "canceled": "canceledDate"}


class Line(VirtualClient):
    """The way to Movidesk: closed during the outage. Counts what goes over it."""

    @property
    def token(self) -> str:
        return self.day.context.config["movidesk", "token"].reveal()

    def send(self, event: str, **fields):
        day, caller = self.day, self.day.caller_of(fields["id"])
        day.sent.append(day.now)
        if day.down <= day.now < day.up:
            day.knocks["live" if event == "received" and caller.left is None else "delivery"] += 1
            if KINDS.get(day.kind):
                return api.outcome(*KINDS[day.kind], day.now)
        result = super().send(event, **fields)
        if isinstance(result, api.Delivered):
            day.told(event, caller, result.text.strip('"'))
        return result


class Outage(Product):
    """One scene. `sent`: when requests went; `owed`: callers from before the end whose ending Movidesk has not;
    `reached`, `emptied`: when it took a request again, and all that was owed."""

    def __init__(self, kind: str, load: float, seed: int, calls: int, hours: float, night: int, folder: str):
        self.kind, self.folder, self.night = kind, folder, night
        self.up = BEGIN + (BEFORE + hours) * 3600
        super().__init__(Scene(load, AGENTS, BEFORE), seed)
        if night:
            self.movidesk.limit = Limit(LIMIT, night=NIGHT, night_requests=night, utc_offset=self.utc_offset)
        self.movidesk.switches.offer_seconds = 1e9
        self.context.virtual_client = Line(self)
        self.down = self.end
        self.sent, self.knocks = [], defaultdict(int)
        self.reached = self.emptied = None
        self.offers = self.denied = self.left_over = self.size = 0
        draw = random.Random(seed + 1)
        for at in sorted(draw.uniform(self.down, self.up) for _ in range(calls)):
            self.callers.append(Caller(len(self.callers), 77, at, draw.expovariate(1 / TALK), draw.expovariate(1 / PATIENCE)))
        self.callers += traffic(load, self.up, self.up + LONGEST * 3600, random.Random(seed + 2), len(self.callers))
        self.owed = {caller.number for caller in self.callers if caller.arrived < self.up and kind != NO_OUTAGE}

    def config(self) -> Config:
        self.write_config(self.movidesk.token)
        return config.load(os.path.join(self.folder, "movidesk.conf"))

    def write_config(self, token: str) -> None:
        with open(os.path.join(self.folder, "movidesk.conf"), "w", encoding="ascii") as file:
            file.write(f"[movidesk]\nurl = https://movidesk.invalid/\ntoken = {token}\n"
                       f"requests_per_minute = {LIMIT}\n{self.nights()}[pbx]\nname = day\n"
                       f"[journal]\npath = {os.path.join(self.folder, 'journal.db')}\n")

    @property
    def utc_offset(self) -> int:
        """Hours; in this time zone Movidesk is back between 20:00 and 21:00."""
        return (20 - int(self.up // 3600) + 11) % 24 - 11

    def nights(self) -> str:
        """What movidesk.conf says of the night. The names of such zones have the sign turned round."""
        if not self.night:
            return ""
        return f"night = {NIGHT}\nnight_requests_per_minute = {self.night}\ntime_zone = Etc/GMT{-self.utc_offset:+d}\n"

    def caller_of(self, call_id: str) -> Caller:
        return self.callers[int(call_id.rpartition("-")[2])]

    def run(self, until: float | None = None) -> None:
        """Until nothing is owed, and the calls that are open then have ended; or with traffic until then."""
        for caller in self.callers:
            if until is None or caller.arrived < self.down or self.up <= caller.arrived < until:
                self.at(caller.arrived, self.arrive, caller)
        if until is None:
            self.at(self.down, self.begin)
            self.at(self.up, self.come_back)
        while self._agenda:
            self._step()

    def begin(self) -> None:
        if self.kind == "401":
            self.movidesk.token = NEW_TOKEN
        self.deliver()

    def come_back(self) -> None:
        self.left_over = self.context.journal.overview.totals()["pending"]
        self.size = sum(os.path.getsize(entry.path) for entry in os.scandir(self.folder) if "journal" in entry.name)
        self.write_config(self.movidesk.token)

    def deliver(self) -> None:
        super().deliver()
        if self.owed and self.now < self.up + LONGEST * 3600:
            self.deliver_in(IDLE)

    def arrive(self, caller: Caller) -> None:
        if self.emptied is None:
            super().arrive(caller)
            self.at(caller.arrived + MAX_WAIT, self.lose, caller)

    def unanswered(self, caller: Caller, channel: VirtualChannel) -> None:
        if channel.get(variables.CODE) == "E" and caller.number % 2 == 0:
            self.lose(caller)
        else:
            super().unanswered(caller, channel)

    def lose(self, caller: Caller) -> None:
        """[movidesk-line] lost, and code-E with a fallback; the hangup that comes later finds the call ended."""
        if self.waiting(caller):
            caller.left, caller.lost = self.now, True
            self.verb(caller, "lost")
            self.at(self.now + caller.talk, self.verb, caller, "hangup")

    def told(self, event: str, caller: Caller, answer: str) -> None:
        """Movidesk took an event of this caller's."""
        if event in ENDINGS:
            self.owed.discard(caller.number)
        if self.now < self.up:
            return
        self.reached = self.reached or self.now
        dead = caller.left is not None
        if event == "received" and answer not in REASONS:
            self.offers += dead
        elif event == "received" and not dead:
            self.denied += any(self.with_the_dead(extension) for extension in self.movidesk.agents)
        if not self.owed and self.kind != NO_OUTAGE:
            self.emptied = self.emptied or self.now

    def with_the_dead(self, extension: str) -> bool:
        """Whether Movidesk keeps this agent for a call that was over when it came back."""
        call_id = self.movidesk.held_for(extension) or self.movidesk.in_call.get(extension)
        return bool(call_id) and (self.caller_of(call_id).left or self.now) < self.up

    def wrongs(self) -> dict[str, int]:
        """What Movidesk has, beside what the callers did."""
        told = defaultdict(list)
        for entry in self.movidesk.log:
            if entry["status"] == 200:
                told[entry["params"]["id"]].append(ORDER[entry["endpoint"]])
        found = dict.fromkeys(WRONGS, 0)
        for caller in (caller for caller in self.callers if caller.left):
            events, ticket = told[caller.id], self.movidesk.tickets.get(caller.id)
            found["missing"] += ticket is None or not ticket.complete
            found["twice"] += events.count(2) > 1
            found["out of order"] += events != sorted(events)
            found["wrong"] += ticket is not None and (ticket.state, ticket.dates) != truth(caller)
        return {**found, "problems": len(self.movidesk.problems)}  # what the model says no connector may do

    def out_of_turn(self) -> int:
        """Calls that ended in the outage and whose ending Movidesk heard after that of one that had come later."""
        ended = [self.caller_of(entry["params"]["id"]) for entry in self.movidesk.log
                 if entry["status"] == 200 and ORDER[entry["endpoint"]] == 2]
        arrived = [caller.arrived for caller in ended if self.down <= caller.arrived and caller.left < self.up]
        return sum(mine < latest for mine, latest in zip(arrived, itertools.accumulate(arrived, max)))

    def busiest(self) -> int:
        """Requests in the busiest minute that ends by day."""
        window, most = deque(), 0
        for at in self.sent:
            window.append(at)
            while window[0] <= at - 60:
                window.popleft()
            if not self.night or 7 <= (at / 3600 + self.utc_offset) % 24 < 19:
                most = max(most, len(window))
        return most

    def live(self, since: float, until: float) -> tuple[float, float, float]:
        """Of those who came in this time: answered an hour, their mean wait; and all requests a minute."""
        until = max(until, since + 1.0)
        waits = [caller.answered - caller.arrived for caller in self.callers
                 if caller.answered and since <= caller.arrived < until]
        requests = sum(since <= at < until for at in self.sent)
        return len(waits) / (until - since) * 3600, sum(waits) / max(1, len(waits)), requests / (until - since) * 60


def truth(caller: Caller) -> tuple[str, dict[str, str]]:
    """How this caller's ticket must be: its state and its dates."""
    dates = {"callDate": api.utc(caller.arrived)}
    if caller.answered:
        dates["transferDate"] = api.utc(caller.answered)
    state = "completed" if caller.answered else "lost" if caller.lost else "canceled"
    return state, {**dates, ENDINGS[state]: api.utc(caller.left)}


def scene(*task) -> Outage:
    """One scene, run to its end. The journal syncs each event, which takes hours on a disk: it is kept in memory."""
    logging.disable(logging.CRITICAL)
    memory = "/dev/shm" if os.path.isdir("/dev/shm") else None
    with tempfile.TemporaryDirectory(prefix="movidesk-outage-", dir=memory) as folder:
        *parameters, until = task
        day = Outage(*parameters, folder)
        day.run(until)
    return day


def run(task) -> dict:
    day = scene(*task, None)
    figures = {"kind": day.kind, "load": task[1], "owed": len(day.owed), **day.wrongs(), "busiest": day.busiest(),
               "429": sum(entry["status"] == 429 for entry in day.movidesk.log), "asked": day.knocks["live"],
               "probed": day.knocks["delivery"], "left over": day.left_over, "journal MB": day.size / 2 ** 20}
    if day.emptied is None:
        return figures
    answered, wait, _ = day.live(day.reached, day.emptied)
    return {**figures, "reached": (day.reached - day.up) / 60, "hours": (day.emptied - day.up) / 3600, "answered": answered,
            "wait": wait, "offers": day.offers, "denied": day.denied, "out of turn": day.out_of_turn(),
            "window": (day.reached, day.emptied)}


def compare(task) -> list[dict]:
    """Add to the figures what the same live callers have had, in the same hours, on a line without an outage."""
    parameters, found = task
    day = scene(NO_OUTAGE, *parameters, max(figures["window"][1] for figures in found))
    for figures in found:
        answered, wait, requests = day.live(*figures["window"])
        figures.update({"usual answered": answered, "usual wait": wait,
                        "least": figures["left over"] / ((day.night or LIMIT) - requests) / 60})
    return found


def is_good(figures: dict) -> bool:
    return figures["busiest"] <= LIMIT and not any(figures[name] for name in (*WRONGS, "owed", "429"))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--calls", type=int, default=2000, help="calls in the outage")
    parser.add_argument("--hours", type=float, default=24, help="how long Movidesk is away")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kind", choices=KINDS, help="only this kind of outage")
    parser.add_argument("--load", type=float, choices=LOADS, help="only this many live calls a minute")
    parser.add_argument("--night", type=int, default=0, metavar="REQUESTS",
                        help="Movidesk is back in a night in which it takes so many requests a minute")
    options = parser.parse_args()
    tasks = [(kind, load, options.seed, options.calls, options.hours, options.night) for load in reversed(LOADS) for kind in KINDS
             if options.kind in (None, kind) and options.load in (None, load)]
    with Pool(2) as pool:
        found = pool.map(run, tasks, chunksize=1)
        told = [[figures for figures in found if figures["load"] == load and "window" in figures] for load in LOADS]
        compared = pool.map(compare, [((same[0]["load"], *tasks[0][2:]), same) for same in told if same], chunksize=1)
    found = [figures for same in compared for figures in same] + [figures for figures in found if "window" not in figures]
    report(found, options)
    return 0 if all(map(is_good, found)) else 1


def report(found: list[dict], options) -> None:
    title = f"{options.calls} calls in {options.hours:g} hours without Movidesk"
    if options.night:
        title += f", back in a night with {options.night} requests a minute"
    heads = ["outage", "calls/min"]
    rows = lambda *names: [[one.get(name, "-") for name in ("kind", "load", *names)] for one in found]  # noqa: E731
    show(title + ": while it is away, and until all is told",
         [*heads, "asked by callers", "probes", "journal MB", "events left", "reached after min", "all told after h", "least h"],
         rows("asked", "probed", "journal MB", "left over", "reached", "hours", "least"))
    show("the live callers until then (in brackets: without an outage)",
         [*heads, "answered/h", "(answered/h)", "mean wait s", "(mean wait s)", "agents given to the dead",
          "callers told 'busy' for it"],
         rows("answered", "usual answered", "wait", "usual wait", "offers", "denied"))
    show("what Movidesk has at the end", [*heads, "not told", *WRONGS, "told out of turn", "busiest 60 s", "429s"],
         rows("owed", *WRONGS, "out of turn", "busiest", "429"),
         "out of order: within a call; told out of turn: the ending of a call after that of one that had come later")
    save("outage", {"calls": options.calls, "hours": options.hours, "seed": options.seed, "night": options.night, "found": found})


if __name__ == "__main__":
    sys.exit(main())
