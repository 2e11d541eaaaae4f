"""SIP phones in one process, for bench/callers.py: hundreds of calls whose times differ from call to call. They are silent.

(SIPp, which movidesk_rehearsal.phones uses, takes such times only as one process for each phone and call. Three calls a second
would then measure SIPp.)
"""
from __future__ import annotations

import asyncio
import re
import socket
import struct
import time
import uuid
from typing import Callable

#: Asterisk sends an UPDATE to phones that allow it.
ALLOW = "Allow: INVITE, ACK, CANCEL, BYE, OPTIONS\r\n"


class Message:
    """A SIP message: its first line, its headers by lower-case name, and its text of Via headers."""

    def __init__(self, data: bytes):
        text, _, body = data.decode(errors="replace").partition("\r\n\r\n")
        head, audio = text.split("\r\n"), re.search("^m=audio ([0-9]+)", body, re.MULTILINE)
        self.audio_port = int(audio[1]) if audio else 0
        self.first, self.headers = head[0], {}
        for line in head[1:]:
            name, _, value = line.partition(":")
            self.headers.setdefault(name.strip().lower(), value.strip())
        self.vias = "".join(line + "\r\n" for line in head[1:] if line.lower().startswith("via:"))
        self.call_id, self.cseq = self.headers.get("call-id", ""), self.headers.get("cseq", "")

    @property
    def status(self) -> int:
        """Of an answer; 0 for a request."""
        return int(self.first.split()[1]) if self.first.startswith("SIP/2.0 ") else 0

    @property
    def method(self) -> str:
        return self.cseq.split()[-1] if self.status else self.first.split()[0]

    def user(self, header: str) -> str:
        """The user of the address in a header."""
        found = re.search(r"sip:([^@>;]*)@", self.headers.get(header, ""))
        return found[1] if found else ""


class Socket(asyncio.DatagramProtocol):
    """One UDP address for many phones. Each call's phone is `calls[Call-ID]`; `incoming` makes one for a new INVITE."""

    def __init__(self, address: str, pbx_port: int, incoming: Callable[[Message], Phone] | None = None):
        self.address, self.pbx = address, ("127.0.0.1", pbx_port)
        self.calls: dict[str, Phone] = {}
        self._incoming = incoming
        self._audio = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)  # nobody listens
        self._audio.bind((address, 0))
        sdp = (f"v=0\r\no=- 1 1 IN IP4 {address}\r\ns=-\r\nc=IN IP4 {address}\r\nt=0 0\r\n"
               f"m=audio {self._audio.getsockname()[1]} RTP/AVP 8\r\na=rtpmap:8 PCMA/8000\r\n")
        self.sdp = f"Content-Type: application/sdp\r\nContent-Length: {len(sdp)}\r\n\r\n{sdp}"

    async def open(self) -> Socket:
        """Listen on a free port."""
        self._transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
            lambda: self, local_addr=(self.address, 0))
        self.port = self._transport.get_extra_info("sockname")[1]
        self.contact = f"Contact: <sip:phone@{self.address}:{self.port}>\r\n"
        return self

    def close(self) -> None:
        self._transport.close()
        self._audio.close()

    def send(self, text: str, body: bool = False) -> None:
        """Send the head of a message, and after it an SDP body or none."""
        self._transport.sendto((text + (self.sdp if body else "Content-Length: 0\r\n\r\n")).encode(), self.pbx)

    def speak(self, message: Message) -> None:
        """Send a moment of silence to the audio address of a message: Answer() waits up to half a second for it."""
        if message.audio_port:
            for number in range(3):
                head = struct.pack("!BBHII", 0x80, 8, number, 160 * number, id(message) & 0xFFFFFFFF)
                self._audio.sendto(head + b"\xd5" * 160, ("127.0.0.1", message.audio_port))

    def datagram_received(self, data: bytes, address: object) -> None:
        message = Message(data)
        phone = self.calls.get(message.call_id)
        if phone is None and message.method == "INVITE" and not message.status and self._incoming:
            phone = self.calls[message.call_id] = self._incoming(message)
        if phone is not None:
            phone.got(message)
        elif not message.status and message.method != "ACK":
            self.answer(message, "200 OK" if message.method == "OPTIONS" else "481 Gone")

    def answer(self, request: Message, status: str, tag: str = "", body: bool = False) -> None:
        """Answer a request. tag: of our side of its call; body: with SDP."""
        to = request.headers["to"]
        to += f";tag={tag}" if tag and ";tag=" not in to else ""
        self.send(f"SIP/2.0 {status}\r\n{request.vias}From: {request.headers['from']}\r\nTo: {to}\r\n"
                  f"Call-ID: {request.call_id}\r\nCSeq: {request.cseq}\r\n{self.contact}{ALLOW}", body)


