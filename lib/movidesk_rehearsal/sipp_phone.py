"""A SIP phone as a SIPp process: its start and end, the log of what happened to it, and its ear for orders."""
from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import tempfile
import threading
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

from movidesk_rehearsal.asterisk import WAIT_SECONDS, PrivateAsterisk, free_port
from movidesk_rehearsal.asterisk_config import PHONES
from movidesk_rehearsal.asterisk_tree import need_program

START_SECONDS = 20.0
START_ATTEMPTS = 5  # each on other ports
POLL_SECONDS = 0.01
ORDER_SECONDS = 0.3  # after which an order that was not taken is given again
OVER = ("ended", "cancelled", "rejected", "failed")
# One period of a 1 kHz sine at 8 kHz in A-law (the reference sequence of G.711).
SINE = bytes.fromhex("34212134b4a1a1b4")


class PhoneFailed(Exception):
    """A phone did not start, or what was waited for did not happen."""


@dataclass(frozen=True)
class Event:
    """A step of a call.

    `name` is sent or invited, ringing, progress, answered (by the agent: acknowledged), obeyed (an order), referred,
    and at its end one of failed, rejected, cancelled, ended. `detail` is a status, who hung up, or the caller's URI.
    """

    at: float  # seconds since the epoch
    call_id: str
    name: str
    detail: str


