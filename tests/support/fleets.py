"""Several PBXs with one real Redis, whose clock the test moves."""
from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

from movidesk.config import Config, load
from movidesk.config.options import Secret
from movidesk.fleet import Away, script
from movidesk.fleet.client import Client
from movidesk.fleet.membership import Membership
from movidesk.journal import Journal

TIME = "redis.call('TIME')"
#: Seconds in which Redis must answer here, however busy the machine is.
PATIENCE = 30.0
ACCOUNT = "movidesk:fleet:1:test"
_numbers = itertools.count(1)


def text_with_a_clock() -> str:
    """The script with one change: its time is an argument. Nothing in the product can ask for that."""
    text = script.text()
    assert text.count(TIME) == 1
    return text.replace(TIME, "{ARGV[2], ARGV[3]}")


class TestedRedis(Client):
    """The client of one PBX, on a Redis whose clock the test sets (`set_clock`)."""

    __test__ = False

    def __init__(self, url: str, key: str = ACCOUNT):
        super().__init__(Secret(url), key, text=text_with_a_clock())
        self.longest = PATIENCE
        self.redis.connection_pool.connection_kwargs.update(socket_timeout=PATIENCE, socket_connect_timeout=PATIENCE)

    def set_clock(self, seconds: float) -> None:
        """For the calls that follow."""
        self.more = int(seconds), int(seconds % 1 * 1e6)


def report(callers: list | tuple = (), **more) -> dict[str, object]:
    """What a PBX with these callers tells: {id, queue, priority, age, seen, aside, wants}, times in milliseconds."""
    return {"number": next(_numbers), "callers": list(callers), "over": [], "alone": [], "queues": [], "ringing": [],
            "closed": [], "token": [], "lowered": [], "taken": 10 ** 12, "clock": 0, "outbox": 0, "screens": 0,
            "offered": 0, "freeing": 0, "aged": 0, "facts": "", **more}


class VirtualRedis(TestedRedis):
    """Its clock is a test's own, ahead of it by `ahead` seconds. `lose`: how many of the next answers are lost; `away`: whether
    it cannot be reached."""

    def __init__(self, url: str, clock: Callable[[], float], ahead: float = 0.0):
        super().__init__(url)
        self.clock, self.ahead, self.lose, self.away, self.calls = clock, ahead, 0, False, 0

    def state(self) -> tuple[float, dict[str, dict[str, Any]]]:
        return self.clock() + self.ahead, super().state()[1]

    def decide(self, asked: dict[str, object]) -> dict[str, Any]:
        if self.away:
            raise Away("cut")
        self.calls += 1
        self.set_clock(self.clock() + self.ahead)
        answer = super().decide(asked)
        if self.lose:
            self.lose -= 1
            raise Away("the answer is lost")
        return answer


def config(folder: Path, name: str = "pbx1", pbxs: int = 1, share: str = "limit", limit: int = 10,
           token: str = "155cac97-f203-4bb8-86e1-aa4cb8781f3e") -> Config:
    """The movidesk.conf of a PBX of a fleet."""
    (folder / name).mkdir(exist_ok=True)
    path = folder / name / "movidesk.conf"
    path.write_text(f"[movidesk]\ntoken = {token}\nrequests_per_minute = {limit}\n[pbx]\n"
                    f"name = {name}\n[journal]\npath = {folder / name}/journal.db\nstandby = {folder / name}\n"
                    f"[fleet]\nredis = redis://127.0.0.1:1\npbxs = {pbxs}\nshare = {share}\n")
    return load(str(path)).require()


def member_journal(folder: Path, redis: Client, clock: Callable[[], float], **options) -> Journal:
    """The journal of a PBX of a fleet (`config`), in memory."""
    made = config(folder, **options)
    return Journal(":memory:", clock, member=lambda steady: Membership(made, steady, clock, redis))
