"""Asterisk's console, by the command of [pbx] asterisk."""

from __future__ import annotations

import shlex
import subprocess

PATIENCE = 10.0  # seconds for Asterisk's answer


class ConsoleError(Exception):
    """Asterisk could not be asked; the text says why and what to do."""


def ask(command: str, line: str) -> str:
    """What the console prints for `line`. Raises ConsoleError, also where Asterisk refuses the line."""
    try:
        done = subprocess.run([*shlex.split(command), line], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, timeout=PATIENCE, check=False)
    except (OSError, ValueError) as error:
        raise ConsoleError("%s: %s; see [pbx] asterisk in movidesk.conf" % (command, error)) from None
    except subprocess.TimeoutExpired:
        raise ConsoleError("%s: no answer within %g s" % (command, PATIENCE)) from None
    text = done.stdout.decode("utf-8", "replace")
    if done.returncode != 0:
        said = (done.stderr.decode("utf-8", "replace") or text).strip().splitlines()
        raise ConsoleError("%s: %s" % (command, said[-1] if said else "exit status %d" % done.returncode))
    return text
