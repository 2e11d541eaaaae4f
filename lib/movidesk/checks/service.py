"""`movidesk serve`: whether it answers, with this version and configuration, and what systemd says of it."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import closing

from movidesk import __version__, journal
from movidesk.alarms import SERVICE_AFTER
from movidesk.checks import user
from movidesk.checks.finding import Finding, note, ok, trouble
from movidesk.config import Config
from movidesk.messages import _
from movidesk.pbx import liveness
from movidesk.pbx.heartbeat import PING

TIMEOUT = 3.0  # seconds for each answer
UNIT = "movidesk.service"
RESTART, START = "systemctl restart movidesk", "systemctl start movidesk; journalctl -u movidesk -e"


def findings(config: Config) -> list[Finding]:
    """What the service says of itself, what listens for others, and the systemd unit."""
    return [_fastagi(config), *_published(config), *_manager(config), *_unit(config)]


def _fastagi(config: Config) -> Finding:
    host, port = config["agid", "listen"]
    subject, slower = _("service at {host}:{port} ([agid] listen)").format(host=host, port=port), _("each call is slower")
    try:
        answer = _ping(host, port)
    except TimeoutError:
        return trouble(
            subject, _("it accepts connections, but does not answer: it is frozen, or busy for seconds"), slower, RESTART
        )
    except OSError as error:
        if _delivers_without(config["journal", "path"]):
            return note(subject, _("it does not run; calls use the scripts, and movidesk deliver sends their events"))
        return trouble(
            subject,
            _("movidesk serve does not run ({reason})").format(reason=error.strerror or error),
            _("calls use the scripts, which are slower, and nobody sends their events to Movidesk"),
            START,
        )
    words = answer.split()
    if len(words) != 3 or words[0] != "movidesk-agi":
        return trouble(
            subject,
            _("another program, or an older movidesk serve, answers: {text!r}").format(text=answer[:60]),
            slower,
            _("{restart}; if that does not help, find the program: ss -ltnp 'sport = :{port}'").format(
                restart=RESTART, port=port
            ),
        )
    if words[1] != __version__:
        return trouble(
            subject,
            _("it runs version {running}, installed is {installed}").format(running=words[1], installed=__version__),
            _("it does not do what this version does"),
            RESTART,
        )
    if float(words[2]) < config.modified - 1e-3:
        return trouble(
            subject,
            _("{path} was changed after it started").format(path=config.path),
            _("it still uses the settings from before"),
            RESTART,
        )
    return ok(subject, _("version {version}").format(version=words[1]))


def _delivers_without(path: str) -> bool:
    """Whether `movidesk deliver`, or cron's `deliver --once`, does the service's work for the journal at `path`."""
    try:
        with closing(journal.Journal(path)) as book:
            return liveness.is_held(path) or book.notes.time_left(liveness.ROUND, SERVICE_AFTER) > 0
    except journal.JournalError:
        return False  # the finding about the journal says why


def _ping(host: str, port: int) -> str:
    """What listens there answers to the request that the service knows. Raises OSError."""
    with socket.create_connection((host, port), TIMEOUT) as connection:
        connection.sendall(f"agi_network: yes\nagi_network_script: {PING}\n\n".encode())
        with connection.makefile("rb") as answer:
            return answer.readline(200).decode("utf-8", "replace").strip()


def _published(config: Config) -> list[Finding]:
    """The addresses of the web servers: recordings for Movidesk's links, made calls, metrics."""
    found = []
    for subject, address in (
        (_("recordings at {host}:{port} ([recordings] publish)"), config["recordings", "publish"]),
        (_("made calls at {host}:{port} ([made_calls] listen)"), config["made_calls", "listen"]),
        (_("metrics at {host}:{port} ([metrics] listen)"), config["metrics", "listen"]),
        (_("panel at {host}:{port} ([panel] listen)"), config["panel", "listen"]),
    ):
        if address:
            text = subject.format(host=address[0], port=address[1])
            try:
                socket.create_connection(address, TIMEOUT).close()
                found.append(ok(text))
            except OSError as error:
                found.append(trouble(text, str(error.strerror or error), _("Movidesk and browsers get no answer there"), RESTART))
    return found


