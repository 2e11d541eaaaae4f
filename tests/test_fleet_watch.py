"""What the service notes of the fleet, and the alarms that are read from it."""
from __future__ import annotations

import pytest

from movidesk import alarms
from movidesk.config import load
from movidesk.context import Context
from movidesk.fleet.records import Away, Member, Overview
from movidesk.pbx import fleet_watch


class Fleet:
    """A membership whose Redis knows `members`; `why`: the failure that this PBX remembers."""

    def __init__(self, *members: Member, pbxs: int = 2, why: str = "", answers: bool = True, refused: bool = False):
        self.members, self.pbxs, self.why, self.answers, self.refused = list(members), pbxs, why, answers, refused

    def remembered(self):
        return {"why": self.why}

    def is_refused(self):
        return self.refused

    def overview(self):
        if not self.answers:
            raise Away("TimeoutError: no answer")
        return Overview(self.members, 10, 0, 0.0, 0.0)


def pbx(name, leased=True, clock=0.0):
    return Member(name, "0.1.0", 1.0, leased, 2, 10, 5, 0, 0, clock, "limit")


@pytest.fixture
def context(write_config, clock):
    config = load(write_config(fleet={"redis": "redis://127.0.0.1:9", "pbxs": "2"})).require()
    return Context(config, clock)


def look(context, fleet):
    fleet_watch.look(context.journal, fleet)
    return {alarm.name: alarm.text for alarm in alarms.standing(context)}


def test_nothing_is_noted_where_all_is_well(context):
    assert look(context, Fleet(pbx("pbx1"), pbx("pbx2"))) == {}


def test_redis_is_away(context, clock):
    away, since = Fleet(pbx("pbx1"), why="ConnectionError: refused", answers=False), alarms.local(clock())
    assert look(context, away) == {}, "a restart of Redis raises no alarm"
    clock.advance(alarms.FLEET_AFTER)
    found = look(context, away)
    assert set(found) == {"redis"} and f"since {since} this PBX" in found["redis"]
    assert "(ConnectionError: refused)" in found["redis"]
    clock.advance(60)
    away.why = "TimeoutError: no answer"
    text = look(context, away)["redis"]
    assert since in text and "(TimeoutError: no answer)" in text
    assert look(context, Fleet(pbx("pbx1"), pbx("pbx2"))) == {}


def test_redis_that_answers_others_but_not_this_pbx(context, clock):
    """A full Redis can still be read."""
    full = Fleet(pbx("pbx1"), pbx("pbx2"), why="OutOfMemoryError")
    look(context, full)
    clock.advance(alarms.FLEET_AFTER)
    assert "(OutOfMemoryError): it goes on with its own waiting line" in look(context, full)["redis"]


def test_a_pbx_that_is_refused_is_told_that_it_sends_nothing(context, clock):
    refused = Fleet(pbx("pbx1"), pbx("pbx2"), why="another PBX of this account is called pbx1", refused=True)
    look(context, refused)
    clock.advance(alarms.FLEET_AFTER)
    text = look(context, refused)["redis"]
    assert "another PBX of this account is called pbx1" in text and "sends nothing until that is mended" in text
    assert "goes on" not in text


def test_a_pbx_is_silent(context, clock):
    silent, since = Fleet(pbx("pbx1"), pbx("pbx2", leased=False)), alarms.local(clock())
    assert look(context, silent) == {}, "a restart of a PBX raises no alarm"
    clock.advance(alarms.FLEET_AFTER)
    assert f"PBXs of this account since {since}: 1 of 2; silent: pbx2" in look(context, silent)["fleet"]
    assert look(context, Fleet(pbx("pbx1"), pbx("pbx2"))) == {}


def test_a_pbx_that_has_never_joined_is_silent_too(context, clock):
    alone = Fleet(pbx("pbx1"))
    look(context, alone)
    clock.advance(alarms.FLEET_AFTER)
    assert "silent: unknown" in look(context, alone)["fleet"]


def test_a_pbx_that_was_taken_away_raises_no_alarm(context, clock):
    """Redis remembers it, but pbxs is lower now."""
    fleet = Fleet(pbx("pbx1"), pbx("pbx2"), pbx("pbx3", leased=False))
    look(context, fleet)
    clock.advance(alarms.FLEET_AFTER)
    assert look(context, fleet) == {}


@pytest.mark.parametrize(("clocks", "text"), [
    ((0.0, 5.5), "pbx1 +0 s, pbx2 +6 s"), ((-3.0, 3.0), "pbx1 -3 s, pbx2 +3 s"), ((7.0, 7.2), "pbx1 +7 s, pbx2 +7 s"),
    ((0.0, 4.9), ""), ((-2.0, 2.9), "")])
def test_clocks_that_are_apart(context, clocks, text):
    found = look(context, Fleet(pbx("pbx1", clock=clocks[0]), pbx("pbx2", clock=clocks[1])))
    assert set(found) == ({"clocks"} if text else set()) and text in found.get("clocks", "")


def test_the_clock_of_a_pbx_that_is_gone_does_not_count(context):
    assert look(context, Fleet(pbx("pbx1"), pbx("pbx2", leased=False, clock=900.0))) == {}


def test_without_a_fleet_old_notes_raise_no_alarm(context, write_config, clock):
    look(context, Fleet(pbx("pbx1"), why="gone", answers=False))
    clock.advance(alarms.FLEET_AFTER)
    alone = Context(load(write_config()), clock, journal=context.journal)
    assert alarms.standing(alone) == []
