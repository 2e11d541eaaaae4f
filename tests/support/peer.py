"""A scripted Asterisk: the other end of an AGI channel, which answers as a real one was seen to.

The same peer talks to `agi.Channel` (`with peer.channel() as channel`), to the FastAGI service (`peer.call`) and to a
script in agi/ (`peer.script`). What goes wrong is said beforehand: `faults` maps the number of a command, counted from 1,
to the bytes that answer it instead, to EOF, to `Before(bytes)` that precede the true answer, or to a callable that runs
before it.
"""
from __future__ import annotations

import os
import socket
import subprocess
import threading
from contextlib import contextmanager, suppress

from movidesk.agi.channel import Channel
from support.waits import TIMEOUT

EOF = None
DEAD = b"511 Command Not Permitted on a dead channel or intercept routine\n"
UNKNOWN = b"510 Invalid or unknown command\n"
USAGE = b"520 Invalid command syntax.  Proper usage not available.\n"
USAGE_LINES = (b"520-Invalid command syntax.  Proper usage follows:\n"
               b" Usage: SET VARIABLE <variablename> <value>\n520 End of proper usage.\n")
FAILED = b"200 result=-1\n"

#: Arguments with which each verb does its work; those that are not here need none.
ARGUMENTS = {"received": ["77"], "arrived": ["77"], "start_transferred": ["77", "5252"], "start_canceled": ["77"],
             "link": ["https://pbx.example.com/a.wav"]}


class Before(bytes):
    """Sent before the true answer, not in its place."""


HANGUP = Before(b"HANGUP\n")


def words(line: bytes) -> list[bytes]:
    """A command line as Asterisk reads it (parse_args in res_agi.c)."""
    found: list[bytearray] = []
    between, quoted, escaped = True, False, False
    for byte in line:
        char = bytes([byte])
        if char == b"\\" and not escaped:
            escaped = True
            continue
        if char == b'"' and not escaped:
            quoted = not quoted
            if quoted and between:
                found.append(bytearray())
                between = False
        elif char in b" \t" and not quoted and not escaped:
            between = True
        else:
            if between:
                found.append(bytearray())
                between = False
            found[-1] += char
        escaped = False
    return [bytes(word) for word in found]


