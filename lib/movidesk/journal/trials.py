"""Events that Movidesk does not take, as the journal keeps them (movidesk.rules.trial holds the rules)."""

from __future__ import annotations

from movidesk.journal.call_store import Book
from movidesk.journal.store import LEASE, PENDING, REFUSED, Call, Job
from movidesk.rules import rate_limit, trial


class Trials(Book):
    """Which events failed, how often, and what becomes of them."""

    def failed(self, job: Job, why: str, jitter: float, at_least: float = 0.0) -> float | None:
        """A try of the event failed, not by a 429: try it again after the seconds returned, at least so many; None where it
        is set aside instead (trial.is_set_aside)."""
        with self._writing():
            record = self.trial_after_failure(job.event.id)
            began = trial.watched_since(record)
            if trial.is_set_aside(record, self.taken_since(began), self.failed_since(began, job.call.call_id)):
                self._set_aside(job.event.id, f"{why} ({record.blamed} tries failed while other requests were taken)")
                return None
            return self._try_later(job, record, why, jitter, at_least)

    def refused_try(self, job: Job, why: str, jitter: float) -> float | None:
        """Movidesk refused the event: try it again after the seconds returned; None where it is set aside, as a refusal that is
        meant for this event (trial.is_believed)."""
        with self._writing():
            now = self.steady()
            record = (self.trial(job.event.id) or trial.Trial(now, now, 0, now))._replace(failed=now)
            if trial.is_believed(record, job.event.attempts, self._last_taken()):
                self._set_aside(job.event.id, why)
                return None
            return self._try_later(job, record, why, jitter)

    def _try_later(self, job: Job, record: trial.Trial, why: str, jitter: float, at_least: float = 0.0) -> float:
        self._db.execute("REPLACE INTO trials (event, began, failed, blamed, since) VALUES (?, ?, ?, ?, ?)",
                         (job.event.id, *record))
        seconds = max(at_least, trial.until_retry(job.event.attempts, record, jitter))
        self._db.execute("UPDATE events SET due = ?, note = ? WHERE id = ?", (record.failed + seconds, why, job.event.id))
        return seconds

    def _last_taken(self) -> float:
        """When Movidesk last took any request, in steady time; 0.0 if never."""
        taken = self.note("taken")
        return float(taken[0]) if taken else 0.0

    def trial(self, event_id: int) -> trial.Trial | None:
        """The failed tries of a pending event; None where none has failed."""
        return self._row(trial.Trial, "SELECT began, failed, blamed, since FROM trials WHERE event = ?", event_id)

    def trial_after_failure(self, event_id: int) -> trial.Trial:
        """What `trial` will be if the event's try has just failed."""
        return trial.after_failure(self.trial(event_id), self._last_taken(), self.steady())

    def question(self, call: Call) -> tuple[int, trial.Trial | None, trial.Trial]:
        """The arrival whose receivedCall the caller asks by, its trial, and what that will be if this question fails as well.

        The number is 0 where the call has no arrival to tell.
        """
        number = self._row(int, "SELECT id FROM events WHERE call = ? AND kind = 'received' ORDER BY id LIMIT 1", call.id) or 0
        return number, self.trial(number), self.trial_after_failure(number)

    def question_refused(self, call: Call, why: str) -> bool:
        """Movidesk refused a waiting caller's question; then it has also failed (`question_failed`). True where its arrival
        is set aside now, as a refusal that is meant for it (trial.is_believed); else it waits, and the caller asks again."""
        with self._writing():
            number, before, after = self.question(call)
            if not self._db.execute("UPDATE events SET attempts = attempts + 1, note = ? WHERE id = ? AND status = 'pending'",
                                    (why, number)).rowcount:
                return False
            believed = trial.is_believed(before or after, self._refusals(number), self._last_taken())
            if believed:
                self._set_aside(number, why)
            return believed

    def _refusals(self, arrival: int) -> int:
        """How often Movidesk has refused the arrival of a caller who asks by it; 0 where it took it once."""
        return self._row(int, "SELECT attempts FROM events WHERE id = ? AND status != 'delivered'", arrival) or 0

    def question_failed(self, call: Call, seconds: float, alone: bool) -> bool:
        """A waiting caller's question failed, not by a 429. Where it shall (trial.stands_aside) those behind it ask first,
        for so many seconds; True where that begins. alone: see there."""
        with self._writing():
            number, _, record = self.question(call)
            if not number:
                return False
            self._db.execute("REPLACE INTO trials (event, began, failed, blamed, since) VALUES (?, ?, ?, ?, ?)",
                             (number, *record))
            refusals = self._refusals(number)
            if trial.stands_aside(record, alone, refusals):
                begins = not self._aside_until(call)
                self._db.execute("UPDATE calls SET aside_until = ? WHERE id = ?", (self.steady() + seconds, call.id))
                return begins
            if not (alone or refusals):  # an outage: all have their places
                self._db.execute("UPDATE calls SET aside_until = 0 WHERE ended IS NULL AND aside_until > 0 AND NOT EXISTS "
                                 "(SELECT 1 FROM events JOIN trials ON trials.event = events.id WHERE call = calls.id AND "
                                 "blamed >= ?)",
                                 (trial.ASIDE_TRIES,))
            return False

    def take_probe(self, job: Job, limit: int) -> Job | None:
        """The next event of the call whose `job` has just failed, with the request claimed for it and leased to the caller;
        None where there is none, it is held or not due, or no request is free."""
        with self._writing():
            now = self.steady()
            later = [event for event in self.events(job.call) if event.status == PENDING and event.id > job.event.id]
            if not later or later[0].due > now:
                return None
            demand = self._demand(now, limit)
            klass = rate_limit.event_class(later[0].kind, demand.anybody, bool(job.call.extension))
            claim = self._claim(limit, klass, demand)
            if not claim.granted:
                return None
            self._db.execute("UPDATE events SET due = ?, attempts = attempts + 1 WHERE id = ?", (now + LEASE, later[0].id))
            return Job(later[0]._replace(attempts=later[0].attempts + 1), job.call, claim.granted)

    def probe_refused(self, job: Job, probe: Job, seconds: float, why: str) -> None:
        """Movidesk refused the probe that was sent for `job`, so it answers: try `job` at once, and the probe again later."""
        with self._writing():
            record = self.trial(job.event.id)
            if record:
                self._db.execute("UPDATE trials SET blamed = ?, since = ? WHERE event = ?",
                                 (*trial.after_refused_probe(record)[2:], job.event.id))
            now = self.steady()
            self._db.execute("INSERT OR IGNORE INTO trials (event, began, failed, blamed, since) VALUES (?, ?, ?, ?, ?)",
                             (probe.event.id, now, now, 0, now))
            self._answered()
            self._db.execute("UPDATE events SET due = 0 WHERE id = ? AND status = 'pending'", (job.event.id,))
            self._db.execute("UPDATE events SET due = ?, note = ? WHERE id = ?", (now + seconds, why, probe.event.id))

    def _pass_over(self, job: Job) -> None:
        """Set aside what comes before an event of the same call that Movidesk has taken: it must not come after it."""
        for event_id, note in self._db.execute("SELECT id, note FROM events INDEXED BY events_call"
                                               " WHERE call = ? AND status = 'pending' AND id < ?",
                                               (job.call.id, job.event.id)).fetchall():
            self._set_aside(event_id, f"{note} ({job.event.kind} of the same call was taken)")

    def _set_aside(self, event_id: int, note: str) -> None:
        self._db.execute("UPDATE events SET status = ?, note = ?, settled = ? WHERE id = ? AND status = 'pending'",
                         (REFUSED, note, self.clock(), event_id))
        self._db.execute("DELETE FROM trials WHERE event = ?", (event_id,))
