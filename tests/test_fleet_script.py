"""The script of the fleet in a real Redis, whose clock the test moves."""
from __future__ import annotations

import configparser
import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from movidesk.fleet import script
from movidesk.rules import rate_limit, waiting_line
from movidesk_rehearsal.redis_server import PrivateRedis
from support.fleets import ACCOUNT, TIME, TestedRedis, report

ROOT = Path(__file__).parents[1]
NOW = 1_700_000_000.0
LEASE, WINDOW = 10.0, 60.5
#: Seconds for which a request may be under way, and for which a Redis that has just begun lets nothing go.
HOLD = 20.0
CLOSED = WINDOW + HOLD
#: A question of the caller `x` of queue 77, who asks for the first time.
QUESTION = {"caller": "x", "all_busy": False, "at_once": True, "longest": 30_000, "taken": 0, "free": 0, "ring": 2000,
            "leaves": False, "report": False, "fails": False}


@pytest.fixture(scope="module")
def redis(tmp_path_factory):
    with PrivateRedis(tmp_path_factory.mktemp("redis")) as running:
        yield running


class Pbx:
    """A PBX that speaks to the script itself. `clock` is what its steady clock is ahead of Redis'."""

    def __init__(self, fleet: Fleet, name: str, clock: float = 0.0, pbxs: int = 2, limit: int = 10, instance: str = "",
                 share: str = "limit"):
        self.fleet, self.name, self.clock, self.pbxs, self.limit, self.share = fleet, name, clock, pbxs, limit, share
        self.instance, self.ack, self.count = instance or name, None, 0

    def call(self, question=None, delay: float = 0.0, lost: bool = False, number: str = "", number_of_report: int = 0,
             **told):
        """One call; delay: the seconds until Redis executes it. lost: the answer does not arrive."""
        steady = round(1000 * (self.fleet.now + self.clock))
        self.count += 1
        told_now = report(**told)
        self.fleet.now += delay
        self.fleet.redis.set_clock(self.fleet.now)
        answer = self.fleet.redis.decide({
            "name": self.name, "instance": self.instance, "version": "1", "pbxs": self.pbxs, "share": self.share,
            "limit": self.limit, "steady": steady, "hold": round(1000 * HOLD), "number": -1,
            "id": number or f"{self.name}{self.count}", "ack": self.ack, "ask": question or {},
            "report": {**told_now, "number": number_of_report or told_now["number"]}})
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
    fleet.wait(CLOSED - 0.5, a)
    assert a.sends() == 0, "what was granted just before may still be under way"
    fleet.wait(0.6, a)
    assert a.sends() == 10
    fleet.wait(CLOSED - 0.5, a)
    assert a.sends() == 0, "nobody has said when they were over"
    fleet.wait(0.6, a)
    assert a.sends() == 10


def test_two_share_the_limit_and_one_has_its_part(fleet):
    a, b = Pbx(fleet, "a").join(), Pbx(fleet, "b", clock=5000.0).join()
    fleet.wait(CLOSED + 0.1, a, b)
    assert a.sends(8) + b.sends() == 10
    fleet.wait(100.0, a)
    assert a.sends() == 5, "the other one has no lease"
    fleet.wait(100.0, a, b)
    assert b.sends() == 10


def test_a_lease_counts_only_answers_that_arrived(fleet):
    a, b = Pbx(fleet, "a").join(), Pbx(fleet, "b").join()
    fleet.wait(CLOSED + 0.1, a, b)
    for _ in range(6):
        fleet.now += 2.0
        a.call()
        b.call(lost=True)
    assert a.sends() == 5, "b hears nothing, and may be using its part"


def test_a_late_call_is_granted_nothing_and_extends_no_lease(fleet):
    a, b = Pbx(fleet, "a").join(), Pbx(fleet, "b").join()
    fleet.wait(CLOSED + 0.1, a, b)
    assert b.call({"events": [[0, False, 1]], "ring": 0}, delay=LEASE + 1, lost=True)["again"]
    a.join()
    assert a.sends() == 5


def test_a_request_that_comes_twice_is_granted_once(fleet):
    a = Pbx(fleet, "a", pbxs=1).join()
    fleet.wait(CLOSED + 0.1, a)
    event = {"events": [[0, False, 1]], "ring": 2000}
    assert a.call(event, lost=True, number="same")["granted"] == 1
    assert a.call(event, number="same")["granted"] == 0
    assert a.sends() == 9, "and the first one counts, although its answer was lost"


