"""The waiting line and the limit of a fleet: the property tests of one PBX, decided in a real Redis."""
from __future__ import annotations

import random
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize
from redis import Redis

from movidesk.fleet.records import POOL
from movidesk.rules import rate_limit
from movidesk_rehearsal.redis_server import PrivateRedis
from support.clocks import Clock
from support.fleet_history import World
from support.fleets import VirtualRedis, config, member_journal
from support.journals import arrive
from support.line_machine import LineMachine
from support.waits import until


@pytest.fixture(scope="module", autouse=True)
def redis(tmp_path_factory):
    with PrivateRedis(tmp_path_factory.mktemp("redis")) as running:
        FleetLineMachine.redis = running
        yield running


class FleetLineMachine(LineMachine):
    """One PBX with a Redis: what holds for the journal alone holds for both."""

    redis: PrivateRedis

    @initialize(limit=st.integers(1, 12))
    def begin(self, limit: int) -> None:
        super().begin(limit)
        self.journal.close()
        self.redis.forget_everything()
        self.folder = tempfile.TemporaryDirectory()
        self.client = VirtualRedis(self.redis.url, self.clock, ahead=1000.0)
        self.journal = member_journal(Path(self.folder.name), self.client, self.clock)
        for _ in range(45):  # until Redis lets something go
            assert self.journal.pool.beat(limit)
            self.clock.now += 2.0

    def hear(self, call, answer: str) -> None:
        self.over()
        super().hear(call, answer)

    def over(self) -> None:
        """The last request is over; a slow one before it is still under way."""
        with self.journal.store.transaction():
            self.journal.store.execute("UPDATE requests SET finished = :now WHERE grant_id > '-'"
                                       " AND rowid = (SELECT max(rowid) FROM requests)", now=self.clock.now)

    def teardown(self) -> None:
        if hasattr(self, "client"):
            self.client.close()
            self.folder.cleanup()
        super().teardown()


TestFleetLineMachine = FleetLineMachine.TestCase
TestFleetLineMachine.settings = settings(max_examples=25, stateful_step_count=30, deadline=None,
                                         suppress_health_check=list(HealthCheck))


@pytest.mark.parametrize("seed", [0, 1, 2, 3, 4, 173])
def test_never_over_the_limit_whatever_fails(redis, tmp_path, seed):
    """And no two heads, nobody overtaken, and all get on afterwards; bench/fleet_histories.py runs 2,000 such histories."""
    world = World(redis, tmp_path, random.Random(seed))
    world.play(steps=15)
    world.close()


class Office:
    """Two PBXs of one account; each has its own steady clock and its own way to Redis."""

    def __init__(self, folder: Path, redis: PrivateRedis, pbxs: int = 2, **options):
        redis.forget_everything()
        self.clock = Clock()
        self.links = [VirtualRedis(redis.url, self.clock, ahead=500.0) for _ in range(2)]
        self.pbxs = [member_journal(folder, link, self.clock, name=f"pbx{number}", pbxs=pbxs, **options)
                     for number, link in enumerate(self.links, 1)]

    def wait(self, seconds: float, every: float = 2.0) -> None:
        end = self.clock.now + seconds
        while self.clock.now < end:
            self.clock.now = min(end, self.clock.now + every)
            for pbx in self.pbxs:
                pbx.pool.beat(10)

    def asks(self, pbx: int, uniqueid: str, priority: int = 0):
        """A look of this caller, who comes now if it is new. A request that it gets is over at once."""
        journal = self.pbxs[pbx]
        turn = journal.scheduler.turn(arrive(journal, uniqueid, priority=priority), 10, pace=(6.0, 30.0))
        if turn.request_id:
            journal.limits.finished(turn.request_id)
            journal.scheduler.answered(journal.calls.latest(uniqueid), "", "4", "4", pace=(6.0, 30.0))
        return turn

    def modes(self) -> list[str]:
        return [pbx.pool.standing().mode for pbx in self.pbxs]


@pytest.fixture
def office(tmp_path, redis):
    office = Office(tmp_path, redis)
    office.wait(84.0)
    yield office
    for pbx, link in zip(office.pbxs, office.links):
        pbx.close()
        link.close()


def test_one_line_over_two_pbxs(office):
    assert office.asks(0, "a1").request_id
    assert [office.asks(pbx, name).position for pbx, name in ((1, "b1"), (0, "a2"), (1, "b2"))] == [2, 3, 4]
    office.pbxs[0].calls.hang_up("pbx-a1")
    office.pbxs[0].pool.beat(10)
    office.clock.now += 7
    assert office.asks(0, "a2").position == 2
    assert office.asks(1, "b1").request_id, "it has come first, at the other PBX"
    assert office.asks(1, "b3", priority=1).position == 1


def test_a_look_of_a_caller_who_waits_writes_nothing(office):
    """Each write is a sync of the disk, and many callers look every few seconds."""
    for name in ("a1", "a2"):
        office.asks(0, name)
    journal = office.pbxs[0]

    def written() -> int:
        return journal.store.value("SELECT total_changes()")

    office.clock.now += 1.0
    before = written()
    assert office.asks(0, "a2").position == 2 and written() == before


