"""Several PBXs with one account in the virtual day: each a Product with a journal of its own. Between them is a real Redis, whose
clock is the day's."""
from __future__ import annotations

import json
import os
import tempfile
import time

from redis import Redis

from _day import BEGIN, Caller, Day, Scene
from _product import Product, VirtualContext
from movidesk.config import Config, load
from movidesk.fleet import script
from movidesk.fleet.client import Client
from movidesk.fleet.membership import Membership, account_key
from movidesk.fleet.records import Away
from movidesk.housekeeping import BEAT_EVERY
from movidesk.journal import Journal

AWAY_FOR = 600.0  # seconds; as long as Redis is there before and after


class VirtualClient(Client):
    """The client of one PBX: the script reads the day's clock from its second argument, and nothing else differs. It keeps how
    long each call took in real time; no answer is too late, however busy this machine is."""

    def __init__(self, config: Config, day: FleetDay):
        text = script.text()
        assert text.count("redis.call('TIME')") == 1
        super().__init__(config["fleet", "redis"], account_key(config))
        self.day, self._redis = day, Redis.from_url(config["fleet", "redis"].reveal(), decode_responses=True)
        self._virtual = self._redis.register_script(text.replace("redis.call('TIME')", "cjson.decode(ARGV[2])"))

    def decide(self, asked: dict[str, object]) -> dict:
        if self.day.is_away():
            raise Away("ConnectionError: refused")
        begun, now = time.perf_counter(), self.day.now
        clock = json.dumps([int(now), round(now % 1 * 1e6)])
        answer = json.loads(self._virtual([self.key], [json.dumps(asked), clock]))
        self.day.calls_of_redis.append(time.perf_counter() - begun)
        return answer


class Pbx(Product):
    """One PBX of a FleetDay, whose clock, agents and Movidesk it shares."""

    def __init__(self, day: FleetDay, number: int, folder: str):
        self.day, self.name, self.folder = day, f"pbx{number + 1}", os.path.join(folder, f"pbx{number + 1}")
        os.mkdir(self.folder)
        config = self.config()
        self.open(VirtualContext(config, self.clock, self.wake, is_script=False, tell_fleet=lambda: self.at(self.now, self.beat),
                                 journal=Journal(":memory:", self.clock, member=lambda steady: Membership(
                                     config, steady, self.clock, VirtualClient(config, day)))))

    def __getattr__(self, name: str):
        return getattr(self.day, name)  # the clock, the agenda, the agents

    def config(self) -> Config:
        with tempfile.NamedTemporaryFile("w", suffix=".conf", dir=self.folder) as file:
            file.write(f"[movidesk]\ntoken = {self.movidesk.token}\nrequests_per_minute = {self.scene.limit}\n"
                       f"[pbx]\nname = {self.name}\n[journal]\nstandby = {self.folder}\npath = {self.folder}/journal.db\n"
                       f"[fleet]\nredis = {self.day.redis_url}\npbxs = {self.day.size}\n")
            file.flush()
            return load(file.name).require()

    def beat_on(self) -> None:
        """As Housekeeping does."""
        before = len(self.day.calls_of_redis)
        self.beat()
        self.day.beats += len(self.day.calls_of_redis) - before
        if self.now < self.end or self.day.undelivered():
            self.at(self.now + BEAT_EVERY, self.beat_on)

    def beat(self) -> None:
        self.context.journal.pool.beat(self.context.limit())


class FleetDay(Day):
    """A day at which callers call `size` PBXs in turn. away: Redis is away every other AWAY_FOR seconds, and comes back empty."""

    def __init__(self, scene: Scene, seed: int, size: int, redis, folder: str, away: bool = False):
        super().__init__(scene, seed)
        self.size, self.redis, self.redis_url, self.away = size, redis, redis.url, away
        self.calls_of_redis: list[float] = []  # how long each took
        self.beats = 0                         # how many of them no call has caused
        redis.forget_everything()
        self.pbxs = [Pbx(self, number, folder) for number in range(size)]
        for pbx in self.pbxs:
            self.at(BEGIN - 120, pbx.beat_on)  # they have been there for a while
        if away:
            self.drain *= 4  # they may send less, so what waits at the end takes longer
            self.at(BEGIN + AWAY_FOR, self._empty)

    def is_away(self) -> bool:
        return self.away and self.now >= BEGIN and (self.now - BEGIN) // AWAY_FOR % 2 == 0

    def _empty(self) -> None:
        self.redis.forget_everything()
        self.at(self.now + 2 * AWAY_FOR, self._empty)

    def arrive(self, caller: Caller) -> None:
        pbx = self.pbxs[caller.number % self.size]
        caller.id = f"{pbx.name}-{caller.number}"
        pbx.arrive(caller)

    def undelivered(self) -> int:
        return sum(pbx.undelivered() for pbx in self.pbxs)
