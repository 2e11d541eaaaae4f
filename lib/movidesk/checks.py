"""What `movidesk check` looks at: each check is a name and its problem, '' where all is well."""

from __future__ import annotations

import os
import socket
import stat
import tempfile

from movidesk import journal
from movidesk.config import Config
from movidesk.journal import standby


def all_checks(config: Config):
    """Yield (name, problem) for every check, in the order in which an admin would mend them."""
    yield "configuration %s" % config.path, "; ".join(config.all_problems())
    if not os.path.exists(config.path):
        return  # the rest would look at what nobody has set up
    yield "configuration is not readable by everybody", _readable_by_all(config.path)
    yield "journal %s" % config["journal", "path"], _journal(config)
    yield "second journal in %s" % config["journal", "standby"], standby_problem(config)
    yield "Movidesk at %s" % config["movidesk", "url"], _reachable(config)
    yield "FastAGI at %s:%d" % config["agid", "listen"], _listening(config)
    if config["made_calls", "listen"]:
        yield "Asterisk's manager at %s:%d, for made calls" % config["made_calls", "ami"], _manager(config)
    if config["recordings", "publish"]:
        yield "recordings at %s:%d" % config["recordings", "publish"], _publishes(config)
    if config["recordings", "convert"]:
        yield "recordings as .%s" % config["recordings", "convert"], _converts(config)


def _readable_by_all(path: str) -> str:
    if os.stat(path).st_mode & stat.S_IROTH:
        return "it holds the token: chown root:asterisk, chmod 0640 %s" % path
    return ""


def _journal(config: Config) -> str:
    try:
        journal.Journal(config["journal", "path"]).close()
    except journal.JournalError as error:
        return str(error)
    return ""


def standby_problem(config: Config) -> str:
    """Why the standby could not take the journal's place, and what to do; '' where it could. Leaves nothing behind."""
    place, own = config["journal", "standby"], standby.folder(config)
    advice = ("while the journal cannot be used, callers would be offered no agents; [journal] standby must be a folder in memory "
              "where Asterisk's user can write")
    try:
        if os.path.lexists(own):
            about = os.lstat(own)
            if not stat.S_ISDIR(about.st_mode) or about.st_uid != os.geteuid() or about.st_mode & 0o077:
                return "%s belongs to somebody else: remove it; %s" % (own, advice)
            place = own
        with tempfile.TemporaryFile(dir=place) as file:
            file.write(b"0" * 4096)
    except OSError as error:
        return "%s: %s; %s" % (place, error.strerror, advice)
    return ""


def _reachable(config: Config) -> str:
    """Whether anything answers there. Sent without the token, so that it counts for no account."""
    import requests

    try:
        requests.head(config["movidesk", "url"], timeout=config["movidesk", "timeout"], allow_redirects=False)
    except requests.exceptions.SSLError:
        return "its certificate is not trusted by this machine"
    except requests.RequestException as error:
        return "no answer (%s): look at the network, the firewall, the proxy" % type(error).__name__
    return ""


def _publishes(config: Config) -> str:
    try:
        os.scandir(config["recordings", "folder"]).close()
        socket.create_connection(config["recordings", "publish"], timeout=2).close()
    except OSError as error:
        return "%s: is movidesk serve running?%s" % (error.strerror or error, " (%s)" % error.filename if error.filename else "")
    return ""


def _converts(config: Config) -> str:
    from movidesk.recordings import conversion

    try:
        conversion.tool(config["recordings", "convert"])
    except conversion.NotConverted as error:
        return "%s; until then links name the unconverted files" % error
    return ""


def _listening(config: Config) -> str:
    try:
        socket.create_connection(config["agid", "listen"], timeout=2).close()
    except OSError as error:
        return "%s: is movidesk serve running? Calls go on with the scripts, more slowly" % (error.strerror or error)
    return ""


def _manager(config: Config) -> str:
    """Whether Asterisk takes the login with which made calls are ordered."""
    from movidesk.pbx import ami

    try:
        ami.try_login(*config.manager)
    except ami.AmiError as error:
        return "%s: see docs/made-calls.md for the lines in manager.conf" % error
    return ""
