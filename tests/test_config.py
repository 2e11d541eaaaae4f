"""movidesk.conf: every key, and what is said about what is wrong with it."""

from __future__ import annotations

import ast
import os
import re
import socket
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from movidesk import config
from movidesk.config import ConfigError, nights, values
from movidesk.config.options import OPTIONS, SECRET_KEYS, Secret
from movidesk.config.pattern import Pattern

TOKEN = "155cac97-f203-4bb8-86e1-aa4cb8781f3e"
SAMPLE = Path(__file__).parents[1] / "etc" / "movidesk.conf"


@pytest.fixture
def load(tmp_path):
    """load(text): the configuration that the text is; its path is load.path."""
    def read(text):
        data = text if isinstance(text, bytes) else text.encode()
        (tmp_path / "movidesk.conf").write_bytes(data)
        return config.load(load_path)

    load_path = read.path = str(tmp_path / "movidesk.conf")
    return read


def with_token(text=""):
    return f"[movidesk]\ntoken = {TOKEN}\n{text}"


def problem(found):
    text, = found.all_problems()
    assert TOKEN not in text
    return text


# -- the sample --------------------------------------------------------------------------------------------------------

def test_the_sample_lacks_only_the_token():
    assert config.load(str(SAMPLE)).all_problems() == [f"{SAMPLE}: [movidesk] token is missing"]


def test_the_sample_names_every_key_in_its_section_with_its_default(load):
    without_default = {key for section in OPTIONS.values() for key, (_, default) in section.items() if not default}
    lines = re.sub(r"^;(\w+ =)", r"\1", SAMPLE.read_text(), flags=re.MULTILINE).splitlines(True)
    found = load("".join(line for line in lines if line.split(" =")[0] not in without_default | {"name"}))
    defaults = load("")
    assert [problem(found)] == defaults.all_problems()
    values = {(section, key): found[section, key] for section, keys in OPTIONS.items() for key in keys
              if key not in without_default}
    assert values == {name: defaults[name] for name in values}
    keys = re.findall(r"^\[\w+\]|^;?\w+ =", SAMPLE.read_text(), flags=re.MULTILINE)
    known = [line for section, keys in OPTIONS.items() for line in (f"[{section}]", *keys)]
    assert sorted(key.strip("; =") for key in keys) == sorted(known)


# -- good values -------------------------------------------------------------------------------------------------------

GOOD = [
    ("movidesk", "url", "https://api.movidesk.com/public/v1/", "https://api.movidesk.com/public/v1"),
    ("movidesk", "url", "http://127.0.0.1:8080/public/v1", "http://127.0.0.1:8080/public/v1"),
    ("movidesk", "url", "http://localhost:8080", "http://localhost:8080"),
    ("movidesk", "url", "http://[::1]:8080/x", "http://[::1]:8080/x"),
    ("movidesk", "requests_per_minute", "30", 30),
    ("movidesk", "timeout", "2.5", 2.5),
    ("pbx", "name", "pbx-1.example_a", "pbx-1.example_a"),
    ("pbx", "extension_pattern", "5[0-9]{3}", Pattern("5[0-9]{3}")),
    ("pbx", "report_transfer", "ring", "ring"),
    ("line", "ask_every", "10", 10.0),
    ("numbers", "country", "br", "BR"),
    ("numbers", "prefixes", "0, 0ZX,+", ("0", "0ZX", "+")),
    ("line", "ask_at_least_every", "60.5", 60.5),
    ("journal", "path", "/tmp/journal.db", "/tmp/journal.db"),
    ("journal", "keep_days", "365", 365),
    ("recordings", "link", "https://pbx/{date}/{queue}/{extension}/{id}/{file}",
     "https://pbx/{date}/{queue}/{extension}/{id}/{file}"),
    ("recordings", "link", "https://pbx/{{x}}/{file}", "https://pbx/{{x}}/{file}"),
    ("fleet", "pbxs", "3", 3),
    ("fleet", "share", "none", "none"),
    ("agid", "listen", "127.0.0.1:4574", ("127.0.0.1", 4574)),
    ("agid", "listen", ":4574", ("127.0.0.1", 4574)),
    ("agid", "listen", "[::1]:4574", ("::1", 4574)),
    ("metrics", "listen", ":9473", ("127.0.0.1", 9473)),
    ("metrics", "textfile", "/var/lib/node/movidesk.prom", "/var/lib/node/movidesk.prom"),
]


