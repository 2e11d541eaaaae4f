"""The line and the budget as the journal applies them: never two heads, never an overtaking, never over the window,
always progress. A hypothesis machine drives callers, answers, hang-ups and dead processes through a virtual clock."""
from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from movidesk.journal import Journal
from movidesk.rules import rate_limit, waiting_line
from support.clocks import Clock
from support.journals import arrive, deliver_now
from support.line_machine import PACE, LineMachine

TestLineMachine = LineMachine.TestCase
TestLineMachine.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


def test_a_priority_goes_first_and_within_one_who_came_first(journal):
    for number, priority in (1, 0), (2, 5), (3, 0), (4, 5):
        assert journal.scheduler.turn(arrive(journal, number, priority=priority), 10).position == (1, 1, 3, 2)[number - 1]
    assert [call.uniqueid for call in journal.overview.waiting()] == ["2", "4", "1", "3"]


@pytest.mark.parametrize("priority, later", [(1, 299), (1, 301), (9, 2699), (9, 2701)])
def test_nobody_waits_for_ever_behind_a_priority(journal, clock, priority, later):
    first = arrive(journal, 1)
    clock.now += later
    second = arrive(journal, 2, priority=priority)
    journal.scheduler.turn(first, 10)
    assert journal.scheduler.turn(second, 10).position == (1 if later < priority * 300 else 2)


def test_who_is_overtaken_while_its_request_is_under_way_gets_its_answer(journal, clock):
    first = arrive(journal, 1)
    assert journal.scheduler.turn(first, 10, hold=20).request_id
    second = arrive(journal, 2, priority=1)
    turn = journal.scheduler.turn(second, 10)
    assert (turn.request_id, turn.position, turn.wait) == (0, 1, 1), "one of a queue asks at a time"
    assert journal.scheduler.answered(first, "5252", "", "5252") == ("5252", "")
    assert journal.scheduler.turn(second, 10).request_id


@pytest.mark.parametrize("ends", ["answer", "failure", "hangup", "look", "death"])
def test_who_overtakes_asks_as_soon_as_the_request_is_over(journal, clock, ends):
    first = arrive(journal, 1)
    assert journal.scheduler.turn(first, 10, hold=20).request_id
    second = arrive(journal, 2, priority=1)
    assert not journal.scheduler.turn(second, 10).request_id
    if ends == "answer":
        journal.scheduler.answered(first, "", "", "nonsense")
        clock.now += PACE[0]
    elif ends == "failure":
        journal.scheduler.unanswered(first, taken=True)
    elif ends == "hangup":
        journal.calls.hang_up(first.call_id)
    elif ends == "look":  # its script was killed, and its dialplan has run it again
        journal.scheduler.turn(first, 10)
    else:
        clock.now += 21
    assert journal.scheduler.turn(second, 10).request_id


def test_who_comes_back_from_a_phone_waits_for_the_answer_of_the_next(journal):
    first, second = arrive(journal, 1), arrive(journal, 2)
    assert journal.scheduler.turn(first, 10).request_id
    journal.scheduler.answered(first, "5252", "", "5252")
    assert journal.scheduler.turn(second, 10).request_id
    turn = journal.scheduler.turn(journal.calls.find(first.call_id), 10, refusal="NOANSWER")
    assert not turn.request_id and turn.position == 1
    journal.scheduler.answered(second, "", "4", "4")
    journal.scheduler.turn(journal.calls.find(first.call_id), 10)
    assert journal.scheduler.turn(second, 10).position == 2


def test_a_priority_that_changes_moves_the_caller(journal, clock):
    first, second = arrive(journal, 1), arrive(journal, 2)
    journal.scheduler.turn(first, 10)
    assert journal.scheduler.turn(second, 10).position == 2
    assert journal.scheduler.turn(arrive(journal, 2, priority=1), 10).position == 1
    assert journal.scheduler.turn(arrive(journal, 2), 10).position == 2


def test_an_overtaken_head_is_no_second_head_of_its_queue(journal, clock):
    """Else a free request would be kept for nobody until the overtaken caller looks again."""
    other = arrive(journal, 9, "78")
    assert journal.scheduler.turn(other, 4).request_id
    journal.scheduler.answered(other, "", "4", "4", pace=(6.0, 6.0))
    with journal.store.transaction():
        journal.store.execute("INSERT INTO requests (at, class) VALUES (:at, 1), (:at, 1), (:at, 1)", at=clock.now)
    first, second = arrive(journal, 1), arrive(journal, 2, priority=1)
    assert not journal.scheduler.turn(first, 4).request_id and not journal.scheduler.turn(second, 4).request_id
    with journal.store.transaction():
        assert journal.demands.demand(clock.now, 4).heads == 1


