"""Random histories of a fleet: three PBXs with clocks of their own, one real Redis, one Movidesk, and all that fails between.

Nothing is simulated of the product: each PBX is a journal with the verbs' questions and the delivery, and the script runs in
Redis. Simulated are the clocks (Redis' too: support/fleets.py), the network and the processes. Whatever waits (a call of Redis, a
request to Movidesk, a process that is stopped) lets the others act in the meantime, so that their steps interleave at each point
where they can.
"""
from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import redis as redis_py

from movidesk.fleet import Away
from movidesk.fleet.membership import Membership
from movidesk.journal import Journal
from movidesk.rules import call_states, rate_limit
from movidesk_rehearsal.redis_server import PrivateRedis
from support.fleets import TestedRedis, config

PACE = (6.0, 30.0)
QUEUES = ("1", "2")
BEAT = 3.0
#: How deep the steps of others interleave with one that waits.
DEEPEST = 2
#: Seconds without a fault after which order and heads are checked between two PBXs.
CALM = 15.0


class Died(Exception):
    """The process was killed: nothing of it goes on."""


class Link(TestedRedis):
    """A PBX's network to Redis, with its faults."""

    def __init__(self, world: World, pbx: Pbx, url: str):
        super().__init__(url)
        self.world, self.pbx = world, pbx
        self.cut = ""  # 'both': nothing arrives; 'answers': nothing comes back; 'slow': answers come too late
        self.stuck: list[dict[str, object]] = []  # calls that arrive later

    def decide(self, asked: dict[str, object]) -> dict[str, Any]:
        world, pbx, chance = self.world, self.pbx, self.world.chance
        world.perhaps_stop(pbx)
        if self.cut == "both" or world.redis_down:
            if chance(0.3):
                self.stuck.append(asked)
            raise Away("time-out")
        world.pass_time(0.001)
        answer = self.execute(asked)
        if self.cut == "answers" or chance(world.loss):
            world.disturbed(pbx)
            raise Away("time-out")
        if self.cut == "slow":
            world.pass_time(0.4)
        world.perhaps_stop(pbx)
        return answer

    def execute(self, asked: dict[str, object]) -> dict[str, Any]:
        """The script runs now."""
        self.set_clock(self.world.now + self.world.redis_ahead)
        answer = super().decide(asked)
        self.world.heard(asked, answer)
        return answer


