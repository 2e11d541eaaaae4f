"""The journal: every call, its events in order, and the window of requests. The only room with SQL.

Invariants, and what keeps them:
  an event is on disk before its verb says ok     synchronous=FULL, one transaction per event
  one ending per call id                          the state is read and moved inside that transaction (calls.move)
  events of a call are delivered in order         only a call's oldest unsettled event is ever handed out (`take`)
  no more than the limit in any 60 s              the claim is a row of `requests`, written before the request leaves
  one head in each line, nobody overtaken         place, reason and claim are decided in one transaction (`turn`)
  a crash between sending and noting              the event's lease runs out and it is sent again: at least once
"""

from __future__ import annotations

from movidesk.journal.store import (
    BUSY_TIMEOUT,
    CONVERTING,
    CONVERTS,
    DELIVERED,
    DISMISSED,
    HELD,
    HOLD,
    LEASE,
    MIGRATIONS,
    PENDING,
    REFUSED,
    Call,
    Claim,
    Event,
    Job,
    JournalError,
    Recorded,
)
from movidesk.journal.trials import Trials
from movidesk.rules import call_states, rate_limit
from movidesk.rules.rate_limit import WINDOW

__all__ = ["BUSY_TIMEOUT", "CONVERTS", "DELIVERED", "DISMISSED", "HELD", "HOLD", "LEASE", "MIGRATIONS", "PENDING", "REFUSED",
           "WINDOW",
           "Call", "Claim", "Event", "Job", "Journal", "JournalError", "Recorded"]


class Journal(Trials):
    """One journal file, usable from any number of threads; any number of processes may open the same file.

    clock: epoch seconds, for what is reported. steady: seconds that nobody sets, the same for all processes of a machine,
    for all that lasts (the window, leases, retries); where only a clock is passed in it serves for both. Every method
    raises JournalError where the file cannot be used; no event is reported as recorded then.
    """

    # -- delivery ---------------------------------------------------------------------------------------------------

    def take(self, limit: int) -> tuple[Job | None, float | None]:
        """The next event to send, with the request claimed for it and the event leased to the caller.

        Returns (job, 0), or (None, seconds until another try makes sense), or (None, None) where nothing is pending.
        An arrival is left to the caller that asks for itself, until its call has ended; then it is registered late,
        when nobody waits in its queue, or all of that queue's agents are taken: it must not be given one.
        """
        with self._writing():
            now = self.steady()
            demand = self._demand(now, limit)
            claim = None
            for event, call in self._candidates(now):
                klass = rate_limit.event_class(event.kind, demand.anybody, bool(call.extension))
                claim = self._claim(limit, klass, demand, aged=klass == rate_limit.SLACK and demand.aged,
                                    places=2 if event.kind == call_states.RECEIVED else 1)  # its ending follows at once
                if claim.granted:
                    # Its link goes out as it is: the file that it names is not converted any more.
                    note = "" if event.note.startswith((CONVERTS, CONVERTING)) else event.note
                    self._db.execute("UPDATE events SET due = ?, attempts = attempts + 1, note = ? WHERE id = ?",
                                     (now + LEASE, note, event.id))
                    return Job(event._replace(attempts=event.attempts + 1), call, claim.granted), 0.0
            if claim is not None:
                return None, claim.wait
            later = self._row(lambda due: due, "SELECT min(due) FROM next_events WHERE due > 0")
            return None, None if later is None else later - now

    def delivered(self, job: Job, note: str, offered: str = "") -> None:
        """Movidesk took the event. Where it ends a call that had an agent, that agent is free: news for the lines it serves.

        Where it was a probe (take_probe), the event that failed before it is set aside.
        offered: the agent whom Movidesk gave to an arrival that was told late; the call's ending frees that one.
        """
        with self._writing():
            self._answered()
            self._settle(job, DELIVERED, note)
            self._pass_over(job)
            if offered:
                self._db.execute("UPDATE calls SET extension = ? WHERE id = ?", (offered, job.call.id))
                self._db.execute("UPDATE events SET extension = ? WHERE call = ? AND status = 'pending'"
                                 " AND kind IN ('canceled', 'lost')", (offered, job.call.id))
            if job.event.kind in call_states.ENDED and job.call.extension:
                self._freed(job.call, job.event.kind)

    def rejected(self, job: Job, why: str) -> None:
        """Set the event aside, visible and replayable; the later ones of its call go on."""
        with self._writing():
            self._settle(job, REFUSED, why)

    def _settle(self, job: Job, status: str, note: str) -> None:
        self._db.execute("UPDATE events SET status = ?, note = ?, settled = ? WHERE id = ?",
                         (status, note, self.clock(), job.event.id))
        self._db.execute("DELETE FROM trials WHERE event = ?", (job.event.id,))

    def retry(self, job: Job, seconds: float, why: str) -> None:
        """Try the event again after so many seconds."""
        with self._writing():
            self._db.execute("UPDATE events SET due = ?, note = ? WHERE id = ?",
                             (self.steady() + seconds, why, job.event.id))

    def replay(self, event_id: int) -> bool:
        """Send a refused event once more; False where there is no such event."""
        with self._writing():
            self._db.execute("DELETE FROM trials WHERE event = ?", (event_id,))
            return self._db.execute("UPDATE events SET status = 'pending', due = 0, settled = NULL"
                                    " WHERE id = ? AND status = 'refused'", (event_id,)).rowcount == 1

    def dismiss(self, event_id: int) -> bool:
        """Give up a refused event: it is never sent, and no alarm stands for it; False where there is no such event."""
        with self._writing():
            return self._db.execute("UPDATE events SET status = ? WHERE id = ? AND status = 'refused'",
                                    (DISMISSED, event_id)).rowcount == 1

    def prune(self, keep_days: float, batch: int = 100) -> int:
        """Forget calls that ended more than keep_days ago and owe nothing; returns how many, at most `batch`."""
        with self._writing():
            return self._db.execute(
                "DELETE FROM calls WHERE id IN (SELECT id FROM calls WHERE ended < ? AND NOT EXISTS"
                " (SELECT 1 FROM events WHERE events.call = calls.id AND events.status IN ('pending', 'refused'))"
                " ORDER BY ended LIMIT ?)", (self.clock() - keep_days * 86400, batch)).rowcount