def known(journal, clock, queue: str, extensions: list[str], limit: int) -> None:
    """Each of these agents has had a call of this queue, and is free."""
    for extension in extensions:
        call = arrive(journal, f"{queue}-{extension}", queue)
        journal.scheduler.answered(call, extension, "", "")
        journal.calls.record(call.call_id, "transferred")
        journal.calls.hang_up(call.call_id)
    while deliver_now(journal, limit):
        clock.now += rate_limit.WINDOW


class RaisedLimit:
    """Three queues share their agents at a raised limit. Movidesk answers the questions in any order, and knows of no agent's
    call that we do not know of: then nobody is overtaken, however many ask at once."""

    def __init__(self, draw: random.Random):
        self.draw, self.clock, self.count, self.most = draw, Clock(), 0, 0
        self.limit = draw.choice((99, 100, 1000))
        self.journal = Journal(":memory:", self.clock)
        self.free = [str(5200 + n) for n in range(draw.randint(1, 12))]  # in Movidesk
        self.asking: list[str] = []
        self.talking: dict[str, str] = {}
        for queue in "123":
            known(self.journal, self.clock, queue, self.free, self.limit)

    def before(self, call) -> set[str]:
        """Who came to the call's queue earlier and waits."""
        return {other.call_id for other in self.journal.overview.waiting() if other.queue == call.queue and other.id < call.id}

    def arrive(self) -> None:
        self.count += 1
        self.look(arrive(self.journal, f"{self.count:04d}", self.draw.choice("123")))

    def everybody_looks(self) -> None:
        for call in self.journal.overview.waiting():
            self.look(call)

    def look(self, call) -> None:
        if call.call_id not in self.asking and self.journal.scheduler.turn(call, self.limit).request_id:
            assert self.before(call) <= set(self.asking), "those before it ask, too"
            assert self.limit >= waiting_line.BESIDE_FROM or not self.before(call)
            self.asking.append(call.call_id)
            self.most = max(self.most, len(self.asking))

    def movidesk_answers(self) -> None:
        if self.asking:
            call = self.journal.calls.find(self.asking.pop(self.draw.randrange(len(self.asking))))
            before, extension = self.before(call), self.free.pop(0) if self.free else ""
            self.journal.scheduler.answered(call, extension, "" if extension else "4", "")
            if extension:
                assert before <= set(self.asking), "overtaken"
                assert len(before) <= len(self.free), "there is an agent for each of those before it"
                self.journal.calls.record(call.call_id, "transferred")
                self.talking[call.call_id] = extension

    def somebody_hangs_up(self) -> None:
        if self.talking:
            call_id = self.draw.choice(sorted(self.talking))
            self.journal.calls.hang_up(call_id)
            self.free.append(self.talking.pop(call_id))
            deliver_now(self.journal, self.limit)

    def time_passes(self) -> None:
        self.clock.now += self.draw.choice((0.1, 0.3, 1, 5))


@given(st.integers(0, 10 ** 9))
@settings(max_examples=80, deadline=None)
def test_nobody_is_overtaken_where_several_ask_at_once(seed):
    raised = RaisedLimit(random.Random(seed))
    steps = [raised.arrive, raised.everybody_looks, raised.movidesk_answers, raised.somebody_hangs_up, raised.time_passes]
    for _ in range(60):
        raised.draw.choices(steps, (4, 2, 3, 2, 1))[0]()
    raised.journal.close()


@pytest.mark.parametrize("limit, asking", [(10, 1), (1000, 3)])
def test_several_ask_at_once_at_a_raised_limit(journal, clock, limit, asking):
    """Six agents have had calls and are free: three callers may ask, for whom there are twice as many agents."""
    known(journal, clock, "77", [f"525{number}" for number in range(6)], limit)
    callers = [arrive(journal, 10 + number) for number in range(5)]
    turns = [journal.scheduler.turn(call, limit) for call in callers]
    assert [bool(turn.request_id) for turn in turns] == [number < asking for number in range(5)]
    assert [turn.position for turn in turns] == [1, 2, 3, 4, 5]
    for call in callers[:asking]:
        journal.scheduler.answered(call, "", "4", "")
    clock.now += 1
    assert not any(journal.scheduler.turn(call, limit).request_id for call in callers), "all agents are busy"


