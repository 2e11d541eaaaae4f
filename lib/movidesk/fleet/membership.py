"""This PBX's place in its fleet: its calls of the script, and what all its processes must remember of the answers.

That is a small file in memory (movidesk.fleet.memory). It holds

    epoch, at, steady   the last answer that came in time: of which state of Redis, its time there, and when it was asked for
                        here. The next call shows it, and only that extends the lease
    number              of this PBX, from 0, where it has turns (movidesk.rules.fleet_share); -1 if Redis has given it none
    lapse               steady time until which Redis may count on our part of the limit
    alone               whether the journal decides by itself (movidesk.journal.pool): then no answer is taken
    complete            whether all PBXs were there at once in this epoch: then each has a number of its own from it
    failed, since, why  the last failure (steady time), the first one in a row (epoch seconds), and its text
    fails               since when Redis fails (steady time); 0.0 if it answers
    refused             whether Redis has refused us, and no answer since has been without a refusal
    well                since when Redis has answered again (steady time)

The lease that Redis counts begins at the time of an answer, ours at its arrival here. So ours ends later, whatever is lost on
the way. `alone` and `lapse` change under one lock: nobody gets a lease while the PBX is alone, and it is not alone while it may
have one.
"""

from __future__ import annotations

import secrets
from contextlib import suppress
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from movidesk import __version__
from movidesk.fleet import script
from movidesk.fleet.client import TIMEOUT, Client
from movidesk.fleet.memory import Memory, hashed, place
from movidesk.fleet.records import Away, Member, Overview, Refused, ms
from movidesk.rules import fleet_share
from movidesk.rules.rate_limit import WINDOW

if TYPE_CHECKING:
    from collections.abc import Callable

    from movidesk.config import Config

#: Seconds by which our own lease is longer than that of Redis: for requests of others that reach Movidesk late, and for clocks
#: that run at different speeds.
SPARE = 5.0
#: Seconds after a failure in which no process calls Redis: else each caller who looks would wait for it.
PAUSE_AFTER_FAILURE = 1.0
#: Seconds for which Redis must have answered before this PBX gives up its own line and comes back.
WELL = 5.0
#: How often a call is repeated at once because Redis wants to know whether its answer came in time (fleet/state.lua, witness).
MOST_AGAIN = 3
#: Seconds for which a PBX keeps its turn without an answer. Clocks of PBXs drift apart by less than 2 SPARE in that time.
TURNS_FOR = 86400.0
#: The format of the state in Redis, a part of its key. A version of the product that cannot share the state of earlier ones needs
#: another number.
FORMAT = 1
ALONE_WHY = "this PBX uses its own share of the limit"


