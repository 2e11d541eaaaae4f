"""movidesk.conf: one table of options, read with line numbers, refused with file, line and reason.

A bad value never stops an event from being recorded: `Config` keeps every problem it found and the default in the
value's place, and only what needs the bad value refuses to go on (`require`).
"""

from __future__ import annotations

import configparser
import os
import re

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


def _guid(text: str) -> Secret:
    if not re.fullmatch(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", text):
        raise ValueError("is no GUID (Movidesk: Settings, Account, Parameters, Environment: 36 characters, 8-4-4-4-12)")
    return Secret(text)


def _url(text: str) -> str:
    # A pattern, not urllib.parse: every script reads this file, and that module costs as much as the journal.
    address = re.fullmatch(r"(https?)://([A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?(/[^\s?#]*)?", text)
    if not address:
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


def _regex(text: str) -> re.Pattern:
    try:
        return re.compile(text)
    except re.error as error:
        raise ValueError("is no regular expression: %s" % error) from None


def _group_regex(text: str) -> re.Pattern:
    pattern = _regex(text)
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
    return text


def _name(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,64}", text):
        raise ValueError("must be 1 to 64 letters, digits, '.', '_' or '-'")
    return text


def _link(text: str) -> str:
    from string import Formatter

    try:
        fields = {field for _, field, _, _ in Formatter().parse(text) if field is not None}
    except ValueError as error:
        raise ValueError("is no template: %s" % error) from None
    unknown = fields - {"file", "date", "id", "queue", "extension"}
    if unknown:
        raise ValueError("knows no {%s}; it may use {file} {date} {id} {queue} {extension}" % "}, {".join(sorted(unknown)))
    if not text.startswith(("http://", "https://")):
        raise ValueError("must begin with http:// or https://")
    return text


def _listen(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdigit() or not 0 <= int(port) <= 65535:
        raise ValueError("must be ADDRESS:PORT, such as 127.0.0.1:4573")
    return host.strip("[]") or "127.0.0.1", int(port)


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
        "timeout": (_number(float, 0.1, 60), "5"),
    },
    "pbx": {
        "name": (_name, _hostname()),
        "extension_pattern": (_regex, "[0-9]{2,10}"),
        "report_transfer": (_choice("answer", "ring"), "answer"),
        "agent_channel": (_group_regex, "(?:PJSIP|SIP|IAX2|DAHDI|Local|SCCP)/([0-9]{2,10})(?![0-9]).*"),
        "asterisk": (str, "asterisk -rx"),
    },
    "line": {
        "ask_every": (_number(float, 1, 3600), "6"),
        "ask_at_least_every": (_number(float, 1, 3600), "30"),
    },
    "journal": {
        "path": (_path, "/var/lib/movidesk/journal.db"),
        "keep_days": (_number(int, 1, 36500), "90"),
    },
    "recordings": {
        "link": (_link, ""),
    },
    "agid": {
        "listen": (_listen, "127.0.0.1:4573"),
    },
}

_SECRET_KEYS = {"token"}


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
        self.problems.setdefault(section, []).append(text)

    def require(self, *sections: str, form: bool = True) -> Config:
        """This configuration, when these sections (default: all) and the file's form are sound; else ConfigError.

        form: False lets a file pass that is missing, or of which the rest could be read.
        """
        for section in (*([""] if form else []), *(sections or OPTIONS)):
            for text in self.problems.get(section, ()):
                raise ConfigError(text)
        return self

    def all_problems(self) -> list[str]:
        return list(dict.fromkeys(text for texts in self.problems.values() for text in texts))


def config_path() -> str:
    """Where the configuration is: $MOVIDESK_CONFIG, else /etc/asterisk/movidesk.conf."""
    return os.environ.get(PATH_VARIABLE) or DEFAULT_PATH


def load(path: str | None = None) -> Config:
    """Read movidesk.conf. Never raises for its content: see `Config.problems` and `Config.require`."""
    config = Config(path or config_path())
    try:
        with open(config.path, encoding="utf-8") as file:
            text = file.read()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "is not UTF-8 text (%s)" % error.reason
        config.complain("", "%s: %s; copy the commented sample etc/movidesk.conf there" % (config.path, reason))
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
    for section in parser.sections():
        _read_section(config, text, section, parser[section])
    _read_token(config)
    return config


def _form_problem(path: str, text: str, error: configparser.Error) -> str:
    if isinstance(error, configparser.MissingSectionHeaderError):
        return "%s:%d: a setting before any [section]" % (path, error.lineno)
    if isinstance(error, configparser.DuplicateOptionError):
        return "%s:%d: [%s] %s is set twice" % (path, error.lineno, error.section, error.option)
    if isinstance(error, configparser.DuplicateSectionError):
        return "%s:%d: section [%s] stands twice" % (path, error.lineno, error.section)
    lineno = error.errors[0][0] if getattr(error, "errors", None) else 1
    return "%s:%d: not of the form 'key = value'" % (path, lineno)


def _read_section(config: Config, text: str, section: str, values) -> None:
    if section not in OPTIONS:
        config.complain("", "%s:%d: unknown section [%s]; known: %s" % (
            config.path, _line_of(text, section), section, ", ".join(OPTIONS)))
        return
    for key, value in values.items():
        where = "%s:%d: [%s] %s" % (config.path, _line_of(text, section, key), section, key)
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


def _read_token(config: Config) -> None:
    """Take the token from token_file where one is given."""
    path = config["movidesk", "token_file"]
    if path:
        try:
            with open(path, encoding="ascii") as file:
                config._values["movidesk", "token"] = _guid(file.read().strip())
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            if isinstance(error, UnicodeDecodeError):
                reason = "is not ASCII text"
            config.complain("movidesk", "%s: [movidesk] token_file: %s: %s" % (config.path, path, reason))
    if not config["movidesk", "token"] and not config.problems.get("movidesk"):
        config.complain("movidesk", "%s: [movidesk] token is missing" % config.path)


def _line_of(text: str, section: str, key: str | None = None) -> int:
    """The 1-based line of a section's header, or of a key in it."""
    inside = False
    for number, line in enumerate(text.splitlines(), 1):
        header = re.match(r"\s*\[(.+?)\]", line)
        if header:
            inside = header.group(1) == section
            if inside and key is None:
                return number
        elif inside and key and re.match(r"\s*%s\s*=" % re.escape(key), line, re.IGNORECASE):
            return number
    return 1