def test_agents_whom_movidesk_has_long_not_named_do_not_count_as_free(journal, clock):
    known(journal, clock, "77", [f"525{number}" for number in range(6)], 1000)
    clock.now += waiting_line.BESIDE_NAMED + 1
    first, second = arrive(journal, 1), arrive(journal, 2)
    assert journal.scheduler.turn(first, 1000).request_id and not journal.scheduler.turn(second, 1000).request_id


def test_nobody_asks_beside_a_caller_whose_question_has_failed(journal, clock):
    known(journal, clock, "77", [f"525{number}" for number in range(6)], 1000)
    first, second = arrive(journal, 1), arrive(journal, 2)
    assert journal.scheduler.turn(first, 1000).request_id
    journal.scheduler.unanswered(first, taken=True)
    assert not journal.scheduler.turn(second, 1000).request_id
    assert journal.scheduler.turn(first, 1000).request_id and journal.scheduler.turn(second, 1000).request_id


def test_what_is_known_of_a_phone_holds_also_within_one_look(clock):
    """The steady clock runs on between two readings of it."""
    ticks = iter(range(10**9))
    journal = Journal(":memory:", clock, steady=lambda: clock.now + next(ticks) / 1e6)
    first = journal.calls.arrive("pbx", "1", "1", "1")
    for _ in range(2):
        assert journal.scheduler.turn(journal.calls.find(first.call_id), 100, refusal="UNAVAILABLE").request_id
        journal.scheduler.answered(first, "5252", "", "")
    journal.calls.hang_up(first.call_id)
    clock.now += 10
    second = journal.calls.arrive("pbx", "2", "1", "1")
    assert journal.scheduler.turn(second, 100).request_id
    journal.scheduler.answered(second, "5252", "", "")
    assert not journal.scheduler.turn(journal.calls.find(second.call_id), 100, refusal="UNAVAILABLE").request_id
    journal.close()


def test_only_the_first_asks_and_the_others_learn_their_place(journal):
    first, second, third = (arrive(journal, number) for number in (1, 2, 3))
    assert journal.scheduler.turn(first, 10).request_id
    assert [journal.scheduler.turn(call, 10)[:2] for call in (second, third)] == [(0, 2), (0, 3)]


def test_the_next_asks_at_once_when_the_one_before_it_was_served(journal):
    first, second = arrive(journal, 1), arrive(journal, 2)
    assert journal.scheduler.turn(first, 10).request_id and not journal.scheduler.turn(second, 10).request_id
    journal.scheduler.answered(first, "5252", "", "")
    assert journal.scheduler.turn(second, 10).request_id


def test_the_head_asks_when_a_completed_was_delivered_else_at_its_pace(journal, clock):
    talking, waiting = arrive(journal, 1), arrive(journal, 2)
    assert journal.scheduler.turn(talking, 10).request_id
    journal.scheduler.answered(talking, "5252", "", "")
    journal.calls.record(talking.call_id, "transferred")
    assert journal.scheduler.turn(waiting, 10).request_id
    journal.scheduler.answered(waiting, "", "4", "4")
    clock.now += 1
    assert not journal.scheduler.turn(waiting, 10).request_id
    journal.calls.hang_up(talking.call_id)
    for _ in range(2):
        job, _wait = journal.outbox.take(10)
        journal.outbox.delivered(job, "")
    assert job.event.kind == "completed"
    assert journal.scheduler.turn(waiting, 10).request_id


def test_after_a_refusal_the_caller_asks_at_once_and_keeps_its_place(journal):
    first, second = arrive(journal, 1), arrive(journal, 2)
    assert journal.scheduler.turn(first, 10).request_id
    journal.scheduler.answered(first, "5252", "", "")
    assert journal.scheduler.turn(second, 10).request_id
    journal.scheduler.answered(second, "", "4", "4")
    turn = journal.scheduler.turn(journal.calls.find(first.call_id), 10)
    assert turn.request_id and turn.position == 1
    assert journal.scheduler.turn(second, 10).position == 2


