"""The options of movidesk.conf: a parser and a default for each.

A parser raises ValueError for an invalid text. The message continues the text `KEY: TEXT`.
"""

from __future__ import annotations

import os
import re

from movidesk.config.pattern import Pattern
from movidesk.rules.rate_limit import UNLIMITED
from movidesk.rules.waiting_line import PACE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    Value = TypeVar("Value")
    Number = TypeVar("Number", int, float)


class Secret:
    """A value that is not printed: only `reveal()` returns it."""

    __slots__ = ("_value",)

    def __init__(self, value: str):
        self._value = value

    def reveal(self) -> str:
        return self._value

    def __bool__(self) -> bool:
        return bool(self._value)

    def __repr__(self) -> str:
        return "Secret(***)" if self._value else "Secret(empty)"


GUID = r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"


def _matching(pattern: str, what: str, make: Callable[[str], Value]) -> Callable[[str], Value]:
    def parse(text: str) -> Value:
        if not re.fullmatch(pattern, text):
            raise ValueError(what)
        return make(text)

    return parse


_guid = _matching(GUID, "is not a GUID (Movidesk: Settings, Account, Parameters, Environment: 36 characters, 8-4-4-4-12)", Secret)
# Neither movidesk.conf nor nginx's configuration needs quotes for these characters.
_secret = _matching(r"[0-9A-Za-z_+/=.-]{16,128}",
                    "must be 16 to 128 letters, digits, or _ + / = . - (openssl rand -hex 24 generates one)", Secret)
_name = _matching(r"[A-Za-z0-9._-]{1,64}", "must be 1 to 64 letters, digits, '.', '_' or '-'", str)
_channel_part = _matching(r"[A-Za-z0-9_./@-]{1,80}",
                          "must be part of a channel's name, such as PJSIP/ or @from-internal/n", str)
_caller_number = _matching(r"\+?[0-9]{1,20}", "must be a number: digits, with or without a leading +", str)

_zone = _matching(r"[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+){0,2}", "must be the name of a time zone, such as America/Sao_Paulo", str)

SHORTEST_NIGHT = 10  # minutes; the shortest night, and the shortest day: see movidesk.config.nights
_HOST = r"[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63})*"


def _url(text: str) -> str:
    # A pattern, not urllib.parse: every script reads this file, and importing that module takes as long as opening the journal.
    address = re.fullmatch(rf"(https?)://({_HOST}|\[[0-9A-Fa-f:.]+\])(:[0-9]{{1,5}})?(/[^\s?#]*)?", text)
    if not address or int((address.group(3) or ":0")[1:]) > 65535:
        raise ValueError("must be a plain http or https address, without user, query or fragment")
    if address.group(1) == "http" and address.group(2) not in ("localhost", "127.0.0.1", "[::1]"):
        raise ValueError("must be https, because the request contains the token (plain http is for a simulator on this machine)")
    return text.rstrip("/")


def _redis(text: str) -> Secret:
    """The address of a Redis; it may contain a password."""
    tcp = re.fullmatch(rf"rediss?://([^\s/?#@]*@)?({_HOST}|\[[0-9A-Fa-f:.]+\])(:[0-9]{{1,5}})?(/[0-9]{{1,5}})?", text)
    socket = re.fullmatch(r"unix://([^\s/?#@]*@)?/[^\s?#]+(\?db=[0-9]{1,5})?", text)
    if not (tcp or socket) or tcp and int((tcp.group(3) or ":0")[1:]) > 65535:
        raise ValueError("must be rediss://USER:PASSWORD@HOST:PORT (redis:// without TLS), or unix:///PATH")
    return Secret(text)


def _number(kind: Callable[[str], Number], low: float, high: float) -> Callable[[str], Number]:
    def parse(text: str) -> Number:
        try:
            value = kind(text)
        except ValueError:
            raise ValueError(f"is not a {'whole number' if kind is int else 'number'}") from None
        if not low <= value <= high:
            raise ValueError(f"must be between {low} and {high}")
        return value

    return parse


