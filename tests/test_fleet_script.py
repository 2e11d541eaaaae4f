"""The script of the fleet in a real Redis, whose clock the test moves."""
from __future__ import annotations

import configparser
from pathlib import Path

import pytest

from movidesk.fleet import script
from movidesk_rehearsal.redis_server import PrivateRedis
from support.fleets import TestedRedis, report

ROOT = Path(__file__).parents[1]
NOW = 1_700_000_000.0
LEASE, WINDOW = 10.0, 60.5
#: A question of the caller `x` of queue 77, who asks for the first time.
QUESTION = {"caller": "x", "all_busy": False, "at_once": True, "longest": 30_000, "taken": 0, "free": 0, "ring": 2000,
            "leaves": False, "report": False, "fails": False}


@pytest.fixture(scope="module")
def redis(tmp_path_factory):
    with PrivateRedis(tmp_path_factory.mktemp("redis")) as running:
        yield running


class Pbx:
    """A PBX that speaks to the script itself. `clock` is what its steady clock is ahead of Redis'."""

    def __init__(self, fleet: Fleet, name: str, clock: float = 0.0, pbxs: int = 2, limit: int = 10, instance: str = ""):
        self.fleet, self.name, self.clock, self.pbxs, self.limit = fleet, name, clock, pbxs, limit
        self.instance, self.ack, self.count = instance or name, None, 0

    def call(self, question=None, delay: float = 0.0, lost: bool = False, share: str = "limit", number: str = "", **told):
        """One call; delay: the seconds until Redis executes it. lost: the answer does not arrive."""
        steady = round(1000 * (self.fleet.now + self.clock))
        self.count += 1
        self.fleet.now += delay
        self.fleet.redis.set_clock(self.fleet.now)
        answer = self.fleet.redis.decide({
            "name": self.name, "instance": self.instance, "version": "1", "pbxs": self.pbxs, "share": share, "limit": self.limit,
            "steady": steady, "hold": 20_000, "id": number or f"{self.name}{self.count}", "ack": self.ack, "ask": question or {},
            "report": report(**told)})
        if not lost and "again" in answer:
            self.ack = {"epoch": answer["epoch"], "at": answer["at"], "steady": steady}
        return answer

    def join(self):
        while self.call()["again"]:
            pass
        return self

    def sends(self, places: int = 20) -> int:
        """How many requests that open a screen it is granted at this moment."""
        return sum(self.call({"events": [[0, False, 1]], "ring": 2000})["granted"] for _ in range(places))


class Fleet:
    def __init__(self, url: str):
        self.redis, self.now = TestedRedis(url), NOW

    def wait(self, seconds: float, *pbxs: Pbx, every: float = 2.0) -> None:
        """Time passes; these PBXs keep their leases."""
        end = self.now + seconds
        while self.now < end:
            self.now = min(end, self.now + every)
            for pbx in pbxs:
                pbx.call()


@pytest.fixture
def fleet(redis):
    redis.forget_everything()
    fleet = Fleet(redis.url)
    yield fleet
    fleet.redis.close()


def test_the_script_is_part_of_the_package():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    packed = {path.stem for pattern in setup["options.package_data"]["movidesk"].split()
              for path in (ROOT / "lib" / "movidesk").glob(pattern)}
    assert set(script.PARTS) <= packed


def test_an_unknown_state_counts_as_a_full_window(fleet):
    a = Pbx(fleet, "a", pbxs=1).join()
    fleet.wait(WINDOW - 0.5, a)
    assert a.sends() == 0
    fleet.wait(0.6, a)
    assert a.sends() == 10
    fleet.wait(20.0 + WINDOW - 0.5, a)
    assert a.sends() == 0, "nobody has said when they were over"
    fleet.wait(0.6, a)
    assert a.sends() == 10


