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
import logging
from multiprocessing import Pool

from _day import LIMIT, Caller, Day, Product, VirtualClient
from _expected import error, told
from _expected import report as report_expected
from _table import save, show
from movidesk.delivery import api

LOADS = ((1.0, 4), (1.5, 6), (2.5, 10), (3.3, 14), (5.0, 20))  # calls a minute, agents
STRATEGIES = ("movidesk-agi", "a: 5 s, drop", "b: 5 s, retry", "c: 15 s, retry")


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


def run(task) -> dict:
    logging.disable(logging.CRITICAL)
    strategy, scene = task
    if strategy == STRATEGIES[0]:
        day: Day = Product(*scene)
    else:
        day = Polling(*scene, every=15.0 if strategy.startswith("c") else 5.0, again=not strategy.startswith("a"))
    queues = "" if scene[4] == 1 else " two queues, shared agents" if scene[6] else " two queues"
    return {"strategy": strategy, "load": f"{scene[0]:.1f}/{scene[1]}{queues}", **day.run(),
            "told": told(day.callers, day.said) if isinstance(day, Product) else []}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hours", type=float, default=4)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--fixed-patience", action="store_true", help="everybody gives up after exactly 120 s")
    parser.add_argument("--load", type=float, help="only this many calls a minute")
    options = parser.parse_args()
    scenes = [(load, agents, seed, options.hours, 1, options.fixed_patience, False) for load, agents in LOADS
              for seed in range(options.seeds)]
    scenes += [(2.5, 10, seed, options.hours, 2, options.fixed_patience, shared) for shared in (False, True)
               for seed in range(options.seeds)]
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
            means[f"{load}, {strategy}"] = mean
            rows.append([load, strategy, mean["answered"], 100 * mean["answered"] / (LIMIT * 20), mean["wait"],
                         mean["overtakings"], mean["429"], mean["stuck"], mean["undelivered"], mean["requests"]])
    show(f"Means of {options.seeds} seeds, {options.hours:g} hours each; the physical limit is {LIMIT * 20} answered an hour",
        ["calls/min / agents", "strategy", "answered/h", "% of limit", "mean wait s", "overtakings", "429s",
         "agents stuck", "undelivered", "requests/min"], rows,
        "undelivered: reports that had not reached Movidesk an hour after the last arrival")
    waits = {load: sum((result["told"] for result in found if result["load"] == load), []) for load in
             dict.fromkeys(result["load"] for result in found)}
    report_expected(waits)
    save("day-fixed-patience" if options.fixed_patience else "day",
         {"hours": options.hours, "seeds": options.seeds, "means": means,
          "expected wait, median error": {load: error(found) for load, found in waits.items()}})


if __name__ == "__main__":
    main()
