"""What breaks things in bench/faults.py; `_judge.py` judges afterwards."""
from __future__ import annotations

import json
import os
import random
import re
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

from _judge import TOKEN_PARTS, Witness
from movidesk_rehearsal.asterisk_tree import need_program
from movidesk_rehearsal.rehearsal import Rehearsal, wait_for
from movidesk_sim.faults import Fault

FAULTS = ({"status": 500}, {"status": 503, "retry_after": "1"}, {"status": 429, "retry_after": "1"}, {"delay": 1.5},
          {"cut": "before"}, {"cut": "after"}, {"body": "<html>nonsense"})
DISK = 32  # MB; the small disk under the journal
FREEZE = 4.0, 12.0  # seconds for which the service is frozen


class SmallDisk:
    """A folder on a disk of its own that can be filled up; an ordinary folder where this user may not mount."""

    def __init__(self, folder: Path):
        self.folder = folder
        folder.mkdir(parents=True)
        self.mounted = os.geteuid() == 0 and subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={DISK}m", "movidesk-bench", str(folder)]).returncode == 0

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
    """The wall clock of the service and the scripts, by a library of a few lines; nobody else's. Elapsed time is not touched.

    libfaketime would do, but for Python's time.sleep(), which it lets fail as soon as the clock is set.
    """

    SOURCE = """
    #define _GNU_SOURCE
    #include <fcntl.h>
    #include <stdlib.h>
    #include <sys/mman.h>
    #include <sys/syscall.h>
    #include <sys/time.h>
    #include <time.h>
    #include <unistd.h>

    static long offset(void) {
        static long *shared;
        if (!shared) {
            int file = open(getenv("MOVIDESK_BENCH_CLOCK"), O_RDONLY | O_CLOEXEC);
            shared = mmap(0, sizeof *shared, PROT_READ, MAP_SHARED, file, 0);
            close(file);
        }
        return *shared;
    }
    int clock_gettime(clockid_t clock, struct timespec *now) {
        int done = syscall(SYS_clock_gettime, clock, now);
        if (clock == CLOCK_REALTIME) now->tv_sec += offset();
        return done;
    }
    int gettimeofday(struct timeval *restrict now, void *restrict zone) {
        struct timespec precise;
        int done = clock_gettime(CLOCK_REALTIME, &precise);
        now->tv_sec = precise.tv_sec;
        now->tv_usec = precise.tv_nsec / 1000;
        return done;
    }
    time_t time(time_t *now) {
        struct timespec precise;
        clock_gettime(CLOCK_REALTIME, &precise);
        return now ? (*now = precise.tv_sec) : precise.tv_sec;
    }
    """

    def __init__(self, folder: Path):
        self._file = folder / "clock"
        self._file.write_bytes(bytes(8))
        library = folder / "clock.so"
        subprocess.run([need_program("cc", "gcc"), "-shared", "-fPIC", "-O1", "-x", "c", "-o", str(library), "-"],
                       input=self.SOURCE.encode(), check=True)
        self.env = {"LD_PRELOAD": str(library), "MOVIDESK_BENCH_CLOCK": str(self._file)}

    def set(self, seconds: int) -> None:
        with open(self._file, "r+b") as file:
            file.write(seconds.to_bytes(8, sys.byteorder, signed=True))


class Chaos(threading.Thread):
    """Breaks one thing after the other until `end`; each is mended before the next. counts: how often what."""

    def __init__(self, rehearsal: Rehearsal, witness: Witness, disk: SmallDisk, clock: Clock | None, counts: Counter, seed: int):
        super().__init__(daemon=True, name="chaos")
        self.rehearsal, self.witness, self.disk, self.clock, self.counts = rehearsal, witness, disk, clock, counts
        self.draw, self._over, self._trouble = random.Random(seed), threading.Event(), None
        self.frozen: list[tuple[float, float]] = []  # when the service was
        self.kinds = [self.kill_service] * 5 + [self.freeze_service] * 2 + [self.lock_journal] * 2 + [self.movidesk_fails] * 10
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

    @contextmanager
    def disturbing(self):
        """While this is open those who send to Movidesk cannot work as they should."""
        begin = time.time()
        try:
            yield
        finally:
            self.witness.disturbed.append((begin, time.time()))

    def kill_service(self) -> None:
        self.counts["service killed -9"] += 1
        with self.disturbing():
            self.rehearsal.stop_service(kill=True)
        self.pause(1.5)
        self.rehearsal.start_service()

    def freeze_service(self) -> None:
        self.counts["service frozen"] += 1
        begin = time.time()
        with self.disturbing():
            os.kill(self.rehearsal.service_pid, signal.SIGSTOP)
            try:
                self._over.wait(self.draw.uniform(*FREEZE))
            finally:
                os.kill(self.rehearsal.service_pid, signal.SIGCONT)
        self.frozen.append((begin, time.time()))

    def lock_journal(self) -> None:
        self.counts["journal locked for up to 4 s"] += 1
        db = sqlite3.connect(self.rehearsal.journal_path, isolation_level=None, timeout=10)
        with self.disturbing():
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
        with self.disturbing():
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
                    self.counts[f"LEAK: {name} of {shown[:60]}"] += 1
        limits = Path(f"/proc/{self.rehearsal.service_pid}/limits").read_text()
        if not re.search(r"Max core file size +0 +0 ", limits):
            self.counts["LEAK: the service may leave a core file"] += 1


def empty_window(rehearsal: Rehearsal) -> None:
    """Let the service send at full speed: the limit is no subject of this bench, and thousands of calls an hour are over it."""
    db = sqlite3.connect(rehearsal.journal_path, isolation_level=None, timeout=10)
    db.execute("DELETE FROM requests")
    db.execute("DELETE FROM notes WHERE name = 'lowered'")  # after 429s: as if other programs used the account
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