def _night(text: str) -> tuple[int, int]:
    """HH:MM-HH:MM as minutes of the day; the night may pass midnight."""
    found = re.fullmatch(r"([01][0-9]|2[0-3]):([0-5][0-9])\s*-\s*([01][0-9]|2[0-3]):([0-5][0-9])", text)
    if not found:
        raise ValueError("must be two times, such as 19:00-07:00")
    begins, ends = (60 * int(found.group(n)) + int(found.group(n + 1)) for n in (1, 3))
    if not SHORTEST_NIGHT <= (ends - begins) % 1440 <= 1440 - SHORTEST_NIGHT:
        raise ValueError(f"must leave at least {SHORTEST_NIGHT} minutes of night and of day")
    return begins, ends


def _night_limit(text: str) -> int:
    return UNLIMITED if text == "none" else _number(int, 1, UNLIMITED)(text)


def _group_pattern(text: str) -> Pattern:
    pattern = Pattern(text)
    if pattern.groups != 1:
        raise ValueError("must have one (group): the extension")
    return pattern


def _choice(*words: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in words:
            raise ValueError(f"must be one of: {', '.join(words)}")
        return text

    return parse


def _path(text: str) -> str:
    if not os.path.isabs(text):
        raise ValueError("must be an absolute path")
    if not text.isprintable():
        raise ValueError("contains characters that cannot be printed")
    return text


def _textfile(text: str) -> str:
    if not text.endswith(".prom"):
        raise ValueError("must end with .prom: node_exporter reads no other file")
    return _path(text)


def _link(text: str) -> str:
    from string import Formatter

    try:
        parts = [part for part in Formatter().parse(text) if part[1] is not None]
    except ValueError as error:
        raise ValueError(f"is not a template: {error}") from None
    if any(form or conversion for _, _, form, conversion in parts):
        raise ValueError("is not a template: only names are allowed in { }")
    fields = {field or "" for _, field, _, _ in parts}
    unknown = fields - {"file", "date", "id", "queue", "extension"}
    if unknown:
        raise ValueError(f"has no field {{{'}, {'.join(sorted(unknown))}}}; it may use {{file}} {{date}} {{id}} {{queue}} "
                         "{extension}")
    if not text.startswith(("http://", "https://")):
        raise ValueError("must begin with http:// or https://")
    if not text.isprintable() or " " in text:
        raise ValueError("must be one address, without blanks or line breaks")
    return text


def _listen(text: str) -> tuple[str, int]:
    address = re.fullmatch(rf"((?:{_HOST})?|\[[0-9A-Fa-f:.]+\]):([0-9]{{1,5}})", text)
    if not address or int(address.group(2)) > 65535:
        raise ValueError("must be ADDRESS:PORT, such as 127.0.0.1:4573")
    return address.group(1).strip("[]") or "127.0.0.1", int(address.group(2))


def _manager(text: str) -> tuple[str, int]:
    address = _listen(text)
    if not is_loopback(address):
        raise ValueError("must be on loopback (127.0.0.1:5038), because AMI sends its secret in clear text")
    return address


def is_loopback(address: tuple[str, int]) -> bool:
    """Whether only this machine can connect to a listening address."""
    return address[0] == "localhost" or re.fullmatch(r"127(\.[0-9]{1,3}){3}", address[0]) is not None


def _list(pattern: str, what: str) -> Callable[[str], tuple[str, ...]]:
    """Texts, separated by commas, of which each matches the pattern."""
    def parse(text: str) -> tuple[str, ...]:
        found = tuple(part.strip() for part in text.split(","))
        if not all(re.fullmatch(pattern, part) for part in found):
            raise ValueError(what)
        return found

    return parse


def _names(text: str) -> dict[str, str]:
    """What people call numbers: `77 Support, 78 Sales`, or each in a line of its own."""
    found = {}
    for part in re.split("[,\n]+", text.strip(",\n ")):
        number, _, name = " ".join(part.split()).partition(" ")
        if not re.fullmatch(r"(?=.*[0-9])[0-9A-Za-z_-]{1,64}", number) or not name or len(name) > 64 or not name.isprintable():
            raise ValueError("must be numbers with their names, separated by commas, such as 77 Support, 78 Sales")
        if number in found:
            raise ValueError(f"has {number} twice")
        found[number] = name
    return found


def _hostname() -> str:
    name = re.sub(r"[^A-Za-z0-9._-]", "", os.uname().nodename.split(".")[0])
    return name[:64] or "pbx"


_header = _matching("[A-Za-z][A-Za-z0-9-]{0,63}", "must be the name of an HTTP header, such as X-Remote-User", str)
_addresses = _list(r"[0-9]{1,3}(\.[0-9]{1,3}){3}", "must be IPv4 addresses, separated by commas, such as 127.0.0.1")
# People type it: shorter than what programs use, with any sign of a keyboard.
_password = _matching("[!-~]{10,128}", "must be 10 to 128 letters, digits or signs, without blanks and accents", Secret)
_prefixes = _list(r"\+|\+?[0-9]{1,20}", "must be prefixes of numbers, separated by commas, such as 0, 47, +55")
_number_prefixes = _list(r"\+|\+?[0-9XZN]{1,20}", "must be prefixes of numbers, separated by commas, such as 0, 00, 0ZX "
                                                  "(X: 0 to 9, Z: 1 to 9, N: 2 to 9)")
_numbers = _list(r"\+?[0-9]{1,128}", "must be numbers, separated by commas, such as 9999999999, 550000000000")

#: section -> key -> (parse, default as text). An empty default means: no value, '' or an empty Secret.
OPTIONS: dict[str, dict[str, tuple[Callable[[str], object], str]]] = {
    "movidesk": {
        "url": (_url, "https://api.movidesk.com/public/v1"),
        "token": (_guid, ""),
        "token_file": (_path, ""),
        "requests_per_minute": (_number(int, 1, UNLIMITED), "10"),
        "night": (_night, ""),
        "night_requests_per_minute": (_night_limit, "none"),
        "time_zone": (_zone, "America/Sao_Paulo"),
        "timeout": (_number(float, 0.1, 15), "5"),  # a request takes at most three of these: less than journal.LEASE
    },
    "pbx": {
        "name": (_name, _hostname()),
        "extension_pattern": (Pattern, "[0-9]{2,10}"),
        "report_transfer": (_choice("answer", "ring"), "answer"),
        "agent_channel": (_group_pattern, "(?:PJSIP|SIP|IAX2|DAHDI|Local|SCCP)/([0-9]{2,10})(?![0-9]).*"),
        "asterisk": (str, "asterisk -rx"),
        "mask_numbers": (_choice("no", "yes"), "no"),
        "queue_names": (_names, ""),
        "agent_names": (_names, ""),
    },
    "line": {
        "ask_every": (_number(float, 1, 3600), str(PACE[0])),
        "ask_at_least_every": (_number(float, 1, 3600), str(PACE[1])),
    },
    "journal": {
        "path": (_path, "/var/lib/movidesk/journal.db"),
        "standby": (_path, "/dev/shm"),
        "keep_days": (_number(int, 1, 36500), "90"),
    },
    "fleet": {
        "redis": (_redis, ""),
        "pbxs": (_number(int, 0, 1000), "0"),
        "share": (_choice("limit", "none"), "limit"),
        "ca_file": (_path, ""),
    },
    "reports": {
        "answer_within": (_number(int, 1, 3600), "20"),
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
    "numbers": {
        "form": (_choice("as_is", "e164", "national"), "as_is"),
        "country": (_matching("[A-Za-z]{2}", "must be a country's two letters (ISO 3166), such as BR", str.upper), ""),
        "area_code": (_matching("[0-9]{1,6}", "must be the digits of an area code without 0, such as 47", str), ""),
        "prefixes": (_number_prefixes, ""),
        "internal": (Pattern, "[0-9]{2,6}"),
        "anonymous": (_numbers, ""),
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
    "metrics": {
        "listen": (_listen, ""),
        "token": (_secret, ""),
        "textfile": (_textfile, ""),
    },
    "panel": {
        "listen": (_listen, ""),
        "password": (_password, ""),
        "password_file": (_path, ""),
        "proxy_user_header": (_header, ""),
        "proxies": (_addresses, "127.0.0.1"),
    },
}

SECRET_KEYS = {"token", "secret", "password", "ami_secret", "redis"}
