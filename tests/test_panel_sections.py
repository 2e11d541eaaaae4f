"""What the panel shows: who waits, who talks, the last calls, alarms, search; names of numbers, and numbers that are masked."""
from __future__ import annotations

import json
import time

import pytest

from movidesk.config import load
from movidesk.journal import Journal
from movidesk.web.panel.sections import CALLERS, FOUND, TODAY_EVERY, Maker
from support.journals import arrive, deliver_now


@pytest.fixture
def office(write_config):
    """office(mask_numbers="yes", ...): a maker with these settings of [pbx], and its journal."""
    def make(**pbx) -> tuple[Maker, Journal]:
        config = load(write_config(pbx=pbx)).require()
        return Maker(config), Journal(config["journal", "path"])

    return make


def wait_in_line(journal: Journal, number: int, queue: str = "77", **more):
    """A caller who has looked just now whether it is its turn."""
    call = arrive(journal, f"17.{number}", queue, **more)
    journal.scheduler.turn(call, 1000)
    return call


def offer(journal: Journal, call, extension: str) -> None:
    journal.scheduler.turn(call, 1000)
    journal.scheduler.answered(journal.calls.get(call.call_id), extension, "", extension)


def test_an_office_without_calls(office):
    maker, journal = office()
    found = maker.look(journal, time.time())
    assert found["queues"] == found["agents"] == found["calls"] == []
    assert found["outbox"] == {"pending": 0, "refused": 0, "since": None}
    assert found["requests"] == {"used": 0, "rate": 1000, "night": False, "lowered": False, "limit": 1000, "paused": None}


def test_who_waits_in_order_and_since_when(office):
    maker, journal = office(queue_names="77 Support, 78 Sales")
    now = time.time()
    for number, (queue, ago) in enumerate([("78", 10), ("77", 300), ("77", 200)]):
        wait_in_line(journal, number, queue, arrived=now - ago, priority=int(number == 2))
    arrive(journal, "18.1", "79", mode="watch", arrived=now - 30)
    first, second, own = maker.look(journal, now)["queues"]
    assert first["queue"] == {"number": "77", "name": "Support"} and second["queue"]["name"] == "Sales"
    assert first["waiting"] == 2 and first["since"] == round(now - 300, 1)
    assert [(caller["since"], caller["priority"]) for caller in first["callers"]] == [
        (round(now - 200, 1), 1), (round(now - 300, 1), 0)]
    assert (own["queue"], own["mode"], own["waiting"]) == ({"number": "79", "name": ""}, "watch", 1)


def test_of_many_callers_the_first_are_shown_and_all_counted(office):
    maker, journal = office()
    for number in range(CALLERS + 3):
        wait_in_line(journal, number)
    queue, = maker.look(journal, time.time())["queues"]
    assert (queue["waiting"], len(queue["callers"])) == (CALLERS + 3, CALLERS)


def test_nothing_changes_while_nothing_happens(office, clock):
    """Else every viewer would be sent everything each second."""
    maker, first = office()
    journal = Journal(first.path, clock)
    wait_in_line(journal, 1, arrived=clock() - 100)
    ringing, talking = (arrive(journal, f"17.{number}", arrived=clock() - 50) for number in (2, 3))
    for call, extension in ((ringing, "5252"), (talking, "5253")):
        offer(journal, call, extension)
    journal.calls.record(talking.call_id, "transferred", "5253")
    journal.limits.close_window(90, limit=1000)
    found = []
    for _ in range(3):
        clock.advance(0.3)
        found.append({**maker.look(journal, clock()), "alarms": []})
    assert found[0] == found[1] == found[2] and found[0]["requests"]["paused"]


def test_agents_in_calls_and_since_when(office):
    maker, journal = office(agent_names="5252 Ana Lima")
    now = time.time()
    ringing, talking = (arrive(journal, f"17.{number}", arrived=now - 200 * number) for number in (1, 2))
    offer(journal, ringing, "5253")
    offer(journal, talking, "5252")
    journal.calls.record(talking.call_id, "transferred", "5252", at=now - 60)
    journal.calls.dial("pbx", "19.1", "5254", "4733990000")
    agents = sorted(maker.look(journal, now)["agents"], key=lambda agent: agent["agent"]["number"])
    assert [(agent["agent"]["number"], agent["outcome"]) for agent in agents] == [
        ("5252", "talking"), ("5253", "ringing"), ("5254", "dialled")]
    assert agents[0]["agent"]["name"] == "Ana Lima" and agents[0]["since"] == round(now - 60, 1)
    assert now - 5 < agents[1]["since"] <= time.time() + 1


def test_an_agent_talks_since_the_pick_up_though_movidesk_knew_before(office):
    maker, journal = office()
    now = time.time()
    call = arrive(journal, arrived=now - 100)
    journal.scheduler.answered(call, "5252", "", "5252", report=True)
    journal.store.connection.execute("UPDATE events SET at = ? WHERE kind = 'transferred'", (now - 80,))
    journal.calls.record(call.call_id, "transferred", "5252", at=now - 60)
    agent, = maker.look(journal, now)["agents"]
    shown, = maker.look(journal, now)["calls"]
    assert (agent["since"], shown["waited"]) == (round(now - 60, 1), 40)


