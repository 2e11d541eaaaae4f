"""The line and the budget as the journal applies them: place, reason and claim are decided in one transaction."""

from __future__ import annotations

from movidesk import budget, calls, line
from movidesk.budget import WINDOW
from movidesk.journal.limits import Limits
from movidesk.journal.store import CALL, EVENT, WAITS, Call, Event

#: An event that opens the agent's screen, as a condition on events.
_SHOWS = "events.kind IN ('transferred', 'start_transferred')"
#: That, or an ending that frees an agent (canceled and lost name the one who was offered), as a condition on events.
_URGENT = ("(events.kind IN ('transferred', 'start_transferred', 'completed')"
           " OR events.kind IN ('canceled', 'lost') AND events.extension != '')")  # word for word that of events_urgent
#: An arrival that is left alone: its caller asks for itself, or one who waits could be given the agent. Takes the steady time.
_LEFT_ALONE = ("(events.kind = 'received' AND (calls.ended IS NULL OR calls.queue IN ("
               "SELECT live.queue FROM calls AS live LEFT JOIN queues ON queues.name = live.queue"
               " WHERE live.ended IS NULL AND live.state IN ('received', 'waiting')"
               " AND live.seen_until > ? AND coalesce(news, 1) = 1)))")


def _due(sort: str, index: str = "events_pending") -> str:
    """The events of this sort (a condition) that are due, each the first pending one of its call, joined with calls and
    read in the order of calls; takes the steady time, then what `sort` takes.

    The sort is looked at before anything else: after an outage thousands of events are due, and few are urgent.
    """
    return ("events INDEXED BY %s CROSS JOIN calls ON calls.id = events.call"
            " WHERE events.status = 'pending' AND events.due <= ? AND %s"
            " AND NOT EXISTS (SELECT 1 FROM events AS earlier WHERE earlier.call = events.call"
            " AND earlier.id < events.id AND earlier.status = 'pending')" % (index, sort))


