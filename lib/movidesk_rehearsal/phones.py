"""SIP phones for a PrivateAsterisk: agents that register, ring and answer, and callers."""
from __future__ import annotations

import hashlib
import re
import socket
import threading
import uuid
from dataclasses import dataclass
from typing import Callable

from movidesk_rehearsal import sipp_scenarios
from movidesk_rehearsal.asterisk import WAIT_SECONDS, PrivateAsterisk
from movidesk_rehearsal.asterisk_config import PHONES, TRUNK
from movidesk_rehearsal.sipp_phone import OVER, POLL_SECONDS, START_SECONDS, Event, PhoneFailed, SippPhone


@dataclass(frozen=True)
class Behaviour:
    """What an agent's phone does with each call, in seconds. With `reject` it answers with that SIP status.

    Otherwise it rings, is answered `answer_after` (None: never by itself) and hangs up `hang_up_after` the answer
    (None: it waits for the other side, or for hang_up()).
    """

    answer_after: float | None = 0.0
    hang_up_after: float | None = None
    reject: int | None = None


def answers(after: float = 0.0, hang_up_after: float | None = None) -> Behaviour:
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
    ringing_at: float | None
    answered_at: float | None
    ended_at: float
    hung_up_by: str | None  # "caller", "pbx", or None where the call was refused

    @property
    def answered(self) -> bool:
        return self.answered_at is not None


class Agent(SippPhone):
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

    def _say_goodbye(self) -> None:
        self.register(expires=0)
        for call_id in self._calls("answered"):
            self._order(call_id, "X-HANGUP")
        self._wait(lambda: not self._calls("answered"), 5.0, "end of its calls")

    def become(self, behaviour: Behaviour) -> None:
        """Behave differently from the next call on; a call in progress is cut off without a BYE."""
        self.behaviour = behaviour
        if self._process is not None:
            self.register(expires=0)
            self.cut_off()
            self._switch_on()

    def register(self, expires: int = 3600) -> None:
        """Register again (a killed Asterisk may have forgotten it), or with `expires` 0 leave."""
        _register(self.pbx.sip_port, self.extension, self.port, expires, self.pbx.passwords.get(self.extension, ""))

    def answer(self) -> None:
        """Answer the call that rings now."""
        self._order(self._call("ringing"), "X-ANSWER")

    def hang_up(self, call_id: str = "") -> None:
        """End the call in progress; of several the newest, or the one with this Call-ID."""
        self._order(call_id or self._call("answered"), "X-HANGUP")

    def transfer(self, to: str, call_id: str = "") -> None:
        """Blind transfer of the call in progress (see hang_up)."""
        self._order(call_id or self._call("answered"), "X-REFER", f"sip:{to}@127.0.0.1:{self.pbx.sip_port}")

    def transfer_attended(self, consultation: Caller, call_id: str = "") -> None:
        """Connect the call in progress (see hang_up) with `consultation`, an answered call this agent's number made."""
        self._order(call_id or self._call("answered"), "X-REFER", consultation.replaces_uri())

    def wait_ringing(self, timeout: float = WAIT_SECONDS, count: int = 1) -> Event:
        return self.wait_event("ringing", timeout, count)

    def _switch_on(self) -> None:
        phone = self.behaviour
        if phone.reject:
            self._run(sipp_scenarios.rejecting_agent(phone.reject))
        else:
            self._run(sipp_scenarios.agent(phone.answer_after, phone.hang_up_after, self._tone))
        self.register()
        # Asterisk takes note of a registration a little later; until then the phone counts as off.
        self._wait(lambda: not re.search(r"Endpoint:.* Unavailable", self.pbx.cli(f"pjsip show endpoint {self.extension}")),
                   WAIT_SECONDS, "Asterisk to see it")

    def _calls(self, reached: str) -> list[str]:
        """The Call-IDs of the calls that have `reached` a stage and have not ended, oldest first."""
        over = {event.call_id for event in self.events() if event.name in OVER}
        return [event.call_id for event in self.events(reached) if event.call_id not in over]

    def _call(self, reached: str) -> str:
        calls = self._calls(reached)
        if not calls:
            raise PhoneFailed(f"{self}: no call is {reached}")
        return calls[-1]


