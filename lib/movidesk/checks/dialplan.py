"""The dialplan that Asterisk has loaded: our contexts, as the installed files have them, and what concerns the service."""

from __future__ import annotations

import glob
import os
import re
import socket
from contextlib import suppress
from typing import TYPE_CHECKING

from movidesk.agi import variables
from movidesk.checks.finding import Finding, note, ok, trouble
from movidesk.config import Config
from movidesk.messages import _

if TYPE_CHECKING:
    from movidesk.checks.asterisk import Asterisk

#: Where calls enter our dialplan, and what all of it needs. The others are those of the installed files.
CONTEXTS = ("movidesk-queue", "movidesk-watch", "movidesk-verb")
OURS = "movidesk-"  # begins the names of all our contexts
DEFAULT_AGID = "127.0.0.1:4573"
RELOAD = "asterisk -rx 'dialplan reload'"
FREEPBX = "/etc/freepbx.conf"  # where it exists FreePBX is installed
INCLUDE = "#include movidesk/*.conf"

Steps = dict[tuple[str, str], list[str]]  # (context, extension) -> what each priority runs


def findings(config: Config, asterisk: Asterisk) -> list[Finding]:
    """Our contexts, MOVIDESK_AGID, and FreePBX's files."""
    etc = asterisk.settings.get("Configuration directory") or os.path.dirname(config.path)
    return [*_contexts(asterisk, etc), *_agid(config, asterisk, etc), *_freepbx(config, etc)]


def _contexts(asterisk: Asterisk, etc: str) -> list[Finding]:
    wanted = of_files(etc)
    names = list(dict.fromkeys([*CONTEXTS, *(context for context, _extension in wanted)]))
    loaded = of_console(asterisk.ask("dialplan show"))  # one long answer takes less time than one for each context
    known = {context for context, _extension in loaded}
    subject, why = _("dialplan"), _("calls do not reach Movidesk's queues, or are not reported")
    missing = [name for name in names if name not in known]
    if missing:
        what = _("not loaded: {names}").format(names=", ".join(missing if len(missing) < len(names) else missing[:1]))
        installed = {context for context, _extension in wanted}
        return [trouble(subject, what, why, _load(etc, [name for name in CONTEXTS if name not in installed]))]
    folder = os.path.join(etc, "movidesk")
    # What an admin adds to our contexts in other files is no difference.
    differs = {key[0] for key in wanted if wanted[key] != loaded.get(key)}
    if differs:
        what = _("Asterisk has not loaded the files in {folder} as they are: {names}")
        old = _("calls run another version of the dialplan")
        return [trouble(subject, what.format(folder=folder, names=", ".join(sorted(differs))), old, RELOAD)]
    return [ok(subject, _("{count} contexts are loaded, as in {folder}").format(count=len(names), folder=folder))]


def _load(etc: str, not_installed: list[str]) -> str:
    """How contexts that are missing get loaded."""
    if not_installed:
        return _("make install ASTETCDIR={folder}, then: {reload}").format(folder=etc, reload=RELOAD)
    custom = os.path.join(etc, "extensions_custom.conf")
    file = custom if os.path.exists(custom) else os.path.join(etc, "extensions.conf")
    if _includes(file):
        return RELOAD
    return _("echo '{line}' >> {file} && {reload}").format(line=INCLUDE, file=file, reload=RELOAD)


def _includes(file: str) -> bool:
    try:
        with open(file, encoding="utf-8", errors="replace") as lines:
            return any(re.match(r"#(try)?include\s+[\"<]?\S*movidesk/", line.strip()) for line in lines)
    except OSError:
        return False


def of_files(etc: str) -> Steps:
    """The dialplan in the installed files; {} where they cannot be read."""
    found: Steps = {}
    for path in sorted(glob.glob(os.path.join(glob.escape(etc), "movidesk", "*.conf"))):
        with suppress(OSError), open(path, encoding="utf-8", errors="replace") as file:
            _read(file.read(), found)
    return found


def _read(text: str, found: Steps) -> None:
    context = extension = ""
    for line in text.splitlines():
        code = re.sub(r"(?<!\\);.*", "", line).strip()
        heading = re.match(r"\[([\w-]+)\]", code)
        step = re.match(r"(?:exten\s*=>\s*([^,]+),|same\s*=>\s*)\w+(?:\([\w-]+\))?,(.*)$", code)
        if heading:
            context = heading[1]
        elif step and context.startswith(OURS):
            extension = step[1] or extension
            found.setdefault((context, extension.strip()), []).append(_plain(step[2]))