@pytest.mark.parametrize("jump", [-30.0, 30.0, 3600.0])
def test_a_jump_of_redis_clock_counts_as_a_full_window(fleet, jump):
    a, b = Pbx(fleet, "a", pbxs=2).join(), Pbx(fleet, "b").join()
    fleet.wait(CLOSED + 0.1, a, b)
    assert a.sends() == 10
    fleet.now += jump
    for pbx in a, b:
        pbx.clock -= jump
        assert pbx.sends(3) == 0
    fleet.wait(LEASE, a, b)
    fleet.wait(CLOSED - LEASE - 1.0, a, b)
    assert a.sends() + b.sends() == 0
    fleet.wait(1.5, a, b)
    assert a.sends() == 10


def test_a_newcomer_trusts_the_clock_only_where_it_was_watched(fleet):
    a = Pbx(fleet, "a").join()
    fleet.wait(CLOSED + 0.1, a)
    assert a.sends() == 5
    fleet.now += 61.0  # a jump, of which only a could know
    b = Pbx(fleet, "b").join()
    assert b.sends() == 0


@pytest.mark.parametrize("what", ["forget_everything", "restart", "forget_scripts"])
def test_redis_forgets(fleet, redis, what):
    a = Pbx(fleet, "a", pbxs=1).join()
    fleet.wait(CLOSED + 0.1, a)
    assert a.sends(7) == 7
    getattr(redis, what)()
    fleet.redis.close()
    a.join()
    assert a.sends() == (3 if what == "forget_scripts" else 0)
    fleet.wait(CLOSED + 0.1, a)
    assert a.sends() == 10


def test_a_state_that_goes_back_counts_as_a_full_window(fleet):
    """The machine of Redis is put back to its snapshot: Redis has the same run_id, and its clock is right."""
    a, b = Pbx(fleet, "a").join(), Pbx(fleet, "b").join()
    fleet.wait(CLOSED + 0.1, a, b)
    kept = fleet.redis.redis.hgetall(ACCOUNT)
    fleet.now += 0.5
    assert a.sends() == 10
    fleet.now += 0.5
    fleet.redis.redis.delete(ACCOUNT)
    fleet.redis.redis.hset(ACCOUNT, mapping=kept)
    a.call()
    assert a.sends() + b.sends() == 0
    fleet.wait(CLOSED + 0.1, a, b)
    assert a.sends() + b.sends() == 10


def test_a_pbx_that_is_gone_for_good_is_forgotten(fleet):
    """It was renamed, or taken away: else status and alarms name it for ever."""
    a, _ = Pbx(fleet, "a").join(), Pbx(fleet, "b").join()
    fleet.wait(script.KEPT - 100.0, a, every=4.0)
    assert set(fleet.redis.redis.hgetall(ACCOUNT)) == {"shared", "pbx:a", "pbx:b"}
    fleet.wait(110.0, a)
    assert set(fleet.redis.redis.hgetall(ACCOUNT)) == {"shared", "pbx:a"}
    assert not a.call()["again"]


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


def test_a_429_of_one_closes_the_window_of_all(fleet):
    a, b = Pbx(fleet, "a").join(), Pbx(fleet, "b").join()
    fleet.wait(CLOSED + 0.1, a, b)
    a.call(closed=[30_000, 1, "429"])
    denied = b.call({"events": [[0, False, 1]], "ring": 2000})
    assert (denied["granted"], denied["why"], denied["ends"], denied["closed"]) == (0, "closed", 30_000, [30_000, 1, "429"])
    fleet.wait(30.1, a, b)
    assert b.sends(1) == 1
    b.call(taken=100)
    assert a.call()["closed"] == {}, "Movidesk has taken a request since"


def test_a_refused_token_silences_all_until_it_is_tried_again(fleet):
    a, b = Pbx(fleet, "a").join(), Pbx(fleet, "b").join()
    fleet.wait(CLOSED + 0.1, a, b)
    a.call(token=[900_000, 0, "HTTP 401"])
    assert b.call({"events": [[0, False, 1]], "ring": 2000})["why"] == "token"
    a.call()
    assert b.sends(1) == 1, "an admin has a try again"


def test_an_account_with_a_limit_per_address(fleet):
    a, b = Pbx(fleet, "a", share="none").join(), Pbx(fleet, "b", share="none").join()
    fleet.wait(CLOSED + 0.1, a, b)
    assert a.sends() + b.sends() == 20


@pytest.mark.parametrize(("first", "second"), [("limit", "none"), ("none", "limit")])
def test_pbxs_that_share_differently_are_refused(fleet, first, second):
    Pbx(fleet, "a", share=first).join()
    other = Pbx(fleet, "b", share=second).call()
    assert (other.get("refused"), other.get("other")) == ("share", first)


#: What the script decides by itself: the same as movidesk.rules, for the same numbers.
RULES = """
local told = cjson.decode(ARGV[1])
return {may_go(told.class, told.window, told.demand, told.aged, told.places) and 1 or 0,
        request_class(told.queue, told.ask) or -1, may_ask_beside(told.queue, told.ask, told.asking, told.limit) and 1 or 0}
"""