def test_what_became_of_the_last_calls_and_their_events(office):
    maker, journal = office()
    now = time.time()
    call = arrive(journal, arrived=now - 100)
    offer(journal, call, "5252")
    journal.calls.record(call.call_id, "transferred", "5252", at=now - 70)
    shown, = maker.look(journal, now)["calls"]
    assert (shown["outcome"], shown["waited"], shown["talked"], shown["agent"]["number"]) == ("talking", 30, None, "5252")
    journal.calls.record(call.call_id, "completed", at=now - 10)
    deliver_now(journal)
    shown, = maker.look(journal, now)["calls"]
    assert (shown["outcome"], shown["talked"], shown["reported"]) == ("completed", 60, "delivered")
    assert [event["kind"] for event in shown["events"]] == ["received", "transferred", "completed"]


def test_today_by_hour(office):
    maker, journal = office()
    now = time.mktime((*time.localtime()[:3], 12, 30, 0, 0, 0, -1))
    for number, (hour, ending) in enumerate([(9, "completed"), (9, "canceled"), (11, "lost"), (-3, "lost"), (11, "completed")]):
        call = arrive(journal, f"17.{number}", arrived=now + (hour - 12) * 3600)
        if ending == "completed":
            offer(journal, call, "5252")
            journal.calls.record(call.call_id, "transferred", "5252", at=call.arrived + 5)
        journal.calls.record(call.call_id, ending, at=call.arrived + 9)
    hours = maker.look(journal, now)["today"]["hours"]
    assert [(hour["hour"], hour["answered"], hour["lost"], hour["abandoned"]) for hour in hours] == [
        ("09", 1, 0, 1), ("10", 0, 0, 0), ("11", 1, 1, 0)]


def test_today_is_counted_again_now_and_then_only(office, monkeypatch):
    maker, journal = office()
    now = time.time()
    assert maker.look(journal, now)["today"] == {"hours": []}
    journal.calls.record(arrive(journal, arrived=now).call_id, "canceled")
    assert maker.look(journal, now + 1)["today"] == {"hours": []}
    assert len(maker.look(journal, now + TODAY_EVERY)["today"]["hours"]) == 1
    assert len(maker.look(journal, now - 3600)["today"]["hours"]) <= 1  # the clock was set back


def test_an_alarm_has_its_reason_and_its_remedy(office):
    maker, journal = office()
    call = arrive(journal)
    journal.calls.record(call.call_id, "canceled")
    job, _ = journal.outbox.take(1000)
    journal.outbox.rejected(job, "HTTP 400: <script>")
    alarm, = (alarm for alarm in maker.look(journal, time.time())["alarms"] if alarm["name"] == "refused")
    assert "<script>" in alarm["text"] and alarm["mild"] and alarm["why"] and "movidesk outbox" in alarm["remedy"]


# -- numbers -----------------------------------------------------------------------------------------------------------

NUMBER = "4733990777"  # of support.journals.arrive


def test_masked_numbers_are_nowhere(office):
    maker, journal = office(mask_numbers="yes")
    talking = arrive(journal, "17.1")
    offer(journal, talking, "5252")
    ended = arrive(journal, "17.2")
    journal.calls.record(ended.call_id, "canceled")
    job, _ = journal.outbox.take(1000)
    journal.outbox.rejected(job, f"HTTP 400: clientNumber {NUMBER} is not valid")
    wait_in_line(journal, 3)
    found = json.dumps([maker.look(journal, time.time()), maker.search(journal, NUMBER, time.time())])
    assert NUMBER not in found and found.count("***0777") >= 5


@pytest.mark.parametrize("mask, typed, count, too_short", [
    ("no", "3399", 1, False), ("no", "(47) 3399-0777", 1, False), ("no", "555", 0, False), ("no", "x' OR 1=1", 0, False),
    ("no", "%", 0, False), ("no", "", 0, False), ("yes", "0777", 1, False), ("yes", NUMBER, 1, False),
    ("yes", "33990777", 1, False), ("yes", "47339907", 0, False), ("yes", "399077", 0, True), ("yes", "3399", 0, False)])
def test_search_by_number(office, mask, typed, count, too_short):
    maker, journal = office(mask_numbers=mask)
    arrive(journal)
    found = maker.search(journal, typed, time.time())
    assert (len(found["calls"]), found["too_short"]) == (count, too_short)


def test_a_masked_search_is_not_drowned_by_numbers_that_end_otherwise(office):
    maker, journal = office(mask_numbers="yes")
    arrive(journal)
    for number in range(FOUND + 1):
        journal.calls.arrive("pbx", f"18.{number}", "77", f"0777{number:06}")
    assert len(maker.search(journal, "0777", time.time())["calls"]) == 1


def test_search_finds_who_withholds_the_number(office):
    maker, journal = office(mask_numbers="yes")
    journal.calls.arrive("pbx", "17.9", "77", "anonymous")
    assert len(maker.search(journal, " Anonymous ", time.time())["calls"]) == 1


def test_the_expected_wait_of_the_next_caller(office):
    maker, journal = office()
    call = wait_in_line(journal, 1)
    journal.scheduler.answered(journal.calls.get(call.call_id), "", "4", "4")
    with journal.store.transaction():
        journal.store.execute("INSERT INTO speeds (queue, at, seconds, longest, rate) VALUES ('77', :now, 30, 300, 1000)",
                              now=journal.steady())
    assert maker.look(journal, time.time())["queues"][0]["expected"] > 0
