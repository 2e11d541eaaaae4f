"""When a PBX of a fleet may use its own part of the limit, and what its processes must know of each other for that."""
from __future__ import annotations

import fcntl
import os
import shutil

import pytest

from movidesk.config import load
from movidesk.fleet import ALONE, REFUSED, WAITS, Away
from movidesk.fleet import memory as fleet_memory
from movidesk.fleet.membership import Membership
from movidesk.journal import Journal
from movidesk.rules import rate_limit
from movidesk_rehearsal.redis_server import PrivateRedis
from support.clocks import Clock
from support.fleets import VirtualRedis, config, member_journal

ALONE_AFTER = 110.0  # seconds: more than a lease, what it is longer here, the window and the longest request

SETTLED = 170.0      # seconds: more than Redis needs to know what was sent, and what each PBX may have sent before


@pytest.fixture(scope="module")
def redis(tmp_path_factory):
    with PrivateRedis(tmp_path_factory.mktemp("redis")) as running:
        yield running


class World:
    """PBXs of one account on one clock; each one's link to Redis is `journal.pool.member.client`."""

    def __init__(self, folder, redis):
        self.folder, self.redis, self.clock, self.made, self.count = folder, redis, Clock(), [], 0
        redis.forget_everything()

    def pbx(self, name: str, **options) -> Journal:
        link = VirtualRedis(self.redis.url, self.clock, ahead=1000.0)
        journal = member_journal(self.folder, link, self.clock, name=name, **options)
        self.made.append((journal, link))
        return journal

    def run(self, seconds: float, *journals: Journal, limit: int = 10) -> None:
        """Time passes, with the beats of these PBXs."""
        end = self.clock.now + seconds
        while self.clock.now < end:
            self.clock.now += 2.0
            for journal in journals:
                journal.pool.beat(limit)

    def turn(self, journal: Journal, limit: int = 10):
        """A caller of a queue of its own comes and looks."""
        self.count += 1
        call = journal.calls.arrive("pbx", f"{self.count:04d}", str(self.count), "1")
        return journal.scheduler.turn(call, limit)

    def claims(self, journal: Journal, times: int = 12) -> int:
        """How many requests that open a screen it may send by itself at this moment."""
        with journal.store.transaction():
            return sum(bool(journal.limits.claim(10, rate_limit.SCREEN, rate_limit.Demand(), own=journal.pool.member).request_id)
                       for _ in range(times))

    def screen(self, journal: Journal):
        """Asks Redis for a request that opens a screen; returns the answer."""
        with journal.store.transaction():
            told = journal.pool.report()
        return journal.pool.ask(told, {"events": [[rate_limit.SCREEN, False, 1]], "ring": 2000}, 10)


@pytest.fixture
def world(tmp_path, redis):
    world = World(tmp_path, redis)
    yield world
    for journal, link in world.made:
        journal.close()
        link.close()


def test_a_look_whether_redis_is_well_tells_the_limit_of_this_pbx(world):
    journal = world.pbx("pbx1")
    world.run(SETTLED, journal)
    assert journal.pool.member.is_well()
    assert [member.limit for member in journal.pool.member.overview().members] == [10]


def cut(journal: Journal, away: bool = True) -> None:
    journal.pool.member.client.away = away


# -- a refusal ----------------------------------------------------------------------------------------------------------


def test_a_refused_pbx_never_goes_alone(world):
    a, b, c = world.pbx("a", pbxs=2), world.pbx("b", pbxs=2), world.pbx("c", pbxs=3)
    world.run(SETTLED, a, b)
    world.run(80, a, b, c)
    c.pool.beat(10)
    world.clock.now += 0.3
    assert not c.pool.beat(10), "within a second of the refusal"
    assert not world.turn(c).request_id
    cut(c)
    world.run(ALONE_AFTER, a, b, c)
    assert c.pool.standing().mode == REFUSED, "Redis has gone, and no answer has come without a refusal"
    assert "pbxs = 3" in c.pool.standing().why


def test_a_pbx_that_is_alone_and_then_refused_sends_nothing(world):
    a, b, c = world.pbx("a", pbxs=2), world.pbx("b", pbxs=2), world.pbx("c", pbxs=3)
    cut(c)
    world.run(ALONE_AFTER, a, b, c)
    assert c.pool.standing().mode == ALONE
    cut(c, False)
    world.run(6, a, b, c)
    assert c.pool.standing().mode == REFUSED and not world.turn(c).request_id


def test_a_refusal_ends_with_an_answer_without_one(world):
    a, b, c = world.pbx("a", pbxs=2), world.pbx("b", pbxs=2), world.pbx("c", pbxs=3)
    world.run(4, a, b, c)
    assert c.pool.standing().mode == REFUSED
    world.run(14, c)
    assert c.pool.standing().mode == "pool"


# -- alone, and the lease -------------------------------------------------------------------------------------------------


