"""SIP phones: SIPp processes that register, ring, answer, hang up and call, for a PrivateAsterisk."""
from __future__ import annotations

import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, List, Optional, Tuple

from movidesk_sim import sipp_scenarios
from movidesk_sim.asterisk import PrivateAsterisk, free_port
from movidesk_sim.asterisk_tree import need_program

START_SECONDS = 5.0
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


@dataclass(frozen=True)
class Behaviour:
    """What an agent's phone does with each call, in seconds. With `reject` it answers with that SIP status.

    Otherwise it rings, is answered `answer_after` (None: never by itself) and hangs up `hang_up_after` the answer
    (None: it waits for the other side, or for hang_up()).
    """

    answer_after: Optional[float] = 0.0
    hang_up_after: Optional[float] = None
    reject: Optional[int] = None


def answers(after: float = 0.0, hang_up_after: Optional[float] = None) -> Behaviour:
    return Behaviour(after, hang_up_after)


def rejects(status: int) -> Behaviour:
    return Behaviour(reject=status)


RINGS = Behaviour(answer_after=None)
BUSY = rejects(486)
DECLINES = rejects(603)


@dataclass(frozen=True)
class CallResult:
    """How a call went for the caller; times are seconds since the epoch, None where it did not come to that.

    `status` is the final SIP status (200 answered, 487 cancelled), `hung_up_by` who sent BYE or CANCEL.
    """

    status: int
    started_at: float
    ringing_at: Optional[float]
    answered_at: Optional[float]
    ended_at: float
    hung_up_by: Optional[str]  # "caller", "pbx", or None where the call was refused

    @property
    def answered(self) -> bool:
        return self.answered_at is not None