@given(st.data())
@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
def test_the_script_has_the_rules_of_python(redis, data):
    draw, seconds = data.draw, st.integers(0, 20_000)
    limit, klass = draw(st.sampled_from([1, 2, 5, 10, 120])), draw(st.integers(0, 5))
    opens = sorted(draw(st.lists(seconds, max_size=limit)))
    window = {"limit": limit, "free": limit - len(opens) - draw(st.integers(0, 2)), "opens": opens}
    demand = {"screens": draw(st.integers(0, 3)), "heads": draw(st.integers(0, 3)), "freeing": draw(st.integers(0, 3)),
              "anybody": draw(st.booleans()), "aged": draw(st.integers(0, 1)), "lately": draw(st.booleans()),
              "passed": draw(st.integers(0, 3)), "pickups": sorted(draw(st.lists(seconds, max_size=4))), "ring": draw(seconds)}
    now, times = 100_000, st.integers(0, 120_000)
    queue = {"asked": now - draw(times), "pace": draw(times), "changed": draw(st.booleans()), "full": draw(st.integers(-1, 3))}
    ask = {"all_busy": draw(st.booleans()), "at_once": draw(st.booleans()), "longest": 30_000, "taken": draw(st.integers(0, 4)),
           "free": draw(st.integers(0, 9))}
    aged, places, asking = draw(st.booleans()), draw(st.integers(1, 2)), draw(st.integers(0, 9))
    told = {"class": klass, "window": window, "demand": demand, "aged": aged, "places": places, "queue": queue, "ask": ask,
            "asking": asking, "limit": limit}
    text = script.text().replace(TIME, "{100, 0}")
    rules = text[:text.index("local function take_state")] + RULES
    client = TestedRedis(redis.url)
    found = client.redis.eval(rules, 1, "x", json.dumps(told))
    client.close()
    line = waiting_line.Queue("1", queue["asked"] / 1000, queue["pace"] / 1000, queue["changed"], queue["full"])
    phones = waiting_line.Phones(1, 0) if ask["all_busy"] else None
    wanted = waiting_line.request_class(line, ask["taken"], now / 1000, phones, 30.0, ask["at_once"])
    assert found == [
        int(rate_limit.may_go(klass, rate_limit.Window(limit, window["free"], tuple(opens)), rate_limit.Demand(
            **{**demand, "pickups": tuple(demand["pickups"])}), aged, places)),
        -1 if wanted is None else wanted,
        int(waiting_line.may_ask_beside(line, asking, ask["free"], ask["taken"], limit))]


# -- calls that overtake each other ------------------------------------------------------------------------------------

def caller(name: str, age: int = 0) -> list[object]:
    return [name, "77", 0, age, 20_000, 0, 0]


@pytest.fixture
def pair(fleet):
    """Two PBXs that may use the whole limit."""
    found = Pbx(fleet, "a").join(), Pbx(fleet, "b").join()
    fleet.wait(CLOSED + 0.1, *found)
    return found


def test_an_older_report_does_not_end_a_question(fleet, pair):
    a, b = pair
    older = report()["number"]
    assert a.call(QUESTION, callers=[caller("x")])["granted"]
    a.call(number_of_report=older)  # a beat that was on its way meanwhile, and knows nobody
    fleet.now += 1.0
    assert not b.call({**QUESTION, "caller": "y"}, callers=[caller("y")])["granted"], "x is being asked for"


def test_an_older_report_takes_nobody_its_place(fleet, pair):
    a, b = pair
    older = report()["number"]
    a.call(callers=[caller("x")])
    a.call(number_of_report=older)
    fleet.now += 1.0
    b.call(callers=[caller("y")])
    fleet.now += 0.5
    assert a.call(QUESTION, callers=[caller("x", 1500)])["position"] == 1


def test_an_overtaken_look_still_has_its_caller(fleet, pair):
    a, _ = pair
    older = report()["number"]
    a.call(callers=[caller("w")])
    answer = a.call(QUESTION, callers=[caller("x")], number_of_report=older)
    assert answer["position"] == 2
    assert a.call({**QUESTION, "caller": "w"}, callers=[caller("w"), caller("x")])["position"] == 1


def test_an_older_report_still_tells_what_was_sent(fleet, pair):
    a, b = pair
    older = report()["number"]
    a.call()
    a.call(number_of_report=older, alone=[[f"alone{n}", 0, 1000] for n in range(4)])
    assert b.sends() == 6


# -- whose clock has jumped --------------------------------------------------------------------------------------------

