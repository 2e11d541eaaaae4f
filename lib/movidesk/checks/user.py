"""Asterisk's user: the checks run with its rights, because its scripts do."""

from __future__ import annotations

import os
import pwd
import re
from contextlib import suppress

from movidesk.config import Config

#: The installed command exports Asterisk's user (ASTUSER of `make install`).
VARIABLE = "MOVIDESK_USER"
DEFAULT = "asterisk"


def asterisk_user() -> pwd.struct_passwd | None:
    """The user of the Asterisk that runs; else that of the installation; else None."""
    for number in filter(str.isdigit, os.listdir("/proc")):
        with suppress(OSError, KeyError), open(f"/proc/{number}/comm", encoding="utf-8", errors="replace") as comm:
            if comm.read().strip() == "asterisk" and not is_console(_command(number)):
                return pwd.getpwuid(os.stat(f"/proc/{number}").st_uid)
    for name in os.environ.get(VARIABLE), DEFAULT:
        with suppress(KeyError):
            return pwd.getpwnam(name) if name else None
    return None


def is_console(command: list[str]) -> bool:
    """Whether this command line of an Asterisk is a remote console (asterisk -r, -rx), which anybody may run."""
    # Options without a value may stand before it: -vvvr.
    return any(re.match("-[BcdeFfghIimnpqTtvVWX]*[rRx]", word) for word in command[1:])


def _command(process: str) -> list[str]:
    with open(f"/proc/{process}/cmdline", encoding="utf-8", errors="replace") as line:
        return line.read().split("\0")


def owner(path: str) -> pwd.struct_passwd | None:
    """The user to whom a file belongs; None if it is not there, or the user has no name."""
    try:
        return pwd.getpwuid(os.stat(path).st_uid)
    except (OSError, KeyError):
        return None


def become(config: Config) -> None:
    """Of root: go on as Asterisk's user (if there is none, as the owner of the journal's folder), for good. Others stay who they
    are."""
    if os.geteuid() != 0:
        return
    user = asterisk_user() or owner(os.path.dirname(config["journal", "path"]))
    if user is None or user.pw_uid == 0:
        return
    os.initgroups(user.pw_name, user.pw_gid)
    os.setgid(user.pw_gid)
    os.setuid(user.pw_uid)