def test_what_a_look_costs_does_not_depend_on_how_many_calls_have_ended(office):
    """The journal keeps all of [journal] keep_days, and a look holds its lock meanwhile."""
    store, counted = office.pbxs[0].store, [0]

    def count():
        counted[0] += 1

    def cost() -> int:
        office.clock.now += 0.5
        counted[0] = 0
        assert office.asks(0, "a2").position == 2
        office.pbxs[0].pool.beat(10)
        return counted[0]

    office.asks(0, "a1")
    office.asks(0, "a2")
    store.connection.set_progress_handler(count, 5)
    few = cost()
    with store.transaction():
        for number in range(2000):
            store.execute("INSERT INTO calls (call_id, uniqueid, mode, state, queue, arrived, ended)"
                          " VALUES (:id, :id, 'control', 'completed', '77', 1, 2)", id=f"old-{number}")
    assert cost() < few + 500
    store.connection.set_progress_handler(None, 0)


def test_a_new_token_takes_the_pbx_to_the_others_that_have_it(office, tmp_path):
    (first, second), other = office.pbxs, config(tmp_path, token="00000000-1111-2222-3333-444444444444")
    first.pool.member.use_token(other)
    office.wait(20.0)
    seen = [[member.name for member in pbx.pool.member.overview().members if member.leased] for pbx in office.pbxs]
    assert seen == [["pbx1"], ["pbx2"]]
    second.pool.member.use_token(other)
    office.wait(84.0)
    assert office.asks(0, "a1").request_id and office.asks(1, "b1").position == 2
    assert office.modes() == [POOL, POOL]


def test_a_journal_that_is_closed_leaves_no_connection(redis, tmp_path):
    """The standby's journal is opened anew for each verb."""
    journal, watcher = Office(tmp_path, redis).pbxs[0], Redis.from_url(redis.url)
    count = len(watcher.client_list())
    journal.pool.beat(10)
    assert len(watcher.client_list()) == count + 1
    journal.close()
    until(lambda: len(watcher.client_list()) == count, 20)
    watcher.close()


def test_an_agent_of_one_pbx_is_known_to_the_other(office):
    journal = office.pbxs[0]
    turn = journal.scheduler.turn(arrive(journal, "a1"), 10)
    journal.limits.finished(turn.request_id)
    journal.scheduler.answered(journal.calls.latest("a1"), "5252", "", "5252")
    office.wait(2.0)
    other = office.pbxs[1].agents
    assert other.extensions("77") == ["5252"] and other.with_callers("77") == 1
    journal.calls.record("pbx-a1", "transferred")
    journal.calls.hang_up("pbx-a1")
    for _ in range(3):
        job, _wait = journal.outbox.take(10)
        if job:
            journal.limits.finished(job.request_id)
            journal.outbox.delivered(job, "")
    office.wait(2.0)
    assert other.with_callers("77") == 0


def test_a_caller_whose_agent_does_not_answer_keeps_its_place(office):
    """Also before callers of other PBXs who came while the phone rang."""
    journal = office.pbxs[0]
    turn = journal.scheduler.turn(arrive(journal, "a1"), 10)
    journal.limits.finished(turn.request_id)
    journal.scheduler.answered(journal.calls.latest("a1"), "5252", "", "5252")
    office.clock.now += 1.0
    journal.pool.beat(10)
    assert journal.pool.member.overview().members[0].waiting == 0
    assert office.asks(1, "b1").position == 1
    office.clock.now += 0.5
    assert office.asks(0, "a1").position == 1
    assert office.asks(1, "b1").position == 2


def test_no_late_arrival_is_told_while_a_caller_waits_at_the_other_pbx(office):
    """Movidesk could give it the agent whom that caller waits for, and it would take two requests that callers need."""
    asking = office.pbxs[0].scheduler.turn(arrive(office.pbxs[0], "a1"), 10)
    assert asking.request_id and not office.asks(1, "b1").request_id
    office.pbxs[1].calls.hang_up("pbx-b1")
    office.wait(2.0)
    assert office.pbxs[1].outbox.take(10)[0] is None
    office.pbxs[0].limits.finished(asking.request_id)
    office.pbxs[0].scheduler.answered(office.pbxs[0].calls.latest("a1"), "", "4", "4")  # all agents are busy
    office.wait(4.0)
    job, _wait = office.pbxs[1].outbox.take(10)
    assert job is not None and (job.call.call_id, job.event.kind) == ("pbx-b1", "received")


def test_callers_whom_movidesk_does_not_answer_hold_up_nobody_elsewhere(office):
    """The branch of pbx2 has no internet, but reaches Redis."""
    cut = office.pbxs[1]
    cut.limits.finished(cut.scheduler.turn(arrive(cut, "b1"), 10).request_id)
    cut.scheduler.unanswered(cut.calls.latest("b1"), taken=False)
    office.wait(2.0)
    assert not office.asks(0, "a1").request_id, "it is behind that caller, who may ask again at once"
    cut.pool.set_outage(12.0)
    office.wait(6.0)
    assert office.asks(0, "a1").request_id
    office.wait(8.0)
    assert office.asks(1, "b1").position == 1, "it keeps its place"