class SippPhone:
    """What an agent's and a caller's phone have in common, as a context manager or through start() and close()."""

    def __init__(self, pbx: PrivateAsterisk, audio: bool, address: str = PHONES) -> None:
        self.pbx = pbx
        self.address = address
        self.port = 0
        self._folder = Path(tempfile.mkdtemp(prefix="phone-"))
        self._log = self._folder / "events.log"
        self._events: list[Event] = []
        self._events_end = 0  # of the log's part that `_events` holds
        self._reading = threading.Lock()
        self._process: subprocess.Popen | None = None
        self._tone: str | None = None
        if audio:
            tone = self._folder / "tone.alaw"
            tone.write_bytes(SINE * 1000)
            self._tone = str(tone)

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_exception) -> None:
        self.close()

    def start(self):
        raise NotImplementedError

    def close(self) -> None:
        """Switch the phone off; calls in progress are hung up."""
        try:
            if self._alive() and self.pbx.running:
                self._say_goodbye()
        finally:
            self.cut_off()
            shutil.rmtree(self._folder, ignore_errors=True)

    def cut_off(self) -> None:
        """End the phone as a power cut would, without a word to the other side."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()

    def events(self, name: str | None = None) -> list[Event]:
        """What happened so far, oldest first; only events called `name` if given."""
        with self._reading:
            if self._log.exists():
                with open(self._log, "rb") as log:
                    log.seek(self._events_end)
                    whole_lines = log.read().rpartition(b"\n")[0]
                # An empty part has no line end of its own.
                self._events_end += len(whole_lines) + 1 if whole_lines else 0
                found = [_parse_event(line) for line in whole_lines.decode(errors="replace").splitlines()]
                self._events += filter(None, found)
            return [event for event in self._events if name in (None, event.name)]

    def wait_event(self, name: str, timeout: float = WAIT_SECONDS, count: int = 1) -> Event:
        """Wait for the `count`-th event called `name`."""
        self._wait(lambda: len(self.events(name)) >= count, timeout, f"{name} (number {count})")
        return self.events(name)[count - 1]

    def _wait(self, condition: Callable[[], bool], timeout: float, what: str) -> None:
        deadline = time.monotonic() + timeout
        while not condition():
            # A phone that is gone has logged all it ever will.
            if time.monotonic() > deadline or (not self._alive() and not condition()):
                seen = ", ".join(f"{event.name} {event.detail}".strip() for event in self.events()) or "nothing"
                raise PhoneFailed(f"{self}: no {what} within {timeout} s; seen: {seen}{self._errors()}")
            time.sleep(POLL_SECONDS)

    def _run(self, scenario: str, *options: str) -> None:
        """Start SIPp and wait until it has its ports. If another process was faster to take one of them, it starts on others."""
        path = self._folder / "scenario.xml"
        path.write_text(scenario, encoding="utf-8")
        program = need_program("sipp", "sip-tester")
        deadline = time.monotonic() + START_SECONDS
        for _attempt in range(START_ATTEMPTS):
            self.port, media_port = free_port(socket.SOCK_DGRAM), free_port(socket.SOCK_DGRAM) & ~1
            self._process = subprocess.Popen(
                [program, f"127.0.0.1:{self.pbx.sip_port}", "-sf", str(path), "-i", self.address, "-p", str(self.port),
                 "-mi", self.address, "-mp", str(media_port), "-nostdin", "-aa",
                 "-default_behaviors", "none", "-trace_logs", "-log_file", str(self._log), "-log_overwrite", "false",
                 "-trace_err", "-error_file", str(self._folder / "errors.log"), *options],
                cwd=self._folder, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                start_new_session=True)
            # SIPp has a socket for video even in a call without.
            if self._came_up({self.port, media_port, media_port + 2}, deadline):
                return
            self.cut_off()
        raise PhoneFailed(f"{self}: SIPp did not start{self._errors()}")

    def _came_up(self, ports: set[int], deadline: float) -> bool:
        logged = len(self.events())
        while time.monotonic() < deadline:
            alive = self._alive()
            # A caller that is refused at once may be gone before its ports were seen; then its log speaks for it.
            if ports <= _udp_ports(self._process.pid) or len(self.events()) > logged:
                return True
            if not alive:
                return False
            time.sleep(POLL_SECONDS)
        return False

    def _alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def _say_goodbye(self) -> None:
        raise NotImplementedError

    def _order(self, call_id: str, method: str, argument: str = "") -> None:
        """Have an order obeyed; a call that is over by then needs none."""
        serial = uuid.uuid4().hex
        sent_at = 0.0

        def obeyed() -> bool:
            nonlocal sent_at
            if time.monotonic() > sent_at + ORDER_SECONDS:
                sent_at = time.monotonic()
                self._send_order(call_id, method, argument, serial)
            mine = [event for event in self.events() if event.call_id == call_id]
            return any(event.name in OVER or (event.name, event.detail) == ("obeyed", serial) for event in mine)

        self._wait(obeyed, 5.0, f"obedience to {method}")

    def _send_order(self, call_id: str, method: str, argument: str, serial: str) -> None:
        # SIPp drops a request without To, one that equals the one before it, and one that comes between two states.
        message = (f"{method} sip:phone@127.0.0.1 SIP/2.0\r\n"
                   f"Via: SIP/2.0/UDP 127.0.0.1:9;branch=z9hG4bK{uuid.uuid4().hex}\r\n"
                   f"From: <sip:order@127.0.0.1>\r\nTo: <sip:phone@127.0.0.1>\r\nCall-ID: {call_id}\r\n"
                   f"CSeq: 1 {method}\r\nX-Argument: {argument}\r\nX-Serial: {serial}\r\nContent-Length: 0\r\n\r\n")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as order:
            order.sendto(message.encode(), (self.address, self.port))

    def _errors(self) -> str:
        path = self._folder / "errors.log"
        return "\n" + path.read_text(errors="replace")[-2000:] if path.exists() else ""


def _parse_event(line: str) -> Event | None:
    # SIPp's [timestamp] is date, time and epoch between tabs.
    found = re.match(r"\S+\t\S+\t(\d+\.\d+) (\S+) ([a-z]+) (.*)$", line)
    return Event(float(found[1]), found[2], found[3], found[4].strip()) if found else None


def _udp_ports(pid: int) -> set[int]:
    """The UDP ports that a process has bound; none if it has ended. A port alone does not tell whose it is."""
    folder = f"/proc/{pid}/fd"
    try:
        files = {os.readlink(f"{folder}/{name}") for name in os.listdir(folder)}
    except OSError:  # it has ended, or has closed a file since it was listed
        return set()
    rows = [line.split() for line in Path("/proc/net/udp").read_text().splitlines()[1:]]
    return {int(row[1].rpartition(":")[2], 16) for row in rows if f"socket:[{row[9]}]" in files}
