"""Hours of calls in a virtual clock, through the real line, budget, journal and delivery: `bench/day.py [--hours 4] [--seeds 5]`.

No sockets and no sleeping: the product's own verbs and delivery talk to the simulator's model in this process. Beside it,
in the same run and with the same callers, what other dialplans do:
  a  every caller asks every 5 s, and a report that is refused is dropped
  b  every caller asks every 5 s, and reports are tried again every 5 s
  c  every caller asks every 15 s, and reports are tried again every 15 s
The physical limit is a third of the limit's requests: received, transferred, completed.
Arrivals are Poisson; talk (180 s) and patience (120 s) are exponential; phones ring for 4 s.
"""
from __future__ import annotations

import argparse
import heapq
import itertools
import logging
import random
from multiprocessing import Pool

from _table import save, show
from movidesk import agi, api, verbs
from movidesk.config import Config
from movidesk.delivery import Delivery
from movidesk_sim.model import Limit, Movidesk

LOADS = ((1.0, 4), (1.5, 6), (2.5, 10), (3.3, 14), (5.0, 20))  # calls a minute, agents
TALK, PATIENCE, RING, LIMIT = 180.0, 120.0, 4.0, 10
BEGIN = 1_800_000_000.0
STRATEGIES = ("movidesk-agi", "a: 5 s, drop", "b: 5 s, retry", "c: 15 s, retry")
DRAIN = 3600.0  # seconds after the last arrival in which reports may still be delivered


class Caller:
    """One caller and what happened to it; `talk` and `patience` are drawn beforehand, alike for every strategy."""

    def __init__(self, number: int, queue: int, arrived: float, talk: float, patience: float):
        self.number, self.queue, self.arrived = number, queue, arrived
        self.talk, self.gives_up = talk, arrived + patience
        self.id = "day-%d" % number
        self.offered = self.answered = self.left = None


class Day:
    """The clock, the callers and Movidesk; a strategy adds how callers wait and how reports are sent."""

    def __init__(self, load: float, agents: int, seed: int, hours: float, queues: int = 1, fixed: bool = False):
        self.now = BEGIN
        self._agenda, self._order = [], itertools.count()
        self.movidesk = Movidesk(lambda: self.now, limit=Limit(LIMIT))
        self.movidesk.log = []  # all of it: those who poll fill a bounded one within the hour
        self.hours, self.end = hours, BEGIN + hours * 3600
        extensions = [str(5000 + n) for n in range(agents)]
        for queue in range(queues):
            self.movidesk.add_group(77 + queue, extensions[queue::queues])
        draw = random.Random(seed)
        self.callers, at = [], BEGIN
        while True:
            at += draw.expovariate(load / 60)
            if at > self.end:
                break
            number = len(self.callers)
            self.callers.append(Caller(number, 77 + number % queues, at, draw.expovariate(1 / TALK),
                                       PATIENCE if fixed else draw.expovariate(1 / PATIENCE)))

    def at(self, when: float, action, *arguments) -> None:
        heapq.heappush(self._agenda, (when, next(self._order), action, arguments))

    def run(self) -> dict:
        for caller in self.callers:
            self.at(caller.arrived, self.arrive, caller)
        while self._agenda and self._agenda[0][0] <= self.end:
            self._step()
        result = self.figures()
        while self._agenda and self._agenda[0][0] <= self.end + DRAIN:
            self._step()
        result["undelivered"] = self.undelivered()
        return result

    def _step(self) -> None:
        self.now, _, action, arguments = heapq.heappop(self._agenda)
        action(*arguments)

    def arrive(self, caller: Caller) -> None:
        self.at(caller.gives_up, self.give_up, caller)
        self.look(caller)

    def waiting(self, caller: Caller) -> bool:
        return caller.answered is None and caller.left is None

    def give_up(self, caller: Caller) -> None:
        if self.waiting(caller):
            caller.left = self.now
            self.report(caller, "canceled")

    def offer(self, caller: Caller, extension: str) -> None:
        caller.offered = self.now
        self.at(self.now + RING, self.answer, caller, extension)

    def answer(self, caller: Caller, extension: str) -> None:
        if self.waiting(caller):
            caller.answered = self.now
            self.report(caller, "transferred", extension)
            self.at(self.now + caller.talk, self.hang_up, caller)

    def hang_up(self, caller: Caller) -> None:
        caller.left = self.now
        self.report(caller, "completed")

    def figures(self) -> dict:
        log = self.movidesk.log
        served = [caller for caller in self.callers if caller.answered]
        waits = [caller.answered - caller.arrived for caller in served]
        stuck = sum(1 for call in self.movidesk.in_call.values()
                    if (self.callers[int(call.rpartition("-")[2])].left or self.end) < self.end - 60)
        return {"answered": len(served) / self.hours, "wait": sum(waits) / max(1, len(waits)),
                "overtakings": self.overtakings(), "429": sum(entry["status"] == 429 for entry in log),
                "stuck": stuck, "requests": sum(entry["status"] != 429 for entry in log) / self.hours / 60}

    def overtakings(self) -> int:
        """How many callers were offered an agent while one who had come to that queue earlier was still waiting."""
        count = 0
        for caller in self.callers:
            if caller.offered:
                count += any(other.queue == caller.queue and other.arrived < caller.arrived
                             and (other.offered or other.left or 9e99) > caller.offered and other.left != other.arrived
                             for other in self.callers[max(0, caller.number - 120):caller.number])
        return count

    def look(self, caller: Caller) -> None:
        raise NotImplementedError

    def report(self, caller: Caller, kind: str, extension: str = "") -> None:
        raise NotImplementedError

    def undelivered(self) -> int:
        raise NotImplementedError