@pytest.mark.parametrize("section, key, text, value", GOOD)
def test_good_values(load, section, key, text, value):
    found = load(with_token(f"[{section}]\n{key} = {text}\n" if section != "movidesk" else
                            f"{key} = {text}\n"))
    assert found.all_problems() == [] and found[section, key] == value
    assert found.require() is found


@pytest.mark.parametrize("section, key, value", [
    ("movidesk", "url", "https://api.movidesk.com/public/v1"), ("movidesk", "token_file", ""),
    ("movidesk", "requests_per_minute", 10), ("movidesk", "timeout", 5.0),
    ("pbx", "extension_pattern", Pattern("[0-9]{2,10}")), ("pbx", "report_transfer", "answer"),
    ("journal", "path", "/var/lib/movidesk/journal.db"), ("journal", "keep_days", 90),
    ("recordings", "link", ""), ("agid", "listen", ("127.0.0.1", 4573))])
def test_the_defaults_of_the_contract(load, section, key, value):
    assert load(with_token())[section, key] == value


#: A good text for each option without a default.
TEXTS = {
    ("pbx", "queue_names"): "77 Support", ("pbx", "agent_names"): "5252 Ana", ("panel", "listen"): "127.0.0.1:1",
    ("panel", "password"): "x" * 10, ("panel", "password_file"): "/x", ("panel", "proxy_user_header"): "X-Remote-User",
    ("movidesk", "token"): TOKEN, ("movidesk", "token_file"): "/token", ("movidesk", "night"): "19:00-07:00",
    ("recordings", "link"): "https://pbx/{file}", ("recordings", "publish"): "127.0.0.1:80", ("recordings", "secret"): "s" * 16,
    ("fleet", "redis"): "rediss://u:p@redis:6379/0", ("fleet", "ca_file"): "/ca.pem",
    ("recordings", "secret_file"): "/secret", ("recordings", "convert"): "mp3", ("numbers", "country"): "BR",
    ("numbers", "area_code"): "47", ("numbers", "prefixes"): "0, 00", ("numbers", "anonymous"): "9999999999",
    ("made_calls", "listen"): "127.0.0.1:80", ("made_calls", "user"): "user", ("made_calls", "password"): "p" * 16,
    ("made_calls", "token"): "t" * 16, ("made_calls", "allow"): "0, +55", ("made_calls", "dial_suffix"): "@from-internal/n",
    ("made_calls", "caller_id"): "4733990777", ("made_calls", "ami_user"): "user", ("made_calls", "ami_secret"): "s" * 16,
    ("metrics", "listen"): "127.0.0.1:80", ("metrics", "token"): "t" * 16, ("metrics", "textfile"): "/movidesk.prom"}


def types_of_values():
    """What config/values.py says: section and key -> type, as text."""
    tree = ast.parse(Path(values.__file__).read_text())
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef):
            said = ast.unparse(function.args.args[1].annotation)
            for section, keys in re.findall(r"tuple\[Literal\['(\w+)'\], Literal\[(.*?)\]\]", said):
                for key in re.findall(r"'(\w+)'", keys):
                    yield (section, key), ast.unparse(function.returns)


def test_each_value_has_the_type_that_mypy_is_told(load):
    kinds = {"str": str, "int": int, "float": float, "Secret": Secret, "Pattern": Pattern, "dict[str, str]": dict,
             "tuple[str, int]": (str, int), "tuple[int, int]": (int, int), "tuple[str, ...]": (str, ...)}
    told = list(types_of_values())
    assert sorted(name for name, _ in told) == sorted((section, key) for section, keys in OPTIONS.items() for key in keys)
    assert {name for name, _ in told if not OPTIONS[name[0]][name[1]][1]} == set(TEXTS)
    for (section, key), kind in told:
        parse, default = OPTIONS[section][key]
        found, (kind, _, empty) = parse(default or TEXTS[section, key]), kind.partition(" | ")
        if kind.startswith("tuple"):
            assert type(found) is tuple and {type(part) for part in found} == set(kinds[kind]) - {...}, (section, key)
        else:
            assert type(found) is kinds[kind], (section, key)
        if not default:
            assert isinstance(load("")[section, key], str if empty else kinds[kind]), (section, key)


def test_the_pbx_is_called_as_its_host(load):
    assert load("")["pbx", "name"] == re.sub("[^A-Za-z0-9._-]", "", socket.gethostname().split(".")[0])[:64]


