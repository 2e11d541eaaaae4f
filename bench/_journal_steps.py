"""What bench/journal.py measures, run with one version of the product (PYTHONPATH): fill a journal, or time each step on it.

    _journal_steps.py fill PATH ENDED PENDING      so many ended calls that Movidesk knows; so many events that wait
    _journal_steps.py measure TIMES LABEL PATH...  prints the median milliseconds of each step, on each journal in turn, as JSON
"""
from __future__ import annotations

import json
import statistics
import sys
import time

from movidesk.agi import runner
from movidesk.agi.channel import Channel
from movidesk.config import load
from movidesk.context import Context
from movidesk.delivery import api
from movidesk.journal import Journal

DAY = 86400.0
#: What an outage leaves of a call: mode, the state it ended in, its agent, and its events, each `told` or waiting.
LEFTOVERS = (
    ("control", "completed", "5252", (("received", False), ("transferred", False), ("completed", False))),
    ("control", "completed", "5252", (("received", True), ("transferred", True), ("completed", False))),
    ("control", "canceled", "", (("received", False), ("canceled", False))),
    ("control", "canceled", "5252", (("received", True), ("canceled", False))),
    ("control", "lost", "", (("received", True), ("lost", False), ("link", False))),
    ("watch", "start_canceled", "", (("start_canceled", False),)),
)


def fill(path: str, ended: int, pending: int) -> None:
    """Write the calls of the last 180 days, and then what an outage left, in one transaction each (a bench's privilege)."""
    db, now = Journal(path).store.connection, time.time()
    db.execute("BEGIN")
    insert = ("INSERT INTO calls (call_id, uniqueid, mode, state, queue, number, extension, arrived, ended)"
              " VALUES (?1, ?1, ?2, ?3, ?4, '4733990777', ?5, ?6, ?6)")
    db.executemany(insert, ((f"old-{n}", "control", "completed", "77", "5252", now - 180 * DAY * (1 - n / ended))
                            for n in range(ended)))
    for kind in ("received", "transferred", "completed"):
        db.execute("INSERT INTO events (call, kind, at, status, settled) SELECT id, ?, arrived, 'delivered', ended FROM calls",
                   (kind,))
    db.execute("COMMIT")
    db.execute("BEGIN")
    owed = number = 0
    while owed < pending:
        mode, state, extension, events = LEFTOVERS[number % len(LEFTOVERS)]
        call = db.execute(insert, (f"owed-{number}", mode, state, str(77 + number % 3), extension, now - DAY / 2)).lastrowid
        number += 1
        for kind, told in events:
            db.execute("INSERT INTO events (call, kind, at, extension, status) VALUES (?, ?, ?, ?, ?)",
                       (call, kind, now - DAY / 2, extension if kind != "completed" else "", "delivered" if told else "pending"))
            owed += not told
    db.execute("COMMIT")


class Asterisk:
    """The channel's other end, in memory: answers GET VARIABLE from what was set, everything else with success."""

    def __init__(self, uniqueid: str):
        self.variables: dict[str, str] = {}
        self.lines = [b"agi_uniqueid: %s\n" % uniqueid.encode(), b"agi_callerid: 4733990777\n", b"\n"]

    def write(self, data: bytes) -> None:
        words = data.decode().split(" ", 3)
        answer = b"200 result=1\n"
        if words[0] == "SET":
            self.variables[words[2].lstrip("_")] = words[3].strip()[1:-1]
        elif words[0] == "GET":
            value = self.variables.get(words[2].strip())
            answer = b"200 result=0\n" if value is None else b"200 result=1 (%s)\n" % value.encode()
        self.lines.append(answer)

    def flush(self) -> None:
        pass

    def readline(self, _limit: int = -1) -> bytes:
        return self.lines.pop(0)


class Movidesk:
    """A Movidesk that answers at once, the same to everything."""

    answer = '"5252"'

    def send(self, *_, **__) -> api.Delivered:
        return api.Delivered(self.answer)


class BenchContext(Context):
    """A context whose client is the bench's Movidesk."""

    client = None


