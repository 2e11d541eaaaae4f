"""The phones as SIPp scenarios.

A phone is a small state machine; in each state it listens for several messages. It takes orders as SIP requests of
made-up methods (X-ANSWER, X-HANGUP, X-PRESS, X-REFER) that carry the call's Call-ID, because SIPp matches messages to
calls by that alone. A `pause` would leave it deaf, so time passes as the timeout of a `recv`.
Each step of a call is logged as `TIME CALL-ID EVENT DETAIL`.
"""
from __future__ import annotations

from collections.abc import Sequence
from xml.sax.saxutils import quoteattr

# The codes a call may fail with; SIPp wants each of them named.
FAILURES = (400, 401, 403, 404, 408, 410, 415, 420, 480, 481, 484, 486, 487, 488, 491, 500, 501, 502, 503, 504,
            600, 603, 604, 606)
_SAME_STATE = "{same state}"

_SDP = """\
Content-Type: application/sdp
Content-Length: [len]

v=0
o=phone 1 1 IN IP4 [local_ip]
s=-
c=IN IP4 [local_ip]
t=0 0
m=audio [rtpstream_audio_port] RTP/AVP 8
a=rtpmap:8 PCMA/8000
"""

_EMPTY = "Content-Length: 0\n"

_ALLOW = "Allow: INVITE, ACK, CANCEL, BYE, INFO, UPDATE, NOTIFY, REFER\n"
_VIA = "Via: SIP/2.0/UDP [local_ip]:[local_port];branch=[branch]\n"

# The head of an answer to the request that came last.
_OK = """\
SIP/2.0 200 OK
[last_Via:]
[last_From:]
[last_To:]
[last_Call-ID:]
[last_CSeq:]
Contact: <sip:phone@[local_ip]:[local_port]>
"""


def caller(to: str, number: str, name: str, tone: str | None, password: str = "") -> str:
    """A call from `number` to `to`; with the file `tone` (raw A-law) it is heard once it is answered.

    With a `password` Asterisk is expected to ask for it.
    """
    user = f"sip:{to}@[remote_ip]:[remote_port]"
    shown = f'"{name}" ' if name else ""
    party = (f"From: {shown}<sip:{number}@[local_ip]:[local_port]>;tag=[pid]caller\nTo: <{user}>{{to_tag}}\n"
             f"Call-ID: [call_id]\nMax-Forwards: 70\nContact: <sip:{number}@[local_ip]:[local_port]>\n{_ALLOW}")
    # CANCEL and the ACK of a refusal belong to the INVITE's transaction and bear its branch.
    of_invite = "Via: SIP/2.0/UDP [local_ip]:[local_port];branch=z9hG4bK-invite-[pid]\n"
    first = of_invite + party.format(to_tag="")
    proof = f"[authentication username={number} password={password}]\n" if password else ""
    party = party.format(to_tag="[peer_tag_param]")
    refusal_ack = _send(f"ACK {user} SIP/2.0\n{of_invite}{party}CSeq: 1 ACK\n{_EMPTY}", "end")
    later = _VIA + party
    ack = f"ACK {user} SIP/2.0\n{later}CSeq: 1 ACK\n{_EMPTY}"
    answered = _log("answered", "[peer_tag_param]") + _play(tone)
    return _scenario("caller", [
        _nop(_log("sent")), *(_challenged(user, first, party) if password else ()),
        _send(f"INVITE {user} SIP/2.0\n{first}CSeq: 1 INVITE\n{proof}{_SDP}", retransmit=True),
        _state("calling", [
            _recv("response", 100), _recv("response", 180, _log("ringing")), _recv("response", 183, _log("progress")),
            _ordered("X-HANGUP", "cancel"), _recv("response", 200, answered, "answered"),
            *(_recv("response", code, _log("failed", str(code)), "refused") for code in FAILURES)]),
        _label("refused"), refusal_ack,
        _label("answered"), _send(ack, "talking"),

        _label("press"),
        _send(f"INFO {user} SIP/2.0\n{later}CSeq: [cseq] INFO\nContent-Type: application/dtmf-relay\n"
              "Content-Length: [len]\n\nSignal=[$argument]\nDuration=160\n", "talking"),
        _label("reinvited"), _send(_OK + _SDP, "talking"),
        _state("talking", [
            _recv("request", "ACK"), _recv("response", 200), _recv("request", "INVITE", go="reinvited"),
            _ordered("X-PRESS", "press"), _ordered("X-HANGUP", "hang_up"),
            _recv("request", "BYE", _log("ended", "pbx"), "left")]),
        _label("left"), _send(_OK + _EMPTY, "end"),

        _label("hang_up"), _send(f"BYE {user} SIP/2.0\n{later}CSeq: [cseq] BYE\n{_EMPTY}", retransmit=True),
        _hung_up("caller"), _jump("end"),

        _label("cancel"), _send(f"CANCEL {user} SIP/2.0\n{first}CSeq: 1 CANCEL\n{_EMPTY}", retransmit=True),
        _state("cancelling", [
            _recv("response", 180), _recv("response", 183), _recv("response", 481),
            # The answer may cross the CANCEL: then the call stands and has to be hung up. The first 200 is for
            # either of the two; where it was for the CANCEL, SIPp listens on below it.
            _recv("response", 200, _ereg("INVITE", "CSeq:", "crossed"), "crossed", test="crossed"),
            _recv("response", 200, go="crossed"),
            _recv("response", 487, _log("cancelled"), "refused")], 5.0, "forsaken"),
        _label("forsaken"), _nop(_log("cancelled")), _jump("end"),
        _label("crossed"), _nop(answered), _send(ack, "hang_up"),
        _label("end")])


