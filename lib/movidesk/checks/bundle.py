"""The support archive of `movidesk check --bundle`: what somebody else needs to find a fault, without secrets and numbers."""

from __future__ import annotations

import io
import json
import os
import platform
import re
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterable
from importlib import metadata
from typing import IO

from movidesk import __version__, facts, journal
from movidesk.alarms import local
from movidesk.checks import dialplan
from movidesk.checks.asterisk import DEFAULT, Asterisk
from movidesk.checks.finding import Finding
from movidesk.config import Config
from movidesk.config.options import GUID, OPTIONS, SECRET_KEYS, Secret
from movidesk.pbx import console
from movidesk.rules.call_states import masked

CALLS, EVENTS, LOG_LINES = 100, 200, 2000  # how many of them the archive has
LONG_NUMBER = 7  # digits; a shorter one is an extension
PACKAGES = ("pyst2", "requests", "urllib3", "certifi", "python-dateutil", "flask", "waitress", "click", "rich", "phonenumbers")

README = """movidesk check --bundle, {now}

Callers' numbers are masked: ***8642 is a number that ends with 8642. Extensions are not masked. The token, passwords, secrets
and the signatures of links are replaced by ***. Look through the files all the same before you give them to somebody.
"""


class Masker:
    """Hides secrets and numbers in texts. numbers: the callers' that are known; other long numbers are found by their form."""

    def __init__(self, config: Config, numbers: Iterable[str] = ()):
        values = [config[section, key] for section, keys in OPTIONS.items() for key in keys]
        secrets = [value.reveal() for value in values if isinstance(value, Secret)]
        self._secrets = [re.compile(re.escape(secret), re.IGNORECASE) for secret in secrets if secret]
        long = {number.lstrip("+") for number in numbers if len(number.lstrip("+")) >= LONG_NUMBER}
        self._numbers = re.compile("|".join(sorted(map(re.escape, long), key=len, reverse=True)) or r"(?!)")

    def __call__(self, text: str) -> str:
        for secret in self._secrets:
            text = secret.sub("***", text)
        text = re.sub(GUID, "***", text)
        text = re.sub(r"(signature=|token=|password=|://[^/\s:@]*:)[^&\s\"'@]+", r"\1***", text, flags=re.IGNORECASE)
        text = re.sub(rf"\+?(?:{self._numbers.pattern})", lambda found: masked(found[0]), text)
        # Not the unique ids of channels, which have a dot and a counter: without them nobody finds a call.
        return re.sub(rf"(?<![\w.])\+?\d{{{LONG_NUMBER},}}(?![\w]|\.\d)", lambda found: masked(found[0]), text)


def open_file(path: str) -> IO[bytes]:
    """Create the archive's file, for nobody else to read. Raises OSError."""
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb")