def test_an_empty_value_is_the_default(load):
    found = load(with_token("timeout =\n[journal]\npath =   ; none\n"))
    assert found.all_problems() == []
    assert (found["movidesk", "timeout"], found["journal", "path"]) == (5.0, "/var/lib/movidesk/journal.db")


def test_comments_and_spelling(load):
    found = load(f"; a comment\n# another\n\n[movidesk] ; of a section\n  TOKEN={TOKEN} ; the key\n; token = x\n"
                 "timeout = 3 # seconds\n\n[recordings]\nlink = https://pbx/#a;b/{file} ; after a space\n")
    assert found.all_problems() == []
    assert (found["movidesk", "token"].reveal(), found["movidesk", "timeout"]) == (TOKEN, 3.0)
    assert found["recordings", "link"] == "https://pbx/#a;b/{file}"


def test_line_ends_and_the_byte_order_mark_of_windows(load):
    found = load(b"\xef\xbb\xbf" + with_token("timeout = 3\n").replace("\n", "\r\n").encode())
    assert found.all_problems() == [] and found["movidesk", "timeout"] == 3.0


def test_the_path_comes_from_the_environment(load, monkeypatch):
    load(with_token("timeout = 3\n"))
    monkeypatch.setenv("MOVIDESK_CONFIG", load.path)
    assert config.load().path == load.path and config.load()["movidesk", "timeout"] == 3.0
    monkeypatch.setenv("MOVIDESK_CONFIG", "")
    assert config.config_path() == "/etc/asterisk/movidesk.conf"


# -- bad values --------------------------------------------------------------------------------------------------------

