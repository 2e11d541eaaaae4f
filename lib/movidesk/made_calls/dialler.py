"""Made calls ("active call"): checks a request and lets Asterisk dial. web/made_calls.py receives the HTTP requests.

The agent's phone rings first. The answer is sent when the agent has picked up, or has not: an id means that there is a call. By
default no number may be dialled; [made_calls] allow lists the allowed prefixes.
"""

from __future__ import annotations

import logging
import re
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future

from movidesk.agi import variables
from movidesk.config.options import Secret
from movidesk.context import Context
from movidesk.pbx import ami
from movidesk.rules import call_states

log = logging.getLogger("movidesk.made_calls.dialler")

SAME_CLICK = 10.0  # seconds; a second request for the same extension and number counts as a double click

Originate = Callable[[tuple[str, int], str, Secret, ami.Fields, float], str]  # as ami.originate

OUTBOUND, MONITOR = "movidesk-outbound", "movidesk-monitor"  # contexts of dialplan/outbound.conf
INTERNATIONAL = ("+", "00")  # like the prefixes of `deny`: only allowed if `allow` lists them

_WHY_NOT = {
    ami.BUSY: (409, "extension %s is busy"),
    ami.NO_ANSWER: (504, "extension %s did not answer"),
    ami.UNREACHABLE: (502, "extension %s cannot be reached: its phone is off, not registered, or declined"),
}


class Refused(Exception):
    """A request without a call: the HTTP status, and one line for the client."""

    def __init__(self, status: int, text: str):
        super().__init__(text)
        self.status, self.text = status, text


class Dialler:
    """Checks requests and lets Asterisk dial. originate: like ami.originate; clock: monotonic seconds."""

    def __init__(self, context: Context, originate: Originate = ami.originate, clock: Callable[[], float] = time.monotonic):
        self._context = context
        self._config = context.config
        self._manager = context.config.manager
        self._originate = originate
        self._clock = clock
        self._lock = threading.Lock()
        self._clicks: dict[tuple[str, str], tuple[float, Future[str]]] = {}
        self._asked: dict[str, deque[float]] = {}

    def call(self, source: str, destination: str) -> str:
        """Call `destination` from extension `source`, and return the call's id when the agent has picked up. Raises Refused.

        The same pair within SAME_CLICK, or while the first request is in progress, is the same call.
        """
        pair = self._extension(source), self._number(destination)
        with self._lock:
            now = self._clock()
            self._clicks = {known: click for known, click in self._clicks.items()
                            if now - click[0] < SAME_CLICK or not click[1].done()}
            first = pair not in self._clicks
            if first:
                self._count(pair[0], now)
                self._clicks[pair] = now, Future()
            click = self._clicks[pair][1]
        if first:
            try:
                click.set_result(self._dial(*pair))
            except Exception as error:  # other requests that wait for the same call get the same error
                with self._lock:
                    del self._clicks[pair]
                click.set_exception(error)
        return click.result()

    def monitor(self, source: str, call_id: str) -> str:
        """Let extension `source` listen to a made call in progress; returns the call's id. Raises Refused."""
        if self._config["made_calls", "monitor"] != "yes":
            raise Refused(404, "monitoring is off: [made_calls] monitor")
        extension = self._extension(source)
        call = self._context.journal.calls.find(call_id)
        if call is None or call.mode != call_states.MADE or call.ended is not None:
            raise Refused(404, "no made call with this id is in progress")
        with self._lock:
            self._count(extension, self._clock())
        self._ring(extension, {"Context": MONITOR, "Exten": "s", "CallerID": call.extension,
                               "ChannelId": _channel_id(), "Variable": [f"{variables.ID}={call.call_id}"]})
        return call.call_id

    def _extension(self, text: str) -> str:
        # The second pattern keeps out the syntax of Dial() and AMI, whatever the admin's pattern allows.
        pattern = self._context.config["pbx", "extension_pattern"]
        if not (pattern.fullmatch(text) and re.fullmatch(r"[0-9A-Za-z_.*-]+", text)):
            raise Refused(400, "source is not an extension: see [pbx] extension_pattern")
        return text

    def _number(self, text: str) -> str:
        """The number to dial, without spaces, brackets, dots and dashes."""
        number = re.sub(r"[ ().-]", "", text[:64])
        if not (self._config["made_calls", "number_pattern"].fullmatch(number) and re.fullmatch(r"\+?[0-9]+", number)):
            raise Refused(400, "destination is not a number: see [made_calls] number_pattern")
        allowed, denied = (max((len(prefix) for prefix in prefixes if number.startswith(prefix)), default=0)
                           for prefixes in (tuple(self._config["made_calls", "allow"]),
                                            (*INTERNATIONAL, *self._config["made_calls", "deny"])))
        if not allowed or allowed < denied:
            raise Refused(403, "this number may not be dialled: see [made_calls] allow")
        return number

    def _count(self, extension: str, now: float) -> None:
        self._asked = {known: times for known, times in self._asked.items() if now - times[-1] < 60}
        times = self._asked.setdefault(extension, deque(maxlen=self._config["made_calls", "per_minute"]))
        if len(times) == times.maxlen and now - times[0] < 60:
            raise Refused(429, f"extension {extension} asked for {len(times)} calls in the last minute")
        times.append(now)

    def _dial(self, extension: str, number: str) -> str:
        journal = self._context.journal
        uniqueid = _channel_id()
        call = journal.calls.dial(self._context.config["pbx", "name"], uniqueid, extension, number)
        caller = self._config["made_calls", "caller_id"] or extension
        try:
            self._ring(extension, {"Context": OUTBOUND, "Exten": number, "CallerID": number, "ChannelId": uniqueid,
                                   "Variable": [f"{variables.ID}={call.call_id}", f"{variables.CALLER}={caller}"]})
        except Refused as refusal:
            journal.calls.dial_failed(call.call_id, refusal.text)
            raise
        return call.call_id

    def _ring(self, extension: str, fields: ami.Fields) -> None:
        """Ring the extension's phone, and continue in the dialplan when it is answered. Raises Refused if nobody picks up."""
        config = self._config
        channel = config["made_calls", "dial_prefix"] + extension + config["made_calls", "dial_suffix"]
        try:
            outcome = self._originate(*self._manager, {"Channel": channel, "Priority": "1", **fields},
                                      config["made_calls", "ring"])
        except ami.AmiError as error:
            log.error("Asterisk's manager at %s:%d: %s", *self._manager[0], error)
            raise Refused(503, f"Asterisk cannot be reached for the call: {error}") from None
        if outcome != ami.ANSWERED:
            status, text = _WHY_NOT[outcome]
            raise Refused(status, text % extension)


def _channel_id() -> str:
    """A unique id similar to Asterisk's, created before the channel, so that the journal can record the call first."""
    return f"{int(time.time())}.{secrets.token_hex(6)}"
