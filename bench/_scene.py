"""Where the inputs of bench/fuzz.py are played: a folder, a journal, Asterisk's and Movidesk's ends of the connections, and
the checks that what came out is harmless."""
from __future__ import annotations

import io
import logging
import re
import socket
import urllib.parse
from contextlib import suppress
from pathlib import Path

from urllib3.connection import HTTPConnection
from urllib3.exceptions import LocationParseError, NewConnectionError
from waitress import wasyncore

from _inputs import DOOR, SIGNING, TOKEN, octets
from movidesk import config
from movidesk.agi import variables
from movidesk.context import Context
from movidesk.delivery import api
from movidesk.journal import Journal, emergency
from movidesk.rules import call_states
from movidesk.web.server import Server

LINE = 2047  # bytes of a command with its line end that Asterisk 16 reads as one
_QUOTED = rb'"((?:[^"\\]|\\["\\])*)"'
COMMAND = re.compile(rb'(?:SET VARIABLE "(\w+)" %s|GET VARIABLE (\w+)|VERBOSE %s [0-4])\n' % (_QUOTED, _QUOTED))
PEER = ("127.0.0.1", 1)
BEGIN = 1_700_000_000.0


class Fault(AssertionError):
    """The product broke a promise; the text says which."""


def promise(kept, text: str) -> None:
    if not kept:
        raise Fault(text)


def has_secret(text: str) -> bool:
    return any(secret in text.lower() for secret in (TOKEN, DOOR, SIGNING))


def kind_of(text: str) -> str:
    """A message without its values: how an input ended, as one of few kinds."""
    text = re.sub(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"|b'.*'|[^ ]*/[^ ]*", "*", text)
    return re.sub(r"[^ -~]+|[0-9]+", "#", text)[:60]


class Scene:
    """What the targets of one process share. answers: what Movidesk will say, as bytes on the wire."""

    def __init__(self, folder: Path):
        self.folder, self.now = folder, BEGIN
        self.answers: list[bytes] = []
        self._requests: list[socket.socket] = []
        self.log: list[logging.LogRecord] = []
        (folder / "secret").write_text(TOKEN)
        for name in "rec", "memory", "shared":
            (folder / name).mkdir()
        emergency.SHARED = str(folder / "shared")
        for name in "msg0000.wav", "rec/pbx1-17.1.wav", "rec/a b.mp3", "outside.wav":
            (folder / name).write_bytes(b"RIFF" + name.encode() * 40)
        (folder / "rec/empty.wav").touch()
        handler = logging.Handler()
        handler.emit = self.log.append
        logging.getLogger().addHandler(handler)
        logging.getLogger("movidesk").setLevel(logging.DEBUG)
        api.retry_seconds("21 Oct 2026", 0.0)  # imports dateutil
        HTTPConnection._new_conn = lambda connection: self._connect(connection)

    def clock(self) -> float:
        return self.now

    def context(self, name: str, is_script: bool = True, **settings: str) -> Context:
        """A context with a configuration of its own; settings as section__key."""
        given = {"movidesk__url": "http://127.0.0.1:9/public/v1", "movidesk__token": TOKEN,
                 "movidesk__timeout": "0.1", "movidesk__requests_per_minute": "1000", "pbx__name": "pbx1",
                 "journal__path": str(self.folder / "j.db"), "journal__standby": str(self.folder / "memory"),
                 "recordings__folder": str(self.folder / "rec"), **settings}
        sections: dict[str, list[str]] = {}
        for key, value in given.items():
            section, _, option = key.partition("__")
            sections.setdefault(section, [f"[{section}]"]).append(f"{option} = {value}")
        path = self.folder / (name + ".conf")
        path.write_text("\n".join(line for lines in sections.values() for line in lines))
        return Context(config.load(str(path)).require(), self.clock, wake=lambda: None, is_script=is_script)

    def begin(self, journal: Journal | None = None, answers: list[bytes] = ()) -> None:
        """Forget what earlier inputs left behind."""
        self.now, self.answers = BEGIN, list(answers)
        self.log.clear()
        while self._requests:
            self._requests.pop().close()
        if journal is not None:
            for table in ("events", "calls", "requests", "outcomes", "queues", "members", "refusals", "notes"):
                journal.store.connection.execute("DELETE FROM " + table)

    def _connect(self, connection: HTTPConnection) -> socket.socket:
        """In the place of urllib3's way to a socket: one end of a pair, whose other end has sent the next answer."""
        try:
            connection.host.encode("idna")
        except UnicodeError:
            raise LocationParseError(connection.host) from None  # as urllib3 does
        if not self.answers:
            raise NewConnectionError(connection, "refused")
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        with suppress(BlockingIOError):
            ours.send(self.answers.pop(0))
        ours.shutdown(socket.SHUT_WR)
        self._requests.append(ours)
        return theirs

    def check_requests(self) -> None:
        """Each request is one request, to our endpoints, with the token where it belongs."""
        line = re.compile(rb"(?:GET|POST) /public/v1/\w+\?token=%s&([^ #]*) HTTP/1.1" % TOKEN.encode())
        for ours in self._requests:
            with suppress(BlockingIOError, ConnectionError):
                head, end, body = ours.recv(1 << 20).partition(b"\r\n\r\n")
                found = line.fullmatch(head.split(b"\r\n")[0])
                promise(found and end and not body and head.count(TOKEN.encode()) == 1,
                        f"a request came apart: {head[:200]!r}")
                urllib.parse.parse_qsl(found[1].decode("ascii"), keep_blank_values=True, strict_parsing=True)

    def check_journal(self, journal: Journal) -> None:
        """Ids fit, each call has at most one ending, as its state says, and the token is nowhere."""
        for call in journal.overview.last_calls(100):
            endings = [event for event in journal.calls.events(call) if event.kind in call_states.ENDED]
            promise(0 < len(call.call_id) <= call_states.MAX_ID, f"a call id of {len(call.call_id)} characters")
            promise(len(endings) <= 1, f"two endings: {endings!r}")
            promise((call.ended is not None) == (call.state in call_states.ENDED), f"no true ending: {call!r}")
        said = journal.store.connection.execute("SELECT note FROM events UNION SELECT code FROM calls"
                                   " UNION SELECT value FROM notes").fetchall()
        promise(not has_secret(repr(said)), "a secret is in the journal")

    def check_log(self) -> None:
        for record in self.log:
            text = record.getMessage()
            promise(record.exc_info is None, f"an exception reached the edge: {text}: {record.exc_info and record.exc_info[1]!r}")
            promise(not has_secret(text), f"a secret is in the log: {text[:200]!r}")


