"""What the demos share: their options, the programs that they need, a folder, and one line for each way to fail."""
from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from typing import Callable

from movidesk_rehearsal.asterisk import DEFAULT_VERSION, AsteriskFailed, AsteriskUnavailable, find_asterisk
from movidesk_rehearsal.asterisk_tree import AsteriskTree, need_program
from movidesk_rehearsal.phones import PhoneFailed
from movidesk_rehearsal.redis_server import RedisFailed
from movidesk_rehearsal.rehearsal import NotInTime, end_on_signals


class Printer:
    """Writes a demo's output, coloured where somebody watches it."""

    def __init__(self) -> None:
        self.colours = sys.stdout.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"

    def paint(self, text: str, code: str) -> str:
        return f"\033[{code}m{text}\033[0m" if self.colours else text

    def say(self, text: str = "") -> None:
        print(text, flush=True)

    def title(self, text: str) -> None:
        self.say(self.paint(text, "1"))

    def verdict(self, faults: Sequence[str], text: str) -> None:
        if faults:
            self.say(self.paint(f"  WRONG  {text}: {'; '.join(faults)}", "31"))
        else:
            self.say(self.paint(f"  ok     {text}", "32"))


def parser(module: str, purpose: str) -> argparse.ArgumentParser:
    """With the options that every demo has. purpose: its docstring, whose first line describes it."""
    made = argparse.ArgumentParser(prog=f"python -m {module}", description=purpose.splitlines()[0])
    made.add_argument("--asterisk", metavar="VERSION",
                      help=f"major version (default: that of an installed Asterisk, else {DEFAULT_VERSION})")
    made.add_argument("--folder", help="where logs, configuration and journals go (default: a new one in /tmp)")
    return made


def run(options: argparse.Namespace, programs: str, name: str,
        perform: Callable[[Printer, AsteriskTree, str], bool]) -> int:
    """Play a demo; its exit status. programs: what it looks for, in words. name: what its folder's name begins with.

    perform: plays it with an Asterisk in a folder; True if all is as it should be.
    """
    printer, folder = Printer(), ""
    end_on_signals()
    try:
        printer.say(f"Looking for {programs}; what is missing is fetched once, within a minute or so ...")
        need_program("sipp", "sip-tester")
        tree = find_asterisk(options.asterisk or None)
        folder = options.folder or tempfile.mkdtemp(prefix=name)
        return 0 if perform(printer, tree, folder) else 1
    except (AsteriskUnavailable, AsteriskFailed, PhoneFailed, RedisFailed, NotInTime, OSError) as error:
        print(f"movidesk-agi demo: {error}{f' (see {folder})' if folder else ''}", file=sys.stderr)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
    return 1
