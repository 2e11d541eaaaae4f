"""Reads movidesk.conf. Each problem is kept with its file, line and reason.

A bad value never keeps an event from being recorded: `Config` uses the default instead and keeps the problem. Only code that
needs the value raises an error (`require`).
"""

from __future__ import annotations

import configparser
import os
import re

from movidesk.config.options import GUID, OPTIONS, SECRET_KEYS, Secret, is_loopback

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from movidesk.config.values import Values
else:
    Values = object

MAX_FILE, MAX_LINE = 65536, 1000  # characters; the time that configparser takes grows with the square of a line's length
MAX_SECRET_FILE = 4096            # characters

DEFAULT_PATH = "/etc/asterisk/movidesk.conf"
PATH_VARIABLE = "MOVIDESK_CONFIG"


class ConfigError(Exception):
    """The configuration cannot be used; the text names file, line, key and reason, and never a token."""


class Config(Values):
    """The settings, as `config["pbx", "name"]`, and the problems found in the file.

    Every option has a value. An invalid one has its default, and `problems` names it.
    """

    def __init__(self, path: str):
        self.path = path
        self.problems: dict[str, list[str]] = {}
        self.modified = 0.0  # when the file was last changed, epoch seconds; 0.0 if it cannot be read
        self._values: dict[tuple[str, str], object] = {}

    if not TYPE_CHECKING:  # Values has the types
        def __getitem__(self, name):
            # Defaults are parsed on first use: a script needs few of them, and parsing all would take milliseconds.
            if name not in self._values:
                parse, default = OPTIONS[name[0]][name[1]]
                self._values[name] = parse(default) if default else Secret("") if name[1] in SECRET_KEYS else ""
            return self._values[name]

    def complain(self, section: str, text: str) -> None:
        """Keep a problem. A token in the text (it may stand in the wrong place of the file) is masked."""
        self.problems.setdefault(section, []).append(re.sub(GUID, "***", text))

    def require(self, *sections: str, form: bool = True) -> Config:
        """Return this configuration if these sections (default: all) and the file's syntax are valid; raise ConfigError if not.

        form: False accepts a file that is missing or has syntax errors elsewhere.
        """
        for section in (*([""] if form else []), *(sections or OPTIONS)):
            for text in self.problems.get(section, ()):
                raise ConfigError(text)
        return self

    def agent(self, name: str) -> str:
        """The extension in the name of a channel or queue member ([pbx] agent_channel); `name` itself if it does not match."""
        found = self["pbx", "agent_channel"].fullmatch(name)
        return found.group(1) if found else name

    @property
    def own_name(self) -> str:
        """The name of this configuration's files in shared folders; it depends only on the user and the path."""
        return f"movidesk-{os.geteuid()}-{os.path.abspath(self.path).replace(os.sep, '-').strip('-')[-150:]}"

    @property
    def manager(self) -> tuple[tuple[str, int], str, Secret]:
        """Address, user and secret of Asterisk's manager, as the functions of ami.py take them."""
        return self["made_calls", "ami"], self["made_calls", "ami_user"], self["made_calls", "ami_secret"]

    def all_problems(self) -> list[str]:
        return list(dict.fromkeys(text for texts in self.problems.values() for text in texts))


def config_path() -> str:
    """The path of the configuration: $MOVIDESK_CONFIG, or /etc/asterisk/movidesk.conf."""
    return os.environ.get(PATH_VARIABLE) or DEFAULT_PATH


