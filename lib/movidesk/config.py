"""movidesk.conf: one table of options, read with line numbers, refused with file, line and reason.

A bad value never stops an event from being recorded: `Config` keeps every problem it found and the default in the
value's place, and only what needs the bad value refuses to go on (`require`).
"""

from __future__ import annotations

import configparser
import os
import re

from movidesk.line import PACE
from movidesk.pattern import Pattern

MAX_FILE, MAX_LINE = 65536, 1000  # characters; the time that configparser takes grows with the square of a line's length
MAX_SECRET_FILE = 4096            # characters

DEFAULT_PATH = "/etc/asterisk/movidesk.conf"
PATH_VARIABLE = "MOVIDESK_CONFIG"


class ConfigError(Exception):
    """The configuration cannot serve; the text names file, line, key and reason, and never a token."""


class Secret:
    """A value that does not print: `reveal()` is the only way to it."""

    __slots__ = ("_value",)

    def __init__(self, value: str):
        self._value = value

    def reveal(self) -> str:
        return self._value

    def __bool__(self) -> bool:
        return bool(self._value)

    def __repr__(self) -> str:
        return "Secret(***)" if self._value else "Secret(empty)"


_GUID = r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"


def _guid(text: str) -> Secret:
    if not re.fullmatch(_GUID, text):
        raise ValueError("is no GUID (Movidesk: Settings, Account, Parameters, Environment: 36 characters, 8-4-4-4-12)")
    return Secret(text)


_HOST = r"[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63})*"


def _url(text: str) -> str:
    # A pattern, not urllib.parse: every script reads this file, and that module costs as much as the journal.
    address = re.fullmatch(r"(https?)://(%s|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?(/[^\s?#]*)?" % _HOST, text)
    if not address or int((address.group(3) or ":0")[1:]) > 65535:
        raise ValueError("must be a plain http or https address, without user, query or fragment")
    if address.group(1) == "http" and address.group(2) not in ("localhost", "127.0.0.1", "[::1]"):
        raise ValueError("must be https: the token travels in it (plain http is for a simulator on this machine)")
    return text.rstrip("/")


def _number(kind, low, high):
    def parse(text: str):
        try:
            value = kind(text)
        except ValueError:
            raise ValueError("is no %s" % ("whole number" if kind is int else "number")) from None
        if not low <= value <= high:
            raise ValueError("must lie between %s and %s" % (low, high))
        return value

    return parse


def _group_pattern(text: str) -> Pattern:
    pattern = Pattern(text)
    if pattern.groups != 1:
        raise ValueError("must have one (group): the extension")
    return pattern


def _choice(*words: str):
    def parse(text: str) -> str:
        if text not in words:
            raise ValueError("must be one of: %s" % ", ".join(words))
        return text

    return parse


def _path(text: str) -> str:
    if not os.path.isabs(text):
        raise ValueError("must be an absolute path")
    if not text.isprintable():
        raise ValueError("holds characters that do not print")
    return text


def _name(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,64}", text):
        raise ValueError("must be 1 to 64 letters, digits, '.', '_' or '-'")
    return text


def _link(text: str) -> str:
    from string import Formatter

    try:
        parts = [part for part in Formatter().parse(text) if part[1] is not None]
    except ValueError as error:
        raise ValueError("is no template: %s" % error) from None
    if any(form or conversion for _, _, form, conversion in parts):
        raise ValueError("is no template: only names may stand in { }")
    fields = {field for _, field, _, _ in parts}
    unknown = fields - {"file", "date", "id", "queue", "extension"}
    if unknown:
        raise ValueError("knows no {%s}; it may use {file} {date} {id} {queue} {extension}" % "}, {".join(sorted(unknown)))
    if not text.startswith(("http://", "https://")):
        raise ValueError("must begin with http:// or https://")
    if not text.isprintable() or " " in text:
        raise ValueError("must be one address, without blanks or line breaks")
    return text


