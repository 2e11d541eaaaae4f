"""A hypothesis machine of the waiting line and the limit: never two heads, never an overtaking, never over the window, always
progress. It drives callers, answers, hang-ups and dead processes through a virtual clock."""
from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from movidesk.journal import Journal
from movidesk.rules import call_states, rate_limit, waiting_line
from support import owed
from support.clocks import Clock

PACE = (6.0, 30.0)


class LineMachine(RuleBasedStateMachine):
    """Callers of two queues that share their agents; `looking` are those whose process still lives, `asking` those whose request
    is under way, and since when."""

    @initialize(limit=st.integers(1, 12))
    def begin(self, limit: int) -> None:
        self.limit, self.clock = limit, Clock()
        self.journal = Journal(":memory:", self.clock)
        self.sent: list[float] = []
        self.looking: dict[str, float] = {}
        self.asking: dict[str, float] = {}
        self.came: dict[str, tuple[float, int]] = {}  # when it would have come without a priority, and its number
        self.refused: dict[str, tuple[int, float]] = {}  # extension: the call that it refused last, and when
        self.states: dict[str, str] = {}  # of phones, as far as they are known
        self.count = 0

    def teardown(self) -> None:
        if hasattr(self, "journal"):
            self.journal.close()

    def pick(self, number: int):
        ids = sorted(set(self.looking) - set(self.asking))
        return self.journal.calls.find(ids[number % len(ids)]) if ids else None

    @rule(queue=st.sampled_from(["1", "2"]), priority=st.sampled_from([0, 0, 0, 1, 2, 9]), answer=st.sampled_from(["4", "slow"]))
    def arrive(self, queue: str, priority: int, answer: str) -> None:
        self.count += 1
        call = self.journal.calls.arrive("pbx", f"{self.count:04d}", queue, "1", priority=priority)
        self.looking[call.call_id] = self.clock.now
        self.came[call.call_id] = self.clock.now - 300 * priority, self.count
        self.look(call, answer)

    @rule(extension=st.sampled_from(["5252", "5253", "5254"]), state=st.sampled_from(["", "NOT_INUSE", "INUSE", "UNAVAILABLE"]))
    def phone_changes(self, extension: str, state: str) -> None:
        self.states[extension] = state

    def turn(self, call, refusal: str = "") -> waiting_line.Turn:
        """The head asks Asterisk for its phones first, as `received` does."""
        known = {extension: self.states.get(extension, "") for extension in self.journal.scheduler.phones(call)}
        return self.journal.scheduler.turn(call, self.limit, refusal=refusal, pace=PACE, states=known)

    @rule(number=st.integers(0, 50), priority=st.integers(0, 9))
    def change_priority(self, number: int, priority: int) -> None:
        call = self.pick(number)
        if call is not None and call.state in call_states.BEFORE_AGENT:
            self.journal.calls.arrive("pbx", call.uniqueid, call.queue, "1", priority=priority)
            since, serial = self.came[call.call_id]
            self.came[call.call_id] = since - 300 * (priority - call.priority), serial

    @rule(number=st.integers(0, 50))
    def ask_a_slow_movidesk(self, number: int) -> None:
        call = self.pick(number)
        if call is not None and call.state in call_states.BEFORE_AGENT:
            self.look(call, "slow")

    @rule(answer=st.sampled_from(["4", "5252", "5253", "nothing", "failed"]))
    def the_slow_answer_comes(self, answer: str) -> None:
        for call_id in list(self.asking)[:1]:
            del self.asking[call_id]
            if call_id in self.looking and answer == "failed":
                self.journal.scheduler.unanswered(self.journal.calls.find(call_id), taken=False)
            elif call_id in self.looking:
                self.hear(self.journal.calls.find(call_id), answer)

    @rule(number=st.integers(0, 50), answer=st.sampled_from(["4", "3", "5252", "5253", "nothing", "1"]))
    def look_again(self, number: int, answer: str) -> None:
        call = self.pick(number)
        if call is not None and call.state in call_states.BEFORE_AGENT:
            self.look(call, answer)

    @rule(number=st.integers(0, 50), answer=st.sampled_from(["4", "5252", "5253"]),
          reason=st.sampled_from(["UNAVAILABLE", "INUSE", "NOANSWER", ""]))
    def phone_refuses(self, number: int, answer: str, reason: str) -> None:
        call = self.pick(number)
        if call is not None and call.state == call_states.OFFERED:
            self.look(call, answer, reason)

    @rule(queue=st.sampled_from(["1", "2"]), reason=st.sampled_from(["UNAVAILABLE", "INUSE"]))
    def all_phones_refuse(self, queue: str, reason: str) -> None:
        """However many agents there are and however often the head looks: few questions, until something changes."""
        for call in self.journal.overview.waiting():
            if call.queue == queue and call.call_id in self.looking and not self.others_ask(call):
                break
        else:
            return
        self.asking.pop(call.call_id, None)
        before, begun = len(self.sent), self.clock.now
        for _ in range(12):
            self.look(self.journal.calls.find(call.call_id), f"525{2 + (len(self.sent) - before) % 2}", reason)
            self.clock.now += 0.1
        assert len(self.sent) - before <= 4, "of two phones, each once, each once more, and an offer before"
        assert self.clock.now - begun < PACE[0]

    def look(self, call, answer: str, refusal: str = "") -> None:
        """The caller looks; Movidesk answers at once, if asked, unless the answer is `slow`."""
        if call.state == call_states.OFFERED:
            self.refused[call.extension] = call.id, self.clock.now
        call = self.journal.calls.find(call.call_id)
        turn = self.turn(call, refusal)
        assert turn.position >= 1
        if not turn.request_id:
            assert waiting_line.HEAD_LOOK <= turn.wait <= waiting_line.FAR_LOOK
            return
        self.sent.append(self.clock.now)
        earlier = [other for other in self.journal.overview.waiting()
                   if other.queue == call.queue and self.came[other.call_id] < self.came[call.call_id]]
        assert not earlier, f"{call.call_id} asked before {earlier}"
        assert turn.position == 1 and not self.others_ask(call)
        if answer == "slow":
            self.asking[call.call_id] = self.clock.now
        else:
            self.hear(call, answer)

    def others_ask(self, call) -> list[str]:
        """Who of the call's line has a request under way."""
        return [other.call_id for other in self.journal.overview.waiting() if other.queue == call.queue and other.id != call.id
                and self.clock.now - self.asking.get(other.call_id, -99.0) < 20]

    def hear(self, call, answer: str) -> None:
        if answer.isdigit():
            code = answer if len(answer) == 1 else ""
            told = self.journal.scheduler.answered(call, "" if code else answer, code, answer, pace=PACE)
            by, at = self.refused.get(answer, (0, 0.0))
            too_soon = not code and by == call.id and self.clock.now - at < PACE[0]
            assert told == ("", "4") if too_soon else told == ("" if code else answer, code)

    @rule(number=st.integers(0, 50))
    def agent_answers(self, number: int) -> None:
        call = self.pick(number)
        if call is not None and call.state == call_states.OFFERED:
            assert self.journal.calls.record(call.call_id, "transferred").kind
            self.refused.pop(call.extension, None)

    @rule(number=st.integers(0, 50))
    def hang_up(self, number: int) -> None:
        call = self.pick(number)
        if call is not None:
            self.journal.calls.hang_up(call.call_id)
            del self.looking[call.call_id]

    @rule(number=st.integers(0, 50))
    def process_dies(self, number: int) -> None:
        call = self.pick(number)
        if call is not None:
            del self.looking[call.call_id]
            self.asking.pop(call.call_id, None)

    @rule(good=st.booleans())
    def deliver(self, good: bool) -> None:
        expected = owed.expected(self.journal)
        job, _ = self.journal.outbox.take(self.limit)
        owed.check(self.journal)
        assert job is None or job.event.id in expected
        if job is not None:
            self.sent.append(self.clock.now)
            first = [event for event in self.journal.calls.events(job.call) if event.status == "pending"][0]
            assert first.id == job.event.id
            if good:
                self.forget_refusals(job)
            self.journal.outbox.delivered(job, "") if good else self.journal.outbox.retry(job, 5, "HTTP 500")

    @rule(seconds=st.sampled_from([0.3, 1, 3, 10, 30, 70]))
    def time_passes(self, seconds: float) -> None:
        self.clock.now += seconds

    @rule(busy=st.booleans())
    def everybody_gets_on(self, busy: bool) -> None:
        """Whatever state it is in: if all live callers keep looking, the head of each queue is asked for within the
        longest pace, the patience of a question without a reason, the ghosts' lease and two windows; also while another queue
        has a caller every second (busy)."""
        heads = {}
        self.asking = {}
        for call in self.journal.overview.waiting():
            if call.call_id in self.looking:
                heads.setdefault(call.queue, call)
        until = (self.clock.now + PACE[1] + rate_limit.PROBE_AGES_AFTER + 20 + waiting_line.GRACE + waiting_line.FAR_LOOK
                 + 2 * rate_limit.WINDOW * max(1, 12 / self.limit))
        asked: set[str] = set()
        while set(heads) - asked and self.clock.now < until:
            self.clock.now += 1
            job, _ = self.journal.outbox.take(self.limit)
            if job is not None:
                self.sent.append(self.clock.now)
                self.forget_refusals(job)
                self.journal.outbox.delivered(job, "")
            if busy:
                self.somebody_is_served("3")
            for queue, call in heads.items():
                call = self.journal.calls.find(call.call_id)
                turn = self.turn(call)
                if turn.request_id:
                    self.sent.append(self.clock.now)
                    self.journal.scheduler.answered(call, "", "4", "4", pace=PACE)
                    asked.add(queue)
        assert not set(heads) - asked

    def somebody_is_served(self, queue: str) -> None:
        self.count += 1
        call = self.journal.calls.arrive("pbx", f"{self.count:04d}", queue, "1")
        if self.journal.scheduler.turn(call, self.limit, pace=PACE).request_id:
            self.sent.append(self.clock.now)
            if self.journal.scheduler.answered(call, "5259", "", "5259", pace=PACE)[0]:
                self.journal.calls.record(call.call_id, "transferred")
        self.journal.calls.hang_up(call.call_id)

    def forget_refusals(self, job) -> None:
        """Movidesk hears that an agent's talk is over."""
        if job.event.kind == "completed":
            self.refused.pop(job.call.extension, None)

    @invariant()
    def never_over_the_window(self) -> None:
        for index, at in enumerate(getattr(self, "sent", [])[self.limit:] if hasattr(self, "limit") else []):
            assert at - self.sent[index] >= 60, f"more than {self.limit} requests in 60 s"
