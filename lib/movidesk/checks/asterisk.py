"""Asterisk: whether its console answers, its folders, and the scripts that it runs. Then its dialplan and the agents' phones."""

from __future__ import annotations

import os
import re
import subprocess
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property

from movidesk.agi import verbs
from movidesk.checks import dialplan, phones
from movidesk.checks.finding import Finding, note, ok, trouble
from movidesk.config import Config
from movidesk.messages import _
from movidesk.pbx import console, sweep

TIMEOUT = 5.0  # seconds for each line on the console, and for a script
DEFAULT = "asterisk -rx"
SCRIPT = "canceled"  # the script that is tried: without a channel it does nothing


class Asterisk:
    """What the console tells. command: as in [pbx] asterisk."""

    def __init__(self, command: str):
        self.command = command

    def ask(self, line: str) -> str:
        """The console's answer. Raises console.ConsoleError."""
        return console.ask(self.command, line, TIMEOUT)

    def ask_all(self, lines: list[str]) -> dict[str, str]:
        """The answers to several lines, by line; '' where Asterisk rejects one."""

        def answer(line: str) -> str:
            try:
                return self.ask(line)
            except console.ConsoleError:
                return ""

        with ThreadPoolExecutor(4, "console") as pool:
            return dict(zip(lines, pool.map(answer, lines)))

    @cached_property
    def settings(self) -> dict[str, str]:
        """What `core show settings` lists, by name: `AGI Scripts directory`. Raises console.ConsoleError."""
        listed = re.findall(r"^ +([^:\n]+?):+ +(.*)$", self.ask("core show settings"), re.MULTILINE)
        return {name: value.strip() for name, value in listed}

    @cached_property
    def globals(self) -> dict[str, str]:
        """The dialplan's global variables. Raises console.ConsoleError."""
        return dict(re.findall(r"^ *(\w+)=(.*)$", self.ask("dialplan show globals"), re.MULTILINE))


def findings(config: Config) -> list[Finding]:
    """Everything that Asterisk is asked for; without an answer only the reason."""
    by_console = config["pbx", "asterisk"] != "ami"
    asterisk = Asterisk(config["pbx", "asterisk"] if by_console else DEFAULT)
    subject = _("Asterisk's console ({command})").format(command=asterisk.command)
    found = [] if by_console else _manager(config)
    try:
        if not asterisk.settings.get("Version"):
            raise console.ConsoleError(_("it did not answer `core show settings` as Asterisk does"))
    except console.ConsoleError as error:
        return [*found, _no_console(subject, str(error), by_console)]
    return [
        *found,
        ok(subject, asterisk.settings["Version"]),
        *_scripts(asterisk),
        *_recordings(config, asterisk),
        *dialplan.findings(config, asterisk),
        *phones.findings(config, asterisk),
    ]


def _no_console(subject: str, reason: str, needed: bool) -> Finding:
    if not needed:
        return note(subject, _("dialplan, scripts and phones were not checked: {reason}").format(reason=reason))
    return trouble(
        subject,
        reason,
        _("calls that Asterisk has lost stay open; dialplan, scripts and phones were not checked"),
        _("does Asterisk run (systemctl status asterisk), and may its user run that command? Else correct [pbx] asterisk"),
    )


def _manager(config: Config) -> list[Finding]:
    """[pbx] asterisk = ami: the manager must list the channels."""
    subject = _("list of channels from Asterisk's manager")
    try:
        return [ok(subject, _("{count} channels").format(count=len(sweep.live_channels(config))))]
    except sweep.NotTold as error:
        return [
            trouble(
                subject,
                str(error),
                _("calls that Asterisk has lost stay open"),
                _("manager.conf: read and write = reporting,call for this user; then: asterisk -rx 'manager reload'"),
            )
        ]


def _scripts(asterisk: Asterisk) -> list[Finding]:
    """The AGI scripts: there, executable, and their Python runs."""
    folder = os.path.join(asterisk.settings.get("AGI Scripts directory", "/var/lib/asterisk/agi-bin"), "movidesk")
    subject, why = (
        _("scripts in {folder}").format(folder=folder),
        _("when the service does not answer, nothing is reported, and callers reach no agent"),
    )
    paths = [os.path.join(folder, verb) for verb in verbs.VERBS]
    missing = [path for path in paths if not os.path.exists(path)]
    if missing:
        return [
            trouble(
                subject,
                _("not there: {names}").format(names=", ".join(map(os.path.basename, missing))),
                why,
                f"make install ASTAGIDIR={os.path.dirname(folder)}",
            )
        ]
    closed = [path for path in paths if not os.access(path, os.R_OK | os.X_OK)]
    if closed:
        return [
            trouble(
                subject,
                _("not executable: {names}").format(names=", ".join(map(os.path.basename, closed))),
                why,
                f"chmod 755 {folder} {folder}/*",
            )
        ]
    try:
        # Without a channel on its standard input it ends at once.
        done = subprocess.run(
            [os.path.join(folder, SCRIPT)], stdin=subprocess.DEVNULL, capture_output=True, timeout=TIMEOUT, check=False
        )
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()
        reason = said[-1] if done.returncode and said else str(done.returncode or "")
    except (OSError, subprocess.TimeoutExpired) as error:
        reason = str(error)
    if reason:
        return [
            trouble(
                subject,
                _("they do not run: {reason}").format(reason=reason),
                why,
                _("make install again; PYTHON=... names a Python that Asterisk's user may run"),
            )
        ]
    return [ok(subject, _("they run"))]


def _recordings(config: Config, asterisk: Asterisk) -> list[Finding]:
    """[recordings] folder must be where the dialplan puts recordings."""
    spool = asterisk.settings.get("Spool directory", "")
    folder, theirs = config["recordings", "folder"], os.path.join(spool, "monitor")
    if not spool or not config["recordings", "link"] or os.path.realpath(folder) == os.path.realpath(theirs):
        return []
    return [
        trouble(
            _("recordings in {folder}").format(folder=folder),
            _("Asterisk writes them to {folder}").format(folder=theirs),
            _("links lead nowhere, and old recordings are not deleted"),
            _("folder = {folder} in {path}, then: systemctl restart movidesk").format(folder=theirs, path=config.path),
        )
    ]
