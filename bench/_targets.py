"""The targets of bench/fuzz.py: each makes inputs, runs one through the product, and tells how it ended.

An input is a plain Python value, so that a failing one can be written down and replayed, and begins with an empty journal.
What is wrong is raised as Fault (_scene.promise).
"""
from __future__ import annotations

import re
import urllib.parse
from contextlib import suppress
from pathlib import Path

from _inputs import (
    ARGUMENTS,
    DOOR,
    PANEL,
    PATTERNS,
    SIGNING,
    TOKEN,
    Draw,
    answer,
    arguments,
    config_file,
    emergency_lines,
    environment,
    http_answer,
    http_request,
    made_request,
    octets,
    panel_request,
)
from _scene import BEGIN, Asterisk, Scene, WebPort, check_commands, exchange, has_secret, kind_of, promise
from movidesk import config, service
from movidesk.agi import runner, variables
from movidesk.agi.channel import Channel, ChannelGone, ProtocolError
from movidesk.config import options
from movidesk.context import Context
from movidesk.delivery import api
from movidesk.journal import emergency
from movidesk.made_calls import dialler
from movidesk.pbx import ami
from movidesk.recordings import links, signatures
from movidesk.rules import call_states
from movidesk.web import made_calls
from movidesk.web import recordings as web_recordings
from movidesk.web.panel import app

LINK = "https://pbx.example.com/rec/{file}"


class Verbs:
    """AGI environments, and answers to the commands of every verb, with Movidesk's answers behind them."""

    VARIABLES = {variables.ID: "pbx1-17.1", variables.QUEUE: "77", variables.ANSWERED_BY: "5252", variables.ENDING: "message",
                 variables.RECORDING: "pbx1-17.1.wav", variables.ARRIVED: "1700000000.25"}

    def __init__(self, scene: Scene):
        self.scene = scene
        self.contexts = [
            scene.context("plain"),
            scene.context("ring", pbx__report_transfer="ring", recordings__link=LINK, recordings__convert="mp3"),
            scene.context("letters", pbx__extension_pattern="[0-9A-Za-z]{2,20}", recordings__link=LINK,
                          recordings__secret=SIGNING),
            scene.context("digits", False, pbx__extension_pattern=r"\d{4}")]
        self.away = scene.context("away", journal__path=str(scene.folder / "secret" / "j.db"))

    def make(self, draw: Draw) -> dict:
        uniqueid = draw.text("17.1", strange=0.03)
        runs = []
        for _ in range(draw.choice((1, 1, 2, 3))):
            verb = draw.choice(list(ARGUMENTS))
            given = arguments(draw, verb, self.scene.folder)
            faults = {draw.randint(1, 14): answer(draw) if draw.maybe(0.9) else None
                      for _ in range(draw.choice((0, 0, 1, 3)))}
            runs.append((verb, given, environment(draw, verb, given, uniqueid), faults))
        variables = {name: draw.text(value) for name, value in self.VARIABLES.items() if draw.maybe(0.15)}
        return {"context": None if draw.maybe(0.1) else draw.randrange(len(self.contexts)), "runs": runs,
                "variables": variables, "later": draw.choice((0, 1, 30, 100000)),
                "answers": [http_answer(draw) for _ in range(draw.choice((0, 1, 2)))]}

    def run(self, given: dict) -> str:
        context = self.away if given["context"] is None else self.contexts[given["context"]]
        journal = None if context is self.away else context.journal
        self.scene.begin(journal, given["answers"])
        variables, ended = dict(given["variables"]), ""
        for verb, words, begin, faults in given["runs"]:
            ended = self._session(context, verb, words, Asterisk(begin, variables, faults))
            self.scene.now += given["later"]
        self.scene.check_requests()
        if journal is not None:
            self.scene.check_journal(journal)
        return ended

    @staticmethod
    def _session(context: Context, verb: str, words: list[str], peer: Asterisk) -> str:
        try:
            channel = Channel(peer, peer)
        except (ChannelGone, ProtocolError) as error:
            return "refused: " + kind_of(str(error))
        try:
            result = runner.run(verb, channel, context, words)
        except ChannelGone as error:
            return "channel gone: " + kind_of(str(error))
        finally:
            done = check_commands(peer.commands, context.config["pbx", "extension_pattern"])
        promise(done[-1:] == [(variables.RESULT, result)] and peer.commands[-1].startswith(b"SET"),
                f"{variables.RESULT} is not the last: {peer.commands[-3:]!r}")
        why = [line for line in peer.commands if b" failed: " in line]
        return result + (": " + kind_of(why[-1].decode("utf-8", "replace").partition(" failed: ")[2]) if why else "")


