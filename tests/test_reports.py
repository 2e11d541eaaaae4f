"""The figures of a report against a second computation, which shares no code with the first, and where they come from."""
from __future__ import annotations

import math
import statistics
from collections import defaultdict
from datetime import date, datetime, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from movidesk.journal import Job, Journal
from movidesk.reports import report
from movidesk.reports.periods import Period
from support.clocks import Clock

#: A zone and a day on which its clock changes, but for the last one.
CHANGES = (("Europe/Lisbon", date(2026, 3, 29)), ("Europe/Lisbon", date(2026, 10, 25)), ("America/Sao_Paulo", date(2018, 11, 4)),
           ("America/Sao_Paulo", date(2018, 2, 17)), ("Australia/Lord_Howe", date(2026, 10, 4)),
           ("Australia/Lord_Howe", date(2026, 4, 5)), ("America/St_Johns", date(2026, 11, 1)),
           ("America/Sao_Paulo", date(2026, 5, 4)))
NUMBERS = ("4733990001", "+554733990001", "04733990002", "33990003", "+33990003", "anonymous", "", "190")


#: ring: hung up while the phone rang, which Movidesk takes for completed.
KINDS = ("answered", "ring", "lost", "canceled", "waiting", "made")


class Lived(NamedTuple):
    """A call as it was. Times are whole tenths of a second after the begin of the day before the change."""

    kind: str      # of KINDS
    mode: str      # control or watch
    queue: str
    agent: str
    number: str
    code: str
    arrived: int
    waited: int
    talked: int
    screen: int    # tenths from the pick-up until Movidesk took the report; -1: never
    open: bool     # still goes on
    by_us: bool    # recorded by this version, not by the one before
    untold: bool   # nobody knows when the agent picked up


#: Spread over three days: of one large number Hypothesis tries small values most of all.
times = st.builds(lambda day, hour, tenth: 864_000 * day + 36_000 * hour + tenth,
                  st.sampled_from([1, 1, 1, 2, 0]), st.integers(0, 23), st.integers(0, 35_999))
lives = st.builds(
    Lived, st.sampled_from(["answered", *KINDS]), st.sampled_from(["control", "watch"]),
    st.sampled_from(["77", "78", "100", ""]), st.sampled_from(["5252", "999", "10001"]), st.sampled_from(NUMBERS),
    st.sampled_from(["", "0", "1", "2", "4"]), times,
    st.one_of(st.integers(0, 5000), st.integers(0, 3).map(lambda seconds: 10 * seconds)), st.integers(0, 40_000),
    st.integers(-1, 50), st.booleans(), st.booleans(), st.integers(0, 9).map(lambda n: n == 0))


def write(journal: Journal, begin: float, calls: list[Lived]) -> None:
    """As the journal records them."""
    with journal.store.transaction():
        for number, call in enumerate(calls, 1):
            arrived = begin + call.arrived / 10
            picked_up = arrived + call.waited / 10
            shown = None if call.screen < 0 else picked_up + call.screen / 10
            ended = None if call.open or call.kind == "waiting" else picked_up
            if call.kind == "answered" and ended is not None:
                ended = picked_up + call.talked / 10
            state = {"answered": "transferred" if ended is None else "completed", "ring": "completed", "lost": "lost",
                     "canceled": "canceled" if call.mode == "control" else "start_canceled",
                     "waiting": "waiting" if call.mode == "control" else "arrived",
                     "made": "dialled" if ended is None else "ended"}[call.kind]
            if call.kind in ("ring", "lost", "canceled"):
                ended = picked_up
            known = call.kind == "answered" and call.by_us and not call.untold
            journal.store.execute(
                "INSERT INTO calls (id, call_id, uniqueid, mode, state, queue, number, extension, code, arrived, ended,"
                " picked_up, shown, fate) VALUES (:id, 'c' || :id, :id, :mode, :state, :queue, :number, :agent, :code, :arrived,"
                " :ended, :picked_up, :shown, :fate)",
                id=number, mode="made" if call.kind == "made" else call.mode, state=state, queue=call.queue, number=call.number,
                agent=call.agent, code=call.code, arrived=arrived, ended=ended, picked_up=picked_up if known else None,
                shown=shown if known else None, fate="canceled" if call.kind == "ring" else "")
            if call.kind in ("answered", "ring") and not call.untold:
                journal.store.execute(
                    "INSERT INTO events (call, kind, at, status, settled) VALUES (:id, :kind, :at, :status, :settled)",
                    id=number, kind="transferred" if call.mode == "control" else "start_transferred", at=picked_up,
                    status="refused" if shown is None else "delivered", settled=shown or picked_up + 99)


