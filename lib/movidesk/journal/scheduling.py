"""The waiting line and the request limit as the journal applies them: place, reason and claim are decided in one transaction."""

from __future__ import annotations

from types import MappingProxyType

from movidesk import NamedTuple
from movidesk.journal.agents import Agents
from movidesk.journal.call_store import CallStore
from movidesk.journal.demands import Demands
from movidesk.journal.limits import Limits
from movidesk.journal.records import ASKED, ASKS, COMES_FIRST, DELIVERED, LINE_ORDER, PENDING, WAITS, Call
from movidesk.journal.store import Store
from movidesk.journal.waits import Waits
from movidesk.rules import call_states, rate_limit, waiting_line
from movidesk.rules.rate_limit import WINDOW

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from movidesk.journal.pool import Answer, Pool, Told

#: Whether each earlier caller of the queue who waited as long was answered, and how long it waited in all.
_WAIT_TIMES = """
    SELECT state = 'completed', wait
    FROM (SELECT state, coalesce((SELECT min(at) FROM events WHERE call = calls.id AND kind = 'transferred'), ended) - arrived
                        AS wait
          FROM calls WHERE id > :first AND queue = :queue AND ended IS NOT NULL
              AND (state = 'completed' OR state = 'canceled' AND code NOT IN ('0', '1', '2')))
    WHERE wait >= :waited"""
#: The callers who come before one of this rank and number in its queue.
_AHEAD = f"FROM calls INDEXED BY calls_line WHERE {COMES_FIRST} AND queue = :queue AND ({LINE_ORDER}) < (:rank, :call)"
#: The default of `states`: the state of no phone is known.
NO_STATES: Mapping[str, str] = MappingProxyType({})


class _Look(NamedTuple):
    """A caller who looks whether it is its turn: the arguments of Scheduler.turn."""

    call: Call
    limit: int
    script: bool
    hold: float
    pace: tuple[float, float]
    states: Mapping[str, str]
    report: bool