def test_nobody_waits_behind_a_ghost(journal, clock):
    ghost, second = arrive(journal, 1), arrive(journal, 2)
    assert journal.scheduler.turn(ghost, 10, hold=20).request_id
    assert journal.scheduler.turn(second, 10).position == 2
    clock.now += 21
    assert journal.scheduler.turn(second, 10).position == 1


def test_who_hangs_up_leaves_the_line_at_once(journal):
    first, second = arrive(journal, 1), arrive(journal, 2)
    journal.scheduler.turn(first, 10)
    journal.calls.hang_up(first.call_id)
    assert journal.scheduler.turn(second, 10).position == 1


def test_who_leaves_a_message_leaves_the_line_and_is_told_at_hangup(journal, clock):
    first, second = arrive(journal, 1), arrive(journal, 2)
    assert journal.scheduler.turn(first, 10).request_id
    journal.scheduler.answered(first, "", "4", "4")
    journal.calls.record(first.call_id, "lost", held=True)
    assert journal.scheduler.turn(second, 10).position == 1
    assert journal.outbox.take(10)[0] is None
    assert journal.calls.hang_up(first.call_id, "https://x/1.wav").kind == "lost"
    assert journal.outbox.take(10)[0].event.link == "https://x/1.wav"


def test_a_caller_behind_asks_nothing_however_often_it_looks(journal):
    arrive(journal, 1)
    first, second = journal.calls.find("pbx-1"), arrive(journal, 2)
    journal.scheduler.turn(first, 10)
    for _ in range(100):
        journal.scheduler.turn(second, 10)
    assert journal.limits.requests_in_window() == 1


@pytest.mark.parametrize("code", ["0", "1", "2", "3"])
def test_a_code_is_told_to_the_line_that_it_was_for_and_to_no_later_one(journal, clock, code):
    """Whoever comes second in the morning is not sent away because it was night when somebody last asked."""
    last = arrive(journal, 1)
    assert journal.scheduler.turn(last, 10).request_id
    journal.scheduler.answered(last, "", code, code)
    journal.calls.hang_up(last.call_id)
    clock.now += 8 * 3600
    first, second = arrive(journal, 2), arrive(journal, 3)
    assert journal.scheduler.turn(first, 10).request_id
    assert journal.scheduler.turn(second, 10).code == "4"
    journal.scheduler.answered(first, "", code, code)
    assert journal.scheduler.turn(second, 10).code == code


def test_a_late_arrival_is_not_told_before_live_callers(journal, clock):
    gone, live = arrive(journal, 1), arrive(journal, 2)
    journal.calls.hang_up(gone.call_id)
    assert journal.scheduler.turn(live, 10).request_id
    job, _ = journal.outbox.take(10)
    assert job is None, "an agent that is free for the live caller would be offered to one that is gone"
    journal.scheduler.answered(live, "", "4", "4")
    job, _ = journal.outbox.take(10)
    assert (job.event.kind, job.call.call_id, job.event.at) == ("received", gone.call_id, gone.arrived)


def test_heads_of_several_queues_take_turns(journal, clock):
    """With one request a window, no queue's head is asked for twice before the other's."""
    heads = [arrive(journal, 1, "1"), arrive(journal, 2, "2")]
    asked = []
    while len(asked) < 8:
        clock.now += 1
        for call in heads:
            if journal.scheduler.turn(call, 1).request_id:
                journal.scheduler.answered(call, "", "4", "4", pace=(6.0, 6.0))
                asked.append(call.queue)
    assert abs(asked.count("1") - asked.count("2")) <= 1


def told_now(journal) -> list[tuple[str, str]]:
    """Deliver what may go now; the call's id and the kind of each event, in order."""
    return [(job.call.call_id, job.event.kind) for job in deliver_now(journal)]


def test_events_nobody_waits_for_go_call_by_call_and_leave_places(journal, clock):
    gone = [arrive(journal, number) for number in range(12)]
    for call in gone:
        journal.calls.hang_up(call.call_id)
    live = arrive(journal, 99)
    assert journal.scheduler.turn(live, 10).request_id
    journal.scheduler.answered(live, "", "1", "1")
    told = told_now(journal)
    assert len(told) == 4, "places of ten are left for the next caller"
    clock.now += 10 * rate_limit.WINDOW + 1
    told += told_now(journal)
    assert len(told) == 14
    assert told == [(call.call_id, kind) for call in gone for kind in ("received", "canceled")][:14]