def load(path: str | None = None) -> Config:
    """Read movidesk.conf. Its content raises no error: see `Config.problems` and `Config.require`."""
    config = Config(path or config_path())
    try:
        with open(config.path, encoding="utf-8-sig") as file:
            config.modified = os.fstat(file.fileno()).st_mtime
            text = file.read(MAX_FILE + 1)
    except (OSError, UnicodeDecodeError) as error:
        config.complain("", f"{config.path}: {_unreadable(error)}")
        return config
    if len(text) > MAX_FILE or any(len(line) > MAX_LINE for line in text.splitlines()):
        for section in "", "journal":  # the journal's path is unknown, too
            config.complain(section, f"{config.path}: has more than {MAX_FILE} characters, or {MAX_LINE} in a line: it is not a "
                                     "movidesk.conf")
        return config
    parser = configparser.ConfigParser(
        interpolation=None, default_section="", delimiters=("=",), inline_comment_prefixes=(";", "#"),
        comment_prefixes=(";", "#"), empty_lines_in_values=False)
    try:
        parser.read_string(text, config.path)
    except configparser.Error as error:
        config.complain("", _form_problem(config.path, text, error))
        if type(error) is not configparser.ParsingError:
            # Parsing stopped at this line, so the journal's path is unknown.
            config.complain("journal", _form_problem(config.path, text, error))
            return config
    lines = _line_numbers(text)
    for section in parser.sections():
        _read_section(config, lines, section, parser[section])
    _read_secret_file(config, "movidesk", "token")
    if not config["movidesk", "token"] and not config.problems.get("movidesk"):
        config.complain("movidesk", f"{config.path}: [movidesk] token is missing")
    _read_secret_file(config, "recordings", "secret")
    for key in "secret", "link":
        if config["recordings", "publish"] and not config["recordings", key] and not config.problems.get("recordings"):
            config.complain("recordings", f"{config.path}: [recordings] publish needs {key}")
    _check_night(config, lines)
    _check_numbers(config, lines)
    _check_made_calls(config)
    _check_metrics(config)
    _read_secret_file(config, "panel", "password")
    _check_panel(config)
    _check_addresses(config)
    if config["fleet", "redis"] and config["fleet", "pbxs"] < 1 and not config.problems.get("fleet"):
        config.complain("fleet", f"{config.path}:{lines.get(('fleet', 'redis'), 1)}: [fleet] redis needs pbxs: how many PBXs use "
                                 "this account")
    return config


def _unreadable(error: OSError | UnicodeDecodeError) -> str:
    """Why the file cannot be read, and what to do. The sample is named only where it would overwrite nothing."""
    if isinstance(error, UnicodeDecodeError):
        return f"is not UTF-8 text ({error.reason}): save it as UTF-8"
    advice = {FileNotFoundError: "; copy the commented sample etc/movidesk.conf there",
              IsADirectoryError: "; a file must be there: see the commented sample etc/movidesk.conf",
              PermissionError: "; run this command as root or as Asterisk's user, who must be able to read the file "
                               "(chown root:asterisk, chmod 0640)"}
    return f"{error.strerror}{advice.get(type(error), '')}"


def _check_night(config: Config, lines: dict[tuple[str, str], int]) -> None:
    """Check the time zone, but only if a night is set."""
    section, zone = "movidesk", config["movidesk", "time_zone"]
    if not config["movidesk", "night"]:
        return
    from movidesk.config.nights import in_zone

    try:
        in_zone(zone)
    except ValueError as error:
        line = lines.get((section, "time_zone"), lines.get((section, "night"), 1))
        config.complain(section, f"{config.path}:{line}: [movidesk] time_zone: {zone!r} {error}")
        del config._values[section, "night"]  # the default: none


def _check_numbers(config: Config, lines: dict[tuple[str, str], int]) -> None:
    """A form other than as_is needs to know whose national numbers are meant."""
    section, form = "numbers", config["numbers", "form"]
    if form == "as_is" or config["numbers", "country"]:
        return
    if not config.problems.get(section):  # else the country may be there, and refused
        line = lines.get((section, "form"), 1)
        config.complain(section, f"{config.path}:{line}: [numbers] form = {form} needs country, such as BR")
    del config._values[section, "form"]  # the default: numbers are sent as they come


def _check_made_calls(config: Config) -> None:
    """Made calls must be off, or completely configured and protected by a login or token."""
    section, listen, auth = "made_calls", config["made_calls", "listen"], config["made_calls", "auth"]
    if not listen or config.problems.get(section):
        return
    needed = {"login": ("user", "password"), "token": ("token",)}.get(auth, ())
    for key in (*needed, "ami_user", "ami_secret"):
        if not config[section, key]:
            config.complain(section, f"{config.path}: [made_calls] listen with auth = {auth} needs {key}")
    if auth == "none" and not is_loopback(listen):
        config.complain(section, f"{config.path}: [made_calls] auth = none is for loopback only, not for {listen[0]}")