class Streams:
    """Byte streams to the FastAGI handler: all that the peer will ever say, at once; then it closes, half or whole."""

    def __init__(self, scene: Scene):
        self.scene, self.context = scene, scene.context("service", False, recordings__link=LINK)
        self.server = service.FastAGI(("127.0.0.1", 0), self.context)
        service.Session.disable_nagle_algorithm = False  # a pair of sockets has none; TCP would run out of ports

    def make(self, draw: Draw) -> dict:
        verb = draw.choice(list(ARGUMENTS))
        given = arguments(draw, verb, self.scene.folder)
        name = draw.text(verb, verb + "?x=1", "/" + verb, strange=0.1)
        replies = [answer(draw) if draw.maybe(0.1) else draw.choice((b"200 result=1\n", b"200 result=0\n"))
                   for _ in range(draw.choice((0, 5, 30)))]
        return {"stream": draw.mutate(environment(draw, name, given) + b"".join(replies), 0.2),
                "close": draw.maybe(0.2), "answers": [http_answer(draw)]}

    def run(self, given: dict) -> str:
        self.scene.begin(self.context.journal, given["answers"])
        commands = re.findall(rb"[^\n]*\n|[^\n]+", exchange(self.server, given["stream"], given["close"]))
        done = check_commands(commands, self.context.config["pbx", "extension_pattern"])
        self.scene.check_requests()
        self.scene.check_journal(self.context.journal)
        said = [record.getMessage() for record in self.scene.log if record.name == "movidesk.service"]
        if given["close"] or said and said[-1].startswith("127.0.0.1:1"):
            return kind_of(said[-1].partition(": ")[2]) if said else "the peer was gone"
        promise(done[-1:] and done[-1][0] == variables.RESULT, f"{variables.RESULT} is not the last: {commands[-3:]!r}")
        return done[-1][1]


class Answers:
    """Movidesk's answers, as bytes on the wire, through requests and the client; their text through parse_answer."""

    def __init__(self, scene: Scene):
        self.scene = scene
        self.client = api.Client("http://127.0.0.1:9/public/v1", options.Secret(TOKEN), 0.1, clock=scene.clock)
        self.patterns = [scene.context("pattern", pbx__extension_pattern=text).config["pbx", "extension_pattern"]
                         for text in PATTERNS[:5]]

    def make(self, draw: Draw) -> dict:
        fields = {"queue": "77", "number": "4733990777", "id": "pbx1-17.1", "extension": "5252",
                  "link": "https://x/a.wav"}
        if draw.maybe(0.3):
            fields[draw.choice(list(fields))] = draw.text().encode("utf-8", "replace").decode()
        return {"event": draw.choice(list(api.ENDPOINTS)), "fields": fields, "pattern": draw.randrange(5),
                "answers": [http_answer(draw)] if draw.maybe(0.97) else []}

    def run(self, given: dict) -> str:
        self.scene.begin(answers=given["answers"])
        try:
            result = self.client.send(given["event"], arrived=BEGIN, at=BEGIN, **given["fields"])
        except api.ParameterError as error:
            return "ParameterError: " + kind_of(str(error).partition(": ")[2])
        finally:
            self.client.close()
        self.scene.check_requests()
        text = result.text if isinstance(result, api.Delivered) else result.why
        promise(len(text) <= 220 and text.isprintable() and not has_secret(text), f"says {result!r}")
        if isinstance(result, api.Retry):
            promise(result.after is None or 0 <= result.after <= api.RETRY_AFTER_MAX, f"waits {result!r}")
        if not isinstance(result, api.Delivered):
            return f"{type(result).__name__} {result.status or result.why}"
        return self._parse(text, self.patterns[given["pattern"]])

    @staticmethod
    def _parse(text: str, pattern) -> str:
        try:
            found = api.parse_answer(text, pattern)
        except api.NonsenseAnswer:
            return "NonsenseAnswer"
        if found.extension:
            promise(not found.code and pattern.fullmatch(found.extension), f"took {text!r} for {found!r}")
            return "an extension"
        promise(found.code in tuple("01234"), f"took {text!r} for {found!r}")
        return "a code"


class Texts(Answers):
    """Texts of any length straight to parse_answer, and to retry_seconds."""

    def make(self, draw: Draw) -> dict:
        body = http_answer(draw).partition(b"\r\n\r\n")[2]
        return {"text": draw.mutate(body, 0.5) if draw.maybe(0.7) else octets(draw.text()),
                "later": draw.text("60", "Wed, 21 Oct 2026 07:28:00 GMT"), "pattern": draw.randrange(5)}

    def run(self, given: dict) -> str:
        wait = api.retry_seconds(given["later"], BEGIN)
        promise(wait is None or 0 <= wait <= api.RETRY_AFTER_MAX, f"waits {wait!r}")
        return self._parse(given["text"].decode("utf-8", "replace"), self.patterns[given["pattern"]])


