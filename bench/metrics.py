"""A scrape with a million calls in the journal: `bench/metrics.py [--calls COUNT] [--times 30]`.

The service is a process of its own; Prometheus is this one, over HTTP. The first scrape after the service's start, those that
follow, the file for node_exporter, `movidesk metrics` as a process. Then what a scrape a second costs those who record events:
milliseconds of an event, with and without, in turns. Exit status 1 where a scrape, the first one too, takes longer than the goal.
"""
from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

from _table import median, percentile, save, show
from movidesk.config import load
from movidesk.context import Context
from movidesk.journal import Journal, records
from movidesk.metrics import textfile

HOME = Path(__file__).resolve().parent.parent
GOAL = 0.05      # seconds
QUEUES = 10
TURN = 4.0       # seconds with scrapes, then as many without
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(HOME / "lib")}


def count_a_year(journal: Journal) -> None:
    """Counters as a busy office has them: every ending of every queue, with durations of every length."""
    with journal.store.transaction():
        for queue in range(QUEUES):
            for bound in records.BOUNDS[:-1]:
                journal.store.observe(records.CALL_ANSWERED, "control", str(queue), bound, 1000)
                for ending in ("completed", "canceled", "lost"):
                    journal.store.observe(records.CALL_ENDED, f"control {ending}", str(queue), bound, 1000)
        for event in ("received", "transferred", "completed", "lost", "canceled"):
            for bound in records.BOUNDS[:9]:
                journal.store.observe(records.REQUEST, f"{event} accepted", seconds=bound, times=1000)


def scrape(address: str) -> float:
    """Seconds of one scrape."""
    begin = time.perf_counter()
    with urllib.request.urlopen(address, timeout=30) as answer:
        text = answer.read()
    took = time.perf_counter() - begin
    assert b"movidesk_journal_readable 1.0" in text and b'movidesk_calls_ended_total{ending="lost"' in text, text[:2000]
    return took


def computing(process: subprocess.Popen) -> float:
    """Seconds that a process has computed so far."""
    fields = Path(f"/proc/{process.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def serve(config: Path, address: str) -> tuple[subprocess.Popen, float]:
    """The running service, and the seconds of the first scrape after its start."""
    service = subprocess.Popen([sys.executable, "-m", "movidesk.cli", "--config", config, "serve"], env=ENVIRONMENT,
                               stderr=subprocess.PIPE, text=True)
    assert service.stderr
    while "metrics on" not in (line := service.stderr.readline()):
        assert line, "the service ended"
    threading.Thread(target=service.stderr.read, daemon=True).start()
    return service, scrape(address)


def events_beside(path: str, address: str, turns: int) -> dict[str, list[float]]:
    """Milliseconds of an event as a script records it, while somebody scrapes each second, and while nobody does."""
    journal, found = Journal(path), {"without": [], "with": []}
    scrapes = threading.Event()
    ends = threading.Event()

    def prometheus() -> None:
        while not ends.is_set():
            if scrapes.wait(0.1) and scrapes.is_set():
                scrape(address)
                time.sleep(1.0)
    thread = threading.Thread(target=prometheus)
    thread.start()
    number = 0
    for turn in range(2 * turns):
        scrapes.set() if turn % 2 else scrapes.clear()
        end = time.monotonic() + TURN
        while time.monotonic() < end:
            number += 1
            begin = time.perf_counter()
            call = journal.calls.arrive("pbx1", f"1.{number}", "0", "4733990777")
            journal.calls.record(call.call_id, "canceled")
            found["with" if turn % 2 else "without"].append((time.perf_counter() - begin) / 2 * 1000)
            time.sleep(0.002)
    ends.set()
    thread.join()
    journal.close()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--calls", type=int, default=1_000_000)
    parser.add_argument("--times", type=int, default=30)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="movidesk-bench-") as folder:
        journal, config, address = Path(folder) / "journal.db", Path(folder) / "movidesk.conf", "http://127.0.0.1:19473/metrics"
        text = (f"[movidesk]\ntoken = 00000000-0000-0000-0000-000000000000\nurl = http://127.0.0.1:9/\n[pbx]\nasterisk = true\n"
                f"[journal]\npath = {journal}\nkeep_days = 36500\nstandby = {folder}\n[agid]\nlisten = 127.0.0.1:0\n[metrics]\n")
        config.write_text(f"{text}listen = 127.0.0.1:19473\n")
        (Path(folder) / "textfile.conf").write_text(f"{text}textfile = {folder}/movidesk.prom\n")
        subprocess.run([sys.executable, HOME / "bench" / "_journal_steps.py", "fill", journal, str(options.calls), "100"],
                       check=True, env=ENVIRONMENT)
        book = Journal(str(journal))
        count_a_year(book)
        book.close()
        firsts = []
        for _ in range(3):
            service, first = serve(config, address)
            firsts.append(first)
            if len(firsts) < 3:
                service.terminate()
                service.wait()
        try:
            following, begin = [], computing(service)
            for _ in range(options.times):
                time.sleep(1.01)  # who asks within a second gets the last text
                following.append(scrape(address))
            computed = (computing(service) - begin) / options.times
            beside = events_beside(str(journal), address, 4)
        finally:
            service.terminate()
            service.wait()
        context, files = Context(load(f"{folder}/textfile.conf")), []
        for _ in range(options.times):
            begin = time.perf_counter()
            textfile.write(context)
            files.append(time.perf_counter() - begin)
        commands = []
        for _ in range(5):
            begin = time.perf_counter()
            subprocess.run([sys.executable, "-m", "movidesk.cli", "--config", config, "metrics"], check=True, env=ENVIRONMENT,
                           stdout=subprocess.DEVNULL)
            commands.append(time.perf_counter() - begin)
    rows = [["first scrape after a start", median(firsts), max(firsts)], ["scrape", median(following), max(following)],
            ["textfile", median(files), max(files)], ["movidesk metrics, the process", median(commands), max(commands)]]
    show(f"{options.calls} calls, {QUEUES} queues: milliseconds", ["", "median", "worst"],
         [[name, 1000 * middle, 1000 * worst] for name, middle, worst in rows],
         f"goal: a scrape at most {1000 * GOAL:g}. The service computes {1000 * computed:.0f} ms for each")
    show("An event, milliseconds", ["a scrape each second", "median", "p99", "events"],
         [[name, median(took), percentile(took, 0.99), len(took)] for name, took in beside.items()])
    save("metrics", {"calls": options.calls, "queues": QUEUES, "seconds": {name: middle for name, middle, _ in rows},
                     "computing": computed, "event_ms": {name: median(took) for name, took in beside.items()}})
    sys.exit(max(median(firsts), median(following)) > GOAL)


if __name__ == "__main__":
    main()