def test_an_answer_grants_nothing_once_the_pbx_is_alone(world):
    """A caller's question is under way while a beat finds that the PBX may go alone; then Redis is back."""
    a, b = world.pbx("a", pbxs=2), world.pbx("b", pbxs=2)
    world.run(SETTLED, a, b)
    cut(a)
    world.run(60, a, b)
    while a.pool.member.until_alone() > 4.0:
        world.run(2, a, b)
    ask = a.pool.ask

    def late(told, question, limit):
        a.pool.ask = ask
        world.run(6, a, b)
        assert a.pool.is_alone()
        cut(a, False)
        world.clock.now += 1.1
        return ask(told, question, limit)

    a.pool.ask = late
    world.turn(a)
    assert a.pool.is_alone()
    assert not [pbx for pbx in a.pool.member.overview().members if pbx.name == "a" and pbx.leased]


def test_alone_waits_for_requests_under_way(world):
    """The others may have been granted the whole limit until our lease lapsed, for requests that arrive `hold` later."""
    a, b = world.pbx("a", pbxs=2), world.pbx("b", pbxs=2)
    world.run(SETTLED, a, b)
    cut(a)
    last, begun = 0.0, world.clock.now
    while not a.pool.is_alone():
        world.clock.now += 0.5
        b.pool.beat(10)
        a.pool.beat(10)
        if world.clock.now > begun + 7 and (answer := world.screen(b))["granted"] and answer["pool"] == 10:
            last = world.clock.now
    assert last and world.clock.now - (last + a.pool.member.hold) >= 60.0


def test_a_script_and_root_share_the_memory_file(world, redis):
    """`movidesk deliver --once` by root, or with another path of movidesk.conf: one journal, one lease."""
    made = config(world.folder, name="a", pbxs=2)
    shutil.copy(made.path, world.folder / "a" / "other.conf")
    other = load(str(world.folder / "a" / "other.conf")).require()
    service, script = (Journal(str(world.folder / "a" / "journal.db"), world.clock, member=lambda steady, used=used: Membership(
        used, steady, world.clock, VirtualRedis(redis.url, world.clock, 1000.0))) for used in (made, other))
    world.made += [(journal, journal.pool.member.client) for journal in (service, script)]
    assert service.pool.member.instance == script.pool.member.instance
    script.pool.beat(10)
    world.run(ALONE_AFTER, service)
    assert script.pool.beat(10)
    assert script.pool.standing() == service.pool.standing() and not service.pool.is_alone()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_root_makes_the_memory_file_for_the_journals_owner(world):
    a = world.pbx("a")
    os.chown(world.folder / "a", 1234, -1)
    a.pool.beat(10)
    about = os.stat(a.pool.member.memory.path)
    assert (about.st_uid, about.st_mode & 0o777) == (1234, 0o600)


# -- more PBXs than requests ----------------------------------------------------------------------------------------------


def test_turns_never_exceed_the_limit(world):
    """3 PBXs, 2 requests a minute: each alone sends one in each of its turns, wherever its clock stands."""
    journals = [world.pbx(name, pbxs=3) for name in "abc"]
    world.run(SETTLED, *journals, limit=2)
    for journal in journals:
        cut(journal)
    world.run(ALONE_AFTER, *journals, limit=2)
    assert all(journal.pool.is_alone() for journal in journals)
    sent: list[tuple[float, str]] = []
    for _ in range(600):
        world.clock.now += 1.0
        for name, journal in zip("abc", journals):
            if request := world.turn(journal, limit=2).request_id:
                sent.append((world.clock.now, name))
                journal.limits.finished(request)
    for at, _ in sent:
        assert sum(at <= other < at + 60.0 for other, _ in sent) <= 2
    assert {name for _, name in sent} == {"a", "b", "c"} and len(sent) > 5


def test_no_turn_unless_all_have_been_there(world):
    journals = [world.pbx(name, pbxs=3) for name in "abc"]
    for journal in journals:
        cut(journal)
    world.run(ALONE_AFTER, *journals, limit=2)
    assert all(journal.pool.is_alone() for journal in journals)
    for _ in range(200):
        world.clock.now += 1.0
        assert not any(world.turn(journal, limit=2).request_id for journal in journals)


# -- the limit while alone ------------------------------------------------------------------------------------------------


def test_a_lowered_rate_counts_while_alone(world):
    a = world.pbx("a", pbxs=2)
    cut(a)
    world.run(ALONE_AFTER, a)
    assert a.pool.is_alone() and world.claims(a) == 5
    a.limits.close_window(1, world.clock.now, 10)
    assert a.limits.rate(10) == 10, "we had used up all of our part: nobody else need have sent anything"
    world.clock.now += 90
    a.limits.close_window(1, world.clock.now, 10)
    assert a.limits.rate(10) == 5
    world.clock.now += 61
    assert world.claims(a) == 2


def test_a_cut_at_the_end_of_our_part_may_be_a_429(world):
    a = world.pbx("a", pbxs=2)
    cut(a)
    world.run(ALONE_AFTER, a)
    assert world.claims(a, times=4) == 4
    assert a.limits.suspect_429(10, 60)


