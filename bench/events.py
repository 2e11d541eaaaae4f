"""Milliseconds that a channel waits for one event, on a real Asterisk: `bench/events.py [--calls 200] [--asterisk 22]`. With
`--viewers 20` so many look at the panel meanwhile.

Interleaved in one run, so that a noisy machine touches all alike: an empty step, a look at the service's heartbeat, a bare
FastAGI server, a bare Python script, CURL() to the simulator, and the product's `transferred` through FastAGI and through the
script, each committed to disk; with Movidesk answering at once, and after 4 s. Beside them a bare durable SQLite commit on
the same disk.
"""
from __future__ import annotations

import argparse
import re
import socket
import socketserver
import sqlite3
import sys
import tempfile
import threading
import time

from _line import Viewers
from _table import median, percentile, save, show
from movidesk.pbx.heartbeat import path_beside
from movidesk_rehearsal.asterisk import find_asterisk, free_port
from movidesk_rehearsal.rehearsal import Rehearsal, wait_for
from movidesk_sim.faults import Fault

STEPS = {
    "nothing": "NoOp()",
    "heartbeat": "Set(AGE=$[${{EPOCH}} - ${{STAT(M,{alive})}}])",
    "bare FastAGI": "AGI(agi://{bare}/bare)",
    "bare Python": "AGI(bare.py)",
    "CURL()": "Set(CURLED=${{CURL({url}/control/limit)}})",
    "FastAGI event": "AGI(agi://{agid}/transferred,5252)",
    "script event": "AGI(movidesk/transferred,5252)",
}

BARE_SCRIPT = f"""#!{sys.executable}
import sys
while sys.stdin.readline().strip():
    pass
print('SET VARIABLE BARE "ok"', flush=True)
sys.stdin.readline()
"""


class BareFastAGI(socketserver.StreamRequestHandler):
    """What no FastAGI server can be cheaper than: read the environment, set one variable."""

    disable_nagle_algorithm = True

    def handle(self) -> None:
        while self.rfile.readline().strip():
            pass
        self.wfile.write(b'SET VARIABLE BARE "ok"\n')
        self.rfile.readline()


def dialplan(calls: int, bare: str, agid: str, url: str, alive: str) -> str:
    """A context that runs every step `calls` times and says how long each took, in microseconds."""
    lines = ["[bench]", "exten => run,1,Set(COUNT=0)",
             "same => n(next),Set(COUNT=$[${COUNT} + 1])"]
    for number, step in enumerate(STEPS.values()):
        lines += [f"same => n,Set(MOVIDESK_ID=bench-${{UNIQUEID}}-{number}-${{COUNT}})",
                  "same => n,Set(FROM=${STRFTIME(,,%s%6q)})",
                  "same => n," + step.format(bare=bare, agid=agid, url=url, alive=alive),
                  f"same => n,Verbose(0,BENCH {number} ${{FROM}} ${{STRFTIME(,,%s%6q)}})"]
    lines += [f"same => n,GotoIf($[${{COUNT}} < {calls}]?next)", "same => n,Verbose(0,BENCH END)", "same => n,Hangup()"]
    return "\n".join(lines)


def durable_commits(folder: str, count: int) -> list[float]:
    """Milliseconds of one-row commits, WAL and synchronous=FULL like the journal's."""
    db = sqlite3.connect(folder + "/bare.db", isolation_level=None)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    db.execute("CREATE TABLE t (a INTEGER PRIMARY KEY, b TEXT)")
    took = []
    for number in range(count):
        begin = time.perf_counter()
        db.execute("INSERT INTO t (b) VALUES (?)", (f"event {number}",))
        took.append((time.perf_counter() - begin) * 1000)
    return took


def measure(rehearsal: Rehearsal, calls: int) -> dict[str, list[float]]:
    """Run the context once; step -> milliseconds of each call."""
    seen = rehearsal.pbx.log().count("BENCH END")
    rehearsal.pbx.cli("channel originate Local/run@bench/n application Wait 3600")
    wait_for("the bench's calls", lambda: rehearsal.pbx.log().count("BENCH END") > seen, seconds=calls * 2 + 60,
             instead=rehearsal.pbx.log_tail)
    rehearsal.pbx.cli("channel request hangup all")
    rows = re.findall(r"BENCH (\d) (\d+) (\d+)", rehearsal.pbx.log())[-calls * len(STEPS):]
    names = list(STEPS)
    found: dict[str, list[float]] = {name: [] for name in names}
    for number, begin, end in rows:
        found[names[int(number)]].append((int(end) - int(begin)) / 1000)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--calls", type=int, default=200)
    parser.add_argument("--asterisk", default="22")
    parser.add_argument("--viewers", type=int, default=0, help="of the panel")
    options = parser.parse_args()
    bare = socketserver.ThreadingTCPServer(("127.0.0.1", 0), BareFastAGI)
    bare.daemon_threads = True
    threading.Thread(target=bare.serve_forever, daemon=True).start()
    with tempfile.TemporaryDirectory(prefix="movidesk-bench-") as folder:
        port = free_port(socket.SOCK_STREAM)
        settings = {"panel": [f"listen = 127.0.0.1:{port}"]} if options.viewers else {}
        rehearsal = Rehearsal(find_asterisk(options.asterisk), folder, limit=1000, settings=settings)
        script = rehearsal.pbx.agi_dir / "bare.py"
        script.write_text(BARE_SCRIPT)
        script.chmod(0o755)
        rehearsal.more = dialplan(options.calls, f"127.0.0.1:{bare.server_address[1]}", rehearsal.agid,
                                  rehearsal.simulator.home, path_beside(str(rehearsal.journal_path)))
        rehearsal.write_dialplan()
        with rehearsal, Viewers(port, options.viewers):
            found = {"0 s": measure(rehearsal, options.calls)}
            rehearsal.simulator.faults.rules = [Fault(delay=4.0, count=10 ** 6)]
            found["4 s"] = measure(rehearsal, options.calls)
            rehearsal.simulator.faults.rules = []
        commit = median(durable_commits(folder, options.calls))
    report(found, commit, options.calls)


def report(found: dict, commit: float, calls: int) -> None:
    rows, medians = [], {}
    for latency, steps in found.items():
        for name, took in steps.items():
            medians[latency, name] = median(took)
            rows.append([latency, name, median(took), percentile(took, 0.9), len(took)])
    show(f"Milliseconds per event, {calls} calls each", ["API answers in", "step", "median", "p90", "calls"], rows)
    base, ratios = medians["0 s", "bare FastAGI"] + commit, []
    ratios.append(["FastAGI event / (bare FastAGI + bare commit)", medians["0 s", "FastAGI event"] / base, "<= 2"])
    ratios.append(["script event / bare Python", medians["0 s", "script event"] / medians["0 s", "bare Python"], "<= 2"])
    for name in ("FastAGI event", "script event"):
        ratios.append([f"{name}, API at 4 s / at 0 s", medians["4 s", name] / medians["0 s", name], "<= 1.1"])
    show(f"Ratios (bare durable commit: {commit:.2f} ms)", ["ratio", "is", "goal"], ratios)
    save("events", {"calls": calls, "commit_ms": commit,
                    "median_ms": {f"{name}, API {latency}": value for (latency, name), value in medians.items()},
                    "ratios": {row[0]: row[1] for row in ratios}})


if __name__ == "__main__":
    main()