class Configs:
    """Configuration files as bytes; each option is used as the product uses it."""

    reads_elsewhere = True  # the files of secrets that they name
    LONG = ("5" * 30, "5" * 128 + "x", "a" * 60 + "!", "5" * 60000, "PJSIP/" + "5-" * 60)

    def __init__(self, scene: Scene):
        self.scene, self.path = scene, scene.folder / "fuzzed.conf"

    def make(self, draw: Draw) -> bytes:
        return config_file(draw, self.scene.folder)

    def run(self, given: bytes) -> str:
        self.scene.begin()
        self.path.write_bytes(given)
        found = config.load(str(self.path))
        problems = found.all_problems()
        promise(not has_secret(repr(problems)), f"a secret is in a problem: {problems!r}")
        for section, keys in options.OPTIONS.items():
            for key in keys:
                self._use(key, found[section, key])
        with suppress(config.ConfigError):
            found.require("movidesk")
            client = api.Client(found["movidesk", "url"], found["movidesk", "token"], 0.1)
            promise(isinstance(client.send("canceled", id="x", at=BEGIN), api.Retry), "sent something")
        links.link(found, None, "a b.wav", self.scene.clock())
        call_states.call_id(found["pbx", "name"], "17.1")
        return "refused: " + kind_of(problems[0].partition(": ")[2]) if problems else "accepted"

    def _use(self, key: str, value) -> None:
        if key in ("extension_pattern", "agent_channel", "number_pattern"):
            for text in self.LONG:
                value.fullmatch(text)
        if key in ("path", "folder", "token_file", "secret_file"):
            promise(value.isprintable(), f"{key} is {value!r}")
        if key in ("listen", "publish", "ami") and value:
            value[0].encode("idna")
            promise(0 <= value[1] <= 65535, f"listens at {value!r}")


class Links:
    """Requests for recordings; nothing leaves without a signature of ours, and nothing from outside the folder."""

    def __init__(self, scene: Scene):
        self.scene = scene
        context = scene.context("publish", recordings__publish="127.0.0.1:0", recordings__secret=SIGNING, recordings__link=LINK)
        self.port, self.settings = WebPort(web_recordings.create_app(context.config, scene.clock)), context.config

    def make(self, draw: Draw) -> dict:
        name, signed = draw.text("pbx1-17.1.wav", "a b.mp3", "empty.wav", "../outside.wav", "no.wav"), draw.maybe(0.6)
        if signed:
            link = signatures.sign("/rec/" + urllib.parse.quote(octets(name), safe=""), name, self.settings, BEGIN)
        else:
            link = f"/rec/{name}?expires={draw.text('9999999999', '0')}&signature={draw.text('x' * 22, 'é')}"
        ranges = draw.text("bytes=0-9", "bytes=-5", "bytes=99999-", "bytes=5-2,7-9", "items=1")
        return {"request": http_request(draw, "GET", link, ["Range: " + ranges] if draw.maybe(0.4) else []),
                "signed": signed, "close": draw.maybe(0.1)}

    def run(self, given: dict) -> str:
        self.scene.begin()
        reply = self.port.exchange(given["request"], given["close"])
        promise(b"outside" not in reply, f"a file from outside the folder: {reply[:300]!r}")
        promise(given["signed"] or b"RIFF" not in reply, f"a file without a signature: {reply[:300]!r}")
        for record in self.scene.log:
            promise(not re.search(r"signature=[\w-]{22}", record.getMessage()), "the log has a signature")
        return status_of(reply)


def status_of(reply: bytes) -> str:
    found = re.match(rb"(?:HTTP/1\.1 100 Continue\r\n\r\n)?HTTP/1\.1 ([0-9]{3}) ", reply)
    return "HTTP " + found[1].decode() if found else "no head" if reply else "no answer"