class Phone:
    """One side of one call. ended: called once, when the call is over for this side."""

    def __init__(self, home: Socket, call_id: str, ended: Callable[[], None]):
        self.home, self.call_id, self._ended = home, call_id, ended
        self.tag = uuid.uuid4().hex[:12]
        self.is_answered = self.is_over = False

    def got(self, message: Message) -> None:
        """A message of this call has come."""
        raise NotImplementedError

    def over(self) -> None:
        """The call has ended; what Asterisk repeats is still answered for a while."""
        if not self.is_over:
            self.is_over = True
            self._ended()
            asyncio.get_running_loop().call_later(5.0, self.home.calls.pop, self.call_id, None)

    def in_dialog(self, message: Message) -> bool:
        """Handle a request within an answered call; False if it is none."""
        if message.status or message.method not in ("BYE", "INVITE", "OPTIONS"):
            return False
        self.home.answer(message, "200 OK", body=message.method == "INVITE")
        if message.method == "BYE":
            self.over()
        return True


class AgentPhone(Phone):
    """An agent's phone in one call: rings for `ring` seconds and is picked up. picked_up(at): called then (epoch seconds).

    busy: it is in a call already, and refuses this one.
    """

    def __init__(self, home: Socket, invite: Message, ring: float, picked_up: Callable[[float], None],
                 ended: Callable[[], None], busy: bool = False):
        super().__init__(home, invite.call_id, ended)
        self._invite, self._picked_up, self._busy = invite, picked_up, busy
        self._last: tuple[str, bool] | None = None
        self._timer = asyncio.get_running_loop().call_later(ring, self._pick_up)

    def _reply(self, status: str, body: bool = False) -> None:
        self._last = status, body
        self.home.answer(self._invite, status, self.tag, body)

    def _pick_up(self) -> None:
        if not (self.is_over or self._busy):
            self.is_answered = True
            self._picked_up(time.time())
            self._reply("200 OK", True)

    def got(self, message: Message) -> None:
        if message.method == "CANCEL":
            self.home.answer(message, "200 OK", self.tag)
            if not self.is_answered:
                self._timer.cancel()
                self._reply("487 Request Terminated")
                self.over()
        elif message.method == "INVITE" and message.cseq == self._invite.cseq:
            if self._last:  # Asterisk sends it again
                self.home.answer(self._invite, self._last[0], self.tag, self._last[1])
            elif self._busy:
                self._reply("486 Busy Here")
                self.over()
            else:
                self._reply("180 Ringing")
        else:
            self.in_dialog(message)


class CallerPhone(Phone):
    """A caller from outside: call() and leave()."""

    def __init__(self, home: Socket, to: str, number: str, ended: Callable[[], None]):
        super().__init__(home, uuid.uuid4().hex, ended)
        self._uri = f"sip:{to}@127.0.0.1:{home.pbx[1]}"
        self._from = f"From: <sip:{number}@{home.address}>;tag={self.tag}\r\n"
        self._to, self._leaves = f"To: <{self._uri}>", False
        home.calls[self.call_id] = self

    def _send(self, method: str, number: int, branch: str, body: bool = False) -> None:
        self.home.send(f"{method} {self._uri} SIP/2.0\r\nVia: SIP/2.0/UDP {self.home.address}:{self.home.port};"
                       f"branch=z9hG4bK{branch}{self.tag}\r\n{self._from}{self._to}\r\nCall-ID: {self.call_id}\r\n"
                       f"CSeq: {number} {method}\r\nMax-Forwards: 70\r\n{self.home.contact}{ALLOW}", body)

    def call(self) -> None:
        self._send("INVITE", 1, "i", True)

    def leave(self) -> None:
        """Hang up, at whatever stage the call is."""
        if self.is_over or self._leaves:
            return
        self._leaves = True
        self._send("BYE", 2, "b") if self.is_answered else self._send("CANCEL", 1, "i")

    def got(self, message: Message) -> None:
        if self.in_dialog(message):
            return
        if message.method == "BYE" and message.status:
            self.over()
        if message.method != "INVITE" or message.status < 200:
            return
        self._to = f"To: {message.headers['to']}"
        if message.status == 200:
            first, self.is_answered = not self.is_answered, True
            self._send("ACK", 1, "a")
            self.home.speak(message)
            if first and self._leaves:  # the answer crossed the CANCEL
                self._send("BYE", 2, "b")
        else:
            self._send("ACK", 1, "i")
            self.over()