class Caller(SippPhone):
    """One call from `number` to the extension `to`: from outside, or from an agent's phone where it is an agent's number.

    `hang_up_after` seconds since the call was sent it hangs up at whatever stage the call is; `press` is
    (key, seconds since the call was answered). start() sends the call, wait() returns how it went.
    """

    def __init__(self, pbx: PrivateAsterisk, to: str = "100", number: str = "4733990777", *, name: str = "",
                 hang_up_after: float | None = None, press: tuple[str, float] | None = None,
                 audio: bool = True) -> None:
        super().__init__(pbx, audio, PHONES if number in pbx.agents else TRUNK)
        self.to, self.number, self.name = to, number, name
        self.hang_up_after = hang_up_after
        self.key = press
        self.call_id = uuid.uuid4().hex
        self.started_at = 0.0
        self._over = threading.Event()
        self._timers: list[threading.Thread] = []

    def __str__(self) -> str:
        return f"caller {self.number} to {self.to}"

    def start(self) -> Caller:
        password = self.pbx.passwords.get(self.number, "")
        self._run(sipp_scenarios.caller(self.to, self.number, self.name, self._tone, password),
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

    def _say_goodbye(self) -> None:
        self.hang_up()
        self.wait()

    @property
    def ended(self) -> bool:
        return any(event.name in OVER for event in self.events())

    def hang_up(self) -> None:
        """CANCEL before the answer, BYE after it; nothing once the call is over."""
        self._order(self.call_id, "X-HANGUP")

    def press(self, key: str) -> None:
        """Send `key` as DTMF (SIP INFO) in the answered call."""
        self._order(self.call_id, "X-PRESS", key)

    def wait_answered(self, timeout: float = WAIT_SECONDS) -> Event:
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


def _register(sip_port: int, extension: str, contact_port: int, expires: int, password: str) -> None:
    """Register as the phone would; SIPp's own scenario has but one kind of call per process."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as phone:
        phone.bind((PHONES, 0))
        phone.settimeout(2.0)
        request = _Registration(sip_port, extension, f"{PHONES}:{phone.getsockname()[1]}", contact_port, expires)
        try:
            answer = request.send(phone, 1)
            if " 401 " in answer.splitlines()[0] and password:
                answer = request.send(phone, 2, request.proof(answer, password))
        except OSError as error:
            raise PhoneFailed(f"no answer to the registration of {extension}: {error}") from error
    if " 200 " not in answer.splitlines()[0]:
        raise PhoneFailed(f"registration of {extension} was refused: {answer.splitlines()[0]}")


@dataclass
class _Registration:
    """The REGISTER of an extension; `own` is the address and port that it is sent from."""

    sip_port: int
    extension: str
    own: str
    contact_port: int
    expires: int

    def __post_init__(self) -> None:
        self._token = uuid.uuid4().hex
        self._registrar = f"sip:{PHONES}:{self.sip_port}"

    def send(self, phone: socket.socket, number: int, proof: str = "") -> str:
        """Send it for the `number`-th time; returns the answer."""
        phone.sendto((
            f"REGISTER {self._registrar} SIP/2.0\r\nVia: SIP/2.0/UDP {self.own};branch=z9hG4bK{self._token}{number}\r\n"
            f"From: <sip:{self.extension}@{PHONES}>;tag={self._token}\r\nTo: <sip:{self.extension}@{PHONES}>\r\n"
            f"Call-ID: {self._token}\r\nCSeq: {number} REGISTER\r\nMax-Forwards: 70\r\n{proof}"
            f"Contact: <sip:{self.extension}@{PHONES}:{self.contact_port}>\r\nExpires: {self.expires}\r\n"
            "Content-Length: 0\r\n\r\n").encode(), (PHONES, self.sip_port))
        return phone.recv(4096).decode(errors="replace")

    def proof(self, challenge: str, password: str) -> str:
        """The header that answers a 401 (RFC 2617, MD5 with qop=auth)."""
        asked = dict(re.findall(r'(realm|nonce|opaque)="([^"]*)"', challenge))
        who = _md5(f"{self.extension}:{asked['realm']}:{password}")
        what = _md5(f"REGISTER:{self._registrar}")
        answer = _md5(f"{who}:{asked['nonce']}:00000001:{self._token}:auth:{what}")
        return (f'Authorization: Digest username="{self.extension}", realm="{asked["realm"]}", nonce="{asked["nonce"]}", '
                f'uri="{self._registrar}", response="{answer}", algorithm=MD5, cnonce="{self._token}", '
                f'opaque="{asked.get("opaque", "")}", qop=auth, nc=00000001\r\n')


def _md5(text: str) -> str:
    return hashlib.md5(text.encode()).hexdigest()
