"""The phones as SIPp scenarios.

A phone is a small state machine: each state is a run of optional `recv` that ends in one mandatory `recv`. It takes
orders as SIP requests of made-up methods (X-HANGUP, X-PRESS, X-REFER) that carry the call's Call-ID, because SIPp
matches messages to calls by that alone. A `pause` would leave it deaf, so time passes as the timeout of a `recv`.
Each step of a call is logged as `TIME CALL-ID EVENT DETAIL`.
"""
from __future__ import annotations

from typing import Optional
from xml.sax.saxutils import escape, quoteattr

# The codes a call may fail with; SIPp wants each of them named.
FAILURES = (400, 401, 403, 404, 408, 410, 415, 420, 480, 481, 484, 486, 487, 488, 491, 500, 501, 502, 503, 504,
            600, 603, 604, 606)
FOREVER_MS = 24 * 3600 * 1000

_SDP = """\
Content-Type: application/sdp
Content-Length: [len]

v=0
o=phone 1 1 IN IP4 127.0.0.1
s=-
c=IN IP4 127.0.0.1
t=0 0
m=audio [rtpstream_audio_port] RTP/AVP 8
a=rtpmap:8 PCMA/8000
"""

_EMPTY = "Content-Length: 0\n"

# Headers of an answer to the request that came last.
_LAST = """\
[last_Via:]
[last_From:]
[last_To:]
[last_Call-ID:]
[last_CSeq:]
Contact: <sip:phone@127.0.0.1:[local_port]>
"""


def caller(to: str, number: str, name: str, tone: Optional[str]) -> str:
    """A call from `number` to `to`; with the file `tone` (raw A-law) it is heard once it is answered."""
    user = f"{to}@[remote_ip]:[remote_port]"
    shown = f'"{name}" ' if name else ""
    party = (f"From: {shown}<sip:{number}@127.0.0.1:[local_port]>;tag=[pid]caller\n"
             f"To: <sip:{user}>{{to_tag}}\nCall-ID: [call_id]\nMax-Forwards: 70\n"
             f"Contact: <sip:{number}@127.0.0.1:[local_port]>\n")
    # CANCEL and the ACK of a refusal belong to the INVITE's transaction and bear its branch.
    invite_via = "Via: SIP/2.0/UDP 127.0.0.1:[local_port];branch=z9hG4bK-invite-[pid]\n"
    via = "Via: SIP/2.0/UDP 127.0.0.1:[local_port];branch=[branch]\n"
    start, in_dialog = party.format(to_tag=""), party.format(to_tag="[peer_tag_param]")
    ack = _send(f"ACK sip:{user} SIP/2.0\n{via}{in_dialog}CSeq: 1 ACK\n{_EMPTY}")
    refused_ack = _send(f"ACK sip:{user} SIP/2.0\n{invite_via}{in_dialog}CSeq: 1 ACK\n{_EMPTY}")
    failed = "".join(_recv(f'response="{code}"', _log("failed", str(code)), "refused") for code in FAILURES)
    return _scenario("caller", [
        _send(f"INVITE sip:{user} SIP/2.0\n{invite_via}{start}CSeq: 1 INVITE\n"
              f"Allow: INVITE, ACK, CANCEL, BYE, INFO, UPDATE, NOTIFY\n{_SDP}", retransmit=True),
        _label("ringing"),
        _recv('response="100"'), _recv('response="180"', _log("ringing")), _recv('response="183"', _log("progress")),
        failed, _recv('request="X-HANGUP"', next_label="cancel"),
        _recv('response="200" rrs="true"', _log("answered", "[peer_tag_param]"), mandatory=True),
        ack, _play(tone), _jump("talking"),

        _label("press"),
        _send(f"INFO sip:{user} SIP/2.0\n{via}{in_dialog}CSeq: [cseq] INFO\nContent-Type: application/dtmf-relay\n"
              "Content-Length: [len]\n\nSignal=[$argument]\nDuration=160\n"),
        _jump("talking"),
        _label("reinvited"),
        _send("SIP/2.0 200 OK\n" + _LAST + _SDP),
        _label("talking"),
        _recv('request="ACK"'), _recv('response="200"'), _recv('request="INVITE"', next_label="reinvited"),
        _recv('request="X-PRESS"', _take_argument(), "press"), _recv('request="X-HANGUP"', next_label="hang_up"),
        _recv('request="BYE"', _log("ended", "pbx"), mandatory=True),
        _send("SIP/2.0 200 OK\n" + _LAST + _EMPTY), _jump("end"),

        _label("hang_up"),
        _send(f"BYE sip:{user} SIP/2.0\n{via}{in_dialog}CSeq: [cseq] BYE\n{_EMPTY}", retransmit=True),
        _recv('request="BYE"'), _recv('response="481"', next_label="hung_up"),
        _recv('response="200"', _answers_to("BYE"), "hung_up", test="matched"),
        _recv('request="X-NEVER"', mandatory=True, timeout=2000, ontimeout="hung_up"),
        _label("hung_up"), _nop(_log("ended", "caller")), _jump("end"),

        _label("cancel"),
        _send(f"CANCEL sip:{user} SIP/2.0\n{invite_via}{start}CSeq: 1 CANCEL\n{_EMPTY}", retransmit=True),
        _label("cancelling"),
        _recv('response="100"'), _recv('response="180"'), _recv('response="183"'), _recv('response="481"'),
        # The answer may cross the CANCEL: then the call stands and has to be hung up.
        _recv('response="200"', _answers_to("INVITE"), "crossed", test="matched"),
        _recv('response="487"', _log("cancelled"), mandatory=True),
        refused_ack, _jump("end"),
        _label("crossed"), _nop(_log("answered", "[peer_tag_param]")), ack, _jump("hang_up"),

        _label("refused"), refused_ack, _label("end")])