class Peer:
    """One channel in Asterisk. `sets` holds what was set, in order, `console` what was said, `logged` the errors
    and warnings of it, `commands` every line."""

    def __init__(self, uniqueid: str = "1700000000.1", callerid: str = "4733990777", variables=None, faults=None,
                 environment=None):
        self.variables = dict(variables or {})
        self.faults = dict(faults or {})
        self.sets: list[tuple[str, str]] = []
        self.console: list[str] = []
        self.logged: list[tuple[str, str]] = []
        self.commands: list[bytes] = []
        self.environment = {
            "agi_request": "verb", "agi_channel": "PJSIP/trunk-00000001", "agi_language": "en", "agi_type": "PJSIP",
            "agi_uniqueid": uniqueid, "agi_version": "22.10.1", "agi_callerid": callerid,
            "agi_calleridname": "unknown", "agi_callingpres": "0", "agi_callingani2": "0", "agi_callington": "0",
            "agi_callingtns": "0", "agi_dnid": "77", "agi_rdnis": "unknown", "agi_context": "movidesk-verb",
            "agi_extension": "s", "agi_priority": "9", "agi_enhanced": "0.0", "agi_accountcode": "",
            "agi_threadid": "140000000000000", **(environment or {})}

    def __getitem__(self, name: str) -> str:
        """A variable of the channel; KeyError where it is not set."""
        return self.variables[name]

    # -- the three ways to the other side ---------------------------------------------------------------------------

    @contextmanager
    def channel(self, *arguments: str):
        """An agi.Channel to this peer; at the end the peer has read everything."""
        ours, theirs = socket.socketpair()
        thread = threading.Thread(target=self._serve_socket, args=(theirs, arguments), name="peer")
        thread.start()
        ours.settimeout(TIMEOUT)
        reader, writer = ours.makefile("rb"), ours.makefile("wb", buffering=0)
        try:
            yield Channel(reader, writer)
        finally:
            for file in (reader, writer, ours):
                file.close()
            thread.join(TIMEOUT)
        assert not thread.is_alive()

    def call(self, port: int, verb: str, *arguments: str) -> Peer:
        """Run a verb by FastAGI, as AGI(agi://127.0.0.1:PORT/VERB,...) does; returns when the service hangs up."""
        self.environment.update({"agi_network": "yes", "agi_network_script": verb,
                                 "agi_request": f"agi://127.0.0.1:{port}/{verb}"})
        self._serve_socket(socket.create_connection(("127.0.0.1", port), TIMEOUT), arguments)
        return self

    def script(self, command: list, *arguments: str, **options) -> subprocess.CompletedProcess:
        """Run a script as AGI(...) does: the channel on its stdin and stdout. Returns its exit status and stderr."""
        with subprocess.Popen([*command, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, **options) as self.process:
            stderr: list[bytes] = []
            drain = threading.Thread(target=lambda: stderr.append(self.process.stderr.read()))
            drain.start()
            self._serve(self.process.stdout, self.process.stdin, arguments)
            with suppress(BrokenPipeError):  # it had ended
                self.process.stdin.close()
            code = self.process.wait(TIMEOUT)
            drain.join(TIMEOUT)
        return subprocess.CompletedProcess(self.process.args, code, stderr=b"".join(stderr).decode())

    # -- Asterisk's side ---------------------------------------------------------------------------------------------

    def _serve_socket(self, connection: socket.socket, arguments) -> None:
        connection.settimeout(TIMEOUT)
        with connection, connection.makefile("rb") as reader, connection.makefile("wb", buffering=0) as writer:
            self._serve(reader, writer, arguments)

    def _serve(self, reader, writer, arguments) -> None:
        lines = [f"{name}: {value}\n" for name, value in self.environment.items()]
        lines += [f"agi_arg_{number}: {value}\n" for number, value in enumerate(arguments, 1)]
        try:
            self._send(writer, "".join([*lines, "\n"]).encode("utf-8", "surrogateescape"))
            for line in iter(reader.readline, b""):
                self.commands.append(line)
                answer = self._faulty(len(self.commands), line)
                if answer is EOF:
                    return
                self._send(writer, answer)
        except (BrokenPipeError, ConnectionResetError):
            pass  # the other side went first: the test looks at what it did before

    @staticmethod
    def _send(writer, data: bytes) -> None:
        writer.write(data)
        writer.flush()

    def _faulty(self, number: int, line: bytes):
        fault = self.faults.get(number, b"")
        if fault is EOF:
            return EOF
        if callable(fault):
            fault()
            return self._answer(line)
        if isinstance(fault, Before):
            return fault + self._answer(line)
        return fault or self._answer(line)

    def _answer(self, line: bytes) -> bytes:
        given = [os.fsdecode(word) for word in words(line.rstrip(b"\n"))]
        command, values = " ".join(given[:2]).upper(), given[2:]
        if command == "SET VARIABLE":
            if len(values) != 2:
                return USAGE_LINES
            self.sets.append((values[0], values[1]))
            self.variables[values[0].lstrip("_")] = values[1]
            return b"200 result=1\n"
        if command == "GET VARIABLE":
            if len(values) != 1:
                return USAGE_LINES
            value = self.variables.get(values[0])
            return b"200 result=0\n" if value is None else b"200 result=1 (%s)\n" % os.fsencode(value)[:1023]
        if given[:1] == ["VERBOSE"]:
            if len(given) not in (2, 3):
                return USAGE_LINES
            self.console.append(given[1])
            return b"200 result=1\n"
        if command == "EXEC LOG":
            level, _, text = given[2].partition(",")
            self.logged.append((level, text))
            self.console.append(text)
            return b"200 result=0\n"
        return UNKNOWN
