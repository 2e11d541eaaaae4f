"""Callers in line on FastAGI, as the dialplan asks for them; viewers of the panel; what the service uses meanwhile."""
from __future__ import annotations

import asyncio
import os
import re
import selectors
import socket
import threading
import time
from pathlib import Path

from movidesk_rehearsal.rehearsal import QUEUE


async def verb(host: str, port: int, name: str, uniqueid: str, argument: str = "") -> dict[str, str]:
    """Run one verb as Asterisk would; the variables it set."""
    reader, writer = await asyncio.open_connection(host, port)
    arguments = f"agi_arg_1: {argument}\n" if argument else ""
    writer.write((f"agi_network: yes\nagi_network_script: {name}\nagi_request: agi://x/{name}\nagi_uniqueid: {uniqueid}\n"
                  f"agi_callerid: 4733990777\n{arguments}\n").encode())
    found = {}
    while True:
        line = (await reader.readline()).decode()
        if not line:
            break
        assigned = re.match(r'SET VARIABLE "_*(\w+)" "(.*)"', line)
        if assigned:
            found[assigned[1]] = assigned[2]
        writer.write(b"200 result=0\n" if line.startswith("GET") else b"200 result=1\n")
    writer.close()
    return found


async def caller(number: int, host: str, port: int, until: float, took: list[float], begin: float) -> None:
    await asyncio.sleep(number * 0.01)
    while time.monotonic() < until:
        asked = time.monotonic()
        found = await verb(host, port, "received", f"{int(begin)}.{number}", str(QUEUE))
        if found.get("MOVIDESK_RESULT") != "ok":
            raise SystemExit(f"a caller was answered {found!r}")
        took.append((time.monotonic() - asked) * 1000)
        await asyncio.sleep(float(found["MOVIDESK_WAIT"]))


def used(pid: int) -> tuple[float, float]:
    """Seconds of CPU and MB of memory of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    resident = int(re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[1]) / 1024
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK"), resident


class Viewers:
    """So many browsers that look at the panel, as a context manager; one thread reads what they are sent."""

    def __init__(self, port: int, count: int):
        self._port, self._count, self._left = port, count, threading.Event()

    def __enter__(self) -> Viewers:
        self._streams = [socket.create_connection(("127.0.0.1", self._port), 10) for _ in range(self._count)]
        for stream in self._streams:
            stream.sendall(b"GET /events?lang=pt HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            assert stream.recv(12) == b"HTTP/1.1 200"
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_exception) -> None:
        self._left.set()
        self._thread.join()
        for stream in self._streams:
            stream.close()

    def _read(self) -> None:
        with selectors.DefaultSelector() as readable:
            for stream in self._streams:
                readable.register(stream, selectors.EVENT_READ)
            while not self._left.is_set():
                for key, _ in readable.select(0.2):
                    if not key.fileobj.recv(65536):  # its time is over: a browser would open another
                        readable.unregister(key.fileobj)