def _plain(text: str) -> str:
    """What a priority runs, without what Asterisk changes when it loads it: blanks and backslashes."""
    return re.sub(r"[\s\\]", "", text)


def of_console(answer: str) -> Steps:
    """The same from the answer to `dialplan show`, for our contexts."""
    found: Steps = {}
    context = extension = ""
    for line in answer.splitlines():
        heading = re.match(r"\[ Context '([^']*)'", line)
        if heading:
            context = heading[1]
        elif context.startswith(OURS):
            step = re.match(r"  (?:'(.*)' =>)?\s*(?:\[[\w-]+\]\s*)?\d+\. (.*?)\s*(?:\[[^\[\]]*\])?$", line)
            if step:
                extension = step[1] or extension
                found.setdefault((context, extension), []).append(_plain(step[2]))
    return found


def _agid(config: Config, asterisk: Asterisk, etc: str) -> list[Finding]:
    """MOVIDESK_AGID must lead to [agid] listen."""
    listen, given = config["agid", "listen"], asterisk.globals.get(variables.AGID, DEFAULT_AGID)
    subject = variables.AGID
    if not given and not _tells_empty_from_unset(asterisk.settings.get("Version", "")):
        given = DEFAULT_AGID  # as movidesk-verb takes it
    if not given:
        return [note(subject, _("empty: calls use the scripts, not the service"))]
    host, _colon, port = given.rpartition(":")
    if _same_host(host.strip("[]"), listen[0]) and port == str(listen[1]):
        return [ok(subject, given)]
    address = f"{listen[0]}:{listen[1]}"
    file = os.path.join(
        etc, "globals_custom.conf" if os.path.exists(os.path.join(etc, "globals_custom.conf")) else "extensions.conf"
    )
    return [
        trouble(
            subject,
            _("it is {given}, but the service listens at {address} ([agid] listen)").format(given=given, address=address),
            _("the service is not used: each call is slower"),
            _("MOVIDESK_AGID = {address} in [globals] of {file}, then: {reload}").format(
                address=address, file=file, reload=RELOAD
            ),
        )
    ]


def _tells_empty_from_unset(version: str) -> bool:
    """Whether this Asterisk has GLOBAL_EXISTS(): from 21.1 on."""
    number = re.match(r"(\d+)\.(\d+)", version)
    return number is not None and (int(number[1]), int(number[2])) >= (21, 1)


def _same_host(one: str, other: str) -> bool:
    """Whether two host names are one address; a service that listens on all addresses is on each."""
    if one == other or other in ("0.0.0.0", "::", ""):
        return True
    try:
        addresses = [{about[4][0] for about in socket.getaddrinfo(name, None)} for name in (one, other)]
    except OSError:
        return False
    return bool(addresses[0] & addresses[1])


def _freepbx(config: Config, etc: str) -> list[Finding]:
    """FreePBX writes the main file of the dialplan anew, and its permission reset opens files."""
    if not os.path.exists(FREEPBX) and not os.path.exists(os.path.join(etc, "extensions_additional.conf")):
        return []
    found, subject = [], _("FreePBX's files")
    custom, chown = os.path.join(etc, "extensions_custom.conf"), os.path.join(etc, "freepbx_chown.conf")
    if not _includes(custom) and _includes(os.path.join(etc, "extensions.conf")):
        found.append(
            trouble(
                subject,
                _("{line} is in extensions.conf").format(line=INCLUDE),
                _("FreePBX writes that file anew"),
                _("move the line to the end of {file}").format(file=custom),
            )
        )
    if os.path.exists(FREEPBX) and not _mentions(chown, config.path):
        found.append(
            trouble(
                subject,
                _("{file} does not name {path}").format(file=chown, path=config.path),
                _("fwconsole chown would make the token readable for others"),
                f"printf '[custom]\\nfile = {config.path},0640,root,asterisk\\n' >> {chown}",
            )
        )
    return found or [ok(subject)]


def _mentions(file: str, text: str) -> bool:
    try:
        with open(file, encoding="utf-8", errors="replace") as lines:
            return any(re.match(r"file\s*=\s*" + re.escape(text) + r"\s*,", line.strip()) for line in lines)
    except OSError:
        return False
