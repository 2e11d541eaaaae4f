"""The checks of `movidesk check`: each is a name and its problem, '' if there is none."""

from __future__ import annotations

import os
import socket
import stat
import tempfile
from collections.abc import Iterator

from movidesk import journal
from movidesk.config import Config
from movidesk.delivery import numbers
from movidesk.journal import standby_folder


def all_checks(config: Config) -> Iterator[tuple[str, str]]:
    """Yield (name, problem) for every check, in the order in which an admin should fix the problems."""
    yield f"configuration {config.path}", "; ".join(config.all_problems())
    if not os.path.exists(config.path):
        return  # without a configuration the other checks make no sense
    yield "configuration is not readable by everybody", _readable_by_all(config.path)
    yield f"journal {config['journal', 'path']}", _journal(config)
    yield f"second journal in {config['journal', 'standby']}", standby_problem(config)
    yield f"Movidesk at {config['movidesk', 'url']}", _reachable(config)
    if config["numbers", "form"] != "as_is":
        yield f"callers' numbers as {config['numbers', 'form']}", numbers.problem(config)
    yield f"FastAGI at {_place(config['agid', 'listen'])}", _listening(config)
    if config["made_calls", "listen"]:
        yield f"Asterisk's manager at {_place(config['made_calls', 'ami'])}, for made calls", _manager(config)
    if config["recordings", "publish"]:
        yield (f"recordings at {_place(config['recordings', 'publish'])}",
               _publishes(config["recordings", "folder"], config["recordings", "publish"]))
    if config["recordings", "convert"]:
        yield f"recordings as .{config['recordings', 'convert']}", _converts(config)


def _place(address: tuple[str, int]) -> str:
    return f"{address[0]}:{address[1]}"


def _readable_by_all(path: str) -> str:
    if os.stat(path).st_mode & stat.S_IROTH:
        return f"it contains the token: chown root:asterisk, chmod 0640 {path}"
    return ""


def _journal(config: Config) -> str:
    try:
        journal.Journal(config["journal", "path"]).close()
    except journal.JournalError as error:
        return str(error)
    return ""


def standby_problem(config: Config) -> str:
    """Why the standby journal could not be used, and what to do; '' if it could. Leaves no file behind."""
    place, own = config["journal", "standby"], standby_folder.folder(config)
    advice = ("while the journal cannot be used, callers would not reach an agent; [journal] standby must be a folder in memory "
              "that Asterisk's user can write to")
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


def _reachable(config: Config) -> str:
    """Check that a server answers. The request has no token, so it does not count for the account's limit."""
    import requests

    try:
        requests.head(config["movidesk", "url"], timeout=config["movidesk", "timeout"], allow_redirects=False)
    except requests.exceptions.SSLError:
        return "this machine does not trust its certificate"
    except requests.RequestException as error:
        return f"no answer ({type(error).__name__}): check the network, the firewall and the proxy"
    return ""


def _publishes(folder: str, address: tuple[str, int]) -> str:
    try:
        os.scandir(folder).close()
        socket.create_connection(address, timeout=2).close()
    except OSError as error:
        return f"{error.strerror or error}: is movidesk serve running?{f' ({error.filename})' if error.filename else ''}"
    return ""


def _converts(config: Config) -> str:
    from movidesk.recordings import conversion

    try:
        conversion.tool(config["recordings", "convert"])
    except conversion.NotConverted as error:
        return f"{error}; until then links lead to the unconverted files"
    return ""


def _listening(config: Config) -> str:
    try:
        socket.create_connection(config["agid", "listen"], timeout=2).close()
    except OSError as error:
        return f"{error.strerror or error}: is movidesk serve running? Meanwhile calls use the scripts, which are slower"
    return ""


def _manager(config: Config) -> str:
    """Check the login to Asterisk's manager that made calls use."""
    from movidesk.pbx import ami

    try:
        ami.try_login(*config.manager)
    except ami.AmiError as error:
        return f"{error}: docs/made-calls.md has the lines for manager.conf"
    return ""