BAD = [
    ("movidesk", "url", "ftp://api.movidesk.com", "must be a plain http or https address"),
    ("movidesk", "url", "api.movidesk.com", "must be a plain http or https address"),
    ("movidesk", "url", "https://", "must be a plain http or https address"),
    ("movidesk", "url", "http://api.movidesk.com/public/v1", "must be https"),
    ("movidesk", "url", "http://127.0.0.1.example.com/", "must be https"),
    ("movidesk", "url", "https://api.movidesk.com/?token=" + TOKEN, "must be a plain http or https address"),
    ("movidesk", "url", "https://user:pass@api.movidesk.com", "must be a plain http or https address"),
    ("movidesk", "url", "https://api.movidesk.com/#x", "must be a plain http or https address"),
    ("movidesk", "url", "https://api.movidesk.com:99999/", "must be a plain http or https address"),
    ("movidesk", "url", "https://[::1", "must be a plain http or https address"),
    ("movidesk", "requests_per_minute", "0", "must be between 1 and 100000"),
    ("movidesk", "requests_per_minute", "100001", "must be between 1 and 100000"),
    ("movidesk", "night", "19-7", "must be two times, such as 19:00-07:00"),
    ("movidesk", "night", "19:00-24:00", "must be two times, such as 19:00-07:00"),
    ("movidesk", "night", "19:00-19:00", "must leave at least 10 minutes of night and of day"),
    ("movidesk", "night", "19:00-18:59", "must leave at least 10 minutes of night and of day"),
    ("movidesk", "night_requests_per_minute", "0", "must be between 1 and 100000"),
    ("movidesk", "night_requests_per_minute", "no", "is not a whole number"),
    ("movidesk", "time_zone", "../etc/passwd", "must be the name of a time zone"),
    ("movidesk", "requests_per_minute", "ten", "is not a whole number"),
    ("movidesk", "requests_per_minute", "9.5", "is not a whole number"),
    ("movidesk", "requests_per_minute", "9" * 900, "is not a whole number|must be between"),
    ("movidesk", "timeout", "0", "must be between 0.1 and 15"),
    ("movidesk", "timeout", "16", "must be between 0.1 and 15"),
    ("movidesk", "timeout", "nan", "must be between 0.1 and 15"),
    ("movidesk", "timeout", "5s", "is not a number"),
    ("movidesk", "token_file", "movidesk.token", "must be an absolute path"),
    ("pbx", "name", "pbx 1", "must be 1 to 64 letters"),
    ("pbx", "name", "x" * 65, "must be 1 to 64 letters"),
    ("pbx", "name", "pbxé", "must be 1 to 64 letters"),
    ("pbx", "extension_pattern", "[0-9", "is not a regular expression"),
    ("pbx", "extension_pattern", "[0-9]{99999999999}", "is not a regular expression"),
    ("pbx", "extension_pattern", "([0-9]+)*", "might take for ever"),
    ("pbx", "report_transfer", "never", "must be one of: answer, ring"),
    ("pbx", "report_transfer", "Ring", "must be one of: answer, ring"),
    ("line", "ask_every", "0", "must be between 1 and 3600"),
    ("line", "ask_at_least_every", "inf", "must be between 1 and 3600"),
    ("journal", "path", "journal.db", "must be an absolute path"),
    ("journal", "path", "~/journal.db", "must be an absolute path"),
    ("journal", "path", "/var/lib/\0journal.db", "characters that cannot be printed"),
    ("movidesk", "url", "https://api..movidesk.com", "must be a plain http or https address"),
    ("movidesk", "url", f"https://{'x' * 64}.com", "must be a plain http or https address"),
    ("journal", "keep_days", "0", "must be between 1 and 36500"),
    ("journal", "keep_days", "-1", "must be between 1 and 36500"),
    ("recordings", "link", "/rec/{file}", "must begin with http:// or https://"),
    ("recordings", "link", "https://pbx/{uniqueid}", r"has no field \{uniqueid\}"),
    ("recordings", "link", "https://pbx/{}", r"has no field \{\}"),
    ("recordings", "link", "https://pbx/{0}", r"has no field \{0\}"),
    ("recordings", "link", "https://pbx/{file.__class__}", r"has no field \{file.__class__\}"),
    ("recordings", "link", "https://pbx/{file", "is not a template"),
    ("recordings", "link", "https://pbx/{file!z}", "is not a template"),
    ("recordings", "link", "https://pbx/{file:d}", "is not a template"),
    ("recordings", "link", "https://pbx/ {file}", "must be one address"),
    ("recordings", "link", "https://pbx/\n  {file}", "must be one address"),
    ("numbers", "form", "+55", "must be one of: as_is, e164, national"),
    ("numbers", "country", "Brasil", "must be a country's two letters"),
    ("numbers", "area_code", "(47)", "must be the digits of an area code"),
    ("numbers", "prefixes", "0, a", "must be prefixes of numbers"),
    ("numbers", "internal", "5[0-9", "is not a regular expression"),
    ("numbers", "anonymous", "unknown", "must be numbers, separated by commas"),
    ("fleet", "pbxs", "-1", "must be between 0 and 1000"),
    ("fleet", "share", "all", "must be one of: limit, none"),
    ("fleet", "ca_file", "ca.pem", "must be an absolute path"),
    ("agid", "listen", "a..b:4573", "must be ADDRESS:PORT"),
    ("agid", "listen", "\u00e9:4573", "must be ADDRESS:PORT"),
    ("agid", "listen", "4573", "must be ADDRESS:PORT"),
    ("agid", "listen", "127.0.0.1:", "must be ADDRESS:PORT"),
    ("agid", "listen", "127.0.0.1:65536", "must be ADDRESS:PORT"),
    ("agid", "listen", "127.0.0.1:²", "must be ADDRESS:PORT"),
    ("metrics", "listen", "yes", "must be ADDRESS:PORT"),
    ("metrics", "textfile", "movidesk.prom", "must be an absolute path"),
    ("metrics", "textfile", "/var/lib/node_exporter", "must end with .prom: node_exporter reads no other file"),
]


@pytest.mark.parametrize("section, key, text, reason", BAD)
def test_a_bad_value_is_named_with_its_place_and_replaced_by_the_default(
        load, section, key, text, reason):
    head = with_token("\n; a comment\n")
    found = load(head + ("" if section == "movidesk" else f"[{section}]\n") + f"{key} = {text}\n")
    line = 5 if section == "movidesk" else 6
    said = problem(found)
    assert said.startswith(f"{load.path}:{line}: [{section}] {key}: "), said
    assert re.search(reason, said)
    parse, default = OPTIONS[section][key]
    assert found[section, key] == (parse(default) if default else "")
    with pytest.raises(ConfigError, match=re.escape(said)):
        found.require(section)


@pytest.mark.parametrize("lines", ["a" + " " * 20_000 + "b\n", "k = 1\n" * 20_000, "x" * 70_000],
                         ids=["blanks", "many lines", "one line"])
def test_a_file_that_is_no_configuration_is_told_at_once(load, lines):
    begun = time.monotonic()
    found = load(with_token(lines))
    assert "it is not a movidesk.conf" in problem(found) and time.monotonic() - begun < 1
    with pytest.raises(ConfigError):
        found.require("journal", form=False)  # nobody knows where it is


