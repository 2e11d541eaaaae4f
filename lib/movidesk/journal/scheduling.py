"""The waiting line and the request limit as the journal applies them: place, reason and claim are decided in one transaction."""

from __future__ import annotations

from types import MappingProxyType

from movidesk.journal.agents import Agents
from movidesk.journal.call_store import CallStore
from movidesk.journal.limits import Limits
from movidesk.journal.next_events import FREEING, SCREEN, NextEvents
from movidesk.journal.records import ASKED, ASKS, COMES_FIRST, DELIVERED, LINE_ORDER, PENDING, WAITS, Call
from movidesk.journal.store import Store
from movidesk.journal.waits import Waits
from movidesk.rules import call_states, rate_limit, waiting_line
from movidesk.rules.rate_limit import WINDOW

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

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
#: Seconds after which a phone does not count as ringing any more, whatever the journal says.
RINGS_AT_MOST = 90.0


class Scheduler:
    """Who asks, and what the answer means for the line (movidesk.rules.waiting_line and rate_limit hold the rules)."""

    def __init__(self, store: Store, limits: Limits, agents: Agents, calls: CallStore, next_events: NextEvents, waits: Waits):
        self._store, self._limits, self._agents, self._calls, self._next_events = store, limits, agents, calls, next_events
        self._waits = waits

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
        with self._store.transaction():
            now = self._store.steady()
            self._rejoin(call, now, refusal, pace)
            ahead, resting = self._before(call, now)
            position, rate = 1 + ahead, self._limits.rate(limit)
            if call.state != call_states.RECEIVED:  # Movidesk has answered, and this caller is still here
                self._waits.begins(call, position, rate)
            queue, aside, klass = self.queue(call.queue), self.aside_until(call), None
            everywhere, here = self._asking(call, now) if not resting else (0, 0)
            beside = bool(here) and self._may_ask_beside(queue, everywhere, now, rate)
            leaves = phones = None
            if not resting and aside <= now and (beside or not here):
                queue, phones = self._see_phones(queue, states)
                klass = waiting_line.request_class(queue, self._agents.with_callers(call.queue), now, phones, pace[1],
                                                   call.state == call_states.RECEIVED
                                                   or self._agents.has_newly_refused(call, queue.asked))
                leaves = klass is not None and self._is_about_to_leave(call)
                klass = None if leaves else klass
            aged = klass == rate_limit.PROBE and self._is_aged_probe(queue, now)
            wants = rate_limit.HEAD if aged else klass or 0
            claim = None
            if klass is not None:
                demand = self.demand(now, limit, queue, wants)
                claim = self._limits.claim(limit, klass, demand._replace(ring=0.0) if report else demand, aged)
            if claim is not None and claim.request_id:
                self._ask(call, queue, now, now + hold, bool(aside))
                return waiting_line.Turn(claim.request_id, position, 0, "", "")
            until = claim.wait if claim else max(aside, queue.asked + queue.pace) - now
            if until <= 0.0 or until > waiting_line.LOOK and (leaves or phones):
                until = waiting_line.LOOK
            wait = waiting_line.look_again(position, until, script, rate)
            self._waits.begins(call, position, rate)
            self._store.execute("UPDATE calls SET wants = :wants, seen_until = :until, asks_until = 0 WHERE id = :call"
                                " AND (wants != :wants OR seen_until < :soon OR asks_until > 0)", wants=wants, call=call.id,
                                until=now + wait + waiting_line.GRACE, soon=now + wait + waiting_line.GRACE / 2)
            code = "" if claim and claim.paused and claim.wait > WINDOW else queue.code
            return waiting_line.Turn(0, position, wait, code, claim.reason if claim else "",
                                     self._expected(call.queue, position, code, rate))

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
        ring = rate_limit.usual_ring(self._rings())
        for answered, wait in self._store.rows(lambda *row: row, _WAIT_TIMES, first=call.id - waiting_line.WAITS_KEPT,
                                               queue=call.queue, waited=waited - ring):
            (stayed if answered else left).append(wait)
        return waiting_line.is_about_to_leave(waited, ring, left, stayed)

    def _ask(self, call: Call, queue: waiting_line.Queue, now: float, until: float, fails: bool) -> None:
        """The caller asks. If its earlier requests failed, the callers behind it may ask meanwhile."""
        self._store.execute("UPDATE calls SET wants = 0, seen_until = :until, aside_until = :aside, asks_until = :asks"
                            " WHERE id = :call",
                            until=until, aside=until if fails else 0, asks=0 if fails else until, call=call.id)
        self._note_arrival(call, ASKED)
        self._set_queue(queue._replace(asked=now))

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
                now=now, queue=call.queue, call=call.id):
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

    def _is_aged_probe(self, queue: waiting_line.Queue, now: float) -> bool:
        """Whether a question at the slow pace has waited so long that it goes like a HEAD (rate_limit.PROBE_AGES_AFTER)."""
        return (now - queue.asked - queue.pace >= rate_limit.PROBE_AGES_AFTER
                and now - self._last_sent(rate_limit.PROBE) >= rate_limit.PROBE_AGED_EVERY)

    def _last_sent(self, klass: int) -> float:
        """When a request of this class was last sent, in steady time; long ago if none is known."""
        return float(self._store.value("SELECT coalesce(max(at), -1e9) FROM requests WHERE class = :klass", klass=klass))

    # -- what wants a request ---------------------------------------------------------------------------------------

    def demand(self, now: float, limit: int, asker: waiting_line.Queue | None = None,
               klass: int = rate_limit.HEAD) -> rate_limit.Demand:
        """What wants a place now. For a head of this class only such heads count whose queues asked longer ago. Within a
        transaction."""
        self._next_events.wake(now)
        waiting = self._store.value(f"SELECT count(*) FROM calls WHERE {WAITS}", now=now)
        ring = rate_limit.earliest_pickup(self._rings())
        return rate_limit.Demand(
            screens=self._next_events.ready(SCREEN, limit),
            heads=self._heads(now, klass, asker) if asker else self._heads(now, rate_limit.HEAD),
            freeing=self._next_events.ready(FREEING, limit) if waiting else 0,
            anybody=bool(waiting or self._store.value("SELECT count(*) FROM calls WHERE ended IS NULL AND state = 'offered'")),
            aged=self._next_events.aged(now),
            lately=self._asked_lately(now),
            passed=self._store.count(
                "SELECT count(*) FROM requests WHERE class = :freeing AND at > :asked", freeing=rate_limit.FREEING,
                asked=max(self._last_sent(rate_limit.HEAD), self._last_sent(rate_limit.PROBE))),
            pickups=self._pickups(now, ring),
            ring=ring)

    def learn_ring(self, call: Call) -> None:
        """Keep how long the phone of this call's agent rang. Within a transaction."""
        rang = self._store.value("SELECT rang FROM calls WHERE id = :call AND rang > 0", call=call.id)
        if rang is not None:
            rings = [*self._rings(), rang][-rate_limit.RINGS_KEPT:]
            self._store.set_note("rings", " ".join(f"{seconds:.2f}" for seconds in rings))

    def _rings(self) -> list[float]:
        """For how many seconds the last phones rang that were answered."""
        note = self._store.note("rings")
        return [float(seconds) for seconds in note[0].split()] if note else []

    def _pickups(self, now: float, ring: float) -> tuple[float, ...]:
        """Seconds until each agent who is called, or may be called by a request that is under way, may pick up; ascending. ring:
        rate_limit.earliest_pickup."""
        ringing = self._store.rows(float, "SELECT rings_since FROM calls INDEXED BY calls_ringing"
                                   " WHERE ended IS NULL AND rings_since > 0 AND rings_since > :long_ago",
                                   long_ago=now - RINGS_AT_MOST)
        asking = self._store.count(f"SELECT count(*) FROM calls INDEXED BY calls_asks WHERE asks_until > 0 AND {ASKS}"
                                   " AND ended IS NULL", now=now)
        return tuple(sorted([ring] * asking + [max(0.0, since + ring - now) for since in ringing]))

    def _heads(self, now: float, klass: int, asker: waiting_line.Queue | None = None) -> int:
        """How many heads want a request of this class or a better one; asker: only those whose queues asked longer ago."""
        heads = ("SELECT count(DISTINCT calls.queue) FROM calls LEFT JOIN queues ON queues.name = calls.queue"
                 f" WHERE wants BETWEEN 1 AND :klass AND {WAITS}")
        if asker is None:
            return self._store.count(heads, klass=klass, now=now)
        return self._store.count(heads + " AND queue != :queue AND coalesce(asked, 0) < :asked", klass=klass, now=now,
                                 queue=asker.name, asked=asker.asked)

    def _asked_lately(self, now: float) -> bool:
        """Whether a caller asked in the last ten windows: so long are requests kept (Limits.claim)."""
        return bool(self._store.value("SELECT EXISTS (SELECT 1 FROM requests WHERE class IN (:head, :probe) AND at > :begin)",
                                      head=rate_limit.HEAD, probe=rate_limit.PROBE, begin=now - 10 * WINDOW))
