"""The panel with 500 callers in line and 20 viewers: `bench/panel.py [--callers 500] [--viewers 20] [--seconds 12]`. Checked.

The service and the callers are those of bench/waiting.py. Stretches with viewers and without take turns, so that a noisy machine
touches both alike: what the service uses more with viewers is what the panel costs. Meanwhile somebody searches, opens the page,
and joins, 60 times each.
"""
from __future__ import annotations

import argparse
import asyncio
import socket
import sys
import tempfile
import time

from _line import caller, used
from _table import median, percentile, save, show
from movidesk_rehearsal.asterisk import find_asterisk, free_port
from movidesk_rehearsal.rehearsal import Rehearsal

ROUNDS = 3     # stretches without viewers, and with
ASKED = 60     # requests of each kind, over all rounds
MOST_CPU, MOST_MS = 10.0, 100.0
SLOWER_MS = 3.0  # how much more the median answer to a caller may take while viewers look: less is the machine's noise


async def viewer(port: int, gone: asyncio.Event, got: list[int]) -> None:
    """A browser that looks until `gone`; got: the bytes of each piece that arrives."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /events?lang=pt HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
    ended = asyncio.create_task(gone.wait())
    while not ended.done():
        reading = asyncio.create_task(reader.read(65536))
        await asyncio.wait({reading, ended}, return_when=asyncio.FIRST_COMPLETED)
        if reading.done():
            assert reading.result(), "a stream ended"
            got.append(len(reading.result()))
        else:
            reading.cancel()
    writer.close()


async def ask(port: int, request: str, until: bytes = b"") -> float:
    """Milliseconds until this text has arrived; else the whole answer."""
    begin = time.monotonic()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request.encode())
    found = b""
    while not until or until not in found:
        data = await reader.read(65536)
        if not data:
            break
        found += data
    took = (time.monotonic() - begin) * 1000
    writer.close()
    assert found.startswith(b"HTTP/1.1 200 ") and until in found, found[:200]
    return took


BODY = "number=33990"
REQUESTS = {
    "page": ("GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", b"</html>"),
    "first news": ("GET /events HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", b'"queues":[{'),
    "search": ("POST /search HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/x-www-form-urlencoded\r\n"
               f"Content-Length: {len(BODY)}\r\n\r\n{BODY}", b'"calls": ['),
}


async def stretch(rehearsal: Rehearsal, port: int, viewers: int, seconds: float, took: list[float],
                  asked: dict[str, list[float]]) -> tuple[float, float, list[int]]:
    """Percent of a core that the service uses, the median of its answers to callers, and what each viewer was sent."""
    gone, got = asyncio.Event(), []
    looking = [asyncio.create_task(viewer(port, gone, got)) for _ in range(viewers)]
    await asyncio.sleep(2)
    answers, before, begin = len(took), used(rehearsal.service_pid)[0], time.monotonic()
    await asyncio.sleep(seconds)
    cpu = (used(rehearsal.service_pid)[0] - before) / (time.monotonic() - begin) * 100
    middle = median(took[answers:])
    for _ in range(ASKED // ROUNDS if viewers else 0):  # not while it is measured what looking costs
        for name, (request, until) in REQUESTS.items():
            asked[name].append(await ask(port, request, until))
            await asyncio.sleep(0.05)  # who has joined and gone keeps a place for up to a second
    gone.set()
    await asyncio.gather(*looking)
    return cpu, middle, got


async def measure(rehearsal: Rehearsal, port: int, callers: int, viewers: int, seconds: float) -> dict:
    host, agid = rehearsal.agid.split(":")
    settle, took = callers * 0.01 + 5, []
    asked: dict[str, list[float]] = {name: [] for name in REQUESTS}
    tasks = [asyncio.create_task(caller(number, host, int(agid), float("inf"), took, time.time())) for number in range(callers)]
    await asyncio.sleep(settle)
    found = {0: [], viewers: []}
    for _ in range(ROUNDS):
        for count in found:
            found[count].append(await stretch(rehearsal, port, count, seconds, took, asked))
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    without, with_them = (tuple(median([one[place] for one in found[count]]) for place in (0, 1)) for count in (0, viewers))
    sent = sum(sum(one[2]) for one in found[viewers]) / viewers / (ROUNDS * (seconds + 2)) / 1024
    return {"cpu": with_them[0] - without[0], "cpu_without": without[0],
            "answer_ms": with_them[1], "answer_ms_without": without[1],
            "memory_mb": used(rehearsal.service_pid)[1], "kb_a_second": sent, "asked": asked}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--callers", type=int, default=500)
    parser.add_argument("--viewers", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=7)
    options = parser.parse_args()
    port = free_port(socket.SOCK_STREAM)
    with tempfile.TemporaryDirectory(prefix="movidesk-bench-") as folder:
        rehearsal = Rehearsal(find_asterisk(None), folder, agents=("5252",), limit=10,
                              settings={"panel": [f"listen = 127.0.0.1:{port}"]})
        rehearsal.model.agents["5252"].telephony = False  # code 3: everybody waits
        with rehearsal.simulator:
            rehearsal.start_service()
            try:
                found = asyncio.run(measure(rehearsal, port, options.callers, options.viewers, options.seconds))
            finally:
                rehearsal.stop_service()
    return report(found, options.callers, options.viewers)


def report(found: dict, callers: int, viewers: int) -> int:
    asked, slower = found.pop("asked"), found["answer_ms"] - found["answer_ms_without"]
    rows = [["the panel's CPU, % of one core", found["cpu"], f"< {MOST_CPU:g}"],
            ["the service's without viewers", found["cpu_without"], ""],
            ["a caller's answer, median ms, without viewers", found["answer_ms_without"], ""],
            ["the same with viewers: so much more", slower, f"< {SLOWER_MS:g}"],
            ["sent to each viewer, KB a second", found["kb_a_second"], ""],
            ["memory of the service, MB (peak)", found["memory_mb"], ""]]
    for name, took in asked.items():
        rows.append([f"{name}, median ms", median(took), ""])
        rows.append([f"{name}, 95 % ms", percentile(took, 0.95), f"< {MOST_MS:g}"])
    show(f"{callers} callers in line, {viewers} viewers", ["figure", "is", "goal"], rows)
    save("panel", {"callers": callers, "viewers": viewers, **found,
                   **{f"{name}_p95_ms": percentile(took, 0.95) for name, took in asked.items()}})
    missed = [row[0] for row in rows if row[2] and row[1] >= float(row[2][2:])]
    for name in missed:
        print(f"NOT MET: {name}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
