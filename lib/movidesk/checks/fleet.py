"""The Redis that several PBXs share ([fleet]): whether it is reached, what it is, what we may do there, and who else is there."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from hashlib import sha1
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from movidesk.checks.finding import Finding, note, ok, trouble
from movidesk.config import Config
from movidesk.fleet.records import Away
from movidesk.messages import _

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from movidesk.fleet.membership import Membership

    Client = Any  # redis.Redis; its types leave open whether it is asynchronous

OLDEST = 7  # major version of Redis, and of Valkey
#: Seconds of an answer from which on it is slow, and too slow: a script that connects first makes five or six round trips within
#: client.TIMEOUT.
SLOW, TOO_SLOW = 0.02, 0.05
PINGS = 7
SCRIPT = "return 1"
APART = 5.0  # seconds
LOOPBACK = ("127.", "::1", "[::1]", "localhost")
#: The commands that the product sends, and those of its script; docs/fleet.md has the line for redis.conf.
RIGHTS = "+ping +info +time +hgetall +hset +del +pexpire +evalsha +script|load +select"


def findings(config: Config) -> list[Finding]:
    """What an admin should know of Redis; nothing without [fleet] redis."""
    if not config["fleet", "redis"]:
        return []
    subject = _("Redis at {place}").format(place=place(config))
    try:
        from movidesk.fleet.membership import Membership, account_key
    except ImportError as error:
        return [trouble(subject, _("the package {name} is missing").format(name=error.name), _why(),
                        "pip install 'movidesk-agi[fleet]'")]
    authority = config["fleet", "ca_file"]
    if authority and not os.access(authority, os.R_OK):
        return [trouble(subject, _("[fleet] ca_file = {file} cannot be read by this user").format(file=authority), _why(), _(
            "the certificate that signed Redis', with mode 0644"))]
    from redis.exceptions import InvalidResponse, RedisError

    from movidesk.fleet.client import NOT_AN_ANSWER

    membership, found = Membership(config, time.monotonic, time.time), []
    try:
        for finding in _look(config, membership, account_key(config), subject):
            found.append(finding)
    except InvalidResponse as error:
        found.append(_another_program(config, subject, str(error)))
    except (RedisError, OSError, Away) as error:  # at the first step, or it has gone meanwhile
        found.append(_unreachable(config, error, subject))
    except NOT_AN_ANSWER as error:
        found.append(_another_program(config, subject, f"{type(error).__name__}: {error}"))
    finally:
        membership.close()
    return found


def place(config: Config) -> str:
    """Where Redis is, without a password."""
    parts = urlsplit(config["fleet", "redis"].reveal())
    return parts.path if parts.scheme == "unix" else f"{parts.hostname}:{parts.port or 6379}"


def _why() -> str:
    return _("this PBX uses only its share of the limit, and its callers and those of the other PBXs overtake each other")


def _look(config: Config, membership: Membership, account: str, subject: str) -> Iterator[Finding]:
    """The findings of each step, as long as Redis answers. Raises RedisError, OSError, Away."""
    from redis.exceptions import NoPermissionError

    client: Client = membership.client.redis
    took, about = _latency(client), {}
    with suppress(NoPermissionError):  # _missing_rights says so
        about = client.info()
    yield _version(about, subject, took)
    yield from _speed(took)
    yield from _protection(config)
    yield from _memory(about)
    yield from _role(about)
    missing = _missing_rights(client, account)
    if missing:
        yield trouble(
            _("rights in Redis"), _("refused: {commands}").format(commands=", ".join(missing)), _why(),
            _("in redis.conf, or with redis-cli ACL SETUSER, give its user: {rights} and ~movidesk:*").format(rights=RIGHTS))
        return
    yield ok(_("rights in Redis"), _("all that are needed"))
    yield from _clock(client)
    yield from _members(membership)


# -- reachable ---------------------------------------------------------------------------------------------------------

def _latency(client: Client) -> float:
    """Seconds of one round trip: the median of several, without the first, which connects."""
    client.ping()
    seconds = []
    for _n in range(PINGS):
        begun = time.monotonic()
        client.ping()
        seconds.append(time.monotonic() - begun)
    return sorted(seconds)[PINGS // 2]


def _unreachable(config: Config, error: Exception, subject: str) -> Finding:
    text = str(error)
    lower = f"{type(error).__name__} {text}".lower()
    for words, what, remedy in _CAUSES:
        if any(word in lower for word in words):
            return trouble(subject, what(), _why(), remedy().format(path=config.path))
    return trouble(subject, f"{type(error).__name__}: {text}", _why(), _("is Redis running there? systemctl status redis-server"))


def _another_program(config: Config, subject: str, text: str) -> Finding:
    return trouble(subject, _("what listens there does not answer as Redis does ({error})").format(error=text), _why(),
                   _("the host and port of Redis in [fleet] redis in {path}").format(path=config.path))


#: Words of an error, lower case; what is wrong; what mends it. The first that fits counts.
_CAUSES: tuple[tuple[tuple[str, ...], Callable[[], str], Callable[[], str]], ...] = (
    (("name or service", "name resolution", "nodename", "gaierror"), lambda: _("its name cannot be resolved"),
     lambda: _("is [fleet] redis in {path} right? Else see /etc/resolv.conf")),
    (("hostname mismatch", "ip address mismatch", "doesn't match"), lambda: _("its certificate is for another name"),
     lambda: _("in {path} [fleet] redis must have a name of the certificate (subjectAltName)")),
    (("certificate verify failed", "certificate_verify_failed"), lambda: _("this machine does not trust its certificate"),
     lambda: _("[fleet] ca_file in {path} = the certificate that signed it; the name in [fleet] redis must be one of its names")),
    (("wrong version number", "wrong_version_number", "record layer failure", "unexpected eof", "ssl"),
     lambda: _("it does not speak TLS at this port"),
     lambda: _("redis:// instead of rediss:// in {path}, or tls-port in redis.conf")),
    (("invalid username-password", "wrongpass", "invalid password"), lambda: _("it refuses the user or the password"),
     lambda: _("[fleet] redis = rediss://USER:PASSWORD@... in {path}, and the line \"user\" in redis.conf")),
    (("noauth", "authentication required", "already authenticated"), lambda: _("it wants a user and a password"),
     lambda: _("[fleet] redis = rediss://USER:PASSWORD@... in {path}")),
    (("nopermission",), lambda: _("its user may not even use the commands ping and select"),
     lambda: _("in redis.conf, or with redis-cli ACL SETUSER, give it: {rights} and ~movidesk:*").format(rights=RIGHTS)),
    (("denied redis", "protected mode"), lambda: _("it is in protected mode, and takes connections of its own machine only"),
     lambda: _("give it a user with a password in redis.conf (docs/fleet.md)")),
    (("refused",), lambda: _("nobody listens there"),
     lambda: _("systemctl status redis-server on that machine; bind and port (tls-port) in redis.conf")),
    (("timeout", "timed out"), lambda: _("no answer"),
     lambda: _("is the machine on? A firewall in between? rediss:// in {path} needs tls-port in redis.conf, redis:// port")),
    (("connection closed", "connection reset", "closed by server"), lambda: _("it closes the connection"),
     lambda: _("if redis.conf has a tls-port there: rediss:// in {path}; else see Redis' log")),
)


# -- what it is --------------------------------------------------------------------------------------------------------

def _version(about: dict[str, Any], subject: str, took: float) -> Finding:
    name = "Valkey" if "valkey_version" in about else "Redis"
    version = str(about.get("valkey_version") or about.get("redis_version") or "")
    text = f"{name} {version} ({1000 * took:.1f} ms)"
    if version and int(version.partition(".")[0]) < OLDEST:
        return trouble(subject, text, _("our script was never tried with it"), _("Redis 7 or later, or Valkey"))
    return ok(subject, text if version else f"{1000 * took:.1f} ms")


def _speed(took: float) -> list[Finding]:
    subject, text = _("Redis' answers"), _("{milliseconds:.0f} ms each").format(milliseconds=1000 * took)
    if took >= TOO_SLOW:
        return [trouble(subject, text, _("each caller waits for it, and a script, which must connect first, counts it as away"),
                        _("a Redis nearer to the PBXs, or a faster network"))]
    return [note(subject, text)] if took >= SLOW else []


def _protection(config: Config) -> list[Finding]:
    parts = urlsplit(config["fleet", "redis"].reveal())
    if parts.scheme == "rediss":
        return [ok(_("TLS to Redis"))]
    if parts.scheme == "unix" or (parts.hostname or "").startswith(LOOPBACK):
        return []
    return [note(_("TLS to Redis"), _(
        "with redis:// everybody in between can read the password and the ids of calls: use rediss:// (docs/fleet.md)"))]


def _memory(about: dict[str, Any]) -> list[Finding]:
    subject, policy = _("Redis' memory"), str(about.get("maxmemory_policy", ""))
    if not policy:
        return []
    if policy != "noeviction":
        return [trouble(subject, _("maxmemory-policy is {policy}").format(policy=policy), _(
            "if its memory is full Redis forgets what was sent, and nothing may be sent for a minute each time"),
            _("maxmemory-policy noeviction in redis.conf, and: redis-cli CONFIG SET maxmemory-policy noeviction"))]
    used, most = int(about.get("used_memory", 0)), int(about.get("maxmemory", 0))
    if most and used > 0.9 * most:
        return [trouble(subject, _("{used:.0f} of {most:.0f} MB are used").format(used=used / 1e6, most=most / 1e6), _(
            "Redis refuses to write if its memory is full"), _("a larger maxmemory in redis.conf; who else uses this Redis?"))]
    return [ok(subject, policy)]


def _role(about: dict[str, Any]) -> list[Finding]:
    if about.get("role") == "slave":
        return [trouble(_("Redis' role"), _("a replica, which takes no writes"), _why(),
                        _("[fleet] redis = the one that it copies"))]
    if about.get("cluster_enabled") == 1:
        return [trouble(_("Redis' role"), _("part of a cluster"), _(
            "the product asks one Redis, and the state may be on another member"), _("a Redis that is in no cluster"))]
    return []


def _missing_rights(client: Client, account: str) -> list[str]:
    """The commands that we may not use, each tried on a key of its own."""
    from redis.exceptions import NoPermissionError, NoScriptError, ResponseError

    key, script = account + ":check", sha1(SCRIPT.encode()).hexdigest()
    tries: dict[str, Callable[[], object]] = {
        "info": client.info, "time": client.time, "hset": lambda: client.hset(key, "a", "1"),
        "pexpire": lambda: client.pexpire(key, 1000), "hgetall": lambda: client.hgetall(key), "del": lambda: client.delete(key),
        "script|load": lambda: client.script_load(SCRIPT), "evalsha": lambda: client.evalsha(script, 0)}
    missing = []
    for name, attempt in tries.items():
        try:
            attempt()
        except NoPermissionError:
            missing.append(name)
        except NoScriptError:
            pass  # it may not be loaded, but it may be run
        except ResponseError as error:  # full, read-only
            missing.append(f"{name} ({error})")
    return missing


# -- who is there ------------------------------------------------------------------------------------------------------

def _clock(client: Client) -> list[Finding]:
    """This machine's clock against that of Redis' machine."""
    before = time.time()
    seconds, micros = client.time()
    skew = (before + time.time()) / 2 - (seconds + micros / 1e6)
    subject, text = _("clock"), _("differs from Redis' by {seconds:.1f} s").format(seconds=abs(skew))
    if abs(skew) > APART:
        return [trouble(subject, text, _("one of the two is wrong, and the times in tickets may be, too"),
                        "apt-get install chrony")]
    return [ok(subject, text)]


def _members(membership: Membership) -> list[Finding]:
    """The PBXs that Redis knows."""
    subject, known = _("PBXs of this account"), membership.overview().members
    if membership.is_refused():
        return [trouble(subject, str(membership.remembered()["why"]), _("this PBX sends nothing until that is mended"),
                        _("mend that, then: systemctl restart movidesk"))]
    there = [member for member in known if member.leased]
    names = ", ".join(f"{member.name} ({member.version})" for member in there) or _("none")
    different = sorted({member.pbxs for member in there if member.pbxs != membership.pbxs})
    if different:
        return [trouble(subject, _("{names}: [fleet] pbxs is {here} here, {there} elsewhere").format(
            names=names, here=membership.pbxs, there=different[0]), _("this PBX may not join, and sends nothing"), _(
            "the same number on each, then: systemctl restart movidesk"))]
    shares = sorted({member.share for member in there if member.share != membership.share})
    if shares:
        return [trouble(subject, _("{names}: [fleet] share is {here} here, {there} elsewhere").format(
            names=names, here=membership.share, there=shares[0]), _("this PBX may not join, and sends nothing"), _(
            "the same on each, then: systemctl restart movidesk"))]
    if len({member.limit for member in there}) > 1:
        limits = ", ".join(f"{member.name} {member.limit}" for member in there)
        return [trouble(subject, _("[movidesk] requests_per_minute differs: {limits}").format(limits=limits), _(
            "while Redis is away they may together send more than the account may"), _(
            "the same on each, then: systemctl restart movidesk"))]
    text = _("{there} of {pbxs} there: {names}").format(there=len(there), pbxs=membership.pbxs, names=names)
    if len({member.version for member in there}) > 1:
        return [note(subject, text + _("; different versions: update all to the newest"))]
    return [note(subject, text) if len(there) < membership.pbxs else ok(subject, text)]