def _listen(text: str) -> tuple[str, int]:
    address = re.fullmatch(r"((?:%s)?|\[[0-9A-Fa-f:.]+\]):([0-9]{1,5})" % _HOST, text)
    if not address or int(address.group(2)) > 65535:
        raise ValueError("must be ADDRESS:PORT, such as 127.0.0.1:4573")
    return address.group(1).strip("[]") or "127.0.0.1", int(address.group(2))


def _secret(text: str) -> Secret:
    # These characters need no quoting, neither here nor in nginx's configuration.
    if not re.fullmatch(r"[0-9A-Za-z_+/=.-]{16,128}", text):
        raise ValueError("must be 16 to 128 letters, digits, or _ + / = . - (openssl rand -hex 24 makes one)")
    return Secret(text)


def _manager(text: str) -> tuple[str, int]:
    address = _listen(text)
    if not is_loopback(address):
        raise ValueError("must be on loopback (127.0.0.1:5038): AMI sends its secret in the clear")
    return address


def is_loopback(address: tuple[str, int]) -> bool:
    """Whether only this machine reaches an address to listen on."""
    return address[0] == "localhost" or re.fullmatch(r"127(\.[0-9]{1,3}){3}", address[0]) is not None


def _channel_part(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_./@-]{1,80}", text):
        raise ValueError("must be part of a channel's name, such as PJSIP/ or @from-internal/n")
    return text


def _prefixes(text: str) -> tuple[str, ...]:
    found = tuple(part.strip() for part in text.split(","))
    if not all(re.fullmatch(r"\+|\+?[0-9]{1,20}", part) for part in found):
        raise ValueError("must be prefixes of numbers with commas between, such as 0, 47, +55")
    return found


def _caller_number(text: str) -> str:
    if not re.fullmatch(r"\+?[0-9]{1,20}", text):
        raise ValueError("must be a number: digits, with or without a leading +")
    return text


def _hostname() -> str:
    name = re.sub(r"[^A-Za-z0-9._-]", "", os.uname().nodename.split(".")[0])
    return name[:64] or "pbx"


#: section -> key -> (parse, default as text). An empty default means: no value.
OPTIONS = {
    "movidesk": {
        "url": (_url, "https://api.movidesk.com/public/v1"),
        "token": (_guid, ""),
        "token_file": (_path, ""),
        "requests_per_minute": (_number(int, 1, 1000), "10"),
        "timeout": (_number(float, 0.1, 15), "5"),  # an answer takes at most three: less than journal.LEASE
    },
    "pbx": {
        "name": (_name, _hostname()),
        "extension_pattern": (Pattern, "[0-9]{2,10}"),
        "report_transfer": (_choice("answer", "ring"), "answer"),
        "agent_channel": (_group_pattern, "(?:PJSIP|SIP|IAX2|DAHDI|Local|SCCP)/([0-9]{2,10})(?![0-9]).*"),
        "asterisk": (str, "asterisk -rx"),
    },
    "line": {
        "ask_every": (_number(float, 1, 3600), str(PACE[0])),
        "ask_at_least_every": (_number(float, 1, 3600), str(PACE[1])),
    },
    "journal": {
        "path": (_path, "/var/lib/movidesk/journal.db"),
        "keep_days": (_number(int, 1, 36500), "90"),
    },
    "recordings": {
        "link": (_link, ""),
        "folder": (_path, "/var/spool/asterisk/monitor"),
        "publish": (_listen, ""),
        "secret": (_secret, ""),
        "secret_file": (_path, ""),
        "valid_days": (_number(int, 1, 36500), "365"),
        "keep_days": (_number(int, 0, 36500), "0"),
        "convert": (_choice("mp3", "opus"), ""),
    },
    "agid": {
        "listen": (_listen, "127.0.0.1:4573"),
    },
    "made_calls": {
        "listen": (_listen, ""),
        "auth": (_choice("none", "login", "token"), "token"),
        "user": (_name, ""),
        "password": (_secret, ""),
        "token": (_secret, ""),
        "allow": (_prefixes, ""),
        "deny": (_prefixes, "0900, 0500, 0300"),
        "number_pattern": (Pattern, r"\+?[0-9]{3,20}"),
        "per_minute": (_number(int, 1, 1000), "6"),
        "ring": (_number(int, 1, 120), "20"),
        "dial_prefix": (_channel_part, "PJSIP/"),
        "dial_suffix": (_channel_part, ""),
        "caller_id": (_caller_number, ""),
        "monitor": (_choice("no", "yes"), "no"),
        "ami": (_manager, "127.0.0.1:5038"),
        "ami_user": (_name, ""),
        "ami_secret": (_secret, ""),
    },
}

