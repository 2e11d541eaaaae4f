"""Work in processes of its own, each with a journal of its own."""
from __future__ import annotations

import multiprocessing
import os

from movidesk.journal import Journal
from support.clocks import Clock

FORK = multiprocessing.get_context("fork")


def in_processes(*works):
    """What each work() returns in a process of its own; fails where one fails."""
    pipes = [FORK.Pipe(duplex=False) for _ in works]

    def run(work, mine):
        try:
            mine.send(work())
        except Exception as error:
            mine.send(error)

    processes = [FORK.Process(target=run, args=(work, mine)) for work, (_, mine) in zip(works, pipes)]
    for process in processes:
        process.start()
    found = [theirs.recv() if theirs.poll(20) else TimeoutError("no answer in 20 s") for theirs, _ in pipes]
    for process in processes:
        process.kill()
        process.join()
    assert not [result for result in found if isinstance(result, Exception)]
    return found


def as_nobody(work):
    """What work() returns in a process without root's rights."""
    def run():
        if os.geteuid() == 0:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
        return work()

    return in_processes(run)[0]


def race(path, work, count=4):
    """Run work(journal) in several processes at once on one file; what each returned."""
    start = FORK.Barrier(count)

    def run():
        start.wait(10)
        return work(Journal(path, Clock()))

    return in_processes(*[run] * count)