def test_thousands_of_unknown_keys_are_told_within_a_second(load):
    begun = time.monotonic()
    problems = load(with_token("".join(f"k{number} = 1\n" for number in range(4000)))).all_problems()
    assert len(problems) == 4000 and problems[-1].startswith(f"{load.path}:4002: [movidesk] k3999: unknown key")
    assert time.monotonic() - begun < 2


def test_a_secret_is_read_from_plain_files_only(load, tmp_path):
    os.mkfifo(tmp_path / "fifo")
    for path in "/dev/zero", tmp_path / "fifo":
        assert problem(load(f"[movidesk]\ntoken_file = {path}\n")).endswith(f"{path}: is not a regular file")


@pytest.mark.parametrize("zone, shown", [("America/Sao_Paolo", "America/Sao_Paolo"), ("Brasilia", "Brasilia")])
def test_a_time_zone_that_is_none_matters_only_where_there_is_a_night(load, zone, shown):
    assert load(with_token(f"time_zone = {zone}\n")).all_problems() == []
    found = load(with_token(f"night = 19:00-07:00\ntime_zone = {zone}\n"))
    assert problem(found).startswith(f"{load.path}:4: [movidesk] time_zone: {shown!r} is not a time zone that this machine knows")
    assert nights.limit_at(found, 1_800_000_000.0) == 10
    with pytest.raises(ConfigError):
        found.require("movidesk")


def test_metrics_beyond_loopback_need_a_token(load):
    text = "[metrics]\nlisten = 0.0.0.0:9473\n"
    assert problem(load(with_token(text))).startswith(f"{load.path}: [metrics] listen = 0.0.0.0:9473 needs token")
    assert load(with_token(text + "token = 0123456789abcdef\n")).all_problems() == []
    assert "token: 5 characters must be 16 to 128" in problem(load(with_token(text + "token = short\n")))


def test_a_bad_value_stops_only_what_needs_it(load):
    found = load(with_token("timeout = x\n[journal]\npath = /tmp/journal.db\n"))
    assert found.require("journal", "pbx")["journal", "path"] == "/tmp/journal.db"
    with pytest.raises(ConfigError, match="timeout"):
        found.require("movidesk")
    with pytest.raises(ConfigError, match="timeout"):
        found.require()


@pytest.mark.parametrize("text", [
    "rediss://movidesk:s3cret@redis.example.com:6379/0", "redis://127.0.0.1", "unix:///run/redis/redis.sock",
    "unix://movidesk:s3cret@/run/redis/redis.sock?db=1", "rediss://:s3cret@[::1]:6380"])
def test_an_address_of_redis_is_a_secret(load, text):
    found = load(with_token(f"[fleet]\nredis = {text}\npbxs = 2\n"))
    assert found.all_problems() == [] and found["fleet", "redis"].reveal() == text
    assert "s3cret" not in repr(found["fleet", "redis"])


@pytest.mark.parametrize("text", [
    "redis:s3cret@redis.example.com:6379", "http://:s3cret@redis.example.com", "rediss://:s3cret@redis.example.com:99999",
    "rediss://:s3cret@redis.example.com/?socket_timeout=99"])
def test_a_bad_address_of_redis_does_not_show_its_password(load, text):
    found = load(with_token(f"[fleet]\nredis = {text}\n"))
    assert re.fullmatch(rf"{load.path}:4: \[fleet\] redis: {len(text)} characters must be rediss://.*", problem(found))
    assert not found["fleet", "redis"]


def test_a_fleet_must_know_how_many_pbxs_it_has(load):
    found = load(with_token("[fleet]\nredis = redis://127.0.0.1\n"))
    assert problem(found) == f"{load.path}:4: [fleet] redis needs pbxs: how many PBXs use this account"


@pytest.mark.parametrize("bad", [TOKEN[:-1], TOKEN + "0", TOKEN.replace("-", ""), f"{{{TOKEN}}}",
                                 TOKEN.replace("a", "g"), "x", "´" + TOKEN])
def test_a_token_that_is_no_guid_is_not_shown(load, bad):
    said = problem(load(f"[movidesk]\ntoken = {bad}\n"))
    assert said.startswith(f"{load.path}:2: [movidesk] token: {len(bad)} characters is not a GUID")
    assert bad not in said.replace("is not a GUID", "") or bad == "x"


