"""The line and the budget as the journal applies them: place, reason and claim are decided in one transaction."""

from __future__ import annotations

from movidesk.journal.agents import Agents
from movidesk.journal.store import ASKED, CALL, COMES_FIRST, EVENT, PENDING, WAITS, Call, Event
from movidesk.rules import call_states, rate_limit, waiting_line
from movidesk.rules.rate_limit import WINDOW

#: What a call's next event is (next_events.sort): it opens an agent's screen, frees an agent, or nobody waits for it; late is the
#: arrival of a call that has ended.
_SCREEN, _FREEING, _OTHER, _LATE = range(4)
#: The first event that may go of each sort, and of each queue's late arrivals, as a table `firsts`: one look at an index for
#: each.
_FIRSTS = """
    WITH RECURSIVE chain (call) AS (
        SELECT (SELECT call FROM next_events WHERE due = 0 ORDER BY sort, queue, place LIMIT 1)
        UNION ALL
        SELECT coalesce((SELECT call FROM next_events WHERE due = 0 AND sort = this.sort AND queue > this.queue
                         ORDER BY queue, place LIMIT 1),
                        (SELECT call FROM next_events WHERE due = 0 AND sort > this.sort
                         ORDER BY sort, queue, place LIMIT 1))
        FROM chain JOIN next_events AS this ON this.call = chain.call),
    firsts AS (SELECT next_events.* FROM chain JOIN next_events ON next_events.call = chain.call)
"""
#: A late arrival that is not sent yet: it could be given the agent whom a caller in its queue waits for. Takes the steady time.
_LEFT_ALONE = ("(sort = 3 AND EXISTS (SELECT 1 FROM calls AS live LEFT JOIN queues ON queues.name = live.queue"
               " WHERE live.ended IS NULL AND live.queue = firsts.queue AND live.state IN ('received', 'waiting')"
               " AND live.seen_until > ? AND coalesce(news, 1) = 1))")
#: A count of events that want a request ends here: more than so many places are never kept free.
_ENOUGH = 1000


