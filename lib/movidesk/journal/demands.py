"""What wants a request at a moment, and who may need one soon: movidesk.rules.rate_limit.Demand, from the journal."""

from __future__ import annotations

from movidesk.journal.next_events import FREEING, SCREEN, NextEvents
from movidesk.journal.records import ASKS, WAITS, Call
from movidesk.journal.store import Store
from movidesk.rules import rate_limit, waiting_line
from movidesk.rules.rate_limit import WINDOW

#: Seconds after which a phone does not count as ringing any more, whatever the journal says.
RINGS_AT_MOST = 90.0


class Demands:
    """Counts what wants a request. Within a transaction."""

    def __init__(self, store: Store, next_events: NextEvents):
        self._store, self._next_events = store, next_events

    def demand(self, now: float, limit: int, asker: waiting_line.Queue | None = None,
               klass: int = rate_limit.HEAD) -> rate_limit.Demand:
        """What wants a place now. For a head of this class only such heads count whose queues asked longer ago. Within a
        transaction."""
        self._next_events.wake(now)
        waiting = self._store.value(f"SELECT count(*) FROM calls WHERE {WAITS}", now=now)
        ring = rate_limit.earliest_pickup(self.rings())
        return rate_limit.Demand(
            screens=self._next_events.ready(SCREEN, limit),
            heads=self._heads(now, klass, asker) if asker else self._heads(now, rate_limit.HEAD),
            freeing=self._next_events.ready(FREEING, limit) if waiting else 0,
            anybody=bool(waiting or self.offered()),
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
            rings = [*self.rings(), rang][-rate_limit.RINGS_KEPT:]
            self._store.set_note("rings", " ".join(f"{seconds:.2f}" for seconds in rings))

    def rings(self) -> list[float]:
        """For how many seconds the last phones rang that were answered."""
        note = self._store.note("rings")
        return [float(seconds) for seconds in note[0].split()] if note else []

    def ringing(self, now: float) -> list[float]:
        """Since when (steady time) each phone rings whose agent will need a request for its screen."""
        return self._store.rows(float, "SELECT rings_since FROM calls INDEXED BY calls_ringing"
                                " WHERE ended IS NULL AND rings_since > 0 AND rings_since > :long_ago",
                                long_ago=now - RINGS_AT_MOST)

    def offered(self) -> int:
        """For how many callers a phone rings."""
        return self._store.count("SELECT count(*) FROM calls WHERE ended IS NULL AND state = 'offered'")

    def _pickups(self, now: float, ring: float) -> tuple[float, ...]:
        """Seconds until each agent who is called, or may be called by a request that is under way, may pick up; ascending. ring:
        rate_limit.earliest_pickup."""
        asking = self._store.count(f"SELECT count(*) FROM calls INDEXED BY calls_asks WHERE asks_until > 0 AND {ASKS}"
                                   " AND ended IS NULL", now=now)
        return tuple(sorted([ring] * asking + [max(0.0, since + ring - now) for since in self.ringing(now)]))

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

    def is_aged_probe(self, queue: waiting_line.Queue, now: float) -> bool:
        """Whether a question at the slow pace has waited so long that it goes like a HEAD (rate_limit.PROBE_AGES_AFTER)."""
        return (now - queue.asked - queue.pace >= rate_limit.PROBE_AGES_AFTER
                and now - self._last_sent(rate_limit.PROBE) >= rate_limit.PROBE_AGED_EVERY)

    def _last_sent(self, klass: int) -> float:
        """When a request of this class was last sent, in steady time; long ago if none is known."""
        return float(self._store.value("SELECT coalesce(max(at), -1e9) FROM requests WHERE class = :klass", klass=klass))