def _challenged(user: str, first: str, later: str) -> tuple[str, ...]:
    """Call without a password, and be asked for it: `first` and `later` are the headers before and after the 401."""
    first = first.replace("-invite-", "-asked-")
    via = first.splitlines(keepends=True)[0]
    return (_send(f"INVITE {user} SIP/2.0\n{first}CSeq: 0 INVITE\n{_SDP}", retransmit=True),
            '<recv response="401" auth="true"/>\n', _send(f"ACK {user} SIP/2.0\n{via}{later}CSeq: 0 ACK\n{_EMPTY}"))


def rejecting_agent(status: int) -> str:
    """A phone that refuses each call with `status`."""
    return _scenario("agent", [
        _invited(),
        _nop(_log("rejected", str(status))), _send(_invite_answer(f"{status} Rejected") + _EMPTY, retransmit=True),
        '<recv request="ACK"/>\n', *_asked_whether_alive()])


def agent(answer_after: float | None, hang_up_after: float | None, tone: str | None) -> str:
    """A phone that rings, answers (seconds; never: None) and may hang up (seconds after the answer)."""
    peer = "sip:asterisk@[remote_ip]:[remote_port]"
    own = (f"{_VIA}From: [$to];tag=[pid]agent[call_number]\nTo: [$from]\nCall-ID: [call_id]\nMax-Forwards: 70\n"
           "Contact: <sip:phone@[local_ip]:[local_port]>\n")
    ended = _recv("request", "BYE", _log("ended", "pbx"), "left")
    return _scenario("agent", [
        _invited(),
        _nop(_log("ringing")), _send(_invite_answer("180 Ringing") + _EMPTY),
        _state("ringing", [_recv("request", "CANCEL", _log("cancelled"), "cancelled"),
                           _ordered("X-ANSWER", "answer")], answer_after, "answer"),
        _label("cancelled"), _send(_OK + _EMPTY),
        _send(_invite_answer("487 Request Terminated") + _EMPTY, retransmit=True),
        _state("cancelled_by", [_recv("request", "ACK", go="end")], 2.0, "end"),

        _label("answer"), _send(_invite_answer("200 OK") + _SDP, retransmit=True),
        _state("answered", [_recv("request", "ACK", _log("answered") + _play(tone), "talking"),
                            _recv("request", "CANCEL", go="late_cancel"), ended]),
        _label("late_cancel"), _send(_OK + _EMPTY, "answered"),

        _label("refer"),
        _send(f"REFER {peer} SIP/2.0\n{own}CSeq: 100 REFER\nRefer-To: <[$argument]>\nReferred-By: [$to]\n{_EMPTY}",
              "talking"),
        _label("reinvited"), _send(_OK + _SDP, "talking"),
        _state("talking", [
            _recv("request", "ACK"), _recv("response", 202, _log("referred")),
            _recv("request", "INVITE", go="reinvited"), _ordered("X-HANGUP", "hang_up"),
            _ordered("X-REFER", "refer"), ended], hang_up_after, "hang_up"),
        _label("left"), _send(_OK + _EMPTY, "end"),

        _label("hang_up"), _send(f"BYE {peer} SIP/2.0\n{own}CSeq: 101 BYE\n{_EMPTY}", retransmit=True),
        _hung_up("agent"), *_asked_whether_alive()])