@pytest.mark.parametrize("text", [
    "[movidesk]\ntokn = " + TOKEN, "[pbx]\ntoken = " + TOKEN, "token = " + TOKEN, "[movidesk]\n" + TOKEN,
    "[token]\n" + TOKEN + " = 1", "[movidesk]\ntoken_file = " + TOKEN, "[movidesk]\nurl = " + TOKEN,
    "[movidesk]\ntimeout = " + TOKEN.upper(), f"[recordings]\nlink = https://x/{{{TOKEN}}}",
    f"[movidesk]\ntoken = {TOKEN}\ntoken = {TOKEN}", f"[{TOKEN}]\nx = 1", f"[movidesk]\n{TOKEN} = 1",
])
def test_a_token_in_the_wrong_place_is_not_shown(load, text):
    found = load(text)
    assert found.all_problems() and TOKEN not in "".join(found.all_problems()).lower()


# -- the file's form ---------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("text, line, reason", [
    ("url = x\n[movidesk]\n", 1, "a setting before any [section]"),
    ("[movidesk]\ntimeout = 1\ntimeout = 2\n", 3, "[movidesk] timeout is set twice"),
    ("[pbx]\nname = a\n[movidesk]\n[pbx]\n", 4, "section [pbx] appears twice"),
    ("[movidesk]\ntimeout 5\n", 2, "not of the form 'key = value'"),
    ("[movidesk]\ntimeout: 5\n", 2, "not of the form 'key = value'"),
    ("[movidesk]\n= 5\n", 2, "not of the form 'key = value'"),
    ("[pbx]\nname = a\n[movidesks]\n", 3, "unknown section [movidesks]; known: movidesk, pbx, "),
    ("[Movidesk]\n", 1, "unknown section [Movidesk]"),
])
def test_a_file_that_is_not_of_the_form(load, text, line, reason):
    found = load(text)
    said = found.problems[""][0]
    assert said.startswith(f"{load.path}:{line}: {reason}")
    for needed in ((), ("journal",), ("movidesk",)):  # nothing can be trusted then
        with pytest.raises(ConfigError, match=re.escape(said)):
            found.require(*needed)


def test_an_unknown_key(load):
    said = problem(load(with_token("[journal]\npath = /tmp/j.db\nkeep_day = 3\n")))
    assert said == f"{load.path}:5: [journal] keep_day: unknown key; known: path, standby, keep_days"


def test_a_file_that_is_missing(tmp_path):
    path = str(tmp_path / "none.conf")
    assert config.load(path).problems[""] == [
        f"{path}: No such file or directory; copy the commented sample etc/movidesk.conf there"]


def test_a_folder_in_its_place(tmp_path):
    assert config.load(str(tmp_path)).problems[""][0].startswith(f"{tmp_path}: Is a directory; ")


def test_a_file_that_is_not_utf_8(load):
    said = load(b"[pbx]\nname = caf\xe9\n").problems[""][0]
    assert said.startswith(f"{load.path}: is not UTF-8 text")


# -- the token ---------------------------------------------------------------------------------------------------------

def test_a_missing_token(load):
    assert problem(load("[movidesk]\n")) == f"{load.path}: [movidesk] token is missing"


def test_a_token_from_a_file(load, tmp_path):
    file = tmp_path / "token"
    file.write_text(TOKEN + "\n")
    found = load(f"[movidesk]\ntoken_file = {file}\n")
    assert found.all_problems() == [] and found["movidesk", "token"].reveal() == TOKEN


@pytest.mark.parametrize("content, reason", [
    (None, "No such file or directory"), (b"", "is not a GUID"), (TOKEN[:-1].encode(), "is not a GUID"),
    (b"token = " + TOKEN.encode(), "is not a GUID"), (b"\xff\xfe" + TOKEN.encode(), "is not ASCII text")])
def test_a_token_file_that_holds_none(load, tmp_path, content, reason):
    file = tmp_path / "token"
    if content is not None:
        file.write_bytes(content)
    said = problem(load(f"[movidesk]\ntoken_file = {file}\n"))
    assert said.startswith(f"{load.path}: [movidesk] token_file: {file}: {reason}")
    assert TOKEN[:-1] not in said