class Second:
    """The figures of some calls, computed the long way."""

    def __init__(self, calls: list[Lived], within: int):
        of = {kind: [call for call in calls if call.kind == kind] for kind in KINDS}
        picked = [call for call in of["answered"] if not call.untold]
        shut = [call for call in of["lost"] if call.code in "01" and call.code]
        missed = [call for call in of["ring"] + of["canceled"] + of["lost"] if call not in shut]
        timely = [call for call in picked if call.waited <= 10 * within]
        self.counts = (len(calls) - len(of["made"]), len(of["answered"]), len(of["lost"]), len(of["ring"]) + len(of["canceled"]),
                       len(of["waiting"]), len(shut), len(timely),
                       len(timely) / len(picked + missed) if picked + missed else None,
                       len(of["made"]), len([call for call in of["made"] if call.code]),
                       len([call for call in picked if call.screen < 0]))
        self.wait = self.spread([call.waited for call in picked + missed])
        self.talk = self.spread([call.talked for call in picked if not call.open])
        self.screen = self.spread([call.screen for call in picked if call.screen >= 0])

    @staticmethod
    def spread(tenths: list[int]) -> tuple:
        if not tenths:
            return (0, None, None, None)
        least = min(span for span in tenths if sum(other <= span for other in tenths) >= 0.95 * len(tenths))
        return (len(tenths), statistics.fmean(tenths) / 10, statistics.median(tenths) / 10, least / 10)


def same(row, second: Second) -> None:
    assert row[:11] == second.counts
    for ours, theirs in zip(row[11:], (second.wait, second.talk, second.screen)):
        assert ours[0] == theirs[0]
        for one, other in zip(ours[1:], theirs[1:]):
            assert one == other or math.isclose(one, other)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(calls=st.one_of(st.lists(lives, max_size=8), st.lists(lives, min_size=40, max_size=60)),  # 95 % of few calls are all
       change=st.sampled_from(CHANGES), days=st.sampled_from([1, 1, 2]), within=st.integers(0, 3))
def test_the_figures_are_those_of_a_second_computation(tmp_path_factory, calls, change, days, within):
    zone, day = ZoneInfo(change[0]), change[1]
    begin = datetime(day.year, day.month, day.day, tzinfo=zone).timestamp() - 86400
    calls = [call._replace(queue="" if call.kind == "made" else call.queue,
                           code=call.code if call.kind in ("lost", "made") else "") for call in calls]
    clock = Clock(begin + 3 * 86400)
    journal = Journal(str(tmp_path_factory.mktemp("journal") / "journal.db"), clock)
    write(journal, begin, calls)
    found = report.read(journal, Period(day, day + timedelta(days=days - 1)), within, 90, zone)
    journal.close()

    def local(call: Lived) -> datetime:
        return datetime.fromtimestamp(begin + call.arrived / 10, zone)

    inside = [call for call in calls if day <= local(call).date() < day + timedelta(days=days)]
    same(found.total, Second(inside, within))
    groups: dict[str, dict[str, list[Lived]]] = defaultdict(lambda: defaultdict(list))
    for call in inside:
        groups["hours"][local(call).strftime("%H") + "*" * (local(call).fold and days == 1)].append(call)
        groups["days"][local(call).strftime("%Y-%m-%d")].append(call)
        if call.queue:
            groups["queues"][call.queue].append(call)
        if call.kind in ("answered", "made"):
            groups["agents"][call.agent].append(call)
    for name in ("hours", "days", "queues", "agents"):
        rows = {row.name: row.figures for row in getattr(found, name)}
        assert {key for key, figures in rows.items() if figures.calls or figures.made} == set(groups[name])
        for key, figures in rows.items():
            same(figures, Second(groups[name][key], within))
    same_callers(found.callbacks, calls, inside)


def same_callers(found, calls: list[Lived], inside: list[Lived]) -> None:
    """Whom to call back: every caller in turn, with all later calls of the journal."""
    def who(call: Lived) -> str:
        return call.number.lstrip("+")[-10:].lstrip("0") if call.number != "anonymous" else ""

    missed = [call for call in inside if call.kind in ("ring", "lost", "canceled")]
    left, answered, called = {}, set(), set()
    for caller in {who(call) for call in missed} - {""}:
        own = [call for call in missed if who(call) == caller]
        last = max(call.arrived for call in own)
        later = [call for call in calls if who(call) == caller and call.arrived >= last]
        if any(call.kind == "answered" for call in later):
            answered.add(caller)
        elif any(call.kind == "made" and not call.code for call in later):
            called.add(caller)
        else:
            left[caller] = (last, len(own))
    assert (found.answered, found.called) == (len(answered), len(called))
    assert found.anonymous == len([call for call in missed if not who(call)])
    assert sorted((who(Lived(*[""] * 4, caller.number, *[0] * 8)), caller.calls) for caller in found.callers) == sorted(
        (caller, times) for caller, (_, times) in left.items())
    assert [caller.arrived for caller in found.callers] == sorted((caller.arrived for caller in found.callers), reverse=True)


# -- where the figures come from ---------------------------------------------------------------------------------------

TODAY = Period(date(2023, 11, 14), date(2023, 11, 14))  # of support.clocks.Clock, in UTC