class _Phone:
    """One SIPp process, its log of events and its ear for orders."""

    def __init__(self, pbx: PrivateAsterisk, audio: bool) -> None:
        self.pbx = pbx
        self.port = 0
        self._folder = Path(tempfile.mkdtemp(prefix="phone-"))
        self._log = self._folder / "events.log"
        self._process: Optional[subprocess.Popen] = None
        self._tone: Optional[str] = None
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
        """Switch the phone off, in the middle of a call as a power cut would."""
        self._stop_process()
        shutil.rmtree(self._folder, ignore_errors=True)

    def events(self, name: Optional[str] = None) -> List[Event]:
        """What happened so far, oldest first; only events called `name` if given."""
        if not self._log.exists():
            return []
        found = [_parse_event(line) for line in self._log.read_text(errors="replace").splitlines()]
        return [event for event in found if event and name in (None, event.name)]

    def wait_event(self, name: str, timeout: float = 10.0, count: int = 1) -> Event:
        """Wait for the `count`-th event called `name`."""
        self._wait(lambda: len(self.events(name)) >= count, timeout, f"{name} (number {count})")
        return self.events(name)[count - 1]

    def _wait(self, condition: Callable[[], bool], timeout: float, what: str) -> None:
        deadline = time.monotonic() + timeout
        while not condition():
            gone = self._process is None or self._process.poll() is not None
            if time.monotonic() > deadline or (gone and not condition()):
                seen = ", ".join(f"{event.name} {event.detail}".strip() for event in self.events()) or "nothing"
                raise PhoneFailed(f"{self}: no {what} within {timeout} s; seen: {seen}{self._errors()}")
            time.sleep(POLL_SECONDS)

    def _run(self, scenario: str, *options: str) -> None:
        """Start SIPp and wait until it has its port; one that lost a race for the port starts again on another."""
        path = self._folder / "scenario.xml"
        path.write_text(scenario, encoding="utf-8")
        program = need_program("sipp", "sip-tester")
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            self.port = free_port(socket.SOCK_DGRAM)
            self._process = subprocess.Popen(
                [program, f"127.0.0.1:{self.pbx.sip_port}", "-sf", str(path), "-i", "127.0.0.1", "-p", str(self.port),
                 "-mi", "127.0.0.1", "-mp", str(free_port(socket.SOCK_DGRAM) & ~1), "-nostdin", "-aa",
                 "-default_behaviors", "none", "-trace_logs", "-log_file", str(self._log), "-log_overwrite", "false",
                 "-trace_err", "-error_file", str(self._folder / "errors.log"), *options],
                cwd=self._folder, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                start_new_session=True)
            while self._process.poll() is None and time.monotonic() < deadline:
                if _udp_port_bound(self.port):
                    return
                time.sleep(POLL_SECONDS)
            self._stop_process()
        raise PhoneFailed(f"{self}: SIPp did not start{self._errors()}")

    def _stop_process(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
        process.wait()

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
        # SIPp drops a request without To, one that equals the request before it, and one that comes between two states.
        message = (f"{method} sip:phone@127.0.0.1 SIP/2.0\r\n"
                   f"Via: SIP/2.0/UDP 127.0.0.1:9;branch=z9hG4bK{uuid.uuid4().hex}\r\n"
                   f"From: <sip:order@127.0.0.1>\r\nTo: <sip:phone@127.0.0.1>\r\nCall-ID: {call_id}\r\n"
                   f"CSeq: 1 {method}\r\nX-Argument: {argument}\r\nX-Serial: {serial}\r\nContent-Length: 0\r\n\r\n")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as order:
            order.sendto(message.encode(), ("127.0.0.1", self.port))

    def _errors(self) -> str:
        path = self._folder / "errors.log"
        return "\n" + path.read_text(errors="replace")[-2000:] if path.exists() else ""


class Agent(_Phone):
    """The phone of an extension, registered while it is on; it takes any number of calls at once."""

    def __init__(self, pbx: PrivateAsterisk, extension: str, behaviour: Behaviour = Behaviour(), *,
                 audio: bool = False) -> None:
        super().__init__(pbx, audio)
        self.extension = extension
        self.behaviour = behaviour

    def __str__(self) -> str:
        return f"agent {self.extension}"

    def start(self) -> Agent:
        if self._process is None:
            self._switch_on()
        return self

    def close(self) -> None:
        if self._process is not None and self.pbx.running:
            self.register(expires=0)
        super().close()

    def become(self, behaviour: Behaviour) -> None:
        """Behave differently from the next call on; a call in progress is cut off without a BYE."""
        self.behaviour = behaviour
        if self._process is not None:
            self.register(expires=0)
            self._stop_process()
            self._switch_on()

    def register(self, expires: int = 3600) -> None:
        """Register again (a killed Asterisk may have forgotten it), or with `expires` 0 leave."""
        _register(self.pbx.sip_port, self.extension, self.port, expires)

    def answer(self) -> None:
        """Answer the call that rings now."""
        self._order(self._call("ringing"), "X-ANSWER")

    def hang_up(self) -> None:
        self._order(self._call("answered"), "X-HANGUP")

    def transfer(self, to: str) -> None:
        """Blind transfer of the call in progress."""
        self._order(self._call("answered"), "X-REFER", f"sip:{to}@127.0.0.1:{self.pbx.sip_port}")

    def transfer_attended(self, consultation: Caller) -> None:
        """Connect the call in progress with `consultation`, an answered call this agent's number made."""
        self._order(self._call("answered"), "X-REFER", consultation.replaces_uri())

    def wait_ringing(self, timeout: float = 10.0, count: int = 1) -> Event:
        return self.wait_event("ringing", timeout, count)

    def _switch_on(self) -> None:
        phone = self.behaviour
        if phone.reject:
            self._run(sipp_scenarios.rejecting_agent(phone.reject))
        else:
            self._run(sipp_scenarios.agent(phone.answer_after, phone.hang_up_after, self._tone))
        self.register()

    def _call(self, reached: str) -> str:
        """The Call-ID of the latest call that has `reached` a stage and has not ended."""
        over = {event.call_id for event in self.events() if event.name in OVER}
        calls = [event.call_id for event in self.events(reached) if event.call_id not in over]
        if not calls:
            raise PhoneFailed(f"{self}: no call is {reached}")
        return calls[-1]


class Caller(_Phone):
    """One call from `number` to the extension `to` of the trunk's context (an agent's number: of the agents' context).

    `hang_up_after` seconds since the call was sent it hangs up at whatever stage the call is; `press` is
    (key, seconds since the call was answered). start() sends the call, wait() returns how it went.
    """

    def __init__(self, pbx: PrivateAsterisk, to: str = "100", number: str = "4733990777", *, name: str = "",
                 hang_up_after: Optional[float] = None, press: Optional[Tuple[str, float]] = None,
                 audio: bool = True) -> None:
        super().__init__(pbx, audio)
        self.to, self.number, self.name = to, number, name
        self.hang_up_after = hang_up_after
        self.key = press
        self.call_id = uuid.uuid4().hex
        self.started_at = 0.0
        self._over = threading.Event()
        self._timers: List[threading.Thread] = []

    def __str__(self) -> str:
        return f"caller {self.number} to {self.to}"

    def start(self) -> Caller:
        self._run(sipp_scenarios.caller(self.to, self.number, self.name, self._tone),
                  "-m", "1", "-r", "1000", "-cid_str", self.call_id)
        self.started_at = self.wait_event("sent", START_SECONDS).at
        if self.hang_up_after is not None:
            self._later(self._hang_up_in_time)
        if self.key is not None:
            self._later(self._press_in_time)
        return self

    def close(self) -> None:
        self._over.set()
        for timer in self._timers:
            timer.join()
        super().close()

    @property
    def ended(self) -> bool:
        return any(event.name in OVER for event in self.events())

    def hang_up(self) -> None:
        """CANCEL before the answer, BYE after it; nothing once the call is over."""
        self._order(self.call_id, "X-HANGUP")

    def press(self, key: str) -> None:
        """Send `key` as DTMF (SIP INFO) in the answered call."""
        self._order(self.call_id, "X-PRESS", key)

    def wait_answered(self, timeout: float = 10.0) -> Event:
        return self.wait_event("answered", timeout)

    def wait(self, timeout: float = 30.0) -> CallResult:
        """Wait until the call is over."""
        self._wait(lambda: self.ended, timeout, "end of the call")
        ringing, answered = self.events("ringing"), self.events("answered")
        last = [event for event in self.events() if event.name in OVER][0]
        status = {"ended": 200, "cancelled": 487}.get(last.name) or int(last.detail)
        hung_up_by = {"ended": last.detail, "cancelled": "caller", "failed": None}[last.name]
        return CallResult(status, self.started_at, ringing[0].at if ringing else None,
                          answered[0].at if answered else None, last.at, hung_up_by)

    def replaces_uri(self) -> str:
        """The Refer-To that puts somebody else in this call's place."""
        peer_tag = self.wait_answered().detail.rpartition("tag=")[2]
        replaces = f"{self.call_id}%3Bto-tag%3D{peer_tag}%3Bfrom-tag%3D{self._process.pid}caller"
        return f"sip:{self.to}@127.0.0.1:{self.pbx.sip_port}?Replaces={replaces}"

    def _later(self, action: Callable[[], None]) -> None:
        timer = threading.Thread(target=action, daemon=True)
        self._timers.append(timer)
        timer.start()

    def _hang_up_in_time(self) -> None:
        if not self._over.wait(self.hang_up_after):
            self.hang_up()

    def _press_in_time(self) -> None:
        key, delay = self.key
        while not self.events("answered"):
            if self._over.wait(POLL_SECONDS):
                return
        if not self._over.wait(delay):
            self.press(key)


def _parse_event(line: str) -> Optional[Event]:
    # SIPp's [timestamp] is date, time and epoch between tabs.
    found = re.match(r"\S+\t\S+\t(\d+\.\d+) (\S+) ([a-z]+) (.*)$", line)
    return Event(float(found[1]), found[2], found[3], found[4].strip()) if found else None


def _udp_port_bound(port: int) -> bool:
    suffix = f":{port:04X}"
    lines = Path("/proc/net/udp").read_text().splitlines()[1:]
    return any(line.split()[1].endswith(suffix) for line in lines)


def _register(sip_port: int, extension: str, contact_port: int, expires: int) -> None:
    """Register as the phone would; SIPp's own scenario has but one kind of call per process."""
    token = uuid.uuid4().hex
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as phone:
        phone.bind(("127.0.0.1", 0))
        phone.settimeout(2.0)
        own = f"127.0.0.1:{phone.getsockname()[1]}"
        phone.sendto((
            f"REGISTER sip:127.0.0.1:{sip_port} SIP/2.0\r\nVia: SIP/2.0/UDP {own};branch=z9hG4bK{token}\r\n"
            f"From: <sip:{extension}@127.0.0.1>;tag={token}\r\nTo: <sip:{extension}@127.0.0.1>\r\n"
            f"Call-ID: {token}\r\nCSeq: 1 REGISTER\r\nMax-Forwards: 70\r\n"
            f"Contact: <sip:{extension}@127.0.0.1:{contact_port}>\r\nExpires: {expires}\r\n"
            "Content-Length: 0\r\n\r\n").encode(), ("127.0.0.1", sip_port))
        try:
            answer = phone.recv(4096).decode(errors="replace")
        except OSError as error:
            raise PhoneFailed(f"no answer to the registration of {extension}: {error}") from error
    if " 200 " not in answer.splitlines()[0]:
        raise PhoneFailed(f"registration of {extension} was refused: {answer.splitlines()[0]}")
