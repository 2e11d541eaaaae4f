"""The channel of an AGI script or a FastAGI connection: a safe layer over pyst2 0.5.1.

pyst2's `AGI` has Asterisk's commands. This module adds what it lacks: it quotes values, raises one exception when the channel
ends, reads answers of several lines completely, writes nothing to stderr, and works in any thread.
"""

from __future__ import annotations

import sys
import types

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Protocol

    class Reader(Protocol):
        """A binary file to read from."""

        def readline(self, size: int, /) -> bytes: ...

    class Writer(Protocol):
        """A binary file to write to."""

        def write(self, data: bytes, /) -> int: ...

        def flush(self) -> None: ...

    Result = dict[str, tuple[str, str]]  # of a command: {"result": (value, data)}

    class AGI:
        """What is used here of pyst2's class, which has no types."""

        execute: Callable[..., Result]
        set_variable: Callable[[str, str], object]
        verbose: Callable[[str, int], object]


def _import_pyst2() -> Any:  # it has no types
    """Import asterisk.agi without pprint and six, which take longer to import than everything else in a script.

    pyst2 needs pprint (which imports dataclasses and inspect) only for output that we discard, and six only to detect Python 3.
    Together they take 25 ms, as long as a whole event.
    """
    stand_ins: dict[str, types.ModuleType] = {}
    if "asterisk.agi" not in sys.modules:
        stand_ins = {name: types.ModuleType(name) for name in ("pprint", "six") if name not in sys.modules}
    if "six" in stand_ins:
        vars(stand_ins["six"])["PY3"] = True
    sys.modules.update(stand_ins)
    try:
        from asterisk import agi
    finally:
        for name in stand_ins:
            del sys.modules[name]
    return agi


if not TYPE_CHECKING:
    AGI = _import_pyst2().AGI

MAX_LINE = 65536      # bytes; AGI has no longer lines
MAX_COMMAND = 2047    # bytes with the line break; Asterisk 16 would read a longer line as two commands
MAX_SAID = 900        # bytes; each may need a backslash
MAX_ENVIRONMENT = 256  # lines; Asterisk sends about 25


LOG_LEVELS = {0: "ERROR", 1: "WARNING"}  # of `say`: what Asterisk calls them
NO_APPLICATION = "-2"  # the result of EXEC if Asterisk has no such application


class ChannelGone(Exception):
    """The channel, or the connection to it, has ended: EOF, a broken pipe, a time-out, or 511."""


class ProtocolError(Exception):
    """The peer does not speak AGI correctly; the text shows what it sent."""


class _Nowhere:
    """A stream that discards everything: pyst2 writes callers' numbers to stderr."""

    def write(self, text: str) -> None:
        pass