def agent(*, reject: Optional[int] = None, answer_after: Optional[float] = 0.0, hang_up_after: Optional[float] = None,
          tone: Optional[str] = None) -> str:
    """A phone that rejects each call with a status code, or answers (never: `answer_after` None) and may hang up."""
    answer = _invite_answer
    invited = _save_invite() + _log("invited", "[$caller]")
    party = ("Via: SIP/2.0/UDP 127.0.0.1:[local_port];branch=[branch]\nFrom: [$to];tag=[pid]agent[call_number]\n"
             "To: [$from]\nCall-ID: [call_id]\nMax-Forwards: 70\nContact: <sip:phone@127.0.0.1:[local_port]>\n")
    peer = "sip:asterisk@[remote_ip]:[remote_port]"
    if reject:
        return _scenario("agent", [
            _recv('request="INVITE"', invited, mandatory=True),
            _send(answer(f"{reject} Rejected") + _EMPTY, retransmit=True), _nop(_log("rejected", str(reject))),
            _recv('request="ACK"', mandatory=True)])
    return _scenario("agent", [
        _recv('request="INVITE"', invited, mandatory=True),
        _send(answer("180 Ringing") + _EMPTY), _nop(_log("ringing")),
        _recv('request="CANCEL"', _log("cancelled"), "cancelled"), _recv('request="X-ANSWER"', next_label="answer"),
        _recv('request="X-NEVER"', mandatory=True, timeout=_milliseconds(answer_after), ontimeout="answer"),
        _label("answer"),
        _send(answer("200 OK") + _SDP, retransmit=True), _nop(_log("answered")),
        _recv('request="CANCEL"', next_label="late_cancel"), _recv('request="BYE"', _log("ended", "pbx"), "ended"),
        _recv('request="ACK"', mandatory=True), _play(tone), _jump("talking"),
        _label("late_cancel"), _send("SIP/2.0 200 OK\n" + _LAST + _EMPTY), _jump("talking"),

        _label("refer"),
        _send(f"REFER {peer} SIP/2.0\n{party}CSeq: 100 REFER\nRefer-To: <[$argument]>\n"
              f"Referred-By: [$to]\n{_EMPTY}"),
        _jump("talking"),
        _label("reinvited"),
        _send("SIP/2.0 200 OK\n" + _LAST + _SDP),
        _label("talking"),
        _recv('request="ACK"'), _recv('response="202"', _log("referred", "202")),
        _recv('request="INVITE"', next_label="reinvited"), _recv('request="X-HANGUP"', next_label="hang_up"),
        _recv('request="X-REFER"', _take_argument(), "refer"),
        _recv('request="BYE"', _log("ended", "pbx"), mandatory=True, timeout=_milliseconds(hang_up_after),
              ontimeout="hang_up"),
        _label("ended"), _send("SIP/2.0 200 OK\n" + _LAST + _EMPTY), _jump("end"),

        _label("hang_up"),
        _send(f"BYE {peer} SIP/2.0\n{party}CSeq: 101 BYE\n{_EMPTY}", retransmit=True),
        _recv('request="BYE"'), _recv('response="481"', next_label="hung_up"), _recv('response="202"'),
        _recv('response="200"', mandatory=True, timeout=2000, ontimeout="hung_up"),
        _label("hung_up"), _nop(_log("ended", "agent")), _jump("end"),

        _label("cancelled"),
        _send("SIP/2.0 200 OK\n" + _LAST + _EMPTY),
        _send(answer("487 Request Terminated") + _EMPTY, retransmit=True),
        _recv('request="ACK"', mandatory=True, timeout=2000, ontimeout="end"), _label("end")])