_SECRET_KEYS = {"token", "secret", "password", "ami_secret"}


class Config:
    """The settings, as `config["pbx", "name"]`, with the problems that were found beside them.

    Every option has a value: what could not be read has its default, and its problem says so.
    """

    def __init__(self, path: str):
        self.path = path
        self.problems: dict[str, list[str]] = {}
        self._values: dict[tuple[str, str], object] = {}

    def __getitem__(self, name: tuple[str, str]):
        # Defaults are parsed when they are asked for: a script needs few of them, and each costs its milliseconds.
        if name not in self._values:
            parse, default = OPTIONS[name[0]][name[1]]
            self._values[name] = parse(default) if default else ""
        return self._values[name]

    def complain(self, section: str, text: str) -> None:
        """Keep a problem; a token that stood in the wrong place is not repeated in it."""
        self.problems.setdefault(section, []).append(re.sub(_GUID, "***", text))

    def require(self, *sections: str, form: bool = True) -> Config:
        """This configuration, when these sections (default: all) and the file's form are sound; else ConfigError.

        form: False lets a file pass that is missing, or of which the rest could be read.
        """
        for section in (*([""] if form else []), *(sections or OPTIONS)):
            for text in self.problems.get(section, ()):
                raise ConfigError(text)
        return self

    def agent(self, name: str) -> str:
        """The extension in the name of a channel or queue member ([pbx] agent_channel); what is no such name stays."""
        found = self["pbx", "agent_channel"].fullmatch(name)
        return found.group(1) if found else name

    def all_problems(self) -> list[str]:
        return list(dict.fromkeys(text for texts in self.problems.values() for text in texts))


def config_path() -> str:
    """Where the configuration is: $MOVIDESK_CONFIG, else /etc/asterisk/movidesk.conf."""
    return os.environ.get(PATH_VARIABLE) or DEFAULT_PATH


def load(path: str | None = None) -> Config:
    """Read movidesk.conf. Never raises for its content: see `Config.problems` and `Config.require`."""
    config = Config(path or config_path())
    try:
        with open(config.path, encoding="utf-8-sig") as file:
            text = file.read(MAX_FILE + 1)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "is not UTF-8 text (%s)" % error.reason
        config.complain("", "%s: %s; copy the commented sample etc/movidesk.conf there" % (config.path, reason))
        return config
    if len(text) > MAX_FILE or any(len(line) > MAX_LINE for line in text.splitlines()):
        for section in "", "journal":  # nobody knows where the journal is
            config.complain(section, "%s: has more than %d characters, or %d in a line: it is no movidesk.conf" % (
                config.path, MAX_FILE, MAX_LINE))
        return config
    parser = configparser.ConfigParser(
        interpolation=None, default_section="", delimiters=("=",), inline_comment_prefixes=(";", "#"),
        comment_prefixes=(";", "#"), empty_lines_in_values=False)
    try:
        parser.read_string(text, config.path)
    except configparser.Error as error:
        config.complain("", _form_problem(config.path, text, error))
        if type(error) is not configparser.ParsingError:
            # The reading stopped there: nobody knows where the journal is.
            config.complain("journal", _form_problem(config.path, text, error))
            return config
    lines = _line_numbers(text)
    for section in parser.sections():
        _read_section(config, lines, section, parser[section])
    _read_secret_file(config, "movidesk", "token", _guid)
    if not config["movidesk", "token"] and not config.problems.get("movidesk"):
        config.complain("movidesk", "%s: [movidesk] token is missing" % config.path)
    _read_secret_file(config, "recordings", "secret", _secret)
    for key in "secret", "link":
        if config["recordings", "publish"] and not config["recordings", key] and not config.problems.get("recordings"):
            config.complain("recordings", "%s: [recordings] publish needs %s" % (config.path, key))
    _check_made_calls(config)
    return config