def test_two_share_the_limit_and_one_has_its_part(fleet):
    a, b = Pbx(fleet, "a").join(), Pbx(fleet, "b", clock=5000.0).join()
    fleet.wait(WINDOW + 0.1, a, b)
    assert a.sends(8) + b.sends() == 10
    fleet.wait(100.0, a)
    assert a.sends() == 5, "the other one has no lease"
    fleet.wait(100.0, a, b)
    assert b.sends() == 10


def test_a_lease_counts_only_answers_that_arrived(fleet):
    a, b = Pbx(fleet, "a").join(), Pbx(fleet, "b").join()
    fleet.wait(WINDOW + 0.1, a, b)
    for _ in range(6):
        fleet.now += 2.0
        a.call()
        b.call(lost=True)
    assert a.sends() == 5, "b hears nothing, and may be using its part"


def test_a_late_call_is_granted_nothing_and_extends_no_lease(fleet):
    a, b = Pbx(fleet, "a").join(), Pbx(fleet, "b").join()
    fleet.wait(WINDOW + 0.1, a, b)
    assert b.call({"events": [[0, False, 1]], "ring": 0}, delay=LEASE + 1, lost=True)["again"]
    a.join()
    assert a.sends() == 5


def test_a_request_that_comes_twice_is_granted_once(fleet):
    a = Pbx(fleet, "a", pbxs=1).join()
    fleet.wait(WINDOW + 0.1, a)
    event = {"events": [[0, False, 1]], "ring": 2000}
    assert a.call(event, lost=True, number="same")["granted"] == 1
    assert a.call(event, number="same")["granted"] == 0
    assert a.sends() == 9, "and the first one counts, although its answer was lost"


@pytest.mark.parametrize("jump", [-30.0, 30.0, 3600.0])
def test_a_jump_of_redis_clock_counts_as_a_full_window(fleet, jump):
    a, b = Pbx(fleet, "a", pbxs=2).join(), Pbx(fleet, "b").join()
    fleet.wait(WINDOW + 0.1, a, b)
    assert a.sends() == 10
    fleet.now += jump
    for pbx in a, b:
        pbx.clock -= jump
        assert pbx.sends(1) == 0
        pbx.join()
    fleet.wait(WINDOW - 1.0, a, b)
    assert a.sends() + b.sends() == 0
    fleet.wait(1.5, a, b)
    assert a.sends() == 10


def test_a_newcomer_trusts_the_clock_only_where_it_was_watched(fleet):
    a = Pbx(fleet, "a").join()
    fleet.wait(WINDOW + 0.1, a)
    assert a.sends() == 5
    fleet.now += 61.0  # a jump, of which only a could know
    b = Pbx(fleet, "b").join()
    assert b.sends() == 0


@pytest.mark.parametrize("what", ["forget_everything", "restart", "forget_scripts"])
def test_redis_forgets(fleet, redis, what):
    a = Pbx(fleet, "a", pbxs=1).join()
    fleet.wait(WINDOW + 0.1, a)
    assert a.sends(7) == 7
    getattr(redis, what)()
    fleet.redis.close()
    a.join()
    assert a.sends() == (3 if what == "forget_scripts" else 0)
    fleet.wait(WINDOW + 20.1, a)
    assert a.sends() == 10


def test_the_second_pbx_of_a_name_is_refused_while_the_first_is_there(fleet):
    a, clone = Pbx(fleet, "a").join(), Pbx(fleet, "a", instance="clone")
    assert clone.call()["refused"] == "name"
    fleet.wait(LEASE - 1.0, a)
    assert clone.call()["refused"] == "name"
    fleet.now += LEASE + 0.1
    assert clone.call()["again"] and not clone.call()["again"], "after a reboot"


def test_pbxs_of_another_number_and_too_many_are_refused(fleet):
    Pbx(fleet, "a").join()
    other = Pbx(fleet, "b", pbxs=3).call()
    assert (other["refused"], other["other"]) == ("pbxs", 2)
    Pbx(fleet, "b").join()
    assert Pbx(fleet, "c").call()["refused"] == "many"
