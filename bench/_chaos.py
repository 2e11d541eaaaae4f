"""What breaks things in bench/faults.py, and what judges afterwards."""
from __future__ import annotations

import json
import os
import random
import re
import sqlite3
import subprocess
import threading
import time
from collections import Counter
from pathlib import Path

from movidesk_sim.asterisk_tree import need_program
from movidesk_sim.control import Fault
from movidesk_sim.model import EXAMPLE_TOKEN
from movidesk_sim.rehearsal import Rehearsal, wait_for

FAULTS = ({"status": 500}, {"status": 503, "retry_after": "1"}, {"status": 429, "retry_after": "1"}, {"delay": 1.5},
          {"cut": "before"}, {"cut": "after"}, {"body": "<html>nonsense"})
DISK = 32  # MB; the small disk under the journal
ORDER = {"receivedCall": 0, "transferedCall": 1, "completedCall": 2, "canceledCall": 2, "lostCall": 2}
WRONG = ("lost", "with two endings", "with a wrong ending", "out of order", "that nobody made", "told in a wrong form")
#: What the simulator complains of, though nobody could help it. It keeps an offered agent for a time: a transfer that could not
#: be told in it may come after the next one. And a question whose sender was killed, or gave up, may be heard when all is over.
LATE = {"is still in call": "two calls with one agent, told late",
        "receivedCall .* this call is already": "asked twice, the first question heard last"}
#: Any of these in a file, an output or a process list is a leak.
TOKEN_PARTS = [part.encode() for part in (EXAMPLE_TOKEN[:8], EXAMPLE_TOKEN[-12:])]


