"""How long callers of each queue waited lately, and what that means for those who wait (movidesk.rules.expected_wait)."""

from __future__ import annotations

from movidesk.journal.records import COMES_FIRST, LINE_ORDER, Call
from movidesk.journal.store import Store
from movidesk.rules import waiting_line


class Waits:
    """The waits of answered callers. What follows from them is computed when one is answered, and kept: callers who wait ask for
    it at each look."""

    def __init__(self, store: Store):
        self._store = store

    def expected(self, queue: str, place: int, rate: int) -> int | None:
        """Whole seconds until an agent will probably answer the caller in this place of the line; None if that is unknown.

        rate: requests a minute that are allowed now (Limits.rate).
        """
        from movidesk.rules import expected_wait  # most verbs need none of it

        now = self._store.steady()
        known = self._store.row(expected_wait.Speed, "SELECT seconds, longest, rate FROM speeds WHERE queue = :queue"
                                                     " AND at > :long_ago", queue=queue, long_ago=now - expected_wait.LASTS)
        if known is None:
            return None
        seconds = expected_wait.expected(place, known, rate, self._first_waits(queue, now))
        return None if seconds is None else max(1, round(seconds))

    def _first_waits(self, queue: str, now: float) -> float:
        """For how many seconds the first in line has waited; 0.0 if nobody waits."""
        arrived = self._store.row(waiting_line.arrived, "SELECT rank, priority FROM calls INDEXED BY calls_line"
                                  f" WHERE {COMES_FIRST} AND queue = :queue ORDER BY {LINE_ORDER} LIMIT 1", queue=queue, now=now)
        return 0.0 if arrived is None else now - arrived

    # -- within a transaction ---------------------------------------------------------------------------------------

    def begins(self, call: Call, place: int, rate: int) -> None:
        """The caller has to wait, in this place; only its first place counts. rate: requests a minute that are allowed."""
        if not call.place:
            self._store.execute("UPDATE calls SET place = :place, allowed = :rate WHERE id = :call AND place = 0",
                                place=place, rate=rate, call=call.id)

    def answered(self, call: Call) -> None:
        """An agent has answered the call now. Nothing follows from a caller who did not have to wait."""
        if not call.place or not call.rank:
            return
        from movidesk.rules import expected_wait

        now = self._store.steady()
        self._store.execute("DELETE FROM waits WHERE queue = :queue AND at < :long_ago", queue=call.queue,
                            long_ago=now - expected_wait.LASTS)
        self._store.execute("INSERT INTO waits (queue, at, seconds, place) VALUES (:queue, :now, :seconds, :place)",
                            queue=call.queue, now=now, place=call.place,
                            seconds=now - waiting_line.arrived(call.rank, call.priority))
        last = self._store.rows(expected_wait.Wait, "SELECT seconds, place FROM waits WHERE queue = :queue"
                                " ORDER BY at DESC LIMIT :most", queue=call.queue, most=expected_wait.MOST)
        speed = expected_wait.speed(last, self._store.value("SELECT allowed FROM calls WHERE id = :call", call=call.id))
        if speed is not None:
            self._store.execute("REPLACE INTO speeds (queue, at, seconds, longest, rate)"
                                " VALUES (:queue, :now, :seconds, :longest, :rate)", queue=call.queue, now=now, **speed._asdict())