def test_what_nobody_waits_for_ages_and_gets_a_place(journal, clock):
    for number in range(40):
        call = arrive(journal, number, "9")
        journal.scheduler.answered(call, "5252", "", "")
        journal.calls.record(call.call_id, "transferred")
    canceled = arrive(journal, 100, "9")
    journal.scheduler.answered(canceled, "", "4", "4")
    journal.calls.hang_up(canceled.call_id)
    arrive(journal, 101, "1")
    sent = []
    for _ in range(400):
        clock.now += 1
        journal.scheduler.turn(journal.calls.find("pbx-101"), 10)
        job, _ = journal.outbox.take(10)
        if job:
            sent.append(job.event.kind)
            journal.outbox.delivered(job, "")
    assert "canceled" in sent


def test_a_new_boot_makes_the_old_steady_clock_harmless(tmp_path, monkeypatch):
    import movidesk.journal.store as module

    path, wall = str(tmp_path / "journal.db"), Clock()
    monkeypatch.setattr(module, "_boot_id", lambda: "one")
    before = Journal(path, wall, steady=lambda: 5_000_000.0)
    call = arrive(before, 1)
    assert before.scheduler.turn(call, 10).request_id
    before.scheduler.answered(call, "", "1", "1")
    before.calls.hang_up(call.call_id)
    job, _ = before.outbox.take(10)
    before.outbox.retry(job, 300, "HTTP 500")
    before.limits.close_window(3600)
    before.close()
    monkeypatch.setattr(module, "_boot_id", lambda: "two")
    steady = Clock()
    steady.now = 10.0
    after = Journal(path, wall, steady=steady)
    assert after.outbox.take(10)[0] is None
    steady.now += 2 * rate_limit.WINDOW
    assert after.outbox.take(10)[0].event.kind == "lost"
    after.close()


# -- screens, phones, callers who leave ---------------------------------------------------------------------------------

def fill_window(journal, number: int) -> None:
    """Send so many requests now."""
    with journal.store.transaction():
        for _ in range(number):
            assert journal.limits.claim(10, rate_limit.SCREEN, rate_limit.Demand()).request_id


def test_the_head_asks_when_the_screen_of_its_agent_will_find_a_request(journal, clock):
    fill_window(journal, 8)
    clock.now += 10
    fill_window(journal, 1)
    call = arrive(journal, 1)
    turn = journal.scheduler.turn(call, 10)
    assert not turn.request_id and turn.wait == 5
    clock.now += rate_limit.WINDOW - 10 - rate_limit.RING + 0.01
    assert journal.scheduler.turn(call, 10).request_id, "eight are free before any agent picks up"


def test_while_a_phone_rings_a_request_is_kept_for_its_screen(journal, clock):
    first, second = arrive(journal, 1), arrive(journal, 2)
    fill_window(journal, 7)
    assert journal.scheduler.turn(first, 10).request_id
    journal.scheduler.answered(first, "5252", "", "5252")
    assert not journal.scheduler.turn(second, 10).request_id, "two are free: one for the ringing agent, none for another"
    clock.now += 9
    journal.calls.record("pbx-1", "transferred")
    assert [job.event.kind for job in deliver_now(journal)] == ["transferred"]
    assert not journal.scheduler.turn(second, 10).request_id
    clock.now += rate_limit.WINDOW - 8
    assert journal.scheduler.turn(second, 10).request_id


@pytest.mark.parametrize("end", ["canceled", "refused", "failed"])
def test_a_request_is_kept_no_longer_than_the_phone_rings(journal, clock, end):
    first, second = arrive(journal, 1), arrive(journal, 2)
    fill_window(journal, 6)
    assert journal.scheduler.turn(first, 10).request_id
    if end == "failed":
        journal.scheduler.unanswered(first, taken=False)
    else:
        journal.scheduler.answered(first, "5252", "", "5252")
        assert journal.demands.demand(clock.now, 10).pickups == (rate_limit.RING,)
    if end == "canceled":
        journal.calls.record("pbx-1", "canceled")
    elif end == "refused":
        journal.scheduler.turn(journal.calls.find("pbx-1"), 7, refusal="BUSY")
    with journal.store.transaction():
        assert journal.demands.demand(clock.now, 10).pickups == ()
    assert second.state == "received"