def _invited() -> str:
    headers = (("Via:", "via"), ("From:", "from"), ("To:", "to"), ("CSeq:", "cseq"))
    saved = "".join(_ereg("[^ ].*", header, variable) for header, variable in headers)
    actions = saved + _ereg("sip:[^@&gt;]*", "From:", "caller") + _log("invited", "[$caller]")
    return ('<recv request="OPTIONS" optional="true" next="alive"/>\n'
            f'<recv request="INVITE"><action>{actions}</action></recv>\n')


def _asked_whether_alive() -> tuple[str, ...]:
    """The end of an agent's scenario: Asterisk asks where qualify_frequency is set."""
    return (_jump("end"), _label("alive"), _send(_OK + _EMPTY), _label("end"))


def _invite_answer(status: str) -> str:
    """The head of an answer to the INVITE, whatever came since."""
    return (f"SIP/2.0 {status}\nVia: [$via]\nFrom: [$from]\nTo: [$to];tag=[pid]agent[call_number]\n"
            f"Call-ID: [call_id]\nCSeq: [$cseq]\nContact: <sip:phone@[local_ip]:[local_port]>\n{_ALLOW}")


def _ordered(method: str, go: str) -> str:
    """Within a state: take an order, with its argument, and say that it was taken."""
    taken = _ereg("[^ ].*", "X-Argument:", "argument") + _ereg("[^ ].*", "X-Serial:", "serial")
    return _recv("request", method, taken + _log("obeyed", "[$serial]"), go)


def _ereg(regexp: str, header: str, variable: str) -> str:
    return f'<ereg regexp="{regexp}" search_in="hdr" header="{header}" assign_to="{variable}"/>'


def _log(event: str, detail: str = "") -> str:
    return f'<log message="[timestamp] [call_id] {event} {detail}"/>'


def _recv(kind: str, what: object, actions: str = "", go: str = "", test: str = "") -> str:
    """Within a state: one message to listen for, and the label to go to (back to the state unless given)."""
    condition = f' test="{test}"' if test else ""
    return (f'<recv {kind}="{what}" optional="true" next="{go or _SAME_STATE}"{condition}{{timeout}}>'
            f"{_action(actions)}</recv>\n")


def _state(name: str, listen: Sequence[str], seconds: float | None = None, on_timeout: str = "") -> str:
    """Wait for one of the messages, at most `seconds` since the last of them came."""
    # SIPp looks at the timeout of the first `recv`, and wants the last one to be mandatory.
    timeout = f' timeout="{max(1, int(seconds * 1000))}" ontimeout="{on_timeout}"' if seconds is not None else ""
    body = "".join([listen[0].replace("{timeout}", timeout)] + [one.replace("{timeout}", "") for one in listen[1:]])
    return _label(name) + body.replace(_SAME_STATE, name) + '<recv request="X-NEVER"/>\n'


def _hung_up(by: str) -> str:
    done = [_recv("response", 200, go="hung_up"), _recv("response", 481, go="hung_up"),
            _recv("response", 202), _recv("request", "BYE")]
    return _state("hanging_up", done, 2.0, "hung_up") + _label("hung_up") + _nop(_log("ended", by))


def _send(message: str, go: str = "", retransmit: bool = False) -> str:
    """Send, and go to a label; SIPp is deaf on its way through a nop, so none may follow what will be replied to."""
    attributes = (f' next="{go}"' if go else "") + (' retrans="500"' if retransmit else "")
    return f"<send{attributes}><![CDATA[\n\n{message}\n]]></send>\n"


def _nop(actions: str) -> str:
    return f"<nop>{_action(actions)}</nop>\n"


def _action(actions: str) -> str:
    return f"<action>{actions}</action>" if actions else ""


def _play(tone: str | None) -> str:
    return f"<exec rtp_stream={quoteattr(tone + ',-1,8,PCMA/8000')}/>" if tone else ""


def _label(name: str) -> str:
    return f'<label id="{name}"/>\n'


def _jump(label: str) -> str:
    return f'<nop next="{label}"/>\n'


def _scenario(name: str, steps) -> str:
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<scenario name="{name}">\n{"".join(steps)}</scenario>\n'