class Doors:
    """Requests for made calls; nobody is rung without the secret, and no number is dialled that is not allowed."""

    def __init__(self, scene: Scene):
        self.scene = scene
        settings = {"listen": "127.0.0.1:0", "token": DOOR, "allow": "0, 47", "monitor": "yes", "ami_user": "u",
                    "ami_secret": "x" * 16}
        self.context = scene.context("made", False, **{"made_calls__" + key: value for key, value in settings.items()})
        self.port, self.rung = WebPort(made_calls.create_app(self.context.config, self)), []

    def make(self, draw: Draw) -> dict:
        trusted = draw.maybe(0.6)
        return {"request": made_request(draw, trusted), "trusted": trusted, "close": draw.maybe(0.1)}

    def run(self, given: dict) -> str:
        self.scene.begin(self.context.journal)
        self._dialler, self.rung = dialler.Dialler(self.context, self._originate, self.scene.clock), []
        reply = self.port.exchange(given["request"], given["close"])
        promise(given["trusted"] or not self.rung, f"a call without the secret: {self.rung!r}")
        promise(not has_secret(reply.decode("latin-1")), f"a secret is in the answer: {reply!r}")
        self.scene.check_journal(self.context.journal)
        return status_of(reply)

    def call(self, source: str, destination: str) -> str:
        return self._dialler.call(source, destination)

    def monitor(self, source: str, call_id: str) -> str:
        return self._dialler.monitor(source, call_id)

    def _originate(self, address, user, secret, fields, ring) -> str:
        self.rung.append(fields)
        promise(repr(fields).isprintable() and "\\n" not in repr(fields), f"a line break to Asterisk: {fields!r}")
        promise(re.fullmatch("PJSIP/[0-9]{2,10}", fields["Channel"]), f"rings {fields['Channel']!r}")
        promise(re.fullmatch(r"s|(?!00|0900|0300|0500)(?:0|47)[0-9]*", fields["Exten"]), f"dials {fields['Exten']!r}")
        return ami.ANSWERED


class Panels:
    """Requests to the panel; strangers learn nothing of a call, and no answer is without its policy."""

    NUMBER = "4733990777"

    def __init__(self, scene: Scene):
        self.scene = scene
        context = scene.context("panel", False, journal__path=str(scene.folder / "p.db"), panel__listen="127.0.0.1:0",
                                panel__password=PANEL, panel__proxy_user_header="X-Remote-User", panel__proxies="192.0.2.1")
        context.journal.calls.arrive("pbx1", "17.1", "77", self.NUMBER)
        self.panel, self.context = app.Panel(context.config, scene.clock), context
        self.port, browser = WebPort(self.panel.app), self.panel.app.test_client()
        self.cookie = browser.post("/login", data={"password": PANEL}).headers["Set-Cookie"].partition(";")[0]
        for language in ("en", "pt", "es"):  # catalogs and templates are compiled when they are first used
            for path in ("/", "/login"):
                assert browser.get(path, headers={"Accept-Language": language}).status_code == 200

    def make(self, draw: Draw) -> dict:
        trusted = draw.maybe(0.5)
        return {"request": panel_request(draw, self.cookie if trusted else ""), "trusted": trusted, "close": draw.maybe(0.1)}

    def run(self, given: dict) -> str:
        self.scene.begin()
        reply = self.port.exchange(given["request"], given["close"])
        promise(given["trusted"] or self.NUMBER.encode() not in reply, f"a stranger learns a number: {reply[:300]!r}")
        promise(PANEL.encode() not in reply and not has_secret(reply.decode("latin-1")), f"a secret is in the answer: {reply!r}")
        promise(not reply or b"Content-Security-Policy: default-src 'none';" in reply, f"no policy: {reply[:300]!r}")
        promise(not re.match(rb"HTTP/1.. 5", reply), f"the panel failed: {reply[:300]!r}")
        for record in self.scene.log:
            promise(PANEL not in record.getMessage(), "the log has the password")
        return status_of(reply)


class Emergencies:
    """Emergency lines, whole and damaged, on their way into the journal."""

    def __init__(self, scene: Scene):
        context = scene.context("emergency", journal__path=str(scene.folder / "e.db"))
        self.scene, self.config, self.journal = scene, context.config, context.journal
        self.path = Path(emergency.paths(self.config)[0])

    def make(self, draw: Draw) -> bytes:
        return emergency_lines(draw)

    def run(self, given: bytes) -> str:
        self.scene.begin(self.journal)
        self.path.write_bytes(given)
        _, nonsense = emergency.take_in(self.journal, self.config)
        promise(not emergency.waiting(self.config), "lines were left behind")
        self.scene.check_journal(self.journal)
        return "refused: " + kind_of(nonsense[0].rpartition(": ")[2]) if nonsense else "taken in"


#: Name -> target and its share of all inputs.
TARGETS = {kind.__name__: (kind, share) for kind, share in (
    (Verbs, 0.2), (Answers, 0.15), (Texts, 0.1), (Configs, 0.1), (Streams, 0.1), (Links, 0.1), (Doors, 0.1), (Panels, 0.05),
    (Emergencies, 0.1))}