def test_only_calls_on_good_terms_watch_redis_clock(fleet):
    a = Pbx(fleet, "a").join()
    fleet.wait(CLOSED + 0.1, a)
    assert a.sends() == 5
    fleet.now += 100.0
    a.clock -= 99.0  # Redis' clock jumps while a is silent for a second
    b = Pbx(fleet, "b").join()
    assert a.call()["again"]
    assert b.sends() == 0, "nobody knows yet whether a's requests were sent a minute ago"


def test_a_restarted_pbx_trusts_only_a_watched_clock(fleet):
    a, c = Pbx(fleet, "a").join(), Pbx(fleet, "c").join()
    fleet.wait(CLOSED + 0.1, a, c)
    sent = a.sends()
    fleet.now += 100.0
    a.clock -= 99.0
    again = Pbx(fleet, "c", instance="after a reboot").join()
    assert a.call()["again"]
    assert sent + again.sends() == 10


def test_a_pause_of_one_pbx_concerns_nobody_else(fleet, pair):
    a, b = pair
    assert b.sends(3) == 3
    a.clock -= 1.0  # a's machine stood still for a second: a snapshot, a migration
    assert a.sends(3) == 0
    fleet.wait(4.0, b)
    a.join()
    assert a.sends() + b.sends() == 7


def test_a_paused_pbx_keeps_its_callers_places(fleet, pair):
    a, b = pair
    a.call(callers=[caller("x")])
    a.clock -= 1.0
    a.call()
    a.call()
    fleet.now += 1.0
    b.call(callers=[caller("y")])
    for _ in range(3):
        answer = a.call(QUESTION, callers=[caller("x")])
    assert answer["position"] == 1


@pytest.mark.parametrize("jump", [1.0, 5.0, 81.0])
def test_nobody_is_granted_anything_while_a_jump_is_in_doubt(fleet, jump):
    a, b, newcomer = (Pbx(fleet, name, pbxs=3) for name in "abc")
    a.join(), b.join()
    fleet.wait(CLOSED + 0.1, a, b)
    assert a.sends() == 7
    fleet.now += jump
    for pbx in a, b:
        pbx.clock -= jump
    assert a.sends(4) == 0
    newcomer.join()
    assert newcomer.sends(3) + b.sends(6) + a.sends(6) == 0
    fleet.wait(CLOSED - 1.0, a, b, newcomer)
    assert newcomer.sends(3) + b.sends(6) + a.sends(6) == 0


# -- another Redis -----------------------------------------------------------------------------------------------------

def test_what_a_newcomer_sent_elsewhere_still_counts(fleet):
    a = Pbx(fleet, "a").join()
    fleet.wait(CLOSED + 0.1, a)
    b = Pbx(fleet, "b").join()  # comes from another Redis, which has just granted it its part
    assert a.sends() + b.sends() == 5
    fleet.wait(CLOSED + 0.1, a, b)
    assert a.sends() + b.sends() >= 5


def test_what_a_pbx_sent_elsewhere_counts_also_if_it_was_here_before(fleet, pair):
    a, b = pair
    assert b.ack["epoch"]
    b.ack = {**b.ack, "epoch": "of another Redis"}  # its [fleet] redis was changed, and changed back at once
    b.join()
    assert a.sends() + b.sends() == 5
    fleet.wait(CLOSED + 0.1, a, b)
    assert a.sends() + b.sends() == 10


def test_a_pbx_that_comes_back_is_no_newcomer(fleet, pair):
    a, b = pair
    fleet.wait(LEASE + 1.0, a)
    b.instance = "after a reboot"
    b.join()
    assert a.sends() + b.sends() == 10


def test_an_answer_stays_short_at_a_high_limit(fleet):
    a = Pbx(fleet, "a", pbxs=1, limit=100_000).join()
    fleet.wait(CLOSED + 0.1, a)
    fleet.now += WINDOW
    a.instance, a.ack = "after a reboot", None
    answer = a.join().call({"events": [[0, False, 1]], "ring": 2000})
    assert not answer["granted"] and answer["window"]["full"]
    assert len(answer["window"]["opens"]) == script.MOST_OPENS


def test_who_waited_elsewhere_passes_nobody_who_came_before(fleet, pair):
    """The first is heard of late, and gets the next place; the second came after it, and was not heard of for longer."""
    a, b = pair
    a.call(callers=[caller("first", age=2500)])
    fleet.now += 5.0
    a.call(callers=[caller("first", age=7500)])
    b.call(callers=[caller("second", age=6000), caller("earliest", age=9000)])
    positions = {name: pbx.call(question={**QUESTION, "caller": name, "leaves": True}, callers=line)["position"]
                 for pbx, name, line in ((a, "first", [caller("first", age=7500)]),
                                         (b, "second", [caller("second", age=6000), caller("earliest", age=9000)]),
                                         (b, "earliest", [caller("second", age=6000), caller("earliest", age=9000)]))}
    assert positions == {"earliest": 1, "first": 2, "second": 3}