class Pbx:
    """A PBX: its journal, its line, its link. `steady` and `wall` are its own clocks."""

    def __init__(self, world: World, number: int, folder: Path, url: str):
        self.world, self.name = world, f"pbx{number}"
        self.ahead, self.wall_ahead = world.random.uniform(0, 1e6), world.random.choice((0.0, 90.0, -3600.0, 7200.0))
        self.link = Link(world, self, url)
        made = config(folder, self.name, pbxs=3, limit=world.limit)
        self.journal = Journal(":memory:", lambda: world.now + 1.7e9 + self.wall_ahead, lambda: world.now + self.ahead,
                               member=lambda steady: Membership(made, steady, lambda: world.now, self.link))
        self.busy = 0         # its process is stopped this many times
        self.next_beat = world.random.uniform(0, BEAT)
        self.next_look: dict[str, float] = {}
        self.count = 0

    @property
    def is_stopped(self) -> bool:
        return self.busy > 0

    def beat(self) -> None:
        self.journal.pool.beat(self.world.limit)

    def arrive(self) -> None:
        self.count += 1
        call = self.journal.calls.arrive(self.name, f"{self.name}.{self.count}", self.world.random.choice(QUEUES), "1",
                                         priority=self.world.random.choice((0, 0, 0, 0, 1)))
        self.next_look[call.call_id] = self.world.now
        self.world.came[call.call_id] = self.world.now

    def look(self, call_id: str) -> None:
        """One look of a caller, with the request if it gets one."""
        call, world = self.journal.calls.find(call_id), self.world
        if call is None or call.ended is not None or call.state not in call_states.BEFORE_AGENT:
            self.next_look.pop(call_id, None)
            return
        if call.state == call_states.OFFERED and world.chance(0.5):
            self.journal.calls.record(call_id, "transferred")
            self.next_look.pop(call_id, None)
            return
        self.next_look[call_id] = float("inf")  # while it looks
        turn = self.journal.scheduler.turn(call, world.limit, pace=PACE)
        if turn.request_id:
            try:
                answer = self.send(turn.request_id, call)
            finally:
                self.next_look[call_id] = world.now + 1.0
            if answer:
                code = answer if len(answer) == 1 else ""
                self.journal.scheduler.answered(call, "" if code else answer, code, answer, pace=PACE)
            else:
                self.journal.scheduler.unanswered(call, taken=False)
        else:
            self.next_look[call_id] = world.now + max(turn.wait, 1.0)

    def deliver(self) -> None:
        job, _ = self.journal.outbox.take(self.world.limit)
        if job is not None and self.send(job.request_id, None):
            self.journal.outbox.delivered(job, "")
        elif job is not None:
            self.journal.outbox.retry(job, 5.0, "cut")

    def send(self, request: int, call) -> str:
        """Send a granted request to Movidesk; returns its answer, '' if it was not sent."""
        world, limits = self.world, self.journal.limits
        grant = self.journal.store.value("SELECT grant_id FROM requests WHERE rowid = :id", id=request)
        question = call is not None and grant and world.begin_question(self, call, grant)
        try:
            if world.faults and world.chance(0.05):
                world.stop(self, world.random.choice((2.0, 30.0, 100.0)))  # between the claim and the request
            if limits.is_stale(request):
                limits.finished(request)
                return ""
            sent = world.now
            world.pass_time_beside(world.random.choice((0.0, 0.05, 0.3, 3.0)))
            if world.now - sent > 15.0:  # the exchange was given up (delivery/exchange.py)
                limits.count_from_now(request)
                limits.finished(request)
                return ""
            world.arrived_at_movidesk(self)
            world.pass_time_beside(world.random.choice((0.05, 0.05, 0.3, 3.0)))
            if world.faults and world.chance(0.03):
                raise Died  # nobody ever says that the request is over
            if world.now - sent > rate_limit.SLOW:
                limits.count_from_now(request)
            limits.finished(request)
            return world.random.choice(("4", "4", "5252", "5253", "5254"))
        finally:
            if question:
                world.end_question(question)


