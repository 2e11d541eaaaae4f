"""movidesk.conf itself: its problems, who may read it, the PBX's name."""

from __future__ import annotations

import os
import re
import socket
import stat

from movidesk.checks.finding import Finding, note, ok, trouble
from movidesk.config import Config
from movidesk.delivery import numbers
from movidesk.messages import _

#: Host names that installers give to every machine.
COMMON_NAMES = re.compile(r"(localhost|debian|ubuntu|raspberrypi|asterisk|pbx|freepbx|issabel|server)([.-].*)?", re.IGNORECASE)


def findings(config: Config) -> list[Finding]:
    """What is wrong with the file, each problem by itself."""
    subject = _("configuration {path}").format(path=config.path)
    found = [
        trouble(
            subject,
            problem.replace(config.path + ": ", ""),
            _("a setting that is not valid has its default instead, and the service does not start"),
            _("correct it in {path}, then: systemctl restart movidesk").format(path=config.path),
        )
        for problem in config.all_problems()
    ] or [ok(subject)]
    if not config.modified:
        return [found[0]._replace(why=_("nothing can be checked without it"), remedy=_unreadable(config.path))]
    return found + _readable_by_all(config) + _name(config) + _numbers(config)


def _unreadable(path: str) -> str:
    if os.path.lexists(path) or not os.access(os.path.dirname(path) or ".", os.X_OK):
        return _("run movidesk check as root; Asterisk's user needs: chown root:asterisk {path} && chmod 0640 {path}").format(
            path=path
        )
    return _("make install creates it; or copy etc/movidesk.conf to {path}").format(path=path)


def _readable_by_all(config: Config) -> list[Finding]:
    found = []
    secrets = config["movidesk", "token_file"], config["recordings", "secret_file"], config["panel", "password_file"]
    for path in dict.fromkeys([config.path, *secrets]):
        try:
            mode = os.stat(path).st_mode if path else 0
        except OSError:
            continue  # a problem of the configuration
        if mode & (stat.S_IROTH | stat.S_IWOTH):
            found.append(
                trouble(
                    _("secrets in {path}").format(path=path),
                    _("everybody on this machine may read the file (mode {mode:04o})").format(mode=stat.S_IMODE(mode)),
                    _("it contains the token: who has it can use the whole account"),
                    f"chmod 0640 {path}",
                )
            )
    return found or [ok(_("secrets"), _("only their owner and group may read them"))]


def _numbers(config: Config) -> list[Finding]:
    """What only shows when numbers are sent: the country, and the package that knows its numbers."""
    if config["numbers", "form"] == "as_is":
        return []
    subject, problem = _("callers' numbers as {form}").format(form=config["numbers", "form"]), numbers.problem(config)
    if not problem:
        return [ok(subject)]
    why = _("callers' numbers are sent as they come")
    return [trouble(subject, problem, why, _("correct it in {path}, then: systemctl restart movidesk").format(path=config.path))]


def _name(config: Config) -> list[Finding]:
    """The name cannot be compared with other PBXs'; checks/calls.py looks at what Movidesk rejected."""
    subject, name = _("name of this PBX ([pbx] name)"), config["pbx", "name"]
    if COMMON_NAMES.fullmatch(name) and name == socket.gethostname():
        return [
            note(
                subject,
                _("{name}, a host name that many machines have: a second PBX of this account needs another name").format(
                    name=name
                ),
            )
        ]
    return [ok(subject, name)]