def _check_made_calls(config: Config) -> None:
    """Made calls are off, or complete and closed to strangers."""
    section = "made_calls"
    if not config[section, "listen"] or config.problems.get(section):
        return
    auth = config[section, "auth"]
    needed = {"none": (), "login": ("user", "password"), "token": ("token",)}[auth]
    for key in (*needed, "ami_user", "ami_secret"):
        if not config[section, key]:
            config.complain(section, "%s: [made_calls] listen with auth = %s needs %s" % (config.path, auth, key))
    if auth == "none" and not is_loopback(config[section, "listen"]):
        config.complain(section, "%s: [made_calls] auth = none is for loopback only, not for %s" % (
            config.path, config[section, "listen"][0]))


def _form_problem(path: str, text: str, error: configparser.Error) -> str:
    if isinstance(error, configparser.MissingSectionHeaderError):
        return "%s:%d: a setting before any [section]" % (path, error.lineno)
    if isinstance(error, configparser.DuplicateOptionError):
        return "%s:%d: [%s] %s is set twice" % (path, error.lineno, error.section, error.option)
    if isinstance(error, configparser.DuplicateSectionError):
        return "%s:%d: section [%s] stands twice" % (path, error.lineno, error.section)
    lineno = error.errors[0][0] if getattr(error, "errors", None) else 1
    return "%s:%d: not of the form 'key = value'" % (path, lineno)


def _read_section(config: Config, lines: dict, section: str, values) -> None:
    if section not in OPTIONS:
        config.complain("", "%s:%d: unknown section [%s]; known: %s" % (
            config.path, lines.get((section, ""), 1), section, ", ".join(OPTIONS)))
        return
    for key, value in values.items():
        where = "%s:%d: [%s] %s" % (config.path, lines.get((section, key), 1), section, key)
        if key not in OPTIONS[section]:
            config.complain(section, "%s: unknown key; known: %s" % (where, ", ".join(OPTIONS[section])))
            continue
        if not value:
            continue
        try:
            config._values[section, key] = OPTIONS[section][key][0](value)
        except ValueError as error:
            shown = "%d characters" % len(value) if key in _SECRET_KEYS else repr(value)
            config.complain(section, "%s: %s %s" % (where, shown, error))


def _read_secret_file(config: Config, section: str, key: str, parse) -> None:
    """Take a secret from the file that `<key>_file` names, where it does."""
    path = config[section, key + "_file"]
    if not path:
        return
    try:
        if os.path.exists(path) and not os.path.isfile(path):
            raise ValueError("is no plain file")  # to read a FIFO waits for a writer
        with open(path, encoding="ascii") as file:
            config._values[section, key] = parse(file.read(MAX_SECRET_FILE).strip())
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        if isinstance(error, UnicodeDecodeError):
            reason = "is not ASCII text"
        config.complain(section, "%s: [%s] %s_file: %s: %s" % (config.path, section, key, path, reason))


def _line_numbers(text: str) -> dict[tuple[str, str], int]:
    """(section, key) -> 1-based line; the key is '' for the section's header."""
    found, section = {}, ""
    for number, line in enumerate(text.splitlines(), 1):
        header = re.match(r"\s*\[(.+?)\]", line)
        section = header.group(1) if header else section
        key = "" if header else line.partition("=")[0].strip().lower()
        if header or key:
            found.setdefault((section, key), number)
    return found