class World:
    """The fleet, its faults, and what is never allowed to happen."""

    def __init__(self, redis: PrivateRedis, folder: Path, source: random.Random, limit: int | None = None):
        self.random, self.redis = source, redis
        self.limit = limit or source.choice((3, 5, 10, 10, 10, 12))
        self.now, self.redis_ahead = 1000.0, 1.7e9
        self.redis_down, self.loss, self.faults = False, 0.0, True
        self.depth = 0
        self.sent: list[tuple[float, str]] = []
        self.questions: list[dict[str, Any]] = []
        self.came: dict[str, float] = {}
        self.seen: dict[str, tuple[float, int]] = {}   # by call: when and as which Redis first heard of it
        self.calm: dict[str, float] = {}               # by PBX: when something was last wrong with it
        self.admin = redis_py.Redis.from_url(redis.url)
        self.admin.flushall()
        self.pbxs = [Pbx(self, number, folder, redis.url) for number in (1, 2, 3)]
        for pbx in self.pbxs:
            self.calm[pbx.name] = self.now

    def close(self) -> None:
        self.admin.close()
        for pbx in self.pbxs:
            pbx.journal.close()
            pbx.link.close()

    def chance(self, share: float) -> bool:
        return self.random.random() < share

    # -- time -------------------------------------------------------------------------------------------------------

    def pass_time(self, seconds: float) -> None:
        """Nothing else happens."""
        self.now += seconds

    def pass_time_beside(self, seconds: float) -> None:
        """Time passes for one thread; the others, of all PBXs, go on meanwhile, if they do not interleave too deep already."""
        end = self.now + seconds
        if self.depth < DEEPEST and seconds > 0.2:
            with self.deeper():
                self.run_until(end)
        self.now = max(self.now, end)

    def perhaps_stop(self, pbx: Pbx) -> None:
        """The process of this PBX may be stopped here for a while."""
        if self.faults and self.depth < DEEPEST and self.chance(0.01):
            self.stop(pbx, self.random.choice((0.2, 0.5, 5.0, 90.0)))

    def stop(self, pbx: Pbx, seconds: float) -> None:
        self.disturbed(pbx)
        pbx.busy += 1
        try:
            self.pass_time_beside(seconds)
        finally:
            pbx.busy -= 1
            self.disturbed(pbx)

    @contextmanager
    def deeper(self) -> Iterator[None]:
        self.depth += 1
        try:
            yield
        finally:
            self.depth -= 1

    def run_until(self, end: float) -> None:
        """Let all PBXs that are not stopped go on: beats, looks, deliveries."""
        while True:
            due = [(pbx.next_beat, 0, number, "") for number, pbx in enumerate(self.pbxs) if not pbx.is_stopped]
            due += [(at, 1, number, call_id) for number, pbx in enumerate(self.pbxs) if not pbx.is_stopped
                    for call_id, at in pbx.next_look.items()]
            if not due or min(due)[0] > end:
                self.now = max(self.now, end)
                return
            at, _, number, call_id = min(due)
            pbx = self.pbxs[number]
            self.now = max(self.now, at)
            self.safely(lambda: self.act(pbx, call_id))

    def act(self, pbx: Pbx, call_id: str) -> None:
        if call_id:
            pbx.look(call_id)
        else:
            pbx.next_beat = self.now + BEAT
            pbx.beat()
            pbx.deliver()

    @staticmethod
    def safely(action: Callable[[], None]) -> None:
        with suppress(Died):
            action()

    # -- what must hold ---------------------------------------------------------------------------------------------

    def disturbed(self, *pbxs: Pbx) -> None:
        """Something is wrong with these PBXs, or with all."""
        for pbx in pbxs or self.pbxs:
            self.calm[pbx.name] = self.now

    def is_calm(self, *names: str) -> bool:
        """Whether nothing has been wrong with these PBXs for CALM seconds."""
        well = {pbx.name for pbx in self.pbxs if not pbx.is_stopped and not pbx.link.cut}
        return not self.redis_down and not self.loss and all(
            name in well and self.now - self.calm[name] > CALM for name in names)

    def arrived_at_movidesk(self, pbx: Pbx) -> None:
        """A request of this PBX; no minute may have more than the limit."""
        self.sent.append((self.now, pbx.name))
        lately = sorted(at for at, _ in self.sent if at > self.now - 60.0)
        assert len(lately) <= self.limit, f"{len(lately)} requests in 60 s, the limit is {self.limit}: {self.sent[-len(lately):]}"

    def heard(self, asked: dict[str, Any], answer: dict[str, Any]) -> None:
        """Redis has executed a call: it knows of these callers from then on."""
        if answer.get("again") is not False:
            return
        for told in asked["report"]["callers"]:
            self.seen.setdefault(told[0], (self.now, len(self.seen)))

    def begin_question(self, pbx: Pbx, call, grant: str) -> dict[str, Any]:
        """Redis has granted a question: no other of the queue may be under way, and nobody may have come before."""
        for other in self.questions:
            if other["queue"] == call.queue and self.is_calm(pbx.name, other["pbx"]):
                assert self.now - other["since"] > 20.0, f"{call.call_id} and {other['call']} ask at once"
        for rival in self.pbxs if self.seen[call.call_id][0] > self.calm[pbx.name] else ():
            if self.is_calm(pbx.name, rival.name):
                for other in rival.journal.overview.waiting():
                    assert not self.came_before(rival, other, call), f"{call.call_id} overtakes {other.call_id}"
        question = {"queue": call.queue, "pbx": pbx.name, "call": call.call_id, "since": self.now}
        self.questions.append(question)
        return question

    def came_before(self, rival: Pbx, other, call) -> bool:
        """Whether this caller of the same queue, who still waits, came first, and Redis heard of it first and in quiet times."""
        if other.queue != call.queue or other.priority < call.priority or other.call_id not in rival.next_look:
            return False
        heard, mine = self.seen.get(other.call_id), self.seen[call.call_id]
        return (heard is not None and heard[0] > self.calm[rival.name] and heard[1] < mine[1]
                and self.came[other.call_id] < self.came[call.call_id])

    def end_question(self, question: dict[str, Any]) -> None:
        self.questions.remove(question)

    # -- what happens -----------------------------------------------------------------------------------------------

    def play(self, steps: int) -> None:
        """A history, and at its end all is well and everybody gets on."""
        for pbx in self.pbxs:
            pbx.beat()
        self.run_until(self.now + 62.0 + self.pbxs[0].journal.pool.member.hold)
        for _ in range(steps):
            self.safely(self.random.choice(self.events()))
            self.run_until(self.now + self.random.choice((0.5, 2.0, 5.0, 20.0)))
        self.mend()
        self.everybody_gets_on()

    def events(self) -> list[Callable[[], None]]:
        any_pbx = self.random.choice(self.pbxs)
        return [any_pbx.arrive, any_pbx.arrive, any_pbx.arrive, lambda: self.hang_up(any_pbx), lambda: self.hang_up(any_pbx),
                lambda: self.cut(any_pbx, self.random.choice(("both", "answers", "slow"))), lambda: self.cut(any_pbx, ""),
                lambda: self.release(any_pbx), lambda: self.forget_memory(any_pbx), self.redis_fault, self.toggle_redis,
                lambda: setattr(self, "loss", self.random.choice((0.0, 0.0, 0.1))),
                lambda: self.stop(any_pbx, self.random.choice((1.0, 9.0, 30.0, 100.0)))]

    def hang_up(self, pbx: Pbx) -> None:
        ids = sorted(pbx.next_look)
        if ids:
            chosen = self.random.choice(ids)
            pbx.journal.calls.hang_up(chosen)
            pbx.next_look.pop(chosen, None)

    def cut(self, pbx: Pbx, how: str) -> None:
        pbx.link.cut = how
        self.disturbed(pbx)

    def release(self, pbx: Pbx) -> None:
        """Calls that were stuck in the network arrive after all; nobody waits for the answers."""
        stuck, pbx.link.stuck = pbx.link.stuck, []
        for asked in stuck if not self.redis_down else []:
            pbx.link.execute(asked)

    def forget_memory(self, pbx: Pbx) -> None:
        """What its processes remember of Redis is gone, as after a reboot of a machine without the folder."""
        for file in Path(pbx.journal.pool.member.memory.path).parent.glob("*.fleet"):
            file.unlink()
        self.disturbed(pbx)

    def redis_fault(self) -> None:
        self.disturbed()
        what = self.random.choice(("flush", "flush", "scripts", "jump", "jump", "jump", "restart"))
        if what == "flush":
            self.admin.flushall()
        elif what == "scripts":
            self.admin.script_flush()
        elif what == "jump":
            self.redis_ahead += self.random.choice((-3600.0, -61.0, -5.0, 5.0, 61.0, 3600.0))
        else:
            self.admin.close()
            self.redis.restart()
            for pbx in self.pbxs:
                pbx.link.close()

    def toggle_redis(self) -> None:
        self.disturbed()
        self.redis_down = not self.redis_down

    def mend(self) -> None:
        self.redis_down, self.loss, self.faults = False, 0.0, False
        for pbx in self.pbxs:
            self.cut(pbx, "")

    def everybody_gets_on(self) -> None:
        """All come back, and each queue's head is asked for."""
        for pbx in self.pbxs:
            pbx.arrive()
        self.run_until(self.now + 30.0)
        self.run_until(self.now + rate_limit.WINDOW)
        for pbx in self.pbxs:
            assert pbx.journal.pool.standing().mode == "pool", f"{pbx.name}: {pbx.journal.pool.standing()}"
        before = len(self.sent)
        waits = {call.queue for pbx in self.pbxs for call in pbx.journal.overview.waiting() if call.call_id in pbx.next_look}
        until = self.now + 150.0
        while waits and len(self.sent) == before and self.now < until:
            self.run_until(self.now + 5.0)
        assert not waits or len(self.sent) > before, f"nobody gets on: {waits}"
