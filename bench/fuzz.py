"""What strangers send, a million times: `bench/fuzz.py [--count 1000000] [--seed 1] [--only TARGET]`, `--replay FILE`.

Inputs are true ones with accidents (_inputs.py): a seeded mutator of our own, because what matters here are whole
sessions (an environment, answers, Movidesk behind them), which atheris would have to find byte by byte, and of which
hypothesis makes a hundred a second. The real code runs (_targets.py, _scene.py): verbs, channel, journal, client with
requests and urllib3, FastAGI handler, both HTTP servers. What no input may do:
  raise anything but what is documented, or reach an edge that logs a traceback      take longer than a second
  make a command to Asterisk that is not one command of ours, or dial outside the pattern
  run a program, open a connection, or touch a file outside its folder               (seen by an audit hook)
  give a call two endings or too long an id, or show a secret anywhere
Exit 1 where one did; the input is kept under bench/results/, and --replay FILE runs it again.
"""
from __future__ import annotations

import argparse
import ast
import hashlib
import io
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from multiprocessing import Pool
from pathlib import Path

import movidesk
from _inputs import Draw
from _scene import Fault, Scene, has_secret, kind_of
from _table import RESULTS, save, show
from _targets import TARGETS

LIMIT = 1.0        # seconds that an input may take
HANG = 5.0         # seconds after which it is cut off
CHUNK = 1000       # inputs that one worker runs in a row
ENOUGH = 20        # failures after which a chunk is given up
KINDS = 8          # ways to end that the table shows for each target

LIBRARIES = tuple(os.path.realpath(path) for path in (sys.prefix, sys.base_prefix, movidesk.__path__[0]))
READ_ELSEWHERE = ("/proc/sys/kernel/random/boot_id", "/dev/zero", "/dev/full", "/dev/null")
NEVER = {"subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "os.forkpty", "pty.spawn",
         "os.kill", "socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto", "ctypes.dlopen"}
FILES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.chmod", "os.chown", "os.link", "os.symlink", "os.truncate",
         "shutil.copyfile", "shutil.move", "sqlite3.connect", "os.listdir", "os.scandir"}


class Hang(BaseException):
    """An input was cut off."""


class Guard:
    """An audit hook: tells what an input made the process do that nothing may."""

    def __init__(self, folder: Path):
        self._folder = str(folder) + os.sep
        self.armed, self.reads_elsewhere, self.seen = False, False, []
        sys.addaudithook(self)

    def __call__(self, event: str, details: tuple) -> None:
        if self.armed and not self._harmless(event, details):
            self.armed = False  # to tell of it takes files and code
            self.seen.append(f"{event} {details[:3]!r}")
            self.armed = True

    def _harmless(self, event: str, details: tuple) -> bool:
        if event == "open":
            path, _, flags = details
            reads = not flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC)
            return isinstance(path, int) or self._inside(path) or reads and (self.reads_elsewhere or self._library(path))
        if event in FILES:
            return all(self._inside(path) or event == "os.listdir" and self._library(path)
                       for path in details[:2] if isinstance(path, (str, bytes)))
        if event in ("compile", "exec"):  # an import that waited until it was needed
            name = details[-1] if event == "compile" else details[0].co_filename
            return isinstance(name, str) and self._library(name)
        return event not in NEVER

    def _inside(self, path) -> bool:
        return (os.path.normpath(os.fsdecode(path)) + os.sep).startswith(self._folder)

    @staticmethod
    def _library(path) -> bool:
        return os.path.realpath(os.fsdecode(path)).startswith(LIBRARIES) or os.fsdecode(path) in READ_ELSEWHERE \
            or os.fsdecode(path).startswith("<frozen ")


class Worker:
    """One process: its scene and its targets, made when they are first needed."""

    def __init__(self, folder: Path):
        os.environ.clear()  # and nothing depends on whose machine this is
        os.environ["TMPDIR"] = str(folder / "tmp")
        (folder / "tmp").mkdir()
        os.mkfifo(folder / "fifo")
        self.scene, self.guard, self._targets = Scene(folder), Guard(folder), {}
        signal.signal(signal.SIGALRM, self._cut_off)
        traceback.print_exc = lambda file: print(f"Traceback: {sys.exc_info()[1]!r}", file=file)  # likewise

    @staticmethod
    def _cut_off(*_) -> None:
        raise Hang()

    def target(self, name: str):
        if name not in self._targets:
            self._targets[name] = target = TARGETS[name][0](self.scene)
            draw = Draw("warm-up")
            for _ in range(50):  # what is imported late is imported now
                self.attempt(target, target.make(draw))
        return self._targets[name]

    def attempt(self, target, given) -> tuple[str, float, str]:
        """Run one input: how it ended, the seconds it took, and what is wrong ('' for nothing)."""
        sys.stderr, real = io.StringIO(), sys.stderr
        self.guard.seen.clear()
        wrong = ended = ""
        begin = time.perf_counter() - kept_waiting()
        signal.setitimer(signal.ITIMER_REAL, HANG)
        self.guard.armed, self.guard.reads_elsewhere = True, hasattr(target, "reads_elsewhere")
        try:
            ended = target.run(given)
            self.scene.check_log()
        except Hang:
            wrong = "hangs: was cut off"
        except Fault as fault:
            wrong = str(fault)
        except Exception:
            self.guard.armed = False  # to print a traceback reads and compiles
            wrong = "crash: " + traceback.format_exc()
        finally:
            self.guard.armed = False
            signal.setitimer(signal.ITIMER_REAL, 0)
            seconds = time.perf_counter() - kept_waiting() - begin
            sys.stderr, said = real, sys.stderr.getvalue()
        if "Traceback" in said:
            wrong = wrong or "an exception reached the edge: " + said
        if has_secret(said):
            wrong = "a secret is on stderr: " + said
        if self.guard.seen:
            wrong = "; ".join(self.guard.seen)
        return ended, seconds, wrong

    def judge(self, target, given) -> tuple[str, float, str]:
        """As attempt; an input that was slow is tried thrice, for the machine may have been busy."""
        for _ in range(3):
            ended, seconds, wrong = self.attempt(target, given)
            if wrong or seconds <= LIMIT:
                return ended, seconds, wrong
        return ended, seconds, f"took {seconds:.1f} s"


