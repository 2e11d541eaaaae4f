"""Folders and files: the journal, its standby, recordings, and who owns them."""

from __future__ import annotations

import os
import pwd
import stat
import tempfile
from contextlib import closing

from movidesk import journal
from movidesk.alarms import LITTLE_SPACE
from movidesk.checks import user
from movidesk.checks.finding import Finding, note, ok, trouble
from movidesk.config import Config
from movidesk.journal import standby_folder
from movidesk.messages import _

CHECKED = "checked"  # a timer of the journal: when `check` last wrote to it


def findings(config: Config) -> list[Finding]:
    """Whether what must be written can be written, by this user."""
    return [*_owner(config), *_journal(config), _standby(config), *_recordings(config), *_converts(config), *_textfile(config)]


def _owner(config: Config) -> list[Finding]:
    """This process must have the rights of Asterisk, and the journal's folder must belong to Asterisk's user."""
    folder, asterisk = os.path.dirname(config["journal", "path"]), user.asterisk_user()
    owns, subject = user.owner(folder), _("user")
    me = _own_name()
    if asterisk is None:
        return [
            note(subject, _("no Asterisk was found running, and there is no user asterisk: checked as {user}").format(user=me))
        ]
    found = []
    if owns and owns.pw_uid != asterisk.pw_uid:
        found.append(
            trouble(
                subject,
                _("{folder} belongs to {owner}, but Asterisk's user is {user}").format(
                    folder=folder, owner=owns.pw_name, user=asterisk.pw_name
                ),
                _("what calls record there, the other one cannot change"),
                f"chown -R {asterisk.pw_name}: {folder}",
            )
        )
    if asterisk.pw_uid != os.geteuid():
        found.append(
            note(
                subject,
                _("checked as {user}; run it as root to have it checked as {asterisk}").format(
                    user=me, asterisk=asterisk.pw_name
                ),
            )
        )
    return found or [ok(subject, _("checked as {user}, as Asterisk runs").format(user=me))]


def _own_name() -> str:
    """The name of this process's user, or the number of a user without one."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


def _asterisk_name() -> str:
    """The name of the user that a remedy gives files to."""
    asterisk = user.asterisk_user()
    return asterisk.pw_name if asterisk else user.DEFAULT


def _journal(config: Config) -> list[Finding]:
    path = config["journal", "path"]
    folder, subject = os.path.dirname(path), _("journal {path}").format(path=path)
    why = _("no event is recorded there: events are kept in memory and in emergency files")
    try:
        with closing(journal.Journal(path)) as book:
            book.notes.start_timer(CHECKED)  # a real write, on the disk
    except journal.JournalError as error:
        return [trouble(subject, str(error), why, _remedy(folder, path))]
    return [ok(subject, _("written; {state}").format(state=_state(folder)))]


def _remedy(folder: str, path: str) -> str:
    name = _asterisk_name()
    if not os.path.isdir(folder):
        return f"install -d -o {name} -g {name} -m 750 {folder}"
    if not os.access(folder, os.W_OK | os.X_OK) or os.path.exists(path) and not os.access(path, os.W_OK):
        return f"chown -R {name}: {folder} && chmod u+rwX {folder}"
    return _("see what the line says")


def _state(folder: str) -> str:
    """Owner, mode and free space of a folder."""
    about, disk = os.stat(folder), os.statvfs(folder)
    owns = user.owner(folder)
    return _("{owner}, {mode:04o}, {free:.0f} MB free").format(
        owner=owns.pw_name if owns else about.st_uid, mode=stat.S_IMODE(about.st_mode), free=disk.f_bavail * disk.f_frsize / 1e6
    )


def standby_problem(config: Config) -> str:
    """Why the standby journal could not be used, and what to do; '' if it could. Leaves no file behind."""
    place, own = config["journal", "standby"], standby_folder.folder(config)
    advice = (
        "while the journal cannot be used, callers would not reach an agent; [journal] standby must be a folder in memory "
        "that Asterisk's user can write to"
    )
    try:
        if os.path.lexists(own):
            about = os.lstat(own)
            if not stat.S_ISDIR(about.st_mode) or about.st_uid != os.geteuid() or about.st_mode & 0o077:
                return f"{own} belongs to another user or is not a private folder: remove it; {advice}"
            place = own
        with tempfile.TemporaryFile(dir=place) as file:
            file.write(b"0" * 4096)
    except OSError as error:
        return f"{place}: {error.strerror}; {advice}"
    return ""


def _standby(config: Config) -> Finding:
    place = config["journal", "standby"]
    subject, problem = _("second journal in {folder}").format(folder=place), standby_problem(config)
    if not problem:
        return ok(subject)
    return trouble(
        subject,
        problem,
        _("if the journal's disk fails, callers reach nobody"),
        _("standby = /dev/shm in {path}, then: systemctl restart movidesk").format(path=config.path),
    )


def _recordings(config: Config) -> list[Finding]:
    """The folder of recordings, if anything of ours uses it. checks/asterisk.py compares it with Asterisk's."""
    folder = config["recordings", "folder"]
    used = [key for key in ("link", "publish", "convert", "keep_days") if config["recordings", key]]
    if not used:
        return []
    subject = _("recordings in {folder}").format(folder=folder)
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"0" * 4096)
        disk = os.statvfs(folder)
    except OSError as error:
        return [
            trouble(
                subject,
                f"{error.strerror} ([recordings] folder)",
                _("messages and recordings have no link, or one that leads nowhere"),
                _("folder = Asterisk's spool directory and /monitor in {path}; or: install -d -o {user} -m 750 {folder}").format(
                    path=config.path, user=_asterisk_name(), folder=folder
                ),
            )
        ]
    if disk.f_bavail * disk.f_frsize < min(LITTLE_SPACE, disk.f_blocks * disk.f_frsize // 50):
        return [
            trouble(
                subject,
                _("only {free:.1f} MB are free").format(free=disk.f_bavail * disk.f_frsize / 1e6),
                _("new recordings are cut or missing"),
                _("free some space, or set [recordings] keep_days"),
            )
        ]
    return [ok(subject, _("written; {state}").format(state=_state(folder)))]


def _converts(config: Config) -> list[Finding]:
    if not config["recordings", "convert"]:
        return []
    from movidesk.recordings import conversion

    subject = _("recordings as .{form}").format(form=config["recordings", "convert"])
    try:
        conversion.tool(config["recordings", "convert"])
    except conversion.NotConverted as error:
        return [trouble(subject, str(error), _("until then links lead to the unconverted files"), "apt-get install ffmpeg")]
    return [ok(subject)]


def _textfile(config: Config) -> list[Finding]:
    """The folder of the file for node_exporter."""
    path = config["metrics", "textfile"]
    if not path:
        return []
    folder, subject = os.path.dirname(path), _("metrics in {path}").format(path=path)
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"0" * 4096)
    except OSError as error:
        name = _asterisk_name()
        return [
            trouble(
                subject,
                _("{reason} ([metrics] textfile)").format(reason=error.strerror),
                _("node_exporter gets no metrics"),
                f"setfacl -m u:{name}:rwx {folder}" if os.path.isdir(folder) else f"install -d -o {name} -m 755 {folder}",
            )
        ]
    return [ok(subject, _("written; {state}").format(state=_state(folder)))]
