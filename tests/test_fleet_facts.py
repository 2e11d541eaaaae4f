"""`movidesk status --fleet`, on a real Redis."""
from __future__ import annotations

import json
import time
from contextlib import suppress

import pytest

from movidesk import fleet_facts
from movidesk.config import load
from movidesk.fleet.membership import Membership
from movidesk.fleet.records import Away
from support.waits import until

REPORT = {"number": 1, "callers": [], "over": [], "alone": [], "queues": [], "ringing": [], "closed": [], "token": [],
          "lowered": [], "taken": 10 ** 12, "clock": 0, "outbox": 0, "screens": 0, "offered": 0, "freeing": 0, "aged": 0,
          "facts": ""}


def joined(membership, told) -> bool:
    """Whether Redis took it; on a busy machine its answer may come too late to count."""
    try:
        return bool(membership.call(told, {}, 10))
    except Away:
        return False


def refused(membership) -> bool:
    """Whether Redis did not let it join."""
    with suppress(Away):
        membership.call(REPORT, {}, 10)
    return membership.is_refused()


@pytest.fixture
def fleet(redis, movidesk, write_config, tmp_path):
    """The command of pbx1; join(name) lets a PBX join, with callers in line."""
    made = []

    def join(name, callers=(), **more):
        (tmp_path / name).mkdir(exist_ok=True)
        config = load(write_config(pbx={"name": name}, fleet={"redis": redis.url, "pbxs": "2"},
                                   journal={"path": str(tmp_path / name / "journal.db")})).require()
        membership = Membership(config, time.monotonic, time.time)
        made.append(membership)
        lines = [[f"{name}-{n}", queue, 0, 1000, 60000, 0, 0] for n, queue in enumerate(callers)]
        told = {**REPORT, "clock": round(1000 * time.time()), "callers": lines, **more}
        until(lambda: joined(membership, told), 30)
        movidesk.configure(pbx={"name": "pbx1"}, fleet={"redis": redis.url, "pbxs": "2"}, movidesk={"requests_per_minute": "10"})

    join.shown = lambda *options: movidesk("status", "--fleet", *options)
    yield join
    for membership in made:
        membership.close()


def test_each_pbx_has_a_line(fleet):
    fleet("pbx2", ["77", "78"], outbox=4, clock=round(1000 * (time.time() + 3)))
    fleet("pbx1", ["77"])
    status, text, _ = fleet.shown()
    lines = [line.split() for line in text.splitlines()]
    assert status == 0
    assert ["PBXs", "2", "of", "2;", "this", "is", "pbx1"] in lines
    assert ["PBX", "version", "waiting", "share", "outbox", "clock", "seen"] in lines
    rows = {line[0]: line for line in lines if line}
    assert rows["pbx1"][:6] == ["pbx1", "*", "0.1.0", "1", "5", "0"]
    assert rows["pbx2"][:5] == ["pbx2", "0.1.0", "2", "5", "4"]
    ahead = float(rows["pbx2"][5]) - float(rows["pbx1"][6])
    assert abs(ahead - 3) < 2.5, "a busy machine takes a while between its clock and Redis'"
    assert "nothing is sent for" in text, "Redis is new, so what was sent before is not known"


def test_json(fleet):
    fleet("pbx1", ["77"])
    status, text, _ = fleet.shown("--json")
    found = json.loads(text)
    assert set(found) == set(fleet_facts.Fleet.__annotations__)
    assert set(found["pbxs"][0]) == set(fleet_facts.Pbx.__annotations__)
    assert set(found["shared"]) == set(fleet_facts.Shared.__annotations__)
    assert (status, found["expected"], found["shared"]["limit"], found["shared"]["pool"]) == (0, 2, 10, 0)


def test_the_share_of_a_pbx_that_has_just_joined_is_not_usable_yet(fleet, redis):
    fleet("pbx1")
    assert "the other 10 are the share of PBXs that are not there, or have just joined" in fleet.shown()[1]


def test_a_pbx_that_may_not_join(fleet, redis, tmp_path, movidesk):
    """It sends nothing, however long it waits."""
    fleet("pbx1")
    (tmp_path / "other").mkdir()
    movidesk.configure(pbx={"name": "pbx1"}, fleet={"redis": redis.url, "pbxs": "2"},
                       journal={"path": str(tmp_path / "other" / "journal.db")})
    config = load(movidesk.path).require()
    second = Membership(config, time.monotonic, time.time)
    try:
        until(lambda: refused(second), 30)
    finally:
        second.close()
    status, text, _ = fleet.shown()
    assert "this PBX may not join, and sends nothing: another PBX of this account is called pbx1" in text, text
    assert "its share" not in text


def test_redis_that_is_gone(fleet, redis):
    fleet("pbx1")
    redis.stop()
    status, text, _ = fleet.shown()
    assert status == 1 and "cannot be used: " in text and "sends nothing for" in text
    status, text, _ = fleet.shown("--json")
    assert (status, json.loads(text)["pbxs"], json.loads(text)["shared"]) == (1, [], None)


def test_without_a_fleet(movidesk):
    status, _, error = movidesk("status", "--fleet")
    assert status == 2 and "has no [fleet] redis" in error


@pytest.mark.parametrize(("other", "misuse"), [("--watch", 2), ("--nagios", 3)])
def test_what_it_excludes(movidesk, other, misuse):
    status, text, error = movidesk("status", "--fleet", other)
    assert status == misuse and "--fleet excludes" in text + error