class Polling(Day):
    """Every caller asks on its own; reports go out at once, and are dropped or tried again when refused."""

    def __init__(self, *scene, every: float, again: bool):
        super().__init__(*scene)
        self.every, self.again, self.owed = every, again, 0

    def look(self, caller: Caller) -> None:
        if not self.waiting(caller):
            return
        outcome = self.send("received", caller, arrived=caller.arrived)
        if isinstance(outcome, api.Delivered) and len(outcome.text.strip('"')) > 1:
            self.offer(caller, outcome.text.strip('"'))
        else:
            self.at(self.now + self.every, self.look, caller)

    def send(self, kind: str, caller: Caller, **fields):
        return VirtualClient(self).send(kind, queue=caller.queue, number="4733990777", id=caller.id, **fields)

    def report(self, caller: Caller, kind: str, extension: str = "", when: float = 0.0) -> None:
        if caller.id not in self.movidesk.tickets:
            self.owed += 1  # Movidesk never heard of this caller and would only refuse: spare the request
            return
        outcome = self.send(kind, caller, extension=extension, at=when or self.now)
        if isinstance(outcome, api.Retry):
            self.owed += 0 if when else 1
            if self.again:
                self.at(self.now + self.every, self.report, caller, kind, extension, when or self.now)
        elif isinstance(outcome, api.Rejected):
            self.owed += 0 if when else 1
        elif when:
            self.owed -= 1

    def undelivered(self) -> int:
        return self.owed


class VirtualClient:
    """The API client's place: requests go to the model in this process."""

    def __init__(self, day: Day):
        self.day = day

    def send(self, event: str, **fields):
        endpoint = api.ENDPOINTS[event]
        answer = self.day.movidesk.request(endpoint.method, endpoint.path,
                                           {"token": self.day.movidesk.token, **api.query(event, **fields)})
        return api.outcome(answer.status, answer.body, answer.headers.get("Retry-After"), self.day.now)


class VirtualChannel(dict):
    """A channel's variables, and as much of Asterisk as the verbs need."""

    def __init__(self, caller: Caller):
        super().__init__()
        self.uniqueid = str(caller.number)
        self.env = {"agi_callerid": "4733990777"}

    def get(self, name: str, default: str = "") -> str:
        return super().get(name, default)

    def set(self, name: str, value) -> None:
        self[name.lstrip("_")] = str(value)

    def say(self, text: str, level: int = 1) -> None:
        pass