def _manager(config: Config) -> list[Finding]:
    """The login to Asterisk's manager that made calls and [pbx] asterisk = ami use."""
    if not config["made_calls", "listen"] and config["pbx", "asterisk"] != "ami":
        return []
    from movidesk.pbx import ami

    subject = _("Asterisk's manager at {host}:{port}").format(
        host=config["made_calls", "ami"][0], port=config["made_calls", "ami"][1]
    )
    try:
        ami.try_login(*config.manager)
    except ami.AmiError as error:
        return [
            trouble(
                subject,
                str(error),
                _("made calls do not come about, and calls that Asterisk has lost stay open"),
                _("the lines for manager.conf in docs/made-calls.md, then: asterisk -rx 'manager reload'"),
            )
        ]
    return [ok(subject)]


def _unit(config: Config) -> list[Finding]:
    """What systemd says; nothing where it does not run."""
    systemctl = shutil.which("systemctl")
    if not systemctl or not os.path.isdir("/run/systemd/system"):
        return []
    return of_unit(config, _shown(systemctl))


def _shown(systemctl: str) -> dict[str, str]:
    names = "LoadState,ActiveState,UnitFileState,NRestarts,User,ReadWritePaths,NeedDaemonReload"
    try:
        done = subprocess.run(
            [systemctl, "show", UNIT, "-p", names], capture_output=True, text=True, timeout=TIMEOUT, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return {"error": str(error)}
    return dict(line.partition("=")[::2] for line in done.stdout.splitlines())


def of_unit(config: Config, shown: dict[str, str]) -> list[Finding]:
    """The findings for what `systemctl show` said."""
    subject = _("systemd unit {unit}").format(unit=UNIT)
    if shown.get("LoadState") != "loaded":
        return [
            note(
                subject,
                _("not installed ({state}): something else must start movidesk serve").format(
                    state=shown.get("error") or shown.get("LoadState") or "?"
                ),
            )
        ]
    found = []
    if shown.get("ActiveState") != "active":
        found.append(
            trouble(subject, shown.get("ActiveState", "?"), _("calls use the scripts, and nobody sends their events"), START)
        )
    if shown.get("UnitFileState") not in ("enabled", "enabled-runtime", "static"):
        found.append(
            trouble(
                subject,
                _("it is not started when the machine starts ({state})").format(state=shown.get("UnitFileState")),
                _("after a reboot nobody sends events"),
                "systemctl enable movidesk",
            )
        )
    if shown.get("NeedDaemonReload") == "yes":
        found.append(
            trouble(
                subject,
                _("its file was changed"),
                _("systemd uses it as it was"),
                "systemctl daemon-reload && systemctl restart movidesk",
            )
        )
    asterisk = user.asterisk_user()
    if asterisk and shown.get("User") not in (asterisk.pw_name, str(asterisk.pw_uid)):
        found.append(
            trouble(
                subject,
                _("it runs as {user}, Asterisk as {asterisk}").format(
                    user=shown.get("User") or "root", asterisk=asterisk.pw_name
                ),
                _("one cannot write what the other has written"),
                f"make install ASTUSER={asterisk.pw_name}",
            )
        )
    writable = [os.path.realpath(path.lstrip("-+")) for path in shown.get("ReadWritePaths", "").split()]
    for folder, why in _needed_folders(config):
        if not any(os.path.commonpath([folder, path]) == path for path in writable):
            found.append(
                trouble(
                    subject,
                    _("it may not write in {folder}").format(folder=folder),
                    why,
                    _("systemctl edit movidesk: [Service], ReadWritePaths=-{folder}; then: {restart}").format(
                        folder=folder, restart=RESTART
                    ),
                )
            )
    return found or [ok(subject, _("active, {restarts} restarts").format(restarts=shown.get("NRestarts", "?")))]


def _needed_folders(config: Config) -> Iterator[tuple[str, str]]:
    """Folders, besides the journal's, in which the service writes, and what is missing if it may not."""
    if config["recordings", "keep_days"] or config["recordings", "convert"]:
        yield os.path.realpath(config["recordings", "folder"]), _("recordings are neither converted nor deleted")
    if config["metrics", "textfile"]:
        yield os.path.dirname(os.path.realpath(config["metrics", "textfile"])), _("node_exporter gets no metrics")
