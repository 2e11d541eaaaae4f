"""The journal as a whole, driven by a machine of calls; and what a step costs."""
from __future__ import annotations

from hypothesis import assume, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from movidesk.journal import LEASE, PENDING, REFUSED, Journal
from movidesk.rules import call_states
from support import owed
from support.clocks import Clock
from support.journals import LIMIT, arrive, deliver_all
from support.processes import race


class Lives(RuleBasedStateMachine):
    """Several channels, several visits, every event at any moment, delivery in between: what must hold at all times."""

    channels = st.sampled_from(["1.1", "1.2", "1.3"])
    extensions = st.sampled_from(["5252", "5253"])

    @initialize(report=st.booleans())
    def open(self, report):
        self.clock = Clock()
        self.journal = Journal(":memory:", self.clock)
        self.report = report   # report_transfer = ring
        self.seen = []         # every Call as it was given out, stale ones too
        self.ends = {}         # call id -> the state in which it ended
        self.jobs = []         # every job that was handed out, settled or not
        self.events = {}       # event id -> (call, kind)

    def a_call(self, data):
        return data.draw(st.sampled_from(self.seen))

    @rule(channel=channels, queue=st.sampled_from(["77", "78"]), mode=st.sampled_from(["control", "control", "watch"]))
    def arrives(self, channel, queue, mode):
        call = self.journal.calls.arrive("pbx", channel, queue, "47", mode)
        assert call.state not in call_states.ENDED and call.ended is None
        assert call.call_id not in self.ends, "the id of an ended call was used again"
        self.seen.append(call)

    @rule(number=st.integers(1, 4), kind=st.sampled_from(["transferred", "completed", "lost", "start_transferred",
                                                          "start_canceled", "canceled", "link"]))
    def an_event_without_its_call(self, number, kind):
        self.seen.append(self.journal.calls.record(f"pbx-1.{number}", kind, uniqueid="other").call)

    @precondition(lambda self: self.seen)
    @rule(data=st.data(), answer=st.sampled_from([("5252", ""), ("5253", ""), ("", "1"), ("", "4"), ("", "")]))
    def movidesk_answers(self, data, answer):
        call = self.a_call(data)
        assume(call.mode == call_states.CONTROL)
        self.journal.scheduler.answered(call, *answer, "note", report=self.report)

    @precondition(lambda self: self.seen)
    @rule(data=st.data())
    def movidesk_refuses(self, data):
        call = self.a_call(data)
        self.journal.trials.question_refused(call, "HTTP 400")
        self.journal.trials.question_failed(call, 30, alone=False, refused=True)

    @precondition(lambda self: self.seen)
    @rule(data=st.data(), extension=extensions, times=st.integers(1, 2),
          kind=st.sampled_from(["transferred", "completed", "lost", "canceled", "start_transferred", "start_canceled",
                                "link", "received", "ended"]))
    def an_event(self, data, extension, times, kind):
        call_id = self.a_call(data).call_id
        for _ in range(times):
            before = self.journal.calls.find(call_id)
            done = self.journal.calls.record(call_id, kind, extension=extension, link="https://pbx/1.wav")
            assert (done.kind is None) == bool(done.reason)
            assert done.kind or self.journal.calls.find(call_id) == before

    @precondition(lambda self: self.seen)
    @rule(data=st.data())
    def leaves_a_message(self, data):
        self.journal.calls.record(self.a_call(data).call_id, "lost", held=True)

    @precondition(lambda self: self.seen)
    @rule(data=st.data())
    def hangs_up(self, data):
        call_id = self.a_call(data).call_id
        self.journal.calls.hang_up(call_id)
        assert self.journal.calls.find(call_id).state in call_states.ENDED

    @rule()
    def take(self):
        expected = owed.expected(self.journal)
        job, _ = self.journal.outbox.take(1000)
        assert [job.event.id] == expected[:1] if job else not expected
        if job:
            earlier = [e for e in self.journal.calls.events(job.call) if e.id < job.event.id and e.status == PENDING]
            assert not earlier, "handed out before its elder"
            assert job.event.due <= self.clock.now, "handed out before it was due, or while another has it"
            self.jobs.append(job)

    @precondition(lambda self: self.jobs)
    @rule(data=st.data(), how=st.sampled_from(["delivered", "offered", "rejected", "retry", "forgotten"]))
    def settle(self, data, how):
        job = self.jobs.pop(data.draw(st.integers(0, len(self.jobs) - 1)))
        if how == "retry":
            self.journal.outbox.retry(job, 5.0, "HTTP 500")
        elif how == "offered":  # only an arrival that is told late is answered by an agent
            self.journal.outbox.delivered(job, "5252", "5252" if job.event.kind == "received" else "")
        elif how != "forgotten":
            getattr(self.journal.outbox, how)(job, "note")

    @rule()
    def replay(self):
        for job in self.journal.outbox.jobs(REFUSED, 1):
            assert self.journal.outbox.replay(job.event.id) and not self.journal.outbox.replay(job.event.id)

    @rule(seconds=st.sampled_from([1.0, 30.0, LEASE]))
    def time_passes(self, seconds):
        self.clock.now += seconds

    @invariant()
    def one_life_each(self):
        found = self.journal.overview.last_calls(1000)
        assert len({call.call_id for call in found}) == len(found)
        for call in found:
            events = self.journal.calls.events(call)
            endings = [e.kind for e in events if e.kind in call_states.ENDED]
            ended = call.state in call_states.ENDED
            assert (call.ended is not None) == ended
            assert endings == ([call.state] if ended and call.mode != call_states.MADE else [])
            if endings:
                after = [e.kind for e in events[[e.kind for e in events].index(endings[0]) + 1:]]
                assert set(after) <= {"link"}, "told after the end"
            assert self.ends.get(call.call_id, call.state) == call.state, "an ending was taken back"
            if ended:
                self.ends[call.call_id] = call.state

    @invariant()
    def what_waits_is_known(self):
        owed.check(self.journal)

    @rule()
    def dismiss(self):
        for job in self.journal.outbox.jobs(REFUSED, 1):
            assert self.journal.outbox.dismiss(job.event.id)

    @rule()
    def taken_over_from_a_damaged_journal(self):
        found = self.journal.overview.last_calls(1000)
        other = Journal(":memory:", self.clock)
        assert other.calls.take_over([(call, self.journal.calls.events(call)) for call in found]) == len(found)
        owed.check(other)
        other.close()

    @invariant()
    def nothing_is_lost(self):
        now = {event.id: (call.call_id, event.kind) for call in self.journal.overview.last_calls(1000)
               for event in self.journal.calls.events(call)}
        assert self.events.items() <= now.items()
        self.events = now

    def teardown(self):
        if not hasattr(self, "journal"):
            return
        for call in self.journal.overview.open_calls():
            self.journal.calls.hang_up(call.call_id)
        order = {}
        for job in deliver_all(self.journal, self.clock):
            order.setdefault(job.call.call_id, []).append(job.event.id)
        assert all(ids == sorted(ids) for ids in order.values())
        assert self.journal.overview.totals()["pending"] == self.journal.overview.totals()["open"] == 0
        self.one_life_each()
        self.journal.close()


