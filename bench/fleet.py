"""Several PBXs with one account in a virtual clock, with a real Redis between them: `bench/fleet.py [--hours 2] [--seeds 2]`.

The same callers, 5 a minute in all at 20 agents, call 1, 2, 4 and 8 PBXs in turn; beside them one PBX without [fleet]. Then the
same with Redis away every other 10 minutes: it refuses connections, and comes back empty. "Round trips a call" are the questions
to Redis without those by which each PBX keeps its lease every 2 seconds. Their time is real, on a Redis of this machine.

Exit 1 where Movidesk answered a 429, or an event is left over; with Redis there all the time also where fewer than 97 % of one
PBX's callers are answered, or a caller is overtaken.
"""
from __future__ import annotations

import argparse
import logging
import sys
import tempfile
from multiprocessing import Pool

from _day import Scene
from _fleet import FleetDay
from _product import Product
from _table import save, show
from movidesk_rehearsal.redis_server import PrivateRedis

SIZES = (1, 2, 4, 8)
LEAST = 0.97
ONE = "one PBX, no fleet"


def run(task) -> dict:
    logging.disable(logging.CRITICAL)
    scene, seed, size, away = task
    if not size:
        return {"name": ONE, "size": 0, "away": False, "beats": 0, "round trips": [], **Product(scene, seed).run()}
    with tempfile.TemporaryDirectory() as folder, PrivateRedis(folder + "/redis") as redis:
        day = FleetDay(scene, seed, size, redis, folder, away)
        result = day.run()
        return {"name": f"{size} PBXs{', Redis away half of the time' if away else ''}", "size": size, "away": away,
                "callers": len(day.callers), "round trips": day.calls_of_redis, "beats": day.beats, **result}


def spread(seconds: list[float]) -> tuple[float, float]:
    """Median and 99th percentile, in milliseconds."""
    ranked = sorted(seconds) or [0.0]
    return 1000 * ranked[len(ranked) // 2], 1000 * ranked[int(0.99 * (len(ranked) - 1))]


def means(found: list[dict], one: float | None) -> dict:
    """What one row says. one: the answered calls of one PBX without a fleet."""
    count = len(found)
    row = {name: sum(result[name] for result in found) / count
           for name in ("answered", "wait", "overtakings", "429", "undelivered", "requests")}
    screens = sorted(sum((result["screen"] for result in found), []))
    row["screen p95"] = screens[int(0.95 * (len(screens) - 1))] if screens else 0.0
    trips = sum((result["round trips"] for result in found), [])
    row["share"] = row["answered"] / one if one else 1.0
    row["trips a call"] = (len(trips) - sum(result["beats"] for result in found)) / max(1, sum(
        result.get("callers", 0) for result in found))
    row["median ms"], row["p99 ms"] = spread(trips)
    return row


def wrongs(name: str, row: dict, away: bool) -> list[str]:
    """The requirements that a row does not meet."""
    found = [f"{name}: {row[what]:g} {what}" for what in ("429", "undelivered") if row[what]]
    if not away and row["overtakings"]:
        found.append(f"{name}: {row['overtakings']:g} overtakings")
    if not away and row["share"] < LEAST:
        found.append(f"{name}: {100 * row['share']:.1f} % of one PBX's answered calls")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hours", type=float, default=2.0)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--load", type=float, default=5.0, help="calls a minute, of all PBXs")
    parser.add_argument("--sizes", type=int, nargs="*", default=SIZES, help="how many PBXs")
    options = parser.parse_args()
    scene = Scene(options.load, 20, hours=options.hours)
    kinds = [(0, False), *((size, away) for away in (False, True) for size in options.sizes)]
    tasks = [(scene, seed, size, away) for size, away in kinds for seed in range(options.seeds)]
    with Pool(2) as pool:
        found = pool.map(run, tasks, chunksize=1)
    rows, table, wrong, one = {}, [], [], None
    for name in dict.fromkeys(result["name"] for result in found):
        same = [result for result in found if result["name"] == name]
        row = rows[name] = means(same, one)
        one = one or row["answered"]
        wrong += wrongs(name, row, same[0]["away"])
        table.append([name, row["answered"], f"{100 * row['share']:.1f} %", row["wait"], row["overtakings"], row["429"],
                      row["undelivered"], row["requests"], row["screen p95"], row["trips a call"], row["median ms"],
                      row["p99 ms"]])
    show(f"{options.load:g} calls a minute of all PBXs together, {options.hours:g} hours, means of {options.seeds} seeds",
         ["", "answered/h", "of one PBX", "mean wait s", "overtakings", "429s", "undelivered", "requests/min", "screen p95 s",
          "round trips a call", "median ms", "99 % ms"], table)
    save("fleet", {"hours": options.hours, "seeds": options.seeds, "load": options.load, "rows": rows, "wrong": wrong})
    for text in wrong:
        print(text)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
