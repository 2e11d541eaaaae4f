"""The journal, empty and with a million calls in it: `bench/journal.py [--calls 1000000]`.

Milliseconds of an event (two rows, on disk), of `status`, of a look in the line and of a look for something to deliver;
then the same events while calls are pruned by keep_days.
"""
from __future__ import annotations

import argparse
import tempfile
import threading
import time

from _table import median, percentile, save, show
from movidesk.journal import Journal

DAY = 86400.0


def fill(journal: Journal, count: int) -> None:
    """Ended and delivered calls of the last 180 days, written as one transaction (a bench's privilege)."""
    db, now = journal._db, time.time()
    db.execute("BEGIN")
    db.executemany("INSERT INTO calls (call_id, uniqueid, mode, state, queue, number, extension, arrived, ended)"
                   " VALUES (?, ?, 'control', 'completed', '77', '4733990777', '5252', ?, ?)",
                   (("old-%d" % n, "old-%d" % n, now - 180 * DAY * (1 - n / count), now - 180 * DAY * (1 - n / count))
                    for n in range(count)))
    for kind in ("received", "transferred", "completed"):
        db.execute("INSERT INTO events (call, kind, at, status, settled) SELECT id, ?, arrived, 'delivered', ended FROM calls",
                   (kind,))
    db.execute("COMMIT")


def timed(action, times: int) -> list[float]:
    took = []
    for number in range(times):
        begin = time.perf_counter()
        action(number)
        took.append((time.perf_counter() - begin) * 1000)
    return took


def measure(journal: Journal, times: int, label: str) -> dict[str, float]:
    def event(number: int) -> None:
        call = journal.arrive("bench", "%s-%d" % (label, number), "77", "4733990777")
        journal.hang_up(call.call_id)

    waiting = journal.arrive("bench", label + "-waiting", "77", "4733990777")
    journal.turn(waiting, 10)
    figures = {"event": median(timed(event, times)) / 2, "status": median(timed(lambda _: (
        journal.totals(), journal.waiting(), journal.requests_in_window()), times)),
        "look in line": median(timed(lambda _: journal.turn(waiting, 10), times)),
        "look for delivery": median(timed(lambda _: journal.take(0), times))}
    journal.hang_up(waiting.call_id)
    for event_, _call, _request in journal.outbox("pending", 100000):
        journal._db.execute("UPDATE events SET status = 'delivered' WHERE id = ?", (event_.id,))
    return figures


def prune_beside_calls(path: str, times: int) -> tuple[list[float], int, float]:
    """Events recorded through one connection while another prunes; ms of each, calls pruned, seconds it took."""
    pruner, recorder = Journal(path), Journal(path)
    pruned, done = [0], threading.Event()

    def prune() -> None:
        while True:
            count = pruner.prune(90)
            pruned[0] += count
            if not count:
                break
            time.sleep(0.01)
        done.set()

    thread, begin, took = threading.Thread(target=prune), time.perf_counter(), []
    thread.start()
    number = 0
    while not done.is_set():
        number += 1
        took += timed(lambda _: recorder.record("during-%d" % number, "canceled"), 1)
        time.sleep(0.005)
    thread.join()
    return took, pruned[0], time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--calls", type=int, default=1_000_000)
    parser.add_argument("--times", type=int, default=300)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="movidesk-bench-") as folder:
        empty, full = Journal(folder + "/empty.db"), Journal(folder + "/full.db")
        fill(full, options.calls)
        rounds = [(measure(empty, options.times, "a%d" % n), measure(full, options.times, "b%d" % n)) for n in range(3)]
        during, pruned, seconds = prune_beside_calls(folder + "/full.db", options.times)
    rows, ratios = [], {}
    for name in rounds[0][0]:
        bare, filled = median([a[name] for a, _ in rounds]), median([b[name] for _, b in rounds])
        ratios[name] = filled / bare
        rows.append([name, bare, filled, filled / bare, "<= 1.5"])
    show("Milliseconds, journal with %d calls" % options.calls, ["step", "empty", "full", "ratio", "goal"], rows)
    print("pruned %d calls in %.1f s; an event meanwhile: median %.2f ms, 99 %% %.2f ms, worst %.1f ms" % (
        pruned, seconds, median(during), percentile(during, 0.99), max(during)))
    save("journal", {"calls": options.calls, "ratios": ratios, "pruned": pruned, "prune_seconds": seconds,
                     "event_while_pruning_ms": {"median": median(during), "worst": max(during)}})


if __name__ == "__main__":
    main()