class Channel(AGI):
    """One channel. `reader` and `writer` are binary files; the environment is read at once.

    Any method raises ChannelGone if the peer is gone, and ProtocolError if it sends an invalid line. A hangup alone raises
    nothing: Asterisk answers commands about variables until the script or the connection ends.
    """

    def __init__(self, reader: Reader, writer: Writer):
        # Not pyst2's __init__: it installs a signal handler (main thread only) and prints the environment.
        self.stdin = reader
        self.stdout = writer
        self.stderr = _Nowhere()
        self._got_sighup = False
        self.hung_up = False
        self.customer = ""  # the caller's number, once a verb knows the call
        self.env: dict[str, str] = {}
        self._read_environment()

    @property
    def uniqueid(self) -> str:
        return self.env.get("agi_uniqueid", "")

    @property
    def arguments(self) -> list[str]:
        """agi_arg_1, agi_arg_2, ... unchanged."""
        found: list[str] = []
        while f"agi_arg_{len(found) + 1}" in self.env:
            found.append(self.env[f"agi_arg_{len(found) + 1}"])
        return found

    def get(self, name: str) -> str:
        """The value of a variable or function on the channel; '' if it is not set. Asterisk cuts it at 1023 bytes."""
        value, data = self.execute("GET VARIABLE", name)["result"]
        return data if value == "1" else ""

    def evaluate(self, text: str) -> str:
        """The text with the values of the ${...} in it, which Asterisk evaluates. It cuts the result at 1023 bytes."""
        value, data = self.execute("GET FULL VARIABLE", self._quote(text))["result"]
        return data if value == "1" else ""

    def set(self, name: str, value: object) -> None:
        """Set a variable. Line breaks become spaces."""
        self.set_variable(name, str(value))

    def say(self, text: str, level: int = 1, of_caller: bool = True) -> None:
        """Write one line to Asterisk's console and logs.

        level: 0 an error, 1 a warning; above that, the line is shown at this verbosity and higher. of_caller: whether the line
        is about this channel's caller (the service's log then names the number). A ProtocolError is only printed.
        """
        line = ("movidesk: " + text).encode("utf-8", "replace")[:MAX_SAID].decode("utf-8", "ignore")
        try:
            # AGI's VERBOSE only reaches logs that have verbose lines: the dialplan's Log() is needed for the others.
            if level not in LOG_LEVELS or self._log(LOG_LEVELS[level], line) == NO_APPLICATION:
                self.verbose(line, level)
        except ProtocolError as error:
            print(f"{line} ({error})", file=sys.stderr)

    def _log(self, level: str, line: str) -> str:
        return self.execute("EXEC", "Log", self._quote(f"{level},{line}"))["result"][0]

    # -- methods of pyst2 that are replaced ------------------------------------------------------------------------

    def _quote(self, string: object) -> str:
        text = str(string).replace("\\", "\\\\").replace('"', '\\"')
        text = " ".join(text.splitlines()).replace("\0", "")
        return f'"{text}"'

    def send_command(self, command: str, *args: object) -> None:
        line = " ".join([command.strip(), *map(str, args)]).strip()
        if "\n" in line or "\r" in line:
            raise ValueError(f"an AGI command contains a line break: {line[:80]!r}")
        data = line.encode("utf-8", "surrogateescape") + b"\n"
        if len(data) > MAX_COMMAND:
            raise ValueError(f"an AGI command of more than {MAX_COMMAND} bytes: {line[:80]!r}")
        try:
            self.stdout.write(data)
            self.stdout.flush()
        except (OSError, ValueError) as error:  # ValueError: another thread closed the file
            raise ChannelGone(f"writing to Asterisk: {error}") from None

    def get_result(self, stdin: object = None) -> Result:
        """The answer to a command, in pyst2's form: {'result': (value, data), ...}."""
        line = self._read_answer()
        code, text = line[:3], line[4:]
        if code == "200":
            return self._parse_success(text)
        if code == "511":
            raise ChannelGone(f"Asterisk: {text}")
        answered = line
        while answered.startswith("520-") and not line.startswith("520 "):
            line = self._read_answer()
        raise ProtocolError(f"Asterisk answered {answered[:200]!r}")

    def _parse_success(self, text: str) -> Result:
        result, _, data = text.partition(" (")
        if not result.startswith("result="):
            raise ProtocolError(f"Asterisk answered {text[:200]!r}")
        # A value with a line break comes as several lines. A value that Asterisk cut has no closing bracket.
        while data and not data.endswith(")") and len(data) < 1000:
            data += "\n" + self._read_line()
        value = result[len("result="):].split(" ")[0]
        return {"result": (value, data[:-1] if data.endswith(")") else data)}

    def _read_answer(self) -> str:
        line = self._read_line()
        while line == "HANGUP":
            self.hung_up = True
            line = self._read_line()
        return line

    def _read_line(self) -> str:
        try:
            raw = self.stdin.readline(MAX_LINE)
        except (OSError, ValueError) as error:
            raise ChannelGone(f"reading from Asterisk: {error}") from None
        if not raw.endswith(b"\n"):
            if len(raw) >= MAX_LINE:
                raise ProtocolError(f"a line of more than {MAX_LINE} bytes")
            raise ChannelGone("Asterisk closed the connection")
        return raw.rstrip(b"\r\n").decode("utf-8", "surrogateescape")

    def _read_environment(self) -> None:
        """Read up to the empty line. The first value of a name counts, because a forged line can only follow the real ones."""
        for _ in range(MAX_ENVIRONMENT):
            line = self._read_line()
            if not line:
                return
            name, colon, value = line.partition(":")
            if name == "HANGUP" and not colon:
                self.hung_up = True
            elif not colon or not name.startswith("agi_"):
                raise ProtocolError(f"{line[:200]!r} is not a line of an AGI environment")
            else:
                self.env.setdefault(name, value.strip())
        raise ProtocolError(f"an AGI environment of more than {MAX_ENVIRONMENT} lines")