def test_a_secret_does_not_print():
    secret = Secret(TOKEN)
    assert (repr(secret), str(secret), "%s" % secret, f"{secret}") == ("Secret(***)",) * 4  # noqa: UP031 (tested here)
    assert repr([secret]) == "[Secret(***)]" and secret and not Secret("") and repr(Secret("")) == "Secret(empty)"


# -- anything ----------------------------------------------------------------------------------------------------------

KEYS = st.sampled_from([key for section in OPTIONS.values() for key in section] + ["x"])
LINES = st.one_of(
    st.sampled_from([f"[{section}]" for section in OPTIONS] + ["[x]", "[", "[]", "[[a]]", "=", "; x", "  x"]),
    st.builds("{} = {}".format, KEYS, st.text(max_size=30)), st.text(max_size=30))


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.one_of(st.lists(LINES, max_size=12).map("\n".join).map(lambda text: text.encode("utf-8", "replace")),
                 st.binary(max_size=80)))
def test_load_never_raises_and_every_option_has_a_value(load, data):
    found = load(data)
    assert all(found[section, key] is not None for section, keys in OPTIONS.items() for key in keys)
    assert all(text.startswith(load.path) for text in found.all_problems())
    found["recordings", "link"].format(file="f", date="d", id="i", queue="q", extension="e")


def plain(value):
    return value.reveal() if isinstance(value, Secret) else value


# One line, and no comment in it: what stands behind "=" is the value.
VALUES = st.text(st.characters(blacklist_categories=("Cc", "Cs", "Zl", "Zp"), blacklist_characters=";#"), max_size=40)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from([(section, key) for section, keys in OPTIONS.items() for key in keys]),
       VALUES | st.from_regex(r"https?://[a-z.:{}!0-9\[\]/@?]{0,30}", fullmatch=True)
       | st.from_regex(r"/[a-z]{1,9}|[0-9]{1,5}|[a-z0-9]{16,20}|127\.0\.0\.1:[0-9]{1,4}|yes|no|none", fullmatch=True))
def test_any_value_is_taken_or_named(load, name, text):
    (section, key), value = name, text.strip()
    default = load("")[name]
    found = load(f"[{section}]\n{key} = {text}\n")
    named = [problem for problem in found.all_problems() if problem.startswith(f"{load.path}:2: [{section}] {key}")]
    try:
        expected = OPTIONS[section][key][0](value) if value else default
    except ValueError as error:
        shown = f"{len(value)} characters" if key in SECRET_KEYS else repr(value)
        assert named == [f"{load.path}:2: [{section}] {key}: {shown} {error}"]
        assert plain(found[name]) == plain(default)
    else:
        assert named == [] and plain(found[name]) == plain(expected)


# -- the panel ---------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("address, more, refused", [
    ("127.0.0.1:4576", "", False), (":4576", "", False), ("0.0.0.0:4576", "", True), ("192.168.0.5:4576", "", True),
    ("0.0.0.0:4576", "password = a-good-password\n", False), ("0.0.0.0:4576", "proxy_user_header = X-Remote-User\n", False),
    ("0.0.0.0:4576", "password = short\n", True), ("0.0.0.0:4576", "password_file = /nowhere\n", True)])
def test_beyond_this_machine_the_panel_needs_a_login(load, address, more, refused):
    found = load(f"[movidesk]\ntoken = {TOKEN}\n[panel]\nlisten = {address}\n{more}")
    assert bool(found.problems.get("panel")) == refused
    assert "short" not in str(found.all_problems())


def test_the_panels_password_may_be_in_a_file(load, tmp_path):
    (tmp_path / "word").write_text("a-good-password\n")
    found = load(f"[panel]\nlisten = 0.0.0.0:1\npassword_file = {tmp_path / 'word'}\n")
    assert found["panel", "password"].reveal() == "a-good-password" and not found.problems.get("panel")


@pytest.mark.parametrize("text, names", [
    ("77 Support", {"77": "Support"}), ("77  Support & more,78 Vendas", {"77": "Support & more", "78": "Vendas"}),
    ("77 Ação\n 78 x,\n", {"77": "Ação", "78": "x"}), ("77", None), ("77 a, 77 b", None), ("Support 77 78,", None),
    ("7 " + "x" * 65, None)])
def test_names_of_queues_and_agents(load, text, names):
    found = load(f"[pbx]\nqueue_names = {text}\nagent_names = {text}\n")
    assert found["pbx", "queue_names"] == found["pbx", "agent_names"] == (names or "")
    assert bool(found.problems.get("pbx")) == (names is None)