class Steps:
    """Times steps of lives on one journal. took: step -> milliseconds."""

    def __init__(self, path: str, label: str):
        with open(path + ".conf", "w", encoding="ascii") as file:
            file.write("[movidesk]\nurl = http://127.0.0.1:9/\ntoken = 11111111-2222-3333-4444-555555555555\n"
                       f"[pbx]\nname = bench\n[journal]\npath = {path}\n")
        self.context = BenchContext(load(path + ".conf"), wake=lambda: None, is_script=False)
        self.movidesk = self.context.client = Movidesk()
        self.journal = self.context.journal
        self.label, self.took = label, {}

    def time(self, name: str, action, *args):
        begin = time.perf_counter()
        result = action(*args)
        self.took.setdefault(name, []).append((time.perf_counter() - begin) * 1000)
        return result

    def verb(self, channel: Asterisk, verb: str, *arguments: str, name: str = "") -> None:
        """Run a verb as the service does, without the network between."""
        pair = Channel(channel, channel)
        if self.time(name or verb, runner.run, verb, pair, self.context, list(arguments)) != runner.OK:
            raise SystemExit(f"{verb} failed")
        channel.lines += [b"agi_uniqueid: %s\n" % pair.uniqueid.encode(), b"agi_callerid: 4733990777\n", b"\n"]

    def empty_window(self) -> None:
        self.journal.store.connection.execute("DELETE FROM requests")

    def lives(self, number: int) -> None:
        """One life of each sort, in a queue of which others' events wait."""
        one, two, three, four, five = (Asterisk(f"{self.label}{number}.{which}") for which in range(5))
        self.empty_window()
        self.movidesk.answer = '"5252"'
        self.verb(one, "received", "77", name="received, asks")
        self.verb(one, "transferred", "5252")
        self.movidesk.answer = '"4"'
        self.verb(two, "received", "77", name="received, asks")
        self.verb(three, "received", "77", name="received, second in line")
        self.verb(two, "received", "77", name="received, not yet again")
        self.verb(one, "completed", "https://pbx.example.com/1.wav")
        self.verb(two, "canceled")
        self.verb(three, "lost", "https://pbx.example.com/1.wav")
        self.verb(four, "arrived", "77")
        self.verb(four, "start_transferred", "77", "5252")
        self.verb(four, "hangup")
        self.verb(five, "arrived", "77")
        self.verb(five, "start_canceled", "77")
        self.verb(four, "link", "https://pbx.example.com/1.wav")

    def look(self) -> None:
        """What the delivery, the alarms, the sweep and an admin look at."""
        self.empty_window()
        job, _ = self.time("take", self.journal.outbox.take, 10)
        self.time("retry", self.journal.outbox.retry, job, 3600.0, "bench")
        self.time("take, nothing may go", self.journal.outbox.take, 0)
        self.time("alarms: unsent", self.journal.next_events.unsent_since, -1.0)
        self.time("sweep: unended", self.journal.overview.unended)
        self.time("conversion", self.journal.outbox.conversions)
        self.time("status", lambda: (self.journal.overview.totals(), self.journal.overview.waiting(),
                                     self.journal.limits.requests_in_window()))

    def tidy(self) -> None:
        """Deliver what these lives have left, so that the next round finds the journal as this one did."""
        db = self.journal.store.connection
        db.execute("UPDATE events SET status = 'delivered' WHERE status = 'pending' AND call IN"
                   " (SELECT id FROM calls WHERE uniqueid >= ? AND uniqueid < ?)", (self.label, self.label + "~"))
        self.empty_window()


def measure(times: int, label: str, paths: list[str]) -> list[dict[str, float]]:
    """Step -> median ms, for each journal. They take turns after each life: a noisy machine touches all alike."""
    each = [Steps(path, label) for path in paths]
    for number in range(times):
        for steps in each:
            steps.lives(number)
            left = steps.journal.calls.arrive("bench", f"{label}{number}.9", "77", "1")  # so that there is an event to take
            steps.journal.calls.hang_up(left.call_id)
            steps.look()
    for steps in each:
        steps.tidy()
    return [{name: statistics.median(took) for name, took in steps.took.items()} for steps in each]


def main() -> None:
    action, *rest = sys.argv[1:]
    if action == "fill":
        fill(rest[0], *map(int, rest[1:]))
    else:
        print(json.dumps(measure(int(rest[0]), rest[1], rest[2:])))


if __name__ == "__main__":
    main()