def test_how_long_phones_ring_is_learnt_from_calls_that_were_answered(journal, clock):
    for number in range(6):
        call = arrive(journal, number)
        assert journal.scheduler.turn(call, 100).request_id
        journal.scheduler.answered(call, "5252", "", "5252")
        clock.now += 7
        journal.calls.record(call.call_id, "transferred")
        journal.calls.hang_up(call.call_id)
        assert deliver_now(journal)
        clock.now += 100
    with journal.store.transaction():
        assert journal.demands.demand(clock.now, 10).ring == pytest.approx(7)


def known_agents(journal, *extensions: str) -> None:
    """Movidesk has named these for queue 77 before."""
    with journal.store.transaction():
        for extension in extensions:
            journal.agents.add_member("77", extension)


def test_only_the_head_needs_the_states_of_its_queues_phones(journal):
    known_agents(journal, "5252", "5253")
    first, second = arrive(journal, 1), arrive(journal, 2)
    journal.scheduler.turn(first, 10)
    assert journal.scheduler.phones(first) == ["5252", "5253"] and journal.scheduler.phones(second) == []
    assert journal.scheduler.phones(arrive(journal, 3, "78")) == [], "nobody is known there"


def test_no_request_is_spent_while_all_phones_are_busy(journal, clock):
    known_agents(journal, "5252", "5253")
    call = arrive(journal, 1)
    busy = {"5252": "INUSE", "5253": "UNAVAILABLE"}
    assert journal.scheduler.turn(call, 10, states=busy).request_id, "its first question: Movidesk must know the caller"
    journal.scheduler.answered(call, "", "4", "4", pace=PACE)
    for _ in range(29):
        clock.now += 1
        turn = journal.scheduler.turn(journal.calls.find("pbx-1"), 10, pace=PACE, states=busy)
        assert not turn.request_id and turn.wait == 1, "a phone may become free"
    clock.now += 1
    assert journal.scheduler.turn(journal.calls.find("pbx-1"), 10, pace=PACE, states=busy).request_id


def test_a_phone_that_becomes_free_is_news_whatever_movidesk_said(journal, clock):
    known_agents(journal, "5252", "5253")
    call = arrive(journal, 1)
    busy = {"5252": "INUSE", "5253": "INUSE"}
    assert journal.scheduler.turn(call, 10).request_id
    journal.scheduler.answered(call, "", "4", "4", pace=PACE)
    clock.now += 1
    assert not journal.scheduler.turn(call, 10, pace=PACE, states=busy).request_id
    clock.now += 1
    assert journal.scheduler.turn(call, 10, pace=PACE, states={**busy, "5253": "NOT_INUSE"}).request_id


def test_the_phone_of_an_agent_who_has_a_caller_is_no_news(journal, clock):
    """It is free at the end of the talk, but Movidesk has not been told yet, and would say 4 again."""
    talks, waits = arrive(journal, 1), arrive(journal, 2)
    assert journal.scheduler.turn(talks, 10).request_id
    journal.scheduler.answered(talks, "5252", "", "5252")
    journal.calls.record("pbx-1", "transferred")
    clock.now += 1
    assert journal.scheduler.turn(waits, 10, states={"5252": "INUSE"}).request_id
    journal.scheduler.answered(waits, "", "4", "4", pace=PACE)
    clock.now += 1
    assert not journal.scheduler.turn(waits, 10, pace=PACE, states={"5252": "INUSE"}).request_id
    journal.calls.hang_up("pbx-1")
    assert not journal.scheduler.turn(waits, 10, pace=PACE, states={"5252": "NOT_INUSE"}).request_id
    assert [job.event.kind for job in deliver_now(journal)] == ["transferred", "completed"]
    assert journal.scheduler.turn(waits, 10, pace=PACE, states={"5252": "NOT_INUSE"}).request_id


def test_a_phone_that_rang_for_our_own_caller_is_no_news(journal, clock):
    """One caller's agent declines while another is first in line: its phone was ringing, and is free."""
    known_agents(journal, "5252")
    first, second = arrive(journal, 1), arrive(journal, 2)
    assert journal.scheduler.turn(first, 100).request_id
    journal.scheduler.answered(first, "5252", "", "5252")
    clock.now += 1
    assert journal.scheduler.turn(second, 100, states={"5252": "RINGING"}).request_id
    journal.scheduler.answered(second, "", "4", "4", pace=PACE)
    clock.now += 4
    refused = journal.calls.find("pbx-1")
    assert journal.scheduler.turn(refused, 100, refusal="DECLINED", pace=PACE, states={"5252": "NOT_INUSE"}).request_id
    journal.scheduler.answered(refused, "5252", "", "5252", pace=PACE)
    clock.now += 1
    assert not journal.scheduler.turn(journal.calls.find("pbx-1"), 100, pace=PACE, states={"5252": "NOT_INUSE"}).request_id
    assert journal.agents.refusal("5252").reason == "DECLINED"


