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
        done = subprocess.run([*shlex.split(command), line], stdin=subprocess.DEVNULL, capture_output=True,
                              timeout=PATIENCE, check=False)
    except (OSError, ValueError) as error:
        raise ConsoleError(f"{command}: {error}; see [pbx] asterisk in movidesk.conf") from None
    except subprocess.TimeoutExpired:
        raise ConsoleError(f"{command}: no answer within {PATIENCE:g} s") from None
    text = done.stdout.decode("utf-8", "replace")
    if done.returncode != 0:
        said = (done.stderr.decode("utf-8", "replace") or text).strip().splitlines()
        raise ConsoleError(f"{command}: {said[-1] if said else f'exit status {done.returncode}'}")
    return text