def service_log() -> str:
    """The last lines of the service's log, as far as this user may read it."""
    try:
        done = subprocess.run(
            ["journalctl", "-u", "movidesk", "-n", str(LOG_LINES), "--no-pager", "-o", "short-iso"],
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
            errors="replace",
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"journalctl: {error}\n"
    return done.stdout + done.stderr


def write(file: IO[bytes], config: Config, findings: list[Finding], log: str) -> None:
    """Write the archive, a compressed tar. log: from `service_log`, which only some users may read. Raises OSError."""
    book = _open(config)
    numbers = [call.number for call in book.overview.last_calls(10_000)] if isinstance(book, journal.Journal) else []
    mask = Masker(config, numbers)
    parts: dict[str, Callable[[], str]] = {
        "README.txt": lambda: README.format(now=time.strftime("%Y-%m-%d %H:%M:%S %z")),
        "check.txt": lambda: "\n".join("\t".join(finding) for finding in findings),
        "versions.txt": lambda: _versions(config),
        "movidesk.conf": lambda: _settings(config),
        "dialplan.txt": lambda: _dialplan(config),
        "status.json": lambda: json.dumps(facts.read(config, _journal(book)), indent=2),
        "calls.txt": lambda: _calls(_journal(book)),
        "outbox.txt": lambda: _outbox(_journal(book)),
        "journal.txt": lambda: _journal(book).overview.description(),
        "service.log": lambda: log,
        "disks.txt": _disks,
    }
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        for name, make in parts.items():
            try:
                text = make()
            except (journal.JournalError, console.ConsoleError, OSError) as error:
                text = f"{error}\n"
            data = mask(text).encode("utf-8", "replace")
            about = tarfile.TarInfo(f"movidesk-bundle/{name}")
            about.size, about.mtime, about.mode = len(data), int(time.time()), 0o600
            archive.addfile(about, io.BytesIO(data))


def _open(config: Config) -> journal.Journal | journal.JournalError:
    try:
        return journal.Journal(config["journal", "path"])
    except journal.JournalError as error:
        return error


def _journal(book: journal.Journal | journal.JournalError) -> journal.Journal:
    if isinstance(book, journal.JournalError):
        raise book
    return book


def _versions(config: Config) -> str:
    lines = [f"movidesk-agi {__version__}", f"Python {sys.version}", platform.platform()]
    try:
        with open("/etc/os-release", encoding="utf-8", errors="replace") as release:
            lines += [line.strip() for line in release if line.startswith("PRETTY_NAME")]
    except OSError as error:
        lines.append(str(error))
    for package in PACKAGES:
        try:
            lines.append(f"{package} {metadata.version(package)}")
        except metadata.PackageNotFoundError:
            lines.append(f"{package} is not installed")
    return "\n".join([*lines, _asterisk(config).ask("core show version"), ""])


def _asterisk(config: Config) -> Asterisk:
    return Asterisk(DEFAULT if config["pbx", "asterisk"] == "ami" else config["pbx", "asterisk"])


def _settings(config: Config) -> str:
    """movidesk.conf without comments; of what is not a known setting only the name."""
    lines, section = [], ""
    with open(config.path, encoding="utf-8", errors="replace") as file:
        for line in file:
            text = line.strip()
            header = re.match(r"\[([^\]]*)\]", text)
            key, equals, _value = (part.strip() for part in text.partition("="))
            if header:
                section = header[1]
                lines.append(text)
            elif text and text[0] not in ";#":
                shown = equals and key.lower() in OPTIONS.get(section, ()) and key.lower() not in SECRET_KEYS
                lines.append(text if shown else f"{key} = ***" if equals else "(a line without =)")
    return "\n".join([*lines, ""])


def _dialplan(config: Config) -> str:
    """Our contexts and settings as they are loaded."""
    asterisk = _asterisk(config)
    names = dict.fromkeys(
        [*dialplan.CONTEXTS, *(context for context, _ in dialplan.of_files(asterisk.settings.get("Configuration directory", "")))]
    )
    answers = asterisk.ask_all([f"dialplan show {name}" for name in names])
    settings = [f"{name}={value}" for name, value in asterisk.globals.items() if name.startswith("MOVIDESK_")]
    return "\n".join([*settings, "", *(text or f"{line}: no such context" for line, text in answers.items())])


def _calls(book: journal.Journal) -> str:
    lines = []
    for call in reversed(book.overview.last_calls(CALLS)):
        ended = local(call.ended) if call.ended else "-"
        lines.append(
            f"{call.call_id} {call.mode} queue={call.queue} number={masked(call.number)} extension={call.extension} "
            f"state={call.state} code={call.code} arrived={local(call.arrived)} ended={ended}"
        )
        lines += [f"    {_event(event)}" for event in book.calls.events(call)]
    return "\n".join([*lines, ""])


def _event(event: journal.Event) -> str:
    settled = local(event.settled) if event.settled else "-"
    return (
        f"{event.id} {event.kind} at={local(event.at)} extension={event.extension} link={'yes' if event.link else 'no'} "
        f"{event.status} tries={event.attempts} settled={settled} {event.note}"
    )


def _outbox(book: journal.Journal) -> str:
    jobs = [*book.outbox.jobs(journal.REFUSED, EVENTS), *book.outbox.jobs(journal.PENDING, EVENTS)]
    return "\n".join(
        [*(f"{job.call.call_id} {_event(job.event)} due in {job.event.due - book.steady():.0f} s" for job in jobs), ""]
    )


def _disks() -> str:
    done = subprocess.run(["df", "-hPi"], capture_output=True, text=True, timeout=10, check=False)
    more = subprocess.run(["df", "-hP"], capture_output=True, text=True, timeout=10, check=False)
    return more.stdout + "\n" + done.stdout