def check_commands(commands: list[bytes], pattern) -> list[tuple[str, str]]:
    """Each is one well-formed command of ours, and no extension outside the pattern is set.

    Returns what was set, in order.
    """
    found = []
    for line in commands:
        match = COMMAND.fullmatch(line)
        promise(match and not set(line[:-1]) & {0, 10, 13}, f"not one command of ours: {line[:300]!r}")
        promise(len(line) <= LINE, f"a command of {len(line)} bytes: {line[:100]!r}")
        promise(not has_secret(line.decode("latin-1")), f"a secret is in a command: {line[:300]!r}")
        if match[1]:
            value = re.sub(rb"\\(.)", rb"\1", match[2]).decode("utf-8", "surrogateescape")
            found.append((match[1].decode(), value))
            promise(match[1] != variables.EXT.encode() or not value or pattern.fullmatch(value),
                    f"dials outside the pattern: {line!r}")
    return found


class Asterisk:
    """The other end of a channel, in memory. faults: the number of a command -> what answers it, None for a hangup."""

    def __init__(self, begin: bytes, variables: dict[str, str], faults: dict[int, bytes | None]):
        self._pending, self._variables, self._faults = io.BytesIO(begin), variables, faults
        self.commands: list[bytes] = []
        self._gone = False

    def readline(self, limit: int) -> bytes:
        return self._pending.readline(limit)

    def write(self, line: bytes) -> None:
        if self._gone:
            raise BrokenPipeError()
        self.commands.append(line)
        reply = self._faults[len(self.commands)] if len(self.commands) in self._faults else self._answer(line)
        self._gone = reply is None
        self._pending = io.BytesIO(self._pending.read() + (reply or b""))

    def flush(self) -> None:
        pass

    def _answer(self, line: bytes) -> bytes:
        match = COMMAND.fullmatch(line)
        if match and match[3]:
            value = self._variables.get(match[3].decode())
            return b"200 result=0\n" if value is None else b"200 result=1 (%s)\n" % octets(value)[:1023]
        if match and match[1]:
            name = match[1].decode().lstrip("_")
            self._variables[name] = match[2].decode("utf-8", "surrogateescape")
        return b"200 result=1\n" if match else b"510 Invalid or unknown command\n"


class WebPort:
    """A web server whose connections come from `exchange`, not from its port; answers are made in this thread."""

    def __init__(self, application):
        self._sockets: dict = {}
        self._server = Server("fuzz", ("127.0.0.1", 0), application, self._sockets, self)
        self._idle, self._tasks = len(self._sockets), []

    def add_task(self, task) -> None:
        """waitress has a request for a worker."""
        self._tasks.append(task)

    def exchange(self, request: bytes, close: bool = False) -> bytes:
        """As `exchange` below."""
        ours, theirs = socket.socketpair()
        with ours:
            send_all(ours, request, close)
            self._server.channel_class(self._server, theirs, PEER, self._server.adj, self._sockets)
            while len(self._sockets) > self._idle:
                wasyncore.loop(1.0, use_poll=True, map=self._sockets, count=1)
                while self._tasks:
                    self._tasks.pop().service()
            return receive_all(ours)


def exchange(server, request: bytes, close: bool = False) -> bytes:
    """Send bytes to a server's handler, in this thread; what it sent back. close: the peer goes before the answer."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        send_all(ours, request, close)
        try:
            server.finish_request(theirs, PEER)
        except OSError:
            server.handle_error(theirs, PEER)
        theirs.close()
        return receive_all(ours)


def send_all(ours: socket.socket, request: bytes, close: bool) -> None:
    ours.setblocking(False)
    with suppress(BlockingIOError):
        ours.send(request)
    if close:
        ours.close()
    else:
        ours.shutdown(socket.SHUT_WR)


def receive_all(ours: socket.socket) -> bytes:
    found = b""
    with suppress(OSError):
        while more := ours.recv(1 << 20):
            found += more
    return found