def test_the_requests_of_all_pbxs_count_after_a_429(world):
    a, b = world.pbx("a", pbxs=2), world.pbx("b", pbxs=2)
    world.run(SETTLED, a, b)
    for journal in (*[a] * 7, b, b, b):
        answer = world.screen(journal)
        with journal.store.transaction():
            journal.pool.add_grant(answer)
    assert b.limits.in_window(10) == (10, 10)
    b.limits.close_window(60, world.clock.now, 10)
    assert b.limits.rate(10) == 10, "the fleet has used the limit up by itself"


# -- requests -------------------------------------------------------------------------------------------------------------


def test_a_request_that_the_journal_has_forgotten_is_stale(world):
    a = world.pbx("a")
    world.run(SETTLED, a)
    request = world.turn(a).request_id
    world.clock.now += 10
    assert a.limits.is_stale(request)
    world.run(620, a)
    world.turn(a)
    assert a.limits.is_stale(request), "its process was stopped for ten minutes"


def test_after_a_reboot_a_pbx_reports_only_what_may_count(world):
    a, b = world.pbx("a", pbxs=2), world.pbx("b", pbxs=2)
    world.run(SETTLED, a, b)
    for _ in range(3):
        for _ in range(5):
            if (answer := world.screen(a))["granted"]:
                with a.store.transaction():
                    request = a.pool.add_grant(answer)
                a.limits.finished(request)
        world.run(62, a, b)
    world.run(120, a, b)
    cut(a)
    a.store._forget_steady_times()
    with a.store.transaction():
        assert a.pool.report().report["alone"] == [], "Redis has granted them, and knows when"
    cut(a, False)
    world.run(20, a, b)
    assert world.screen(b)["granted"]


def test_a_standby_that_knows_nothing_counts_its_own_part(tmp_path, clock, redis):
    """It cannot read the journal. Redis knows what it has granted."""
    from movidesk.context import Context
    from movidesk.journal import standby

    made = config(tmp_path, name="a", pbxs=2)
    os.mkdir(tmp_path / "a" / "journal.db")
    with standby.use(Context(made, clock), "it cannot be opened") as context:
        assert context.journal.limits.requests_in_window() == 5


# -- the memory file ------------------------------------------------------------------------------------------------------


@pytest.fixture
def spoilt(world):
    """A PBX whose memory file cannot be opened."""
    a = world.pbx("a", pbxs=2)
    a.pool.beat(10)
    path = a.pool.member.memory.path
    os.unlink(path)
    os.symlink("/nonexistent", path)
    return a


def test_without_the_memory_file_a_pbx_goes_on_and_goes_alone(world, spoilt):
    assert spoilt.pool.beat(10) and not world.turn(spoilt).request_id
    cut(spoilt)
    world.run(60, spoilt)
    assert spoilt.pool.standing().mode == WAITS and spoilt.pool.fails_open()
    world.run(60, spoilt)
    assert spoilt.pool.standing().mode == ALONE and world.turn(spoilt).request_id
    cut(spoilt, False)
    world.run(10, spoilt)
    assert spoilt.pool.standing().mode == "pool"


def test_without_the_memory_file_a_script_asks_nobody(world, spoilt, redis):
    """The service could not know of its lease, and would go alone too soon."""
    link = VirtualRedis(redis.url, world.clock, 1000.0)
    made = config(world.folder, name="a", pbxs=2)
    script = Journal(":memory:", world.clock, member=lambda steady: Membership(made, steady, world.clock, link, is_script=True))
    world.made.append((script, link))
    assert not world.turn(script).request_id and link.calls == 0
    world.clock.now += 4
    assert not script.pool.beat(10)
    assert spoilt.pool.member.memory.path in script.pool.standing().why


def test_a_file_of_another_user_is_not_used(world, monkeypatch):
    a = world.pbx("a")
    a.pool.beat(10)
    monkeypatch.setattr(fleet_memory, "_owner", lambda folder: 4321)
    monkeypatch.setattr(os, "geteuid", lambda: 4321)
    os.chown(a.pool.member.memory.path, 1234, -1)
    assert a.pool.standing().mode == "pool" and "another user" in a.pool.member.memory.trouble


def test_a_process_that_is_stopped_with_the_lock_stops_nobody(world):
    a = world.pbx("a")
    world.run(SETTLED, a)
    file = os.open(a.pool.member.memory.path, os.O_RDWR)
    fcntl.flock(file, fcntl.LOCK_EX)
    try:
        assert not world.turn(a).request_id
        assert a.pool.standing().mode == "pool" and not a.pool.fails_open()
        with pytest.raises(Away, match="held the lock"), a.pool.member.memory.change():
            pass
    finally:
        os.close(file)
    assert world.turn(a).request_id


def test_callers_fail_open_although_the_clock_was_set_back(world):
    a = world.pbx("a")
    a.pool.beat(10)
    cut(a)
    a.pool.member._clock = lambda: world.clock.now + 3600
    a.pool.beat(10)
    world.clock.now += 4
    assert a.pool.fails_open()