def _invite_answer(status: str) -> str:
    """The head of an answer to the INVITE, whatever came since."""
    return (f"SIP/2.0 {status}\nVia: [$via]\nFrom: [$from]\nTo: [$to];tag=[pid]agent[call_number]\n"
            "Call-ID: [call_id]\nCSeq: [$cseq]\nContact: <sip:phone@127.0.0.1:[local_port]>\n"
            "Allow: INVITE, ACK, CANCEL, BYE, INFO, UPDATE, NOTIFY, REFER\n")


def _save_invite() -> str:
    headers = (("Via:", "via"), ("From:", "from"), ("To:", "to"), ("CSeq:", "cseq"))
    saved = "".join(_ereg("[^ ].*", header, variable) for header, variable in headers)
    return saved + _ereg("sip:[^@&gt;]*", "From:", "caller")


def _take_argument() -> str:
    return _ereg("[^ ].*", "X-Argument:", "argument")


def _answers_to(method: str) -> str:
    return _ereg(method, "CSeq:", "matched")


def _ereg(regexp: str, header: str, variable: str) -> str:
    return f'<ereg regexp="{regexp}" search_in="hdr" header="{header}" assign_to="{variable}"/>'


def _log(event: str, detail: str = "") -> str:
    return f'<log message="[timestamp] [call_id] {event} {detail}"/>'


def _recv(what: str, actions: str = "", next_label: str = "", *, mandatory: bool = False, test: str = "",
          timeout: int = 0, ontimeout: str = "") -> str:
    attributes = what + ("" if mandatory else ' optional="true"')
    for name, value in (("next", next_label), ("test", test), ("timeout", timeout), ("ontimeout", ontimeout)):
        attributes += f' {name}="{value}"' if value else ""
    return f"<recv {attributes}>{_action(actions)}</recv>\n"


def _send(message: str, retransmit: bool = False) -> str:
    attributes = ' retrans="500"' if retransmit else ""
    return f"<send{attributes}><![CDATA[\n\n{message}\n]]></send>\n"


def _nop(actions: str) -> str:
    return f"<nop>{_action(actions)}</nop>\n"


def _action(actions: str) -> str:
    return f"<action>{actions}</action>" if actions else ""


def _play(tone: Optional[str]) -> str:
    return _nop(f"<exec rtp_stream={quoteattr(escape(tone) + ',-1,8,PCMA/8000')}/>") if tone else ""


def _label(name: str) -> str:
    return f'<label id="{name}"/>\n'


def _jump(label: str) -> str:
    return f'<nop next="{label}"/>\n'


def _milliseconds(seconds: Optional[float]) -> int:
    return FOREVER_MS if seconds is None else max(1, int(seconds * 1000))


def _scenario(name: str, steps) -> str:
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<scenario name="{name}">\n{"".join(steps)}</scenario>\n'