TestLives = Lives.TestCase
TestLives.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


# -- what a step costs -------------------------------------------------------------------------------------------------

def steps_of(journal):
    """How many instructions SQLite's machine runs for each step of some calls' lives, in fives."""
    counted, found = [0], {}

    def count():
        counted[0] += 1

    def step(name, action, *args, **more):
        counted[0] = 0
        result = action(*args, **more)
        found[name] = counted[0]
        return result

    journal.store.connection.set_progress_handler(count, 5)
    head = step("arrive", arrive, journal, "9.1")
    assert step("turn, asks", journal.scheduler.turn, head, LIMIT).request_id
    step("answered", journal.scheduler.answered, head, "", "4", "4")
    assert not step("turn, waits", journal.scheduler.turn, head, LIMIT).request_id
    assert step("turn of the second", journal.scheduler.turn, arrive(journal, "9.2"), LIMIT).position == 2
    step("offered", journal.scheduler.answered, head, "5252", "", "5252")
    step("transferred", journal.calls.record, head.call_id, "transferred", extension="5252")
    step("completed", journal.calls.hang_up, head.call_id, "https://pbx/1.wav")
    step("canceled", journal.calls.hang_up, "pbx-9.2")
    step("lost", journal.calls.record, arrive(journal, "9.3").call_id, "lost", held=True)
    step("message", journal.calls.hang_up, "pbx-9.3", "https://pbx/2.wav", converts="2.wav")
    watched = step("arrived", arrive, journal, "9.4", mode=call_states.WATCH)
    step("start_transferred", journal.calls.record, watched.call_id, "start_transferred", extension="5252")
    step("link", journal.calls.record, watched.call_id, "link", link="https://pbx/3.wav")
    step("look again", arrive, journal, "9.5")
    job, _ = step("take", journal.outbox.take, LIMIT)
    step("delivered", journal.outbox.delivered, job, "")
    step("retry", journal.outbox.retry, journal.outbox.take(LIMIT)[0], 5, "HTTP 500")
    step("rejected", journal.outbox.rejected, journal.outbox.take(LIMIT)[0], "HTTP 400")
    step("replay", journal.outbox.replay, job.event.id + 1)
    step("take, window full", journal.outbox.take, 1)
    for look in (journal.overview.waiting, journal.overview.unended, journal.outbox.conversions,
                 journal.limits.requests_in_window, journal.limits.pause_left):
        step(look.__name__, look)
    step("unsent", journal.next_events.unsent_since, -1.0)
    step("outbox", journal.outbox.jobs, PENDING, 5)
    journal.store.connection.set_progress_handler(None, 0)
    return found


def test_what_a_step_costs_does_not_depend_on_how_many_events_wait(tmp_path, clock):
    """Calls of three queues wait, all due: two without callers, and one that has some; also events that may not go yet."""
    costs = []
    for count in (150, 3000):
        journal = Journal(str(tmp_path / (f"{count}.db")), clock)
        journal.store.connection.execute("PRAGMA synchronous = OFF")
        for queue in ("77", "78", "79"):
            owed.backlog(journal, count // 3, queue, queue)
        for number in range(max(6, count // 50)):
            journal.outbox.retry(journal.outbox.take(100_000)[0], 30 if number < 6 else 10_000, "HTTP 500")
        clock.now += 100  # the window is empty, and a few events are due again
        costs.append(steps_of(journal))
        journal.close()
    few, many = costs
    assert {name: (few[name], many[name]) for name in few if many[name] > 1.2 * few[name] + 5} == {}


def test_processes_that_race_for_one_channel_begin_one_call(journal):
    found = race(journal.path, lambda mine: [arrive(mine).call_id, mine.calls.hang_up("pbx-1.1").kind])
    assert len(journal.calls.events(journal.calls.find("pbx-1.1"))) == 2
    assert sorted(kind or "" for _, kind in found) == ["", "", "", "canceled"]