class Scheduler:
    """Who asks, and what the answer means for the line (movidesk.rules.waiting_line and rate_limit hold the rules)."""

    def __init__(self, store: Store, limits: Limits, agents: Agents, calls: CallStore, demands: Demands, waits: Waits,
                 pool: Pool | None):
        self._store, self._limits, self._agents, self._calls, self._demands = store, limits, agents, calls, demands
        self._waits, self._pool = waits, pool

    def turn(self, call: Call, limit: int, script: bool = False, hold: float = 20.0, refusal: str = "",
             pace: tuple[float, float] = waiting_line.PACE, states: Mapping[str, str] = NO_STATES,
             report: bool = False) -> waiting_line.Turn:
        """Whether this caller asks Movidesk now, with the request claimed for it; else its place and when to look again.

        script: each check starts a process, so it checks less often (waiting_line.look_again). hold: the longest its request may
        take, in seconds. The caller keeps its place for the wait that it is told and waiting_line.GRACE seconds. refusal: why the
        phone that it was offered did not take it (a state or DIALSTATUS, '' if unknown). pace: see waiting_line.after_answer.
        states: the states of the phones of the queue's agents (`phones`), as DEVICE_STATE() has them, as far as they are known.
        report: whether `transferred` is sent while the phone rings (report_transfer = ring).
        """
        look = _Look(call, limit, script, hold, pace, states, report)
        with self._store.transaction():
            self._rejoin(call, self._store.steady(), refusal, pace)
            if self._pool is None or self._pool.is_alone():
                return self._turn_here(look)
            question = self._question(look)
            told = self._pool.report(call)
        answer = self._pool.ask(told, question, limit)
        with self._store.transaction():
            if self._pool.is_alone():
                return self._turn_here(look)
            return self._turn_in_fleet(self._pool, look, answer, told)

    def _turn_here(self, look: _Look) -> waiting_line.Turn:
        """The turn, as the journal decides it."""
        call, now = look.call, self._store.steady()
        own, rate = self._pool.member if self._pool else None, self._limits.rate(look.limit)
        ahead, resting = self._before(call, now)
        position, rate = 1 + ahead, max(1, own.part(look.limit, rate) if own else rate)
        if call.state != call_states.RECEIVED:  # Movidesk has answered, and this caller is still here
            self._waits.begins(call, position, rate)
        queue, aside, klass = self.queue(call.queue), self.aside_until(call), None
        everywhere, here = self._asking(call, now) if not resting else (0, 0)
        beside = bool(here) and self._may_ask_beside(queue, everywhere, now, rate)
        leaves = phones = None
        if not resting and aside <= now and (beside or not here):
            queue, phones = self._see_phones(queue, look.states)
            klass = waiting_line.request_class(queue, self._agents.with_callers(call.queue), now, phones, look.pace[1],
                                               self._asks_at_once(call, queue))
            leaves = klass is not None and self._is_about_to_leave(call)
            klass = None if leaves else klass
        aged = klass == rate_limit.PROBE and self._demands.is_aged_probe(queue, now)
        wants = rate_limit.HEAD if aged else klass or 0
        claim = None
        if klass is not None:
            demand = self._demands.demand(now, look.limit, queue, wants)
            claim = self._limits.claim(look.limit, klass, demand._replace(ring=0.0) if look.report else demand, aged, own=own)
        if claim is not None and claim.request_id:
            self._ask(call, now + look.hold, bool(aside))
            self._set_queue(queue._replace(asked=now))
            return waiting_line.Turn(claim.request_id, position, 0, "", "")
        until = claim.wait if claim else max(aside, queue.asked + queue.pace) - now
        if until <= 0.0 or until > waiting_line.LOOK and (leaves or phones):
            until = waiting_line.LOOK
        code = "" if claim and claim.paused and claim.wait > WINDOW else queue.code
        return self._waits_on(look, position, until, wants, code, claim.reason if claim else "", rate)

    def _waits_on(self, look: _Look, position: int, until: float, wants: int, code: str, reason: str,
                  rate: int) -> waiting_line.Turn:
        """The turn of a caller who does not ask now, and keeps its place. until: seconds during which nothing can change."""
        call, now = look.call, self._store.steady()
        wait = waiting_line.look_again(position, until, look.script, rate)
        self._waits.begins(call, position, rate)
        self._store.execute("UPDATE calls SET wants = :wants, seen_until = :until, asks_until = 0 WHERE id = :call"
                            " AND (wants != :wants OR seen_until < :soon OR asks_until > 0)", wants=wants, call=call.id,
                            until=now + wait + waiting_line.GRACE, soon=now + wait + waiting_line.GRACE / 2)
        return waiting_line.Turn(0, position, wait, code, reason, self._expected(call.queue, position, code, rate))

    def _asks_at_once(self, call: Call, queue: waiting_line.Queue) -> bool:
        """See waiting_line.request_class."""
        return call.state == call_states.RECEIVED or self._agents.has_newly_refused(call, queue.asked)

    # -- in a fleet -------------------------------------------------------------------------------------------------

    def _question(self, look: _Look) -> dict[str, object]:
        """What Redis needs to know of this caller (fleet/line.lua)."""
        call, now = look.call, self._store.steady()
        queue, phones = self._see_phones(self.queue(call.queue), look.states)
        raised = look.limit >= waiting_line.BESIDE_FROM
        return {"caller": call.call_id, "at_once": self._asks_at_once(call, queue), "longest": round(1000 * look.pace[1]),
                "all_busy": phones is not None and phones.number > 0 and not phones.idle,
                "taken": self._agents.with_callers(call.queue),
                "free": self._agents.available(queue.name, now, now - waiting_line.BESIDE_NAMED) if raised else 0,
                "ring": round(1000 * rate_limit.earliest_pickup(self._demands.rings())), "report": look.report,
                "leaves": self._before(call, now)[0] == 0 and self._is_about_to_leave(call),
                "fails": self.aside_until(call) > 0}

    def _turn_in_fleet(self, pool: Pool, look: _Look, answer: Answer, told: Told) -> waiting_line.Turn:
        """The turn, as Redis decides it; answer: None if Redis is away."""
        call, now, rate = look.call, self._store.steady(), self._limits.rate(look.limit)
        if answer is None:
            position = 1 + self._before(call, now)[0]
            return self._waits_on(look, position, waiting_line.FAR_LOOK, 0, "" if pool.fails_open() else waiting_line.BUSY,
                                  pool.why, rate)
        pool.take_in(answer, told)
        position = answer.get("position") or 1 + self._before(call, now)[0]
        if call.state != call_states.RECEIVED:
            self._waits.begins(call, position, rate)
        if answer["granted"]:
            self._ask(call, now + look.hold, self.aside_until(call) > 0)
            return waiting_line.Turn(pool.add_grant(answer), position, 0, "", "")
        queue, klass = self.queue(call.queue), answer.get("class")
        if klass is not None:
            until = pool.wait(answer, klass, answer["aged"])
        else:
            until = max(self.aside_until(call), queue.asked + queue.pace) - now
        if until <= 0.0 or until > waiting_line.LOOK and (answer.get("leaves") or any(look.states.values())):
            until = waiting_line.LOOK
        paused = klass is not None and answer.get("why") and until > WINDOW
        return self._waits_on(look, position, until, answer.get("wants", 0), "" if paused else queue.code,
                              pool.reason(answer) if klass is not None else "", rate)

    def expected(self, queue: str, place: int, code: str, limit: int) -> int | None:
        """Whole seconds until an agent will probably answer the caller in this place of the queue's line, who got this code. None
        if that is unknown, or nobody will answer, or nothing may be sent for now."""
        return self._expected(queue, place, code, self._limits.rate(limit))

    def _expected(self, queue: str, place: int, code: str, rate: int) -> int | None:
        seconds = self._waits.expected(queue, place, rate) if code in call_states.BUSY_CODES else None
        return None if seconds is None or self._limits.pause_left() else seconds

    def _before(self, call: Call, now: float) -> tuple[int, int]:
        """How many callers come before this one in its queue, and for how many of them Movidesk is not being asked."""
        found = self._store.row(lambda ahead, resting: (ahead, resting),
                                f"SELECT count(*), count(CASE WHEN NOT ({ASKS}) THEN 1 END) {_AHEAD}", now=now,
                                queue=call.queue, rank=call.rank, call=call.id)
        return found or (0, 0)

    def _asking(self, call: Call, now: float) -> tuple[int, int]:
        """For how many other callers Movidesk is being asked, of all queues and of this one. Also one behind this caller may be
        asking: this one has a priority, or has come back from a phone that did not take it."""
        found = self._store.row(lambda everywhere, here: (everywhere, here),
                                "SELECT count(*), count(CASE WHEN queue = :queue THEN 1 END) FROM calls INDEXED BY calls_asks"
                                f" WHERE asks_until > 0 AND {ASKS} AND {COMES_FIRST} AND id != :call",
                                now=now, queue=call.queue, call=call.id)
        return found or (0, 0)

    def _may_ask_beside(self, queue: waiting_line.Queue, asking: int, now: float, rate: int) -> bool:
        """See waiting_line.may_ask_beside. Below a raised limit the agents are not counted."""
        if rate < waiting_line.BESIDE_FROM:
            return False
        free = self._agents.available(queue.name, now, now - waiting_line.BESIDE_NAMED)
        return waiting_line.may_ask_beside(queue, asking, free, self._agents.with_callers(queue.name), rate)

    def phones(self, call: Call) -> list[str]:
        """The extensions whose phones' states this caller's turn needs: those of its queue, if it is the first in line."""
        if self._store.value(f"SELECT EXISTS (SELECT 1 {_AHEAD})", now=self._store.steady(), queue=call.queue, rank=call.rank,
                             call=call.id):
            return []
        return self._agents.extensions(call.queue)

    def _see_phones(self, queue: waiting_line.Queue, states: Mapping[str, str]
                    ) -> tuple[waiting_line.Queue, waiting_line.Phones | None]:
        """The queue, and its agents' phones; None if no state is known."""
        if not any(states.values()):
            return queue, None
        phones, is_freed = self._agents.see_phones(queue.name, states)
        if is_freed:
            queue = waiting_line.after_free_phone(queue)
            self._set_queue(queue)
        return queue, phones

    def _is_about_to_leave(self, call: Call) -> bool:
        """Whether the caller is expected to give up while an agent's phone rings (waiting_line.is_about_to_leave)."""
        waited = self._store.clock() - call.arrived
        if waited < waiting_line.LEFT_AFTER:
            return False
        left: list[float] = []
        stayed: list[float] = []
        ring = rate_limit.usual_ring(self._demands.rings())
        for answered, wait in self._store.rows(lambda *row: row, _WAIT_TIMES, first=call.id - waiting_line.WAITS_KEPT,
                                               queue=call.queue, waited=waited - ring):
            (stayed if answered else left).append(wait)
        return waiting_line.is_about_to_leave(waited, ring, left, stayed)

    def _ask(self, call: Call, until: float, fails: bool) -> None:
        """The caller asks. If its earlier requests failed, the callers behind it may ask meanwhile."""
        self._store.execute("UPDATE calls SET wants = 0, seen_until = :until, aside_until = :aside, asks_until = :asks"
                            " WHERE id = :call",
                            until=until, aside=until if fails else 0, asks=0 if fails else until, call=call.id)
        self._note_arrival(call, ASKED)

    def _rejoin(self, call: Call, now: float, refusal: str, pace: tuple[float, float]) -> None:
        """Put the caller (back) into its line; one that comes from a phone which did not take it brings the reason."""
        if call.state == call_states.OFFERED:
            if self._store.execute("UPDATE calls SET state = 'waiting', rings_since = 0 WHERE id = :call AND state = 'offered'",
                                   call=call.id).rowcount:
                known = self._agents.add_refusal(call, refusal, now)
                self._set_queue(waiting_line.after_refusal(
                    self.queue(call.queue), known, self._agents.available(call.queue, now), now, pace))
        elif call.state == call_states.RECEIVED and not self._store.value(
                f"SELECT count(*) FROM calls WHERE {WAITS} AND queue = :queue AND (aside_until <= :now OR id = :call)",
                now=now, queue=call.queue, call=call.id) and not self._store.value(
                "SELECT value FROM elsewhere WHERE kind = 'line' AND name = :queue", queue=call.queue):
            self._set_queue(waiting_line.at_first_arrival(self.queue(call.queue)))

    # -- the outcome of a question ----------------------------------------------------------------------------------

    def answered(self, call: Call, extension: str, code: str, note: str, report: bool = False,
                 pace: tuple[float, float] = waiting_line.PACE) -> tuple[str, str]:
        """Movidesk answered receivedCall for this call: it is registered there, and offered to `extension` or waiting.

        Returns the extension and the code that its caller is told: a phone that has just refused is code 4
        (waiting_line.is_too_soon).

        extension and code are both empty where the answer made no sense: the call is registered, and waits.
        report: tell Movidesk of the transfer now, while the phone rings (report_transfer = ring). An answer that comes
        when the call has gone on only settles its arrival. pace: see waiting_line.after_answer.
        """
        with self._store.transaction():
            self._limits.answered()
            self._register(call, note)
            now, refusal, named = self._store.steady(), None, extension
            if named:
                self._agents.add_member(call.queue, named)
                refusal = self._agents.refusal(named)
            if waiting_line.is_too_soon(refusal, call.id, now, pace):
                extension, code = "", waiting_line.BUSY
            if self._calls.get(call.call_id).state in call_states.BEFORE_AGENT:
                if extension and report and not self._calls.told_transferred(call, extension):
                    self._calls.add_event(call, call_states.TRANSFERRED, self._store.clock(), extension)
                # Movidesk keeps the agent whom it named for this call.
                state = call_states.OFFERED if extension else call_states.WAITING
                # Only of an agent who still needs a request for its screen.
                rings_since = now if extension and not report else 0
                self._store.execute("UPDATE calls SET state = :state, extension = :named, code = :code, rings_since = :since"
                                    " WHERE id = :call", state=state, named=named, code=code, since=rings_since, call=call.id)
            self._set_queue(waiting_line.after_answer(
                self.queue(call.queue), extension, code, self._agents.with_callers(call.queue), now, pace,
                doubtful=waiting_line.is_expected_to_refuse(refusal, now)))
            return extension, code

    def _register(self, call: Call, note: str) -> None:
        """Movidesk knows the call now, under the number that it was told."""
        self._store.execute("UPDATE events SET status = :delivered, note = :note, attempts = attempts + 1, settled = :now"
                            " WHERE call = :call AND kind = 'received' AND status != 'delivered'",
                            delivered=DELIVERED, note=note, now=self._store.clock(), call=call.id)
        self._store.execute("DELETE FROM trials WHERE event IN (SELECT id FROM events WHERE call = :call AND kind = 'received')",
                            call=call.id)
        self._store.execute("UPDATE calls SET aside_until = 0, asks_until = 0 WHERE id = :call", call=call.id)
        # The number that Movidesk was told stays, also where the call moved to another caller meanwhile.
        self._store.execute("UPDATE calls SET number = :number WHERE id = :call AND number != :number",
                            number=call.number, call=call.id)

    def unanswered(self, call: Call, taken: bool) -> None:
        """This call's question failed. taken: Movidesk may know the call now; else the question never left, or was answered with
        an error."""
        with self._store.transaction():
            self._store.execute("UPDATE calls SET asks_until = 0 WHERE id = :call", call=call.id)
            if not taken:
                self._note_arrival(call, "")

    def aside_until(self, call: Call) -> float:
        """The steady time until which those behind this caller ask first, because its own questions fail; 0.0 if they do not."""
        return float(self._store.value("SELECT aside_until FROM calls WHERE id = :call", call=call.id))

    def _note_arrival(self, call: Call, note: str) -> None:
        self._store.execute("UPDATE events SET note = :note WHERE call = :call AND kind = 'received' AND status = :pending"
                            " AND note != :note AND attempts = 0", note=note, call=call.id, pending=PENDING)

    # -- queues -----------------------------------------------------------------------------------------------------

    def queue(self, name: str) -> waiting_line.Queue:
        """What is known of the queue's line."""
        return self._store.row(waiting_line.Queue, 'SELECT name, asked, pace, news, "full", code FROM queues WHERE name = :name',
                               name=name) or waiting_line.Queue(name)

    def _set_queue(self, queue: waiting_line.Queue) -> None:
        self._store.execute('REPLACE INTO queues (name, asked, pace, news, "full", code)'
                            " VALUES (:name, :asked, :pace, :changed, :busy_agents, :code)", **queue._asdict())