class Membership:
    """This PBX in its fleet. steady: the journal's steady clock; clock: epoch seconds.

    is_script: this process lives for one verb. It asks Redis only if it can share what it learns with the others.
    """

    def __init__(self, config: Config, steady: Callable[[], float], clock: Callable[[], float], client: Client | None = None,
                 is_script: bool = False):
        self._config, self._steady, self._clock, self._is_script = config, steady, clock, is_script
        self.name, self.pbxs, self.share = config["pbx", "name"], config["fleet", "pbxs"], config["fleet", "share"]
        self._client = client
        self.instance = _instance(config)
        self.memory = Memory(config, self._fresh)
        #: Seconds for which Redis counts a granted request as under way: it leaves within journal.limits.SEND_WITHIN or never,
        #: an exchange with Movidesk lasts three times its time-out at most, and a second is to spare.
        self.hold = 3 * config["movidesk", "timeout"] + 6.0
        #: Requests a minute that this PBX may send for the account, as it last told Redis.
        self.last_limit = config["movidesk", "requests_per_minute"]

    @property
    def client(self) -> Client:
        """The Redis."""
        if self._client is None:
            self._client = Client(self._config["fleet", "redis"], account_key(self._config), self._config["fleet", "ca_file"])
        return self._client

    def use_token(self, config: Config) -> None:
        """From the next call on, the PBX shares the account of this configuration's token with the PBXs there. The other values
        count only after the next start."""
        self.client.key = account_key(config)

    def close(self) -> None:
        """Close the connections to Redis."""
        if self._client is not None:
            self._client.close()

    def part(self, limit: int, rate: int | None = None) -> int:
        """Requests a minute that this PBX may send while Redis is away; 0: one in each turn (`limit_alone`).

        rate: the lower rate that the journal allows itself after 429s (Limits.rate). A part of it is 1 at least.
        """
        rate = limit if rate is None else rate
        if self.share == "none":
            return rate
        return min(fleet_share.part(limit, self.pbxs), max(1, fleet_share.part(rate, self.pbxs)))

    def limit_alone(self, limit: int, rate: int | None = None) -> int:
        """Requests a minute that it may send at this moment while Redis is away: where its part is less than one, 1 in its turn
        and 0 else. It has no turn before all PBXs have been there: another might have the same number. rate: see `part`."""
        part = self.part(limit, rate)
        if part:
            return part
        remembered = self.remembered()
        passed = self._steady() - remembered["steady"] / 1000
        return int(remembered["complete"] and 0.0 <= passed < TURNS_FOR and fleet_share.is_turn(
            remembered["number"], limit, self.pbxs, remembered["at"] / 1000 + passed, self.hold + 2 * SPARE))

    def until_alone(self) -> float:
        """Seconds until this PBX may use its own part of the limit; 0.0 if it may now. A PBX that is refused never may."""
        return self._until_alone(self.remembered())

    def _until_alone(self, remembered: dict[str, Any]) -> float:
        """The others may have been granted all of the limit until our lease lapsed, and these requests are under way for `hold`
        at most."""
        return 0.0 if self.share == "none" else float(max(0.0, remembered["lapse"] + WINDOW + self.hold - self._steady()))

    def go_alone(self) -> bool:
        """From now on the journal decides by itself, and no answer of Redis is taken; False if that may not be. Within the
        transaction that notes it."""
        with suppress(Away), self.memory.change() as memory:
            memory["alone"] = not memory["refused"] and self._until_alone(memory) <= 0.0
            return bool(memory["alone"])
        return False

    def come_back(self) -> None:
        """Answers are taken again. Within the transaction that notes it. Raises Away."""
        with self.memory.change() as memory:
            memory["alone"] = False

    def is_refused(self) -> bool:
        """Whether this PBX may not join, as far as it knows."""
        return bool(self.remembered()["refused"])

    def is_well(self) -> bool:
        """Whether Redis answers, and has done so for WELL seconds. Asks it, without joining."""
        remembered = self.remembered()
        if 0.0 <= self._steady() - remembered["failed"] < PAUSE_AFTER_FAILURE:
            return False
        try:
            self._answer({"ack": None, "number": remembered["number"]})
            with self.memory.change() as memory:
                memory.update(refused=False, well=memory["well"] or self._steady())
                return bool(self._steady() - memory["well"] >= WELL)
        except Away as error:
            self._failed(error)
            return False

    def call(self, report: dict[str, object], question: dict[str, object], limit: int) -> dict[str, Any]:
        """Tell Redis how this PBX stands, and ask it (fleet/decide.lua). A grant's number is in the answer as `id`.

        Raises Refused, or Away: then nothing is granted, whatever Redis has counted.
        """
        self.last_limit = limit
        remembered = self._begin()
        asked = {"id": secrets.token_hex(8), "report": report, "ask": question, "limit": limit}
        try:
            for _ in range(MOST_AGAIN):
                ack = {name: remembered[name] for name in ("epoch", "at", "steady")} if remembered["epoch"] else None
                begun = self._steady()
                answer = self._answer({**asked, "ack": ack, "number": remembered["number"]})
                remembered = self._remember(answer, begun)
                if not answer["again"]:
                    return {**answer, "id": asked["id"], "begun": begun}
            raise Away("Redis' clock, or the network, is not steady")
        except Away as error:
            self._failed(error)
            raise

    def _begin(self) -> dict[str, Any]:
        """What is remembered, if Redis may be called now. Raises Away, Refused."""
        with self.memory.change() as memory:
            remembered = dict(memory)
        if 0.0 <= self._steady() - remembered["failed"] < PAUSE_AFTER_FAILURE:
            raise (Refused if remembered["refused"] else Away)(remembered["why"])
        if remembered["alone"]:
            raise Away(ALONE_WHY)
        if self.asks_nobody():
            self._failed(Away(self.memory.trouble))
            raise Away(self.memory.trouble)
        return remembered

    def asks_nobody(self) -> bool:
        """Whether this is a script that cannot use the memory file: the service would not know of its lease."""
        return self._is_script and bool(self.memory.trouble)

    def _answer(self, asked: dict[str, object]) -> dict[str, Any]:
        """An answer that came in time. Raises Away, Refused."""
        begun = self._steady()
        answer = self._ask(asked)
        if self._steady() - begun > TIMEOUT:
            raise Away(f"Redis answered after more than {TIMEOUT:g} s")
        if answer.get("refused"):
            raise Refused(self._refusal(answer))
        return answer

    def _ask(self, asked: dict[str, object]) -> dict[str, Any]:
        return self.client.decide({
            "name": self.name, "instance": self.instance, "version": __version__, "pbxs": self.pbxs, "share": self.share,
            "steady": ms(self._steady()), "limit": self.last_limit, "hold": ms(self.hold), **asked})

    def _refusal(self, answer: dict[str, Any]) -> str:
        return {
            "name": f"another PBX of this account is called {self.name}: give each its own [pbx] name",
            "pbxs": f"[fleet] pbxs = {self.pbxs} here, but {answer.get('other')} on the others: write the same number on each",
            "share": f"[fleet] share = {self.share} here, but {answer.get('other')} on the others: write the same on each",
            "many": f"[fleet] pbxs = {self.pbxs}, but that many other PBXs of this account are there already",
        }[answer["refused"]]

    # -- what all processes remember --------------------------------------------------------------------------------

    def remembered(self) -> dict[str, Any]:
        """What the file holds. Without it, as after a reboot, an answer may just have come. Raises nothing."""
        return self.memory.read()

    def _remember(self, answer: dict[str, Any], begun: float) -> dict[str, Any]:
        with self.memory.change() as memory:
            if memory["alone"]:
                raise Away(ALONE_WHY)
            memory.update(epoch=answer["epoch"], at=answer["at"], steady=ms(begun), failed=-1e9, since=0.0, fails=0.0, why="",
                          refused=False, lapse=max(memory["lapse"], self._steady() + script.LEASE + SPARE),
                          well=memory["well"] or self._steady(), number=answer["number"],
                          complete=self._is_complete(answer, memory))
            return dict(memory)

    def _is_complete(self, answer: dict[str, Any], memory: dict[str, Any]) -> bool:
        """Whether all PBXs were there in the epoch of this answer. Each has then heard of that epoch, and goes by no number of an
        earlier one."""
        if not answer["again"] and len({self.name, *dict(answer["facts"])}) >= self.pbxs:
            return True
        return bool(memory["complete"]) and memory["epoch"] == answer["epoch"]

    def _failed(self, error: Away) -> None:
        refused = isinstance(error, Refused)
        with suppress(Away), self.memory.change() as memory:
            memory.update(failed=self._steady(), since=memory["since"] or self._clock(), fails=memory["fails"] or self._steady(),
                          well=0.0, refused=memory["refused"] or refused,
                          why=str(error) if refused or not memory["refused"] else memory["why"])

    def _fresh(self) -> dict[str, Any]:
        return {"instance": self.instance, "epoch": "", "at": 0, "steady": 0, "failed": -1e9, "since": 0.0, "fails": 0.0,
                "why": "", "refused": False, "alone": False, "number": -1, "complete": False, "well": 0.0,
                "lapse": self._steady() + script.LEASE + SPARE}

    # -- what people see --------------------------------------------------------------------------------------------

    def overview(self) -> Overview:
        """The fleet, as Redis knows it. Raises Away."""
        clock, fields = self.client.state()
        now, shared = 1000 * clock, fields.pop("shared", {})
        members = [_member(name[4:], pbx, now) for name, pbx in sorted(fields.items()) if pbx.get("version")]
        leased = [member for member in members if member.leased]
        settled = sum(pbx.get("lease", 0) > now >= pbx.get("settles", 0) for pbx in fields.values())
        limit = min((member.limit for member in leased), default=0)
        shared_by_all = limit if self.share == "none" else fleet_share.pool(limit, self.pbxs, max(0, self.pbxs - settled))
        counts = sum(min(now, entry.get("open") or entry["at"]) > now - 1000 * WINDOW for entry in shared.get("window", ()))
        closed = shared.get("closed") or {}
        return Overview(members, shared_by_all, counts,
                        max(0.0, (shared.get("full", 0) - now) / 1000), max(0.0, (closed.get("until", 0) - now) / 1000))


def _member(name: str, pbx: dict[str, Any], now: float) -> Member:
    """From the PBX's field of the state; now: Redis' clock, in milliseconds."""
    return Member(
        name, pbx["version"], seen=(now - pbx["seen"]) / 1000, leased=pbx.get("lease", 0) > now, pbxs=pbx["pbxs"],
        limit=pbx["limit"], part=fleet_share.part(pbx["limit"], pbx["pbxs"]),
        waiting=sum(caller["seen"] > now for caller in pbx["line"].values()), outbox=pbx.get("outbox", 0),
        clock=pbx.get("clock", 0) / 1000, share=pbx["share"])


def account_key(config: Config) -> str:
    """The key of the account's state in Redis. It does not reveal the token."""
    token = config["movidesk", "token"].reveal()
    return f"movidesk:fleet:{FORMAT}:" + sha256(f"movidesk fleet {token}".encode()).hexdigest()[:24]


def _instance(config: Config) -> str:
    """What tells this PBX from another one of the same name, and from itself before a reboot."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            boot = file.read().strip()
    except OSError:
        boot = ""
    return hashed(f"{boot} {place(config)}")