def test_endings_do_not_keep_the_head_from_its_second_request(journal, clock):
    """The window opens one request at a time; thirty agents' calls have ended."""
    for number in range(30):
        call = arrive(journal, number, "9")
        journal.scheduler.answered(call, str(5000 + number), "", "")
        journal.calls.record(call.call_id, "transferred")
        journal.calls.hang_up(call.call_id)
    for _ in range(10):
        fill_window(journal, 1)
        clock.now += rate_limit.WINDOW / 10
    with journal.store.transaction():
        journal.store.execute("UPDATE events SET status = 'delivered' WHERE kind = 'transferred'")
    head, begun = arrive(journal, 99), clock.now
    while not journal.scheduler.turn(head, 10).request_id:
        deliver_now(journal)
        clock.now += 0.2
    assert clock.now - begun < 3 * rate_limit.WINDOW / 10


def test_a_screen_waits_no_longer_than_for_its_own_request(journal, clock):
    """Beside it waits an event that nobody waits for, whose request is free much later."""
    fill_window(journal, 10)
    clock.now += rate_limit.WINDOW - 0.2
    call = arrive(journal, 1)
    journal.scheduler.answered(call, "5252", "", "5252")
    journal.calls.record("pbx-1", "transferred")
    gone = arrive(journal, 2)
    journal.calls.hang_up(gone.call_id)
    fill_window(journal, 0)
    job, wait = journal.outbox.take(10)
    assert job is None and wait <= 0.25


def test_where_the_transfer_is_told_at_once_both_requests_must_be_free(journal, clock):
    fill_window(journal, 9)
    clock.now += rate_limit.WINDOW - 1
    call = arrive(journal, 1)
    assert not journal.scheduler.turn(call, 10, report=True).request_id
    assert journal.scheduler.turn(call, 10).request_id


def test_who_was_lost_did_not_leave(journal, clock):
    """The dialplan took them away at MOVIDESK_MAX_WAIT."""
    for number in range(8):
        gone = arrive(journal, number)
        clock.now += 120
        journal.calls.record(gone.call_id, "lost")
    call = arrive(journal, 8)
    journal.scheduler.turn(call, 1)
    clock.now += 118
    assert journal.scheduler.turn(call, 100).request_id


def test_where_no_state_is_known_nothing_changes(journal, clock):
    known_agents(journal, "5252")
    call = arrive(journal, 1)
    assert journal.scheduler.turn(call, 10, states={"5252": ""}).request_id


def test_the_refusal_of_a_phone_that_is_free_again_is_forgotten(journal, clock):
    call = arrive(journal, 1)
    assert journal.scheduler.turn(call, 10).request_id
    journal.scheduler.answered(call, "5252", "", "5252")
    refused = journal.calls.find("pbx-1")
    journal.scheduler.turn(refused, 10, refusal="INUSE", states={"5252": "INUSE"})
    assert journal.agents.refusal("5252").reason == "INUSE"
    clock.now += 1
    journal.scheduler.turn(journal.calls.find("pbx-1"), 10, states={"5252": "NOT_INUSE"})
    assert journal.agents.refusal("5252") is None


def test_a_caller_who_is_about_to_leave_does_not_ask_and_is_not_overtaken(journal, clock):
    for number in range(8):
        gone = arrive(journal, number)
        clock.now += 120
        journal.calls.hang_up(gone.call_id)
    deliver_now(journal)
    first = arrive(journal, 8)
    journal.scheduler.turn(first, 1)
    clock.now += 60
    second = arrive(journal, 9)
    clock.now += 58
    assert journal.scheduler.phones(second) == []
    for call in (first, second):
        assert not journal.scheduler.turn(call, 100).request_id
    clock.now += 3
    assert journal.scheduler.turn(first, 100).request_id, "it has stayed longer than the others"
