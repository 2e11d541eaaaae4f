"""Hours of calls in a virtual clock, through the real line, limit, journal and delivery: `bench/day.py [--hours 4] [--seeds 5]`.

No sockets and no sleeping: the product's own verbs and delivery talk to the simulator's model in this process. Beside it,
in the same run and with the same callers, what other dialplans do:
  a  every caller asks every 5 s, and an event that is refused is dropped
  b  every caller asks every 5 s, and events are tried again every 5 s
  c  every caller asks every 15 s, and events are tried again every 15 s
With own calls also a clairvoyant line (_clairvoyant.py), at its best.
The physical limit is a third of the limit's requests: received, transferred, completed.
Arrivals are Poisson; talk (180 s) and patience (120 s) are exponential; phones ring for 4 s. What a scene changes: _day.py.
"""
from __future__ import annotations

import argparse
import logging
from multiprocessing import Pool

from _clairvoyant import Clairvoyant
from _day import LIMIT, Day, Scene
from _expected import error, told
from _expected import report as report_expected
from _polling import Polling
from _product import Product
from _table import save, show

SCENES = (
    *(Scene(load, agents) for load, agents in ((1.0, 4), (1.5, 6), (2.5, 10), (3.3, 14), (5.0, 20))),
    Scene(2.5, 10, queues=2), Scene(2.5, 10, queues=2, shared=True), Scene(5.0, 20, queues=5, shared=True),
    Scene(5.0, 20, fixed=True),
    Scene(3.3, 20, own_calls=240), Scene(2.5, 12, own_calls=240), Scene(2.5, 12, queues=2, shared=True, own_calls=240),
    Scene(3.3, 20, own_calls=80),
    Scene(3.3, 14, shifts=True), Scene(5.0, 20, rings=True),
    Scene(50.0, 180, hours=1, limit=300),
)
OURS = "movidesk-agi"
STRATEGIES = (OURS, "a: 5 s, drop", "b: 5 s, retry", "c: 15 s, retry")
CLAIRVOYANT = "clairvoyant"
SHARES = (0.0, 0.2, 0.4)  # of idle phones, at which the clairvoyant line asks; the best counts


def run(task) -> dict:
    logging.disable(logging.CRITICAL)
    strategy, scene, seed = task
    if strategy == CLAIRVOYANT:
        result = max((Clairvoyant(scene, seed, share).run() for share in SHARES), key=lambda result: result["answered"])
    else:
        day = line(strategy, scene, seed)
        result = day.run()
        if isinstance(day, Product):
            result["told"] = told(day.callers, day.said)
    return {"strategy": strategy, "scene": str(scene), **result}


def line(strategy: str, scene: Scene, seed: int) -> Day:
    if strategy == OURS:
        return Product(scene, seed)
    return Polling(scene, seed, every=15.0 if strategy.startswith("c") else 5.0, again=not strategy.startswith("a"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hours", type=float, help="of each scene; default: 4, with a raised limit 1")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--scene", help="only scenes whose name begins so, such as 5/20")
    parser.add_argument("--ours", action="store_true", help="without the other dialplans")
    options = parser.parse_args()
    scenes = [scene._replace(hours=options.hours or scene.hours) for scene in SCENES
              if str(scene).startswith(options.scene or "")]
    tasks = [(strategy, scene, seed) for scene in scenes
             for strategy in (*STRATEGIES[:1 if options.ours else None], *([CLAIRVOYANT] if scene.own_calls else []))
             for seed in range(options.seeds)]
    with Pool(2) as pool:
        report(pool.map(run, tasks, chunksize=1), options)


def report(found: list[dict], options) -> None:
    rows, delays, means = [], [], {}
    names = ("answered", "wait", "overtakings", "429", "stuck", "busy", "undelivered", "requests")
    for scene, strategy in dict.fromkeys((result["scene"], result["strategy"]) for result in found):
        same = [result for result in found if (result["scene"], result["strategy"]) == (scene, strategy)]
        mean = {name: sum(result[name] for result in same) / len(same) for name in names}
        for name in ("screen", "freeing"):
            values = sum((result[name] for result in same), [])
            mean.update(zip((f"{name} median", f"{name} p95", f"{name} worst"), spread(values)))
        means[f"{scene}: {strategy}"] = mean
        rows.append([scene, strategy, *(mean[name] for name in names)])
        delays.append([scene, strategy, *(mean[f"{name} {part}"] for name in ("screen", "freeing")
                                          for part in ("median", "p95", "worst"))])
    show(f"Means of {options.seeds} seeds; at {LIMIT} requests a minute the physical limit is {LIMIT * 20} answered an hour",
         ["calls/min / agents", "strategy", "answered/h", "mean wait s", "overtakings", "429s", "agents stuck",
          "busy phones/h", "undelivered", "requests/min"], rows,
         "undelivered: events that had not reached Movidesk an hour after the last arrival")
    show("Seconds from pick-up to the agent's screen, and from a call's end to the agent being free in Movidesk",
         ["calls/min / agents", "strategy", "screen median", "p95", "worst", "freeing median", "p95", "worst"], delays,
         "all calls of all seeds")
    waits = {scene: sum((result["told"] for result in found if result["scene"] == scene and "told" in result), [])
             for scene in dict.fromkeys(result["scene"] for result in found)}
    report_expected(waits)
    save("day", {"hours": options.hours, "seeds": options.seeds, "means": means,
                 "expected wait, median error": {scene: error(found) for scene, found in waits.items()}})


def spread(values: list[float]) -> tuple[float, float, float]:
    """Median, 95th percentile and worst."""
    ranked = sorted(values) or [0.0]
    return ranked[len(ranked) // 2], ranked[int(0.95 * (len(ranked) - 1))], ranked[-1]


if __name__ == "__main__":
    main()