class Line(Limits):
    """Who asks, and which request goes (movidesk.line and movidesk.budget hold the rules)."""

    def turn(self, call: Call, limit: int, script: bool = False, hold: float = 20.0) -> line.Turn:
        """Whether this caller asks Movidesk now, with the request claimed for it; else its place and when to look again.

        script: its looks are dear (line.look_again). hold: seconds for which its question may take. Being here keeps
        the caller's place for the wait that it is told and line.GRACE seconds.
        """
        with self._writing():
            now = self.steady()
            refused = self._rejoin(call, now)
            position = 1 + self._count(WAITS + " AND queue = ? AND id < ?", now, call.queue, call.id)
            claim = klass = None
            queue = self._queue(call.queue)
            if position == 1:
                klass = line.request_class(queue, self._taken(call.queue), refused, now)
            if klass is not None:
                claim = self._claim(limit, klass, self._demand(now, queue, klass))
            if claim is not None and claim.granted:
                self._db.execute("UPDATE calls SET wants = 0, seen_until = ? WHERE id = ?", (now + hold, call.id))
                self._set_queue(queue._replace(asked=now))
                return line.Turn(claim.granted, 1, 0, "", "")
            until = claim.wait if claim else queue.asked + queue.pace - now
            wait = line.look_again(position, until, script)
            wants = 0 if klass is None else klass
            self._db.execute("UPDATE calls SET wants = ?, seen_until = ? WHERE id = ? AND (wants != ? OR seen_until < ?)",
                             (wants, now + wait + line.GRACE, call.id, wants, now + wait + line.GRACE / 2))
            code = "" if claim and claim.paused and claim.wait > WINDOW else queue.code
            return line.Turn(0, position, wait, code, claim.reason if claim else "")

    def _rejoin(self, call: Call, now: float) -> bool:
        """Put the caller (back) into its line; True where it comes from a phone that did not take it."""
        refused = call.state == calls.OFFERED
        if refused:
            self._db.execute("UPDATE calls SET state = 'waiting' WHERE id = ? AND state = 'offered'", (call.id,))
        elif call.state == calls.RECEIVED and not self._count(WAITS + " AND queue = ?", now, call.queue):
            # An arrival at an empty line: it is news, whatever the last caller was told.
            self._set_queue(self._queue(call.queue)._replace(news=True, full=line.UNKNOWN))
        return refused

    def _queue(self, name: str) -> line.Queue:
        row = self._db.execute('SELECT name, asked, pace, news, "full", code FROM queues WHERE name = ?', (name,)).fetchone()
        return line.Queue(*row) if row else line.Queue(name)

    def _set_queue(self, queue: line.Queue) -> None:
        self._db.execute("REPLACE INTO queues VALUES (?, ?, ?, ?, ?, ?)", queue)

    def _taken(self, queue: str) -> int:
        """Agents who have a call of this queue as Movidesk sees it: also those whose call's end it has not heard yet."""
        return (self._count("ended IS NULL AND queue = ? AND state IN ('offered', 'transferred')", queue)
                + self._row(int, "SELECT count(*) FROM events INDEXED BY events_urgent CROSS JOIN calls ON calls.id = events.call"
                                 " WHERE events.status = 'pending' AND %s AND NOT %s AND calls.queue = ? AND calls.extension != ''"
                            % (_URGENT, _SHOWS), queue))

    def _demand(self, now: float, asker: line.Queue | None = None, klass: int = budget.HEAD) -> budget.Demand:
        """What wants a place now. For a head of this class only such heads count whose queues asked longer ago."""
        screens, freeing = self._row(
            lambda *counts: counts,
            "SELECT count(CASE WHEN %s THEN 1 END), count(CASE WHEN NOT %s THEN 1 END) FROM %s" % (
                _SHOWS, _SHOWS, _due(_URGENT, "events_urgent")), now)
        waiting = self._count(WAITS, now)
        heads = ("SELECT count(*) FROM calls LEFT JOIN queues ON queues.name = calls.queue"
                 " WHERE wants BETWEEN 1 AND ? AND " + WAITS)
        if asker:
            wanting = self._row(int, heads + " AND queue != ? AND coalesce(asked, 0) < ?", klass, now, asker.name,
                                asker.asked)
        else:
            wanting = self._row(int, heads, budget.HEAD, now)
        return budget.Demand(screens, wanting, freeing if waiting else 0,
                             bool(waiting) or bool(self._count("ended IS NULL AND state = 'offered'")),
                             self._aged(now), self._asked_lately(now))

    def _asked_lately(self, now: float) -> bool:
        """Whether a caller asked in the last ten windows: so long are requests kept (_claim)."""
        return bool(self._row(int, "SELECT EXISTS (SELECT 1 FROM requests WHERE class IN (?, ?) AND at > ?)",
                              budget.HEAD, budget.PROBE, now - 10 * WINDOW))

    def _aged(self, now: float) -> int:
        """1 where something that nobody waits for is due for the place that its patience has earned it."""
        last = self._db.execute("SELECT max(at) FROM requests WHERE class = ?", (budget.SLACK,)).fetchone()[0]
        if last is not None and now - last < budget.PATIENCE:
            return 0
        for row in self._candidates(now, slack_only=True):
            return int(self.clock() - Event(*row[:len(Event._fields)]).at >= budget.PATIENCE)
        return 0

    def unsent(self, seconds: float) -> float:
        """Since when (epoch seconds) an event is due that nobody sends: no request left for so long; 0.0 where none is."""
        now = self.steady()
        if self._row(bool, "SELECT count(*) FROM requests WHERE at > ?", now - seconds):
            return 0.0
        at = self._row(lambda at: at, "SELECT min(events.at) FROM " + _due(
            "NOT (events.kind = 'received' AND calls.ended IS NULL)"), now)
        return at if at is not None and self.clock() - at >= seconds else 0.0

    def _candidates(self, now: float, slack_only: bool = False):
        """The most urgent event that is due, and that of the oldest call for which nobody waits; each the first of its call.

        Of what nobody waits for, one call is told to its end before the next: Movidesk may keep an agent for it until then.
        """
        columns = "SELECT %s, %s FROM " % (EVENT, CALL)
        if not slack_only:
            yield from self._db.execute(
                columns + _due(_URGENT, "events_urgent") + " ORDER BY NOT %s, events.id LIMIT 1" % _SHOWS, (now,)).fetchall()
        yield from self._db.execute(
            columns + _due("NOT %s AND NOT %s" % (_URGENT, _LEFT_ALONE)) + " ORDER BY events.call, events.id LIMIT 1",
            (now, now)).fetchall()