class Product(Day):
    """The product's own verbs and delivery."""

    def __init__(self, *scene):
        super().__init__(*scene)
        config = Config("day")
        config._values.update({("movidesk", "token"): api_token(self.movidesk), ("pbx", "name"): "day",
                               ("journal", "path"): ":memory:", ("movidesk", "requests_per_minute"): LIMIT})
        self.desk = verbs.Desk(config, clock=lambda: self.now, wake=self.wake, is_script=False)
        self.desk._client = VirtualClient(self)
        self.delivery = Delivery(self.desk, jitter=random.Random(1).random)
        self.channels = {caller.number: VirtualChannel(caller) for caller in self.callers}
        self._wake_at = None

    def verb(self, caller: Caller, name: str, *arguments: str) -> VirtualChannel:
        channel = self.channels[caller.number]
        if verbs.run(name, channel, self.desk, list(arguments)) != verbs.OK:
            raise SystemExit("%s failed for %s" % (name, caller.id))
        return channel

    def look(self, caller: Caller) -> None:
        if not self.waiting(caller):
            return
        channel = self.verb(caller, "received", str(caller.queue))
        if channel.get(agi.EXT):
            self.offer(caller, channel.get(agi.EXT))
        else:
            self.at(self.now + int(channel.get(agi.WAIT)), self.look, caller)

    def report(self, caller: Caller, kind: str, extension: str = "") -> None:
        self.verb(caller, "transferred" if kind == "transferred" else "hangup", *([extension] if extension else []))

    def wake(self) -> None:
        self.at(self.now, self.deliver)

    def deliver(self) -> None:
        if self._wake_at is not None and self._wake_at <= self.now:
            self._wake_at = None
        while True:
            job, wait = self.delivery.take()
            if job is None:
                break
            self.delivery.deliver(job)
        when = self.now + min(5.0, wait if wait is not None else 5.0)
        if wait is not None and (self._wake_at is None or when < self._wake_at):
            self._wake_at = when
            self.at(when, self.deliver)

    def undelivered(self) -> int:
        totals = self.desk.journal.totals()
        return totals["pending"] + totals["refused"]


def api_token(movidesk: Movidesk):
    from movidesk.config import Secret

    return Secret(movidesk.token)


def run(task) -> dict:
    logging.disable(logging.CRITICAL)
    strategy, scene = task
    if strategy == STRATEGIES[0]:
        day: Day = Product(*scene)
    else:
        day = Polling(*scene, every=15.0 if strategy.startswith("c") else 5.0, again=not strategy.startswith("a"))
    return {"strategy": strategy, "load": "%.1f/%d%s" % (scene[0], scene[1], " two queues" if scene[4] > 1 else ""),
            **day.run()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hours", type=float, default=4)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--fixed-patience", action="store_true", help="everybody gives up after exactly 120 s")
    parser.add_argument("--load", type=float, help="only this many calls a minute")
    options = parser.parse_args()
    scenes = [(load, agents, seed, options.hours, 1, options.fixed_patience) for load, agents in LOADS for seed in range(options.seeds)]
    scenes += [(2.5, 10, seed, options.hours, 2, options.fixed_patience) for seed in range(options.seeds)]
    scenes = [scene for scene in scenes if options.load in (None, scene[0])]
    with Pool(2) as pool:
        found = pool.map(run, [(strategy, scene) for scene in scenes for strategy in STRATEGIES], chunksize=1)
    report(found, options)


def report(found: list[dict], options) -> None:
    rows, means = [], {}
    names = ("answered", "wait", "overtakings", "429", "stuck", "undelivered", "requests")
    for load in dict.fromkeys(result["load"] for result in found):
        for strategy in STRATEGIES:
            same = [result for result in found if (result["load"], result["strategy"]) == (load, strategy)]
            mean = {name: sum(result[name] for result in same) / len(same) for name in names}
            means["%s, %s" % (load, strategy)] = mean
            rows.append([load, strategy, mean["answered"], 100 * mean["answered"] / (LIMIT * 20), mean["wait"],
                         mean["overtakings"], mean["429"], mean["stuck"], mean["undelivered"], mean["requests"]])
    show("Means of %d seeds, %g hours each; the physical limit is %d answered an hour" % (
        options.seeds, options.hours, LIMIT * 20),
        ["calls/min / agents", "strategy", "answered/h", "% of limit", "mean wait s", "overtakings", "429s",
         "agents stuck", "undelivered", "requests/min"], rows,
        "undelivered: reports that had not reached Movidesk an hour after the last arrival")
    save("day-fixed-patience" if options.fixed_patience else "day", {"hours": options.hours, "seeds": options.seeds, "means": means})


if __name__ == "__main__":
    main()
