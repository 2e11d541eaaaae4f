"""What bench/fuzz.py feeds on: true inputs of every kind, and how they go wrong; all of it from a seed."""
from __future__ import annotations

import gzip
import json
import random
import re
from pathlib import Path
from urllib.parse import quote

TOKEN = "5aef2c9b-7a11-4f5e-9d1c-0c8a61b2d3e4"   # of Movidesk, as in the configuration
DOOR = "fuzz-door-4b1d7a90c2"                     # what opens the made-call port
PANEL = "the-password-of-the-panel"
SIGNING = "fuzz-signing-31c0aa57"                 # signs the links of recordings

#: What strangers send to see whether it dials, runs, forges a line or breaks a parser.
NASTY = [
    # line breaks, control characters, encodings
    "", " ", "\n", "\r\n", "\0", "\x0b", "\x85", "\u2028", "\udcff", "\udce5x", "é", "\ufeff", "٥٢٥٢", "😀" * 300,
    # quotes, and AGI in AGI
    '"', "\\", '\\"', '" "', "'", "(", ")", ") (", "\\" * 1500, '"' * 1100, "200 result=1 (FAKE)", "HANGUP", "\nHANGUP\n",
    "\n\n200 result=1 (FAKE)\n", "511 Command Not Permitted", "520-Invalid", "\nSET VARIABLE MOVIDESK_EXT 00900\n",
    "%0A%0A200 result=1",
    # commands, dial strings, paths, templates
    "${EXTEN}", "${SYSTEM(touch x)}", "$(touch x)", "`touch x`", "; touch x", "|touch x", "&& touch x", "00900",
    "5252&PJSIP/00900@trunk", "5252,1,gU(evil)", "../../etc/passwd", "/etc/passwd", "/dev/zero", "file:///etc/passwd",
    "http://[::1", "https://x/{0.__class__}", "{file!r}", "%s%n%(a)s", "__import__('os').system('x')", "<script>",
    # numbers, JSON, length
    "9" * 400, "1e400", "-1", "+", "NaN", "Infinity", "true", "null", "[]", "{}", "[" * 3000, '{"a":' * 500, "A" * 300,
    "A" * 3000, "B" * 70000, "5" * 128 + "x", "0", "1", "4", "5252", "77",
]
NUMBERS = ["4733990777", "+5547999887766", "anonymous", "5252", "unknown", "0", "1000", ""]


class Draw(random.Random):
    """Chance, from a seed."""

    def maybe(self, share: float) -> bool:
        return self.random() < share

    def text(self, *plausible: str, strange: float = 0.3) -> str:
        """One of these, or in so great a share of all cases something nasty, or both in one."""
        if plausible and not self.maybe(strange):
            return self.choice(plausible)
        nasty = self.choice(NASTY)
        return self.choice(plausible) + nasty if plausible and self.maybe(0.5) else nasty

    def mutate(self, data: bytes, share: float = 1.0) -> bytes:
        """The data with up to four accidents, in so great a share of all cases."""
        if not self.maybe(share):
            return data
        for _ in range(self.choice((1, 1, 2, 4))):
            data = self._accident(data)
        return data

    def _accident(self, data: bytes) -> bytes:
        at, end = sorted((self.randint(0, len(data)), self.randint(0, len(data))))
        kind = self.randrange(8)
        if kind == 0:
            return data[:at]
        if kind == 1:
            return data[:at] + data[min(end, at + 20):]
        if kind == 2:
            return data[:end] + data[at:]
        if kind == 3:
            return data[:at] + bytes([self.randrange(256)]) + data[at + 1:]
        if kind == 4:
            lines = data.splitlines(True)
            self.shuffle(lines)
            return b"".join(lines)
        if kind == 5:  # another value for one number
            found = list(re.finditer(rb"[0-9]+", data[:4000]))
            if found:
                spot = self.choice(found)
                return data[:spot.start()] + self.choice((b"-1", b"0", b"99999999999999999999", b"1_0")) + data[spot.end():]
        return data[:at] + octets(self.choice(NASTY)) + data[at:]