def _check_panel(config: Config) -> None:
    """Everybody who can connect sees callers: beyond this machine the panel needs a login."""
    section, listen = "panel", config["panel", "listen"]
    if not listen or config.problems.get(section) or is_loopback(listen):
        return
    if not config[section, "password"] and not config[section, "proxy_user_header"]:
        config.complain(section, f"{config.path}: [panel] listen = {listen[0]}:{listen[1]} is not on loopback: it needs "
                                 "password, password_file or proxy_user_header")


def _check_metrics(config: Config) -> None:
    """Beyond loopback metrics need a token: they tell how many calls there are, and what is broken."""
    listen = config["metrics", "listen"]
    if listen and not is_loopback(listen) and not config["metrics", "token"] and not config.problems.get("metrics"):
        config.complain("metrics", f"{config.path}: [metrics] listen = {listen[0]}:{listen[1]} needs token (openssl rand -hex 24 "
                                   "generates one); only on loopback Prometheus may ask without it")


def _check_addresses(config: Config) -> None:
    """Each web server has an address of its own."""
    known: dict[tuple[str, int], str] = {}
    for section, key in (("recordings", "publish"), ("made_calls", "listen"), ("metrics", "listen"), ("panel", "listen")):
        address = config[section, key]
        if isinstance(address, tuple) and address[1]:
            other = known.setdefault(address, f"[{section}] {key}")
            if other != f"[{section}] {key}":
                config.complain(section, f"{config.path}: [{section}] {key} and {other} are the same address: each needs its own")


def _form_problem(path: str, text: str, error: configparser.Error) -> str:
    if isinstance(error, configparser.MissingSectionHeaderError):
        return f"{path}:{error.lineno}: a setting before any [section]"
    if isinstance(error, configparser.DuplicateOptionError):
        return f"{path}:{error.lineno}: [{error.section}] {error.option} is set twice"
    if isinstance(error, configparser.DuplicateSectionError):
        return f"{path}:{error.lineno}: section [{error.section}] appears twice"
    lineno = error.errors[0][0] if isinstance(error, configparser.ParsingError) and error.errors else 1
    return f"{path}:{lineno}: not of the form 'key = value'"


def _read_section(config: Config, lines: dict[tuple[str, str], int], section: str, values: Mapping[str, str]) -> None:
    if section not in OPTIONS:
        config.complain("", f"{config.path}:{lines.get((section, ''), 1)}: unknown section [{section}]; known: "
                            f"{', '.join(OPTIONS)}")
        return
    for key, value in values.items():
        where = f"{config.path}:{lines.get((section, key), 1)}: [{section}] {key}"
        if key not in OPTIONS[section]:
            config.complain(section, f"{where}: unknown key; known: {', '.join(OPTIONS[section])}")
            continue
        if not value:
            continue
        try:
            config._values[section, key] = OPTIONS[section][key][0](value)
        except ValueError as error:
            shown = f"{len(value)} characters" if key in SECRET_KEYS else repr(value)
            config.complain(section, f"{where}: {shown} {error}")


def _read_secret_file(config: Config, section: str, key: str) -> None:
    """Read a secret from the file that `<key>_file` names, if it is set."""
    path = str(config[section, key + "_file"])
    if not path:
        return
    try:
        if os.path.exists(path) and not os.path.isfile(path):
            raise ValueError("is not a regular file")  # reading a FIFO would wait for a writer
        with open(path, encoding="ascii") as file:
            config._values[section, key] = OPTIONS[section][key][0](file.read(MAX_SECRET_FILE).strip())
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        if isinstance(error, UnicodeDecodeError):
            reason = "is not ASCII text"
        config.complain(section, f"{config.path}: [{section}] {key}_file: {path}: {reason}")


def _line_numbers(text: str) -> dict[tuple[str, str], int]:
    """(section, key) -> 1-based line; the key is '' for the section's header."""
    found: dict[tuple[str, str], int] = {}
    section = ""
    for number, line in enumerate(text.splitlines(), 1):
        header = re.match(r"\s*\[(.+?)\]", line)
        section = header.group(1) if header else section
        key = "" if header else line.partition("=")[0].strip().lower()
        if header or key:
            found.setdefault((section, key), number)
    return found
