"""This PBX's place in its fleet: its calls of the script, and what all its processes must remember of the answers.

That is a small file in memory ([journal] standby), because each answer changes it. It holds

    epoch, at, steady   the last answer that came in time: of which state of Redis, its time there, and when it was asked for
                        here. The next call shows it, and only that extends the lease
    number              of this PBX, from 0, where it has turns (movidesk.rules.fleet_share); -1 if Redis has given it none
    lapse               steady time until which Redis may count on our part of the limit
    failed, since, why  the last failure (steady time), the first one in a row (epoch seconds), and its text
    refused             whether it is a refusal
    well                since when Redis has answered again (steady time)

The lease that Redis counts begins at the time of an answer, ours at its arrival here. So ours ends later, whatever is lost on
the way.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
from contextlib import suppress
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from movidesk import __version__
from movidesk.fleet import script
from movidesk.fleet.client import TIMEOUT, Client
from movidesk.fleet.records import Away, Member, Overview, Refused
from movidesk.rules import fleet_share
from movidesk.rules.rate_limit import WINDOW

if TYPE_CHECKING:
    from collections.abc import Callable

    from movidesk.config import Config

#: Seconds by which our own lease is longer than that of Redis: for requests of others that reach Movidesk late, and for clocks
#: that run at different speeds.
SPARE = 5.0
#: Seconds after a failure in which no process calls: many callers look in each second.
LET_BE = 1.0
#: Seconds for which Redis must have answered before this PBX gives up its own line and comes back.
WELL = 5.0
#: How often a call is repeated at once because Redis wants to know whether its answer came in time (fleet/state.lua, witness).
MOST_AGAIN = 3


class Membership:
    """This PBX in its fleet. steady: the journal's steady clock; clock: epoch seconds."""

    def __init__(self, config: Config, steady: Callable[[], float], clock: Callable[[], float], client: Client | None = None):
        self._config, self._steady, self._clock = config, steady, clock
        self.name, self.pbxs, self.share = config["pbx", "name"], config["fleet", "pbxs"], config["fleet", "share"]
        self._client = client
        self.path = os.path.join(config["journal", "standby"], config.own_name + ".fleet")
        self.instance = _instance(config)
        #: Seconds for which Redis counts a granted request as under way: it leaves within limits.SEND_WITHIN, or never.
        self.hold = 3 * config["movidesk", "timeout"] + 6.0
        self.last_limit = config["movidesk", "requests_per_minute"]

    @property
    def client(self) -> Client:
        """The Redis."""
        if self._client is None:
            self._client = Client(self._config["fleet", "redis"], account_key(self._config), self._config["fleet", "ca_file"])
        return self._client

    def part(self, limit: int) -> int:
        """Requests a minute that this PBX may send while Redis is away."""
        return limit if self.share == "none" else fleet_share.part(limit, self.pbxs)

    def limit_alone(self, limit: int) -> int:
        """Requests a minute that it may send at this moment while Redis is away: where its part is less than one, 1 in its turn
        and 0 else."""
        part, remembered = self.part(limit), self.remembered()
        if part:
            return part
        redis = remembered["at"] / 1000 + self._steady() - remembered["steady"] / 1000
        return int(fleet_share.is_turn(remembered["number"], limit, self.pbxs, redis))

    def until_alone(self) -> float:
        """Seconds until this PBX may use its own part of the limit; 0.0 if it may now."""
        if self.share == "none":
            return 0.0
        return float(max(0.0, self.remembered()["lapse"] + WINDOW - self._steady()))

    def is_well(self) -> bool:
        """Whether Redis answers, and has done so for a while; asks it, without joining."""
        if 0.0 <= self._steady() - self.remembered()["failed"] < LET_BE:
            return False
        try:
            begun = self._steady()
            if self._ask({"ack": None}).get("refused"):
                return False
            if self._steady() - begun > TIMEOUT:
                raise Away(f"Redis answered after more than {TIMEOUT:g} s")
        except Away as error:
            self._failed(str(error))
            return False
        with self._memory() as memory:
            memory["well"] = memory["well"] or self._steady()
            return bool(self._steady() - memory["well"] >= WELL)

    def call(self, report: dict[str, object], question: dict[str, object], limit: int, hold: float) -> dict[str, Any]:
        """Tell Redis how this PBX stands, and ask it (fleet/decide.lua). A grant's number is in the answer as `id`.

        Raises Refused, or Away: then nothing is granted, whatever Redis has counted.
        """
        remembered, self.last_limit = self.remembered(), limit
        if 0.0 <= self._steady() - remembered["failed"] < LET_BE:
            raise (Refused if remembered["refused"] else Away)(remembered["why"])
        asked = {"id": secrets.token_hex(8), "report": report, "ask": question, "limit": limit, "hold": _ms(hold)}
        try:
            for _ in range(MOST_AGAIN):
                ack = {name: remembered[name] for name in ("epoch", "at", "steady")} if remembered["epoch"] else None
                begun = self._steady()
                answer = self._ask({**asked, "ack": ack})
                if self._steady() - begun > TIMEOUT:
                    raise Away(f"Redis answered after more than {TIMEOUT:g} s")
                if answer.get("refused"):
                    raise Refused(self._refusal(answer))
                remembered = self._remember(answer, begun)
                if not answer["again"]:
                    return {**answer, "id": asked["id"], "begun": begun}
            raise Away("Redis' clock, or the network, is not steady")
        except Away as error:
            self._failed(str(error), isinstance(error, Refused))
            raise

    def _ask(self, asked: dict[str, object]) -> dict[str, Any]:
        return self.client.decide({
            "name": self.name, "instance": self.instance, "version": __version__, "pbxs": self.pbxs, "share": self.share,
            "steady": _ms(self._steady()), "limit": 1, "hold": 0, "number": self.remembered()["number"], **asked})

    def _refusal(self, answer: dict[str, Any]) -> str:
        return {
            "name": f"another PBX of this account is called {self.name}: give each its own [pbx] name",
            "pbxs": f"[fleet] pbxs = {self.pbxs} here, but {answer.get('other')} on the others: write the same number on each",
            "many": f"[fleet] pbxs = {self.pbxs}, but that many other PBXs of this account are there already",
        }[answer["refused"]]

    # -- what all processes remember --------------------------------------------------------------------------------

    def remembered(self) -> dict[str, Any]:
        """What the file holds. Without it, as after a reboot, an answer may just have come."""
        with self._memory() as memory:
            return dict(memory)

    def _remember(self, answer: dict[str, Any], begun: float) -> dict[str, Any]:
        with self._memory() as memory:
            memory.update(epoch=answer["epoch"], at=answer["at"], steady=_ms(begun), failed=-1e9, since=0.0, why="",
                          refused=False, number=answer["number"],
                          lapse=max(memory["lapse"], self._steady() + script.LEASE + SPARE),
                          well=memory["well"] or self._steady())
            return dict(memory)

    def _failed(self, why: str, refused: bool = False) -> None:
        with self._memory() as memory:
            memory.update(failed=self._steady(), why=why, since=memory["since"] or self._clock(), well=0.0, refused=refused)

    def _memory(self) -> _Memory:
        return _Memory(self.path, lambda: {
            "instance": self.instance, "epoch": "", "at": 0, "steady": 0, "failed": -1e9, "since": 0.0, "why": "",
            "refused": False, "number": -1, "well": 0.0, "lapse": self._steady() + script.LEASE + SPARE})

    # -- what people see --------------------------------------------------------------------------------------------

    def overview(self) -> Overview:
        """The fleet, as Redis knows it. Raises Away."""
        clock, fields = self.client.state()
        now, shared = 1000 * clock, fields.pop("shared", {})
        members = [Member(name[4:], pbx["version"], (now - pbx["seen"]) / 1000, pbx.get("lease", 0) > now, pbx["pbxs"],
                          pbx["limit"], fleet_share.part(pbx["limit"], pbx["pbxs"]), len(pbx["line"]), pbx.get("outbox", 0),
                          pbx.get("clock", 0) / 1000) for name, pbx in sorted(fields.items()) if pbx.get("version")]
        leased = [member for member in members if member.leased]
        limit = min((member.limit for member in leased), default=0)
        counts = sum(min(now, entry.get("open") or entry["at"]) > now - 1000 * WINDOW for entry in shared.get("window", ()))
        closed = shared.get("closed") or {}
        return Overview(members, fleet_share.pool(limit, self.pbxs, max(0, self.pbxs - len(leased))), counts,
                        max(0.0, (shared.get("full", 0) - now) / 1000), max(0.0, (closed.get("until", 0) - now) / 1000))