def of(journal, keep_days: int = 90, within: int = 20):
    return report.read(journal, TODAY, within, keep_days, ZoneInfo("UTC"))


def answer(journal, call, agent="5252", report_transfer=False):
    journal.scheduler.answered(call, agent, "", agent, report_transfer)


def test_a_pick_up_and_its_screen_are_kept_with_the_call(journal, clock):
    call = journal.calls.arrive("pbx1", "1.1", "77", "4733990001")
    answer(journal, call)
    clock.now += 12
    journal.calls.record(call.call_id, "transferred", "5252")
    clock.now += 1.5
    event = journal.calls.events(call)[-1]
    journal.outbox.delivered(Job(event, journal.calls.get(call.call_id)), "")
    clock.now += 60
    journal.calls.hang_up(call.call_id)
    journal.store.connection.execute("DELETE FROM events")
    figures = of(journal).total
    assert (figures.wait.mean, figures.screen.mean, figures.talk.mean, figures.unseen) == (12, 1.5, 61.5, 0)


def test_with_report_transfer_ring_the_wait_ends_at_the_pick_up(journal, clock):
    call = journal.calls.arrive("pbx1", "1.1", "77", "4733990001")
    answer(journal, call, report_transfer=True)
    clock.now += 15
    journal.calls.record(call.call_id, "transferred", "5252")
    clock.now += 30
    journal.calls.hang_up(call.call_id)
    figures = of(journal).total
    assert (figures.answered, figures.wait.mean, figures.talk.mean) == (1, 15, 30)


@pytest.mark.parametrize("kind, counted", [("canceled", (0, 1)), ("lost", (1, 0))])
def test_with_report_transfer_ring_who_hangs_up_is_not_answered(journal, clock, kind, counted):
    call = journal.calls.arrive("pbx1", "1.1", "77", "4733990001")
    answer(journal, call, report_transfer=True)
    clock.now += 15
    assert journal.calls.record(call.call_id, kind).call.state == "completed"  # what Movidesk is told
    found = of(journal)
    assert (found.total.answered, found.total.lost, found.total.abandoned) == (0, *counted)
    assert [caller.number for caller in found.callbacks.callers] == ["4733990001"]


def test_a_call_belongs_to_the_day_of_its_arrival(journal, clock):
    clock.now = datetime(2023, 11, 14, 23, 59, 50, tzinfo=ZoneInfo("UTC")).timestamp()
    call = journal.calls.arrive("pbx1", "1.1", "77", "4733990001")
    clock.now += 20
    assert of(journal).total.waiting == 1
    journal.calls.record(call.call_id, "transferred", "5252")
    clock.now += 600
    journal.calls.hang_up(call.call_id)
    figures = {row.name: row.figures for row in of(journal).hours}["23"]
    assert (figures.answered, figures.wait.mean, figures.talk.mean) == (1, 20, 600)
    assert report.read(journal, Period(date(2023, 11, 15), date(2023, 11, 15)), 20, 90, ZoneInfo("UTC")).total.calls == 0


def test_days_that_were_pruned_are_not_zero(journal, clock):
    journal.calls.arrive("pbx1", "1.1", "77", "4733990001", arrived=clock.now - 40 * 86400)
    found = report.read(journal, Period(date(2023, 10, 1), date(2023, 11, 14)), 20, 30, ZoneInfo("UTC"))
    assert found.since == clock.now - 30 * 86400 and found.days[0].name == "2023-10-15" and found.days[-1].name == "2023-11-14"


def test_days_before_the_first_call_are_not_zero(journal, clock):
    arrived = clock.now - 86400
    journal.calls.arrive("pbx1", "1.1", "77", "4733990001", arrived=arrived)
    found = report.read(journal, Period(date(2023, 11, 1), date(2023, 11, 14)), 20, 90, ZoneInfo("UTC"))
    assert found.since == arrived and [row.name for row in found.days] == ["2023-11-13", "2023-11-14"]
    assert of(journal).since is None


def test_days_that_have_not_come_have_no_row(journal, clock):
    journal.calls.arrive("pbx1", "1.1", "77", "4733990001", arrived=clock.now - 7 * 86400)
    found = report.read(journal, Period(date(2023, 11, 13), date(9998, 12, 31)), 20, 90, ZoneInfo("UTC"))
    assert [row.name for row in found.days] == ["2023-11-13", "2023-11-14"] and found.read < found.end
    later = report.read(journal, Period(date(2024, 1, 1), date(2024, 1, 31)), 20, 90, ZoneInfo("UTC"))
    assert later.days == later.hours == [] and later.total.calls == 0


def test_an_empty_journal_has_no_calls(journal):
    found = of(journal)
    assert found.total.calls == 0 and found.total.service_level is None and found.callbacks.callers == []
    assert found.since is None
    assert [row.name for row in found.hours] == [f"{hour:02d}" for hour in range(24)]