def kept_waiting() -> float:
    """Seconds that this process was ready to run and other processes ran: what a busy machine takes is no input's fault."""
    try:
        return int(Path("/proc/self/schedstat").read_text().split()[1]) / 1e9
    except FileNotFoundError:
        return 0.0


worker: Worker | None = None  # each process of the pool has one


def start(folder: str) -> None:
    global worker
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    worker = Worker(Path(tempfile.mkdtemp(dir=folder)))


def work(task: tuple[str, str, int]):
    """One chunk: how its inputs ended, the slowest, and the failures as (what is wrong, input)."""
    name, seed, count = task
    target, draw = worker.target(name), Draw(seed)
    ends, slowest, failures = Counter(), 0.0, []
    for _ in range(count):
        given = target.make(draw)
        ended, seconds, wrong = worker.judge(target, given)
        slowest = max(slowest, seconds)
        if not wrong:
            ends[ended] += 1
            continue
        failures.append((wrong, given))
        if len(failures) >= ENOUGH:
            break
    return name, ends, slowest, failures


def keep(name: str, wrong: str, given) -> Path:
    """Write a failing input where it can be replayed."""
    RESULTS.mkdir(exist_ok=True)
    text = repr((name, given))
    path = RESULTS / (f"fuzz-{name.lower()}-{hashlib.sha256(text.encode()).hexdigest()[:10]}.txt")
    comment = wrong.strip().replace("\n", "\n# ")
    path.write_text(f"# {comment}\n{text}\n")
    return path


def replay(file: Path, folder: str) -> int:
    start(folder)
    name, given = ast.literal_eval("".join(line for line in file.open() if not line.startswith("#")))
    ended, seconds, wrong = worker.judge(worker.target(name), given)
    print(f"{name}: {wrong or ended} ({seconds * 1000:.1f} ms)")
    return 1 if wrong else 0


def divide(count: int, seed: int, names) -> list[tuple[str, str, int]]:
    """The chunks of all targets, well mixed: (target, the chunk's own seed, how many)."""
    tasks, whole = [], sum(TARGETS[name][1] for name in names)
    for name in names:
        wanted = round(count * TARGETS[name][1] / whole)
        tasks += [(name, f"{seed}/{name}/{at}", min(CHUNK, wanted - at)) for at in range(0, wanted, CHUNK)]
    random.Random(seed).shuffle(tasks)
    return tasks


def fuzz(count: int, seed: int, names, folder: str) -> int:
    found = {name: {"inputs": 0, "failures": 0, "slowest_ms": 0.0, "ends": Counter(), "kinds": Counter()}
             for name in names}
    begin = time.monotonic()
    with Pool(os.cpu_count(), start, [folder]) as pool:
        for name, ends, slowest, failures in pool.imap_unordered(work, divide(count, seed, names)):
            target = found[name]
            target["ends"] += ends
            target["inputs"] += sum(ends.values()) + len(failures)
            target["failures"] += len(failures)
            target["slowest_ms"] = max(target["slowest_ms"], slowest * 1000)
            for wrong, given in failures:
                kind = kind_of(wrong.strip().splitlines()[-1])
                if not target["kinds"][kind]:
                    path = keep(name, wrong, given)
                    print(f"FAILED {name}: {wrong.strip()[-2000:]}\n  kept in {path}", flush=True)
                target["kinds"][kind] += 1
        pool.close()
        pool.join()
    seconds, used = time.monotonic() - begin, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = used.ru_utime + used.ru_stime
    inputs, failed = (sum(target[key] for target in found.values()) for key in ("inputs", "failures"))
    show(f"{inputs} inputs from strangers (seed {seed}, {seconds:.0f} s, {cpu:.0f} s of CPU)",
         ["target", "inputs", "how they ended", "slowest ms", "failures"],
         [[name, target["inputs"], how(target["ends"]), target["slowest_ms"], target["failures"]]
          for name, target in found.items()])
    if len(found) > 1:
        save("fuzz", {"seed": seed, "seconds": seconds, "cpu": cpu, "targets": found})
    print(f"FAILED: {failed} inputs" if failed else "good: no input did what none may")
    return 1 if failed else 0


def how(ends: Counter) -> str:
    """The most frequent ways to end, one a line."""
    lines = [f"{times:7d} {end}" for end, times in ends.most_common(KINDS)]
    if len(ends) > KINDS:
        rest = sum(ends.values()) - sum(times for _, times in ends.most_common(KINDS))
        lines.append(f"{rest:7d} otherwise, in {len(ends) - KINDS} ways")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", choices=TARGETS, metavar="TARGET", help=", ".join(TARGETS))
    parser.add_argument("--replay", type=Path, metavar="FILE")
    options = parser.parse_args()
    folder = tempfile.mkdtemp(prefix="movidesk-fuzz-", dir="/dev/shm" if os.path.isdir("/dev/shm") else None)
    try:
        if options.replay:
            return replay(options.replay, folder)
        names = [options.only] if options.only else list(TARGETS)
        return fuzz(options.count, options.seed, names, folder)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    sys.exit(main())
