"""Several PBXs with one real Redis, whose clock the test moves."""
from __future__ import annotations

from movidesk.config.options import Secret
from movidesk.fleet import script
from movidesk.fleet.client import Client

TIME = "redis.call('TIME')"
#: The key that holds Redis' clock in these tests, in seconds and microseconds.
CLOCK = "test:clock"
ACCOUNT = "movidesk:fleet:test"


def text_with_a_clock() -> str:
    """The script with one change: it reads the time from a key. Nothing in the product can ask for that."""
    text = script.text()
    assert text.count(TIME) == 1
    return text.replace(TIME, f"redis.call('LRANGE', '{CLOCK}', 0, 1)")


class TestedRedis(Client):
    """The client of one PBX, on a Redis whose clock the test sets (`set_clock`)."""

    __test__ = False

    def __init__(self, url: str, key: str = ACCOUNT):
        super().__init__(Secret(url), key, text=text_with_a_clock())

    def set_clock(self, seconds: float) -> None:
        with self.redis.pipeline() as pipe:
            pipe.delete(CLOCK).rpush(CLOCK, int(seconds), round(seconds % 1 * 1e6)).execute()


def report(callers: list | tuple = (), **more) -> dict[str, object]:
    """What a PBX with these callers tells: {id, queue, priority, age, seen, aside, wants}, times in milliseconds."""
    return {"callers": list(callers), "over": [], "alone": [], "queues": [], "ringing": [], "closed": [], "token": [],
            "lowered": [], "taken": 10 ** 12, "clock": 0, "outbox": 0, "screens": 0,
            "offered": 0, "freeing": 0, "aged": 0, "facts": "", **more}