class Line(Agents):
    """Who asks, and which request goes (movidesk.rules.waiting_line and movidesk.rules.rate_limit hold the rules)."""

    def turn(self, call: Call, limit: int, script: bool = False, hold: float = 20.0, refusal: str = "",
             pace: tuple[float, float] = waiting_line.PACE) -> waiting_line.Turn:
        """Whether this caller asks Movidesk now, with the request claimed for it; else its place and when to look again.

        script: its looks are dear (line.look_again). hold: seconds for which its question may take. Being here keeps
        the caller's place for the wait that it is told and line.GRACE seconds. refusal: why the phone that it was offered did
        not take it (a state or DIALSTATUS, '' if nobody knows). pace: see line.after_refusal.
        """
        with self._writing():
            now = self.steady()
            self._rejoin(call, now, refusal, pace)
            position = 1 + self._count(COMES_FIRST + " AND queue = ? AND id < ?", now, now, call.queue, call.id)
            claim = klass = None
            queue, aside = self._queue(call.queue), self._aside_until(call)
            if position == 1 and aside <= now:
                klass = waiting_line.request_class(queue, self._taken(call.queue), now)
            aged = klass == rate_limit.PROBE and self._is_aged_probe(queue, now)
            wants = rate_limit.HEAD if aged else klass or 0
            if klass is not None:
                claim = self._claim(limit, klass, self._demand(now, limit, queue, wants), aged)
            if claim is not None and claim.granted:
                # Whose questions fail holds up nobody while it tries again.
                self._db.execute("UPDATE calls SET wants = 0, seen_until = ?, aside_until = ? WHERE id = ?",
                                 (now + hold, now + hold if aside else 0, call.id))
                self._note_arrival(call, ASKED)
                self._set_queue(queue._replace(asked=now))
                return waiting_line.Turn(claim.granted, 1, 0, "", "")
            until = claim.wait if claim else max(aside, queue.asked + queue.pace) - now
            wait = waiting_line.look_again(position, until, script)
            self._db.execute("UPDATE calls SET wants = ?, seen_until = ? WHERE id = ? AND (wants != ? OR seen_until < ?)",
                             (wants, now + wait + waiting_line.GRACE, call.id, wants, now + wait + waiting_line.GRACE / 2))
            code = "" if claim and claim.paused and claim.wait > WINDOW else queue.code
            return waiting_line.Turn(0, position, wait, code, claim.reason if claim else "")

    def not_taken(self, call: Call) -> None:
        """This call's question never left, or Movidesk answered it with an error: it does not know the call yet."""
        with self._writing():
            self._note_arrival(call, "")

    def _note_arrival(self, call: Call, note: str) -> None:
        self._db.execute("UPDATE events SET note = ? WHERE call = ? AND kind = 'received' AND status = ? AND note != ?"
                         " AND attempts = 0", (note, call.id, PENDING, note))

    def _rejoin(self, call: Call, now: float, refusal: str, pace: tuple[float, float]) -> None:
        """Put the caller (back) into its line; one that comes from a phone which did not take it brings the reason."""
        if call.state == call_states.OFFERED:
            if self._db.execute("UPDATE calls SET state = 'waiting' WHERE id = ? AND state = 'offered'", (call.id,)).rowcount:
                known = self._refused(call, refusal, now)
                self._set_queue(waiting_line.after_refusal(self._queue(call.queue), known, self._others(call.queue, now), now,
                                                           pace))
        elif call.state == call_states.RECEIVED and not self._count(WAITS + " AND queue = ? AND (aside_until <= ? OR id = ?)",
                                                                    now, call.queue, now, call.id):
            self._set_queue(waiting_line.at_first_arrival(self._queue(call.queue)))

    def _aside_until(self, call: Call) -> float:
        return self._row(float, "SELECT aside_until FROM calls WHERE id = ?", call.id)

    def _queue(self, name: str) -> waiting_line.Queue:
        row = self._db.execute('SELECT name, asked, pace, news, "full", code FROM queues WHERE name = ?', (name,)).fetchone()
        return waiting_line.Queue(*row) if row else waiting_line.Queue(name)

    def _set_queue(self, queue: waiting_line.Queue) -> None:
        self._db.execute("REPLACE INTO queues VALUES (?, ?, ?, ?, ?, ?)", queue)

    def _is_aged_probe(self, queue: waiting_line.Queue, now: float) -> bool:
        """Whether a question at the slow pace has waited so long that it goes like a HEAD (budget.PROBE_PATIENCE)."""
        last = self._db.execute("SELECT max(at) FROM requests WHERE class = ?", (rate_limit.PROBE,)).fetchone()[0]
        return (now - queue.asked - queue.pace >= rate_limit.PROBE_PATIENCE
                and (last is None or now - last >= rate_limit.PROBE_FAVOUR))

    def _demand(self, now: float, limit: int, asker: waiting_line.Queue | None = None,
                klass: int = rate_limit.HEAD) -> rate_limit.Demand:
        """What wants a place now. For a head of this class only such heads count whose queues asked longer ago."""
        self._wake(now)
        screens, freeing = self._ready(_SCREEN, limit), self._ready(_FREEING, limit)
        waiting = self._count(WAITS, now)
        heads = ("SELECT count(*) FROM calls LEFT JOIN queues ON queues.name = calls.queue"
                 " WHERE wants BETWEEN 1 AND ? AND " + WAITS)
        if asker:
            wanting = self._row(int, heads + " AND queue != ? AND coalesce(asked, 0) < ?", klass, now, asker.name,
                                asker.asked)
        else:
            wanting = self._row(int, heads, rate_limit.HEAD, now)
        return rate_limit.Demand(screens, wanting, freeing if waiting else 0,
                                 bool(waiting) or bool(self._count("ended IS NULL AND state = 'offered'")),
                                 self._aged(now), self._asked_lately(now))

    def _wake(self, now: float) -> None:
        """Let the events go whose retry, lease or hold has ended."""
        self._db.execute("UPDATE next_events SET due = 0 WHERE due > 0 AND due <= ?", (now,))

    def _ready(self, sort: int, limit: int) -> int:
        """How many events of this sort may go; no more are counted than could go."""
        return self._row(int, "SELECT count(*) FROM (SELECT 1 FROM next_events WHERE due = 0 AND sort = ? LIMIT ?)",
                         sort, min(limit, _ENOUGH))

    def _asked_lately(self, now: float) -> bool:
        """Whether a caller asked in the last ten windows: so long are requests kept (_claim)."""
        return bool(self._row(int, "SELECT EXISTS (SELECT 1 FROM requests WHERE class IN (?, ?) AND at > ?)",
                              rate_limit.HEAD, rate_limit.PROBE, now - 10 * WINDOW))

    def _aged(self, now: float) -> int:
        """1 if an event that nobody waits for has waited longer than budget.PATIENCE, and none had its place lately; else 0."""
        last = self._db.execute("SELECT max(at) FROM requests WHERE class = ?", (rate_limit.SLACK,)).fetchone()[0]
        if last is not None and now - last < rate_limit.PATIENCE:
            return 0
        event = self._first_other(now)
        return int(event is not None and self.clock() - event[0].at >= rate_limit.PATIENCE)

    def unsent(self, seconds: float) -> float:
        """Since when (epoch seconds) an event of the oldest call is due, if no request has left for so many seconds; else 0.0."""
        now = self.steady()
        if self._row(bool, "SELECT count(*) FROM requests WHERE at > ?", now - seconds):
            return 0.0
        # Only read, without _wake: this is asked, too, where the file cannot be written.
        at = self._row(lambda at: at, "SELECT events.at FROM next_events CROSS JOIN events ON events.id = next_events.event"
                                      " WHERE next_events.due <= ? ORDER BY next_events.call LIMIT 1", now)
        return at if at is not None and self.clock() - at >= seconds else 0.0

    def _candidates(self, now: float):
        """The most urgent event that may go, and the first for which nobody waits, each with its call."""
        for look in (self._first_urgent, lambda: self._first_other(now)):
            found = look()
            if found:
                yield found

    def is_something_due(self) -> bool:
        """Whether an event could be sent but for the window of requests (or, an arrival, but for those who wait)."""
        return bool(self._row(int, "SELECT EXISTS (SELECT 1 FROM next_events WHERE due = 0)"))

    def _first_urgent(self) -> tuple[Event, Call] | None:
        """The event that goes first of those that somebody waits for: a screen before an agent's end."""
        return self._next("SELECT call FROM next_events WHERE due = 0 AND sort < 2 ORDER BY sort, queue, place LIMIT 1")

    def _first_other(self, now: float) -> tuple[Event, Call] | None:
        """The event that goes first of those that nobody waits for: that of the oldest call.

        One call is told to its end before the next: Movidesk may keep an agent for it until then.
        """
        return self._next(_FIRSTS + "SELECT min(place) FROM firsts WHERE sort >= 2 AND NOT " + _LEFT_ALONE, now)

    def _next(self, which: str, *args) -> tuple[Event, Call] | None:
        """The next event of the call that the query finds, and this call."""
        split = len(Event._fields)
        return self._row(lambda *row: (Event(*row[:split]), Call(*row[split:])),
                         f"SELECT {EVENT}, {CALL} FROM next_events JOIN events ON events.id = next_events.event"
                         f" JOIN calls ON calls.id = next_events.call WHERE next_events.call = ({which})", *args)