def octets(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


# -- AGI -----------------------------------------------------------------------------------------------------------

#: What each verb takes, plausibly; one that is none is among them.
ARGUMENTS = {
    "received": [["77", "78"]], "arrived": [["77"]], "start_canceled": [["77"]], "canceled": [], "no_verb": [],
    "transferred": [["5252", "PJSIP/5252-0000a1"]], "completed": [["", "/x/pbx1-17.1.wav", "a b.wav"]],
    "start_transferred": [["77"], ["5252", "Local/5252@from-queue-1;1", "SIP/5253-01"]], "lost": [["", "message.wav"]],
    "link": [["https://pbx.example.com/a.wav", "pbx1-17.1.wav"]], "hangup": [["", "{folder}/msg0000"]]}
ANSWERS = [
    b"200 result=1\n", b"200 result=0\n", b"200 result=1 (%s)\n", b"200 result=-1\n", b"200 result=1 (a\nb)\n",
    b"510 Invalid or unknown command\n", b"511 Command Not Permitted on a dead channel or intercept routine\n",
    b"520 Invalid\n", b"520-Invalid command syntax.  Proper usage follows:\n Usage: SET\n520 End of proper usage.\n",
    b"HANGUP\n200 result=1\n", b"HANGUP\n" * 30 + b"200 result=1\n"]
ENVIRONMENT = {
    "agi_network": "yes", "agi_channel": "PJSIP/trunk-00000001", "agi_language": "en", "agi_type": "PJSIP",
    "agi_version": "22.10.1", "agi_calleridname": "unknown", "agi_dnid": "77", "agi_rdnis": "unknown",
    "agi_context": "movidesk-verb", "agi_extension": "s", "agi_priority": "9", "agi_enhanced": "0.0",
    "agi_accountcode": "", "agi_threadid": "140000000000000"}


def arguments(draw: Draw, verb: str, folder: Path) -> list[str]:
    given = [draw.text(*values).replace("{folder}", str(folder)) for values in ARGUMENTS[verb]]
    return given + [draw.text("") for _ in range(2) if draw.maybe(0.1)]


def environment(draw: Draw, verb: str, given: list[str], uniqueid: str = "17.1") -> bytes:
    """What Asterisk sends first, up to the empty line."""
    fields = {"agi_network_script": verb, "agi_request": "agi://127.0.0.1/" + verb, "agi_uniqueid": uniqueid,
              "agi_callerid": draw.choice(NUMBERS), **ENVIRONMENT}
    for _ in range(draw.choice((0, 0, 1, 2))):
        fields[draw.choice(list(fields))] = draw.text()
    fields.update((f"agi_arg_{number}", value) for number, value in enumerate(given, 1))
    if draw.maybe(0.03):
        fields.update((f"agi_x{number}", "y") for number in range(300))
    return draw.mutate(octets("".join(f"{name}: {value}\n" for name, value in fields.items())) + b"\n", 0.25)


def answer(draw: Draw) -> bytes:
    """One answer of Asterisk to a command, seldom as it should be."""
    line = draw.choice(ANSWERS)
    if b"%s" in line:
        line %= octets(draw.text("pbx1-17.1", "5252", "77", "message", "x.wav"))
    return draw.mutate(line, 0.3)


# -- Movidesk's answers ----------------------------------------------------------------------------------------------

BODIES = [
    b'"5252"', b'"0"', b'"3 everybody is busy"', b"4", b'"5253 Ana"', b"5252", b'""', b"", b'"5252&PJSIP/00900@trunk"',
    b'{"error": "Invalid id"}', b"<html><h1>Service Unavailable</h1></html>", b'"00900"', b'\xef\xbb\xbf"5252"',
    b'"\xff\xfe5252"', b'"\\ud800"', b'"5\\u0032\\u0035\\u0032"', b"true", b"[5252]", b"-1", "٥٢٥٢".encode(),
    b'"%s"' % TOKEN.encode(), b"token=" + TOKEN.upper().encode() + b" is wrong", b"5252 " * 3000, b"[" * 20000, b"9" * 9000]
STATUSES = (200, 200, 200, 200, 201, 204, 301, 302, 307, 400, 401, 403, 404, 408, 411, 429, 500, 502, 503, 599, 100, 999)
LATER = [
    "60", "0", "-5", "9999999999", "1.5", "٣", "tomorrow", "Wed, 21 Oct 2026 07:28:00 GMT",
    "Wed, 21 Oct 2026 07:28:00 +9999", "0001-01-01", "9999-12-31T23:59:59-23:59", "10/10/10 10:10:10.99999999999 ZZZ",
    "31 Feb", "12:" * 3000, "1 " * 900, "x" * 9000]


def http_answer(draw: Draw) -> bytes:
    """One answer of Movidesk, or of whoever answers in its place, as it comes over the wire."""
    long = draw.maybe(0.01)  # the client takes 20 microseconds for each byte
    body = draw.mutate(draw.choice(BODIES), 0.3) if draw.maybe(0.95) else octets(draw.text())
    body = body[:100_000 if long else 300]
    headers = [b"Content-Type: application/json; charset=" + draw.choice((b"utf-8", b"utf-16", b"latin-1", b"x\xff"))]
    if draw.maybe(0.1):
        body = gzip.compress(body * (3000 if long else 1))
        headers.append(b"Content-Encoding: " + draw.choice((b"gzip", b"deflate", b"br", b"gzip, gzip")))
    if draw.maybe(0.1):
        body = b"3\r\n%s\r\n%x\r\n%s\r\n0\r\n\r\n" % (body[:3], len(body[3:]), body[3:])
        headers.append(b"Transfer-Encoding: chunked")
    else:
        headers.append(b"Content-Length: %d" % len(body))
    for name, share, values in ((b"Retry-After: ", 0.3, LATER), (b"Set-Cookie: ", 0.1, ["a=b", "a=b; expires=x"]),
                                (b"Location: ", 0.2, ["https://elsewhere.example/", "/x", "http://a..b/", "//\udcff"])):
        if draw.maybe(share):
            headers.append(name + octets(draw.text(*values)))
    head = b"HTTP/1.%d %d %s" % (draw.randrange(2), draw.choice(STATUSES), octets(draw.text("OK")))
    return draw.mutate(b"\r\n".join([head, *headers, b"", body]), 0.25)[:100_000 if long else 3000]


# -- configurations ------------------------------------------------------------------------------------------------

SAMPLE = (Path(__file__).parent.parent / "etc" / "movidesk.conf").read_text()
OPTION = re.compile(r"^;?(\w+) = ?(.*)$")
#: The first five are good for extensions; most others would take for ever.
PATTERNS = [
    "[0-9]{2,10}", r"\d{4}", "[0-9A-Za-z]{2,20}", "(?:20|30)[0-9]{2}", "5252|5253|6000", "([0-9]+)*", "(a+)+$",
    "([0-9]|[0-9][0-9])*x", "[0-9]*" * 9 + "x", "(.*)(.*)(.*)(.*)\\1x", "(?:5?){60}x", "(?i)[\\0-\\U0010ffff]{1,9}",
    "a|" * 400, "(" * 2000, "a{99999999999}", "(?:PJSIP|SIP)/([0-9]{2,10})(?![0-9]).*", ".*/([0-9]+)[-@].*",
    "(?P<x>[0-9]+)", "[", "*", "\\", "(?<=5)2", "(?s:.)+"]
VALUES = {
    "extension_pattern": PATTERNS, "agent_channel": PATTERNS, "number_pattern": PATTERNS, "token": [TOKEN],
    "url": ["http://127.0.0.1:9/x", "https://a..b/", f"https://{'x' * 70}.example", "https://[::]/", "https://-/x"],
    "link": ["https://x/rec/{file}", "https://x/{date}/{id}?q={queue}", "https://x/{file", "https://x/{0}"],
    "token_file": ["{folder}/secret", "{folder}", "{folder}/fifo", "/dev/zero", "x\0y", "/dev/full"],
    "secret_file": ["{folder}/secret", "/dev/zero", "{folder}/fifo", "{folder}/no"],
    "listen": ["127.0.0.1:4573", ":1", "[::1]:2", "x..y:3", "0.0.0.0:99999", "é:1"],
    "path": ["{folder}/j.db", "/a\0b", "relative"], "allow": ["0, 47, +55", "0," * 900, ","]}
LONG_LINES = ("a" + " " * 20000 + "b", "x" * 90000, " = ", "  continued", "[" * 9000)


def config_file(draw: Draw, folder: Path) -> bytes:
    """etc/movidesk.conf with some options set, and with what people and editors do to such files."""
    lines = []
    for line in SAMPLE.splitlines():
        option = OPTION.match(line)
        if option and draw.maybe(0.9 if option[1] == "token" else 0.2):
            values = VALUES.get(option[1], [option[2]] * 50 + [TOKEN.upper()])
            line = f"{option[1]} = {draw.text(*values, strange=0.05)}"
        if not line.startswith(";") or draw.maybe(0.1):
            lines.append(line)
    if draw.maybe(0.05):
        lines.insert(draw.randrange(len(lines)), draw.choice(LONG_LINES))
    if draw.maybe(0.02):
        lines += [f"k{number} = {number}" for number in range(draw.choice((50, 4000)))]
    text = "\n".join(lines).replace("{folder}", str(folder)) + "\n"
    if draw.maybe(0.05):
        return text.encode(draw.choice(("utf-16", "utf-8-sig", "utf-32-be", "utf-7")), "replace")
    return draw.mutate(octets(text), 0.2)


# -- requests over HTTP ----------------------------------------------------------------------------------------------

def http_request(draw: Draw, method: str, target: str, headers: list[str], body: bytes = b"") -> bytes:
    if draw.maybe(0.2):
        method = draw.text("HEAD", "OPTIONS", "PUT", "GET", "POST")
    if draw.maybe(0.2):
        name = draw.text("X", "Expect", "Transfer-Encoding", "Content-Length", "Range", "If-Range")
        value = draw.text("100-continue", "chunked", "5", "bytes=0-", "bytes=5-2", "bytes=-3")
        headers = [*headers, f"{name}: {value}"]
    version = draw.text("HTTP/1.1", "HTTP/1.0", strange=0.1)
    head = "\r\n".join([f"{method} {target} {version}", "Host: pbx", *headers, "", ""])
    return draw.mutate(octets(head) + body, 0.3)


def made_request(draw: Draw, trusted: bool) -> bytes:
    """What Movidesk asks for a made call, or what somebody without the secret does."""
    numbers = ("4733990777", "(47) 3399-0777", "0900123", "+15551234", "0047")
    fields = {"source": draw.text("5252", "5253"), "destination": draw.text(*numbers)}
    if draw.maybe(0.1):
        fields = {"source": "5252", "call": draw.text("pbx1-17.1")}
    if not trusted:
        headers = ["Authorization: " + draw.text("Bearer x", "Basic eDp5", "Basic ====", DOOR[:-4])]
    elif draw.maybe(0.5):
        headers = ["Authorization: Bearer " + DOOR]
    else:
        headers, fields["token"] = [], DOOR
    target = draw.text("/call", "/monitor", "/call?", "//call", "http://pbx/call")
    form = "&".join(f"{name}={quote(octets(value))}" for name, value in fields.items())
    if draw.maybe(0.5):
        return http_request(draw, "GET", target + "?" + form, headers)
    body = octets(form if draw.maybe(0.5) else json.dumps(fields))
    return http_request(draw, "POST", target, [*headers, f"Content-Length: {len(body)}"], body)


def panel_request(draw: Draw, cookie: str) -> bytes:
    """What a browser asks of the panel, with this cookie, or what a stranger does ('')."""
    headers = ["Cookie: " + (cookie or draw.text("movidesk_panel=viewer", "movidesk_panel=viewer.aaaa.bbbb", "="))]
    if draw.maybe(0.3):
        headers.append(draw.text("X-Remote-User: ana", "X_Remote_User: ana", "X-Forwarded-For: 192.0.2.7",
                                 "Accept-Language: pt-BR,*;q=x", "X-Forwarded-Proto: https"))
    if draw.maybe(0.3):
        # Whoever is logged in and opens the stream would wait for news.
        paths = ("/", "/login", "/panel.js", "//", "/logout", *(() if cookie else ("/events", "/events?lang=pt")))
        return http_request(draw, "GET", draw.text(*paths) if not cookie else draw.choice(paths), headers)
    name = draw.text("number", "password", "lang")
    body = octets(f"{name}={quote(octets(draw.text('4733990777', '0777', PANEL, '%', '+', 'anonymous')))}")
    kind = draw.text("application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "text/plain")
    headers += ["Content-Type: " + kind, f"Content-Length: {len(body)}"]
    return http_request(draw, "POST", draw.choice(("/search", "/search", "/login", "/logout", "/")), headers, body)


# -- emergency lines -------------------------------------------------------------------------------------------------

NO_TEXTS = (5, -1.5, None, True, [], {}, 10 ** 30, 10 ** 400, 1e300, float("nan"))


def emergency_lines(draw: Draw) -> bytes:
    lines = []
    for _ in range(draw.choice((1, 1, 2, 5))):
        event = {"kind": draw.text(*ARGUMENTS), "at": 1_700_000_000.5, "arrived": draw.choice((None, 1_700_000_000.25)),
                 "uniqueid": f"17.{draw.randrange(3)}", "queue": "77", "call_id": f"pbx1-17.{draw.randrange(3)}",
                 "number": draw.choice(NUMBERS), "extension": "5252", "link": ""}
        for _ in range(draw.choice((0, 0, 1, 2))):
            event[draw.choice(list(event))] = draw.choice(NO_TEXTS) if draw.maybe(0.6) else draw.text()
        lines.append(json.dumps(event).encode())
    return draw.mutate(b"\n".join(lines) + b"\n", 0.4)