def wait_for_screens(journal, count: int) -> None:
    """So many agents have picked up, and no screen is open yet."""
    for number in range(count):
        call = journal.calls.arrive("watch", str(number), "88", "4733990777", mode="watch")
        journal.calls.record(call.call_id, "start_transferred", extension="5252")


def test_who_delivers_nothing_has_no_places_kept_free(office):
    """Its way to Movidesk is cut, or its service stopped, while its scripts and beats go on."""
    wait_for_screens(office.pbxs[1], 12)
    office.wait(6.0)
    assert office.asks(0, "a1").request_id


def test_who_delivers_has_places_kept_free(office):
    wait_for_screens(office.pbxs[1], 12)
    for _ in range(5):
        assert office.pbxs[1].outbox.take(10)[0]
    office.wait(2.0)
    assert not office.asks(0, "a1").request_id, "the other five screens come first"


def test_while_redis_is_away_each_waits_and_then_has_its_part(office):
    assert office.asks(0, "a1").request_id
    for link in office.links:
        link.away = True
    office.clock.now += 1
    hiccup = office.asks(1, "b1")
    assert (hiccup.request_id, hiccup.code) == (0, "4") and "Redis cannot be used" in hiccup.reason
    office.wait(5.0)
    assert office.asks(1, "b1").code == "", "as if Movidesk could not be asked: callers fail open"
    assert office.modes() == ["waits", "waits"]
    office.wait(89.0)
    assert office.modes() == ["waits", "waits"] and not office.asks(1, "b1").request_id
    office.wait(3.0)
    assert office.modes() == ["alone", "alone"]
    assert office.asks(1, "b1").request_id
    assert [sum(bool(claim_screen(pbx)) for _ in range(9)) for pbx in office.pbxs] == [5, 4]


def claim_screen(journal) -> int:
    """A request that opens a screen, while the journal decides by itself."""
    with journal.store.transaction():
        return journal.limits.claim(10, 0, rate_limit.Demand(), own=journal.pool.member).request_id


def test_it_comes_back_with_its_callers_where_they_would_stand(office):
    for link in office.links:
        link.away = True
    office.wait(102.0)
    for pbx, name in ((0, "a1"), (1, "b1"), (0, "a2"), (1, "b2")):
        office.asks(pbx, name)
        office.clock.now += 4
    for link in office.links:
        link.away = False
    office.wait(4.0)
    assert office.modes() == ["alone", "alone"], "Redis must have answered for a while"
    for _ in range(4):
        office.wait(2.0)
        looks = [office.asks(pbx, name) for pbx, name in ((0, "a1"), (1, "b1"), (0, "a2"), (1, "b2"))]
    assert office.modes() == ["pool", "pool"]
    assert [turn.position for turn in looks] == [1, 2, 3, 4], "in order of arrival, whoever comes back first"


def test_what_was_sent_alone_counts_when_it_comes_back(office):
    office.links[0].away = True
    office.wait(102.0)
    assert sum(bool(claim_screen(office.pbxs[0])) for _ in range(9)) == 5
    with office.pbxs[0].store.transaction():
        office.pbxs[0].store.execute("UPDATE requests SET at = called")
    office.links[0].away = False
    office.wait(12.0)
    assert office.modes() == ["pool", "pool"]
    assert office.pbxs[1].pool.member.overview().used == 5


def test_an_answer_that_is_lost_spends_the_request(office):
    office.links[0].lose = 1
    assert not office.asks(0, "a1").request_id
    office.clock.now += 2
    office.asks(0, "a1")
    assert office.pbxs[1].pool.member.overview().used == 2


@pytest.mark.parametrize("same, options, said", [
    (True, {"pbxs": 2}, "another PBX of this account is called pbx1: give each its own [pbx] name"),
    (False, {"pbxs": 3}, "[fleet] pbxs = 3 here, but 2 on the others: write the same number on each"),
    (False, {"pbxs": 2}, "[fleet] pbxs = 2, but that many other PBXs of this account are there already"),
    (False, {"pbxs": 2, "share": "none"}, "[fleet] share = none here, but limit on the others: write the same on each")])
def test_who_may_not_join_is_told_why_in_one_line(office, tmp_path, same, options, said):
    (tmp_path / "other").mkdir()
    link = VirtualRedis(FleetLineMachine.redis.url, office.clock, ahead=500.0)
    other = member_journal(tmp_path / "other", link, office.clock, name="pbx1" if same else "pbx3", **options)
    turn = other.scheduler.turn(arrive(other, "c1"), 10)
    assert (turn.request_id, turn.reason) == (0, said) and other.pool.standing().mode == "refused"
    office.wait(80.0)
    for _ in range(3):
        assert not other.pool.beat(10) and not other.pool.is_alone(), "its part is not its own: it sends nothing"
    other.close()
    link.close()