def account_key(config: Config) -> str:
    """The key of the account's state in Redis. It does not reveal the token."""
    return "movidesk:fleet:" + sha256(b"movidesk fleet " + config["movidesk", "token"].reveal().encode()).hexdigest()[:24]


class _Memory:
    """`with _Memory(...) as values:` reads the file under its lock; what is changed is written. Raises Away if that fails."""

    def __init__(self, path: str, begin: Callable[[], dict[str, Any]]):
        self._path, self._begin = path, begin

    def __enter__(self) -> dict[str, Any]:
        try:
            self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise Away(f"{self._path}: {error.strerror}") from None
        fcntl.flock(self._file, fcntl.LOCK_EX)
        self._text = os.pread(self._file, 65536, 0)
        values, fresh = {}, self._begin()
        with suppress(ValueError):  # cut by a crash: as if it were not there
            values = dict(json.loads(self._text or b"{}"))
        self._values = values if values.keys() == fresh.keys() and values["instance"] == fresh["instance"] else fresh
        return self._values

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        try:
            text = json.dumps(self._values).encode()
            if text != self._text:
                os.pwrite(self._file, text.ljust(len(self._text)), 0)
        except OSError as trouble:
            raise Away(f"{self._path}: {trouble.strerror}") from None
        finally:
            os.close(self._file)


def _instance(config: Config) -> str:
    """What tells this PBX from another one of the same name, and from itself before a reboot."""
    folder = os.path.dirname(config["journal", "path"])
    try:
        about = os.stat(folder)
        place = f"{about.st_dev} {about.st_ino}"
    except OSError:
        place = folder
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            boot = file.read().strip()
    except OSError:
        boot = ""
    return sha256(f"{boot} {place} {config.own_name}".encode()).hexdigest()[:16]


def _ms(seconds: float) -> int:
    return round(1000 * seconds)