class SmallDisk:
    """A folder on a disk of its own that can be filled up; an ordinary folder where this user may not mount."""

    def __init__(self, folder: Path):
        self.folder = folder
        folder.mkdir(parents=True)
        self.mounted = os.geteuid() == 0 and subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=%dm" % DISK, "movidesk-bench", str(folder)]).returncode == 0

    def fill(self) -> None:
        with open(self.folder / "filling", "wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(4096))
            except OSError:
                return  # full, as was wanted

    def empty(self) -> None:
        (self.folder / "filling").unlink()

    def close(self) -> None:
        if self.mounted:
            subprocess.run(["umount", "--lazy", str(self.folder)], check=True)


class Clock:
    """The wall clock of the service and the scripts, by libfaketime; nobody else's. Elapsed time is not touched."""

    def __init__(self, file: Path):
        self._file = file
        self.set(0)
        need_program("faketime", "faketime")
        library, = Path("/usr/lib").glob("*/faketime/libfaketime.so.1")
        self.env = {"LD_PRELOAD": str(library), "FAKETIME_TIMESTAMP_FILE": str(file), "FAKETIME_CACHE_DURATION": "1",
                    "FAKETIME_DONT_FAKE_MONOTONIC": "1"}

    def set(self, seconds: int) -> None:
        new = self._file.with_suffix(".new")
        new.write_text("%+d\n" % seconds)
        new.rename(self._file)


class Chaos(threading.Thread):
    """Breaks one thing after the other until `end`; each is mended before the next. counts: how often what."""

    def __init__(self, rehearsal: Rehearsal, disk: SmallDisk, clock: Clock | None, counts: Counter, seed: int):
        super().__init__(daemon=True, name="chaos")
        self.rehearsal, self.disk, self.clock, self.counts = rehearsal, disk, clock, counts
        self.draw, self._over, self._trouble = random.Random(seed), threading.Event(), None
        self.kinds = [self.kill_service] * 5 + [self.lock_journal] * 2 + [self.movidesk_fails] * 10
        self.kinds += [self.fill_disk] * 2 if disk.mounted else []
        self.kinds += [self.jump_clock] * 2 if clock else []

    def run(self) -> None:
        try:
            while not self._over.wait(0.5 + self.draw.random()):
                self.draw.choice(self.kinds)()
                empty_window(self.rehearsal)
                self._look_at_processes()
        except Exception as error:
            self._trouble = error

    def end(self) -> None:
        """Stop breaking; raises what the chaos itself failed of."""
        self._over.set()
        self.join()
        if self._trouble:
            raise self._trouble
        self.rehearsal.simulator.faults.rules = []

    def pause(self, most: float) -> None:
        self._over.wait(most * self.draw.random())

    def kill_service(self) -> None:
        self.counts["service killed -9"] += 1
        self.rehearsal.stop_service(kill=True)
        self.pause(1.5)
        self.rehearsal.start_service()

    def lock_journal(self) -> None:
        self.counts["journal locked for up to 4 s"] += 1
        db = sqlite3.connect(self.rehearsal.journal_path, isolation_level=None, timeout=10)
        db.execute("BEGIN IMMEDIATE")
        self.pause(4)
        db.close()

    def movidesk_fails(self) -> None:
        """Now and then: each 429 of a row doubles the pause, so that what piles up would stop everything."""
        rules = self.rehearsal.simulator.faults.rules
        if not rules:
            self.counts["Movidesk fails"] += 1
            fault = self.draw.choice(FAULTS)
            rules.append(Fault(**fault, count=1 if fault.get("status") == 429 else self.draw.randint(1, 5)))

    def fill_disk(self) -> None:
        self.counts["disk full"] += 1
        self.disk.fill()
        self.pause(3)
        self.disk.empty()

    def jump_clock(self) -> None:
        self.counts["clock set by an hour"] += 1
        self.clock.set(self.draw.choice((-3600, 0, 3600)))

    def _look_at_processes(self) -> None:
        """What `ps` shows everybody of every process, the environment that it shows their user, and core files."""
        for process in Path("/proc").glob("[0-9]*"):
            for name in ("cmdline", "environ"):
                try:
                    shown = (process / name).read_bytes()
                except OSError:
                    continue  # it has ended
                if any(part in shown for part in TOKEN_PARTS):
                    self.counts["LEAK: %s of %s" % (name, shown[:60])] += 1
        limits = Path("/proc/%d/limits" % self.rehearsal.service_pid).read_text()
        if not re.search(r"Max core file size +0 +0 ", limits):
            self.counts["LEAK: the service may leave a core file"] += 1


def empty_window(rehearsal: Rehearsal) -> None:
    """Let the service send at full speed: the limit is no subject of this bench, and thousands of calls an hour are over it."""
    db = sqlite3.connect(rehearsal.journal_path, isolation_level=None, timeout=10)
    db.execute("DELETE FROM requests")
    db.close()


def settle(rehearsal: Rehearsal) -> float:
    """The last service takes in what is left, ends what died, and delivers; the seconds that this took."""
    begin = time.monotonic()
    rehearsal.stop_service()
    rehearsal.start_service()

    def delivered() -> bool:
        status = rehearsal.cli("status", "--json")
        if not status.stdout:
            print(status.stderr)
            return False
        empty_window(rehearsal)
        facts = json.loads(status.stdout)
        return not facts["calls"]["open"] and not facts["outbox"]["pending"]

    wait_for("everything is delivered", delivered, 600, lambda: rehearsal.cli("status").stdout)
    return time.monotonic() - begin


def judge(rehearsal: Rehearsal, truth: dict[str, set[str]]) -> Counter:
    """What Movidesk has, beside what the callers did. truth: call id -> the endings that are true of it."""
    found: Counter[str] = Counter(calls=len(truth), **dict.fromkeys(WRONG, 0))
    heard: dict[str, list[str]] = {}
    for entry in rehearsal.model.log:
        if entry["status"] == 200:
            heard.setdefault(entry["params"]["id"], []).append(entry["endpoint"].replace("asterisk_", ""))
    for call_id in {**truth, **heard}:
        told, endings = heard.get(call_id, []), truth.get(call_id)
        ended = {name for name in told if ORDER[name] == 2}
        wrong = {"lost": not ended, "with two endings": len(ended) > 1,
                 "with a wrong ending": len(ended) == 1 and not ended & {ending + "Call" for ending in endings or ()},
                 "out of order": [ORDER[name] for name in told] != sorted(ORDER[name] for name in told)}
        if endings is None:
            wrong = {"that nobody made": True}
        found.update(name for name, is_so in wrong.items() if is_so)
        if any(wrong.values()):
            print("%s: %s; true: %s, told: %s" % (call_id, ", ".join(name for name in wrong if wrong[name]),
                                                 " or ".join(sorted(endings or ["nothing"])), ", ".join(told) or "nothing"))
    found["sent twice, an answer was cut or its sender killed"] = rehearsal.model.duplicates
    for problem in rehearsal.model.problems:
        kind = next((name for form, name in LATE.items() if re.search(form, problem["text"])), "told in a wrong form")
        found[kind] += 1
        print("%s: %s" % (kind, problem["text"]))
    return found


def leaks(folder: Path, but: Path) -> list[str]:
    """The files in a folder that hold the token or a good part of it, except the configuration."""
    found = []
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink() and path != but:
            with open(path, "rb") as file:
                if any(part in file.read() for part in TOKEN_PARTS):
                    found.append(str(path))
    return found


