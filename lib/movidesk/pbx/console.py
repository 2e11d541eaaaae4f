"""Asterisk's console, through the command in [pbx] asterisk."""

from __future__ import annotations

import shlex
import subprocess

TIMEOUT = 10.0  # seconds for Asterisk's answer


class ConsoleError(Exception):
    """The command failed; the text gives the reason and says what to do."""


def ask(command: str, line: str, timeout: float | None = None) -> str:
    """Run `line` on the console and return its output. timeout: seconds; None: TIMEOUT.

    Raises ConsoleError, also if Asterisk rejects the line.
    """
    timeout = TIMEOUT if timeout is None else timeout
    try:
        done = subprocess.run([*shlex.split(command), line], stdin=subprocess.DEVNULL, capture_output=True,
                              timeout=timeout, check=False)
    except (OSError, ValueError) as error:
        raise ConsoleError(f"{command}: {error}; see [pbx] asterisk in movidesk.conf") from None
    except subprocess.TimeoutExpired:
        raise ConsoleError(f"{command}: no answer within {timeout:g} s") from None
    text = done.stdout.decode("utf-8", "replace")
    if done.returncode != 0:
        said = (done.stderr.decode("utf-8", "replace") or text).strip().splitlines()
        raise ConsoleError(f"{command}: {said[-1] if said else f'exit status {done.returncode}'}")
    return text
