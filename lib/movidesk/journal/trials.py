"""Events that Movidesk does not take, as the journal keeps them (movidesk.rules.trial holds the rules)."""

from __future__ import annotations

from movidesk import NamedTuple
from movidesk.journal.call_store import CallStore
from movidesk.journal.demands import Demands
from movidesk.journal.limits import Limits
from movidesk.journal.records import CONVERTING, CONVERTS, LEASE, PENDING, REFUSED, Call, Job
from movidesk.journal.store import Store
from movidesk.rules import rate_limit, trial
from movidesk.rules.trial import Trial

TYPE_CHECKING = False
if TYPE_CHECKING:
    from movidesk.journal.pool import Pool


class Wish(NamedTuple):
    """An event that may go, and what it needs (rate_limit.may_go)."""

    job: Job
    klass: int
    aged: bool = False
    places: int = 1


class Trials:
    """Which events failed, how often, and what becomes of them."""

    def __init__(self, store: Store, limits: Limits, calls: CallStore, demands: Demands, pool: Pool | None):
        self._store, self._limits, self._calls, self._demands, self._pool = store, limits, calls, demands, pool

    def get(self, event_id: int) -> Trial | None:
        """The failed tries of a pending event; None where none has failed."""
        return self._store.row(Trial, "SELECT began, failed, blamed, since FROM trials WHERE event = :event", event=event_id)

    def after_failure(self, event_id: int) -> Trial:
        """What `get` will be if the event's try has just failed."""
        return trial.after_failure(self.get(event_id), self._limits.last_taken(), self._store.steady())

    # -- events -----------------------------------------------------------------------------------------------------

    def failed(self, job: Job, why: str, jitter: float, at_least: float = 0.0) -> float | None:
        """A try of the event failed, not by a 429: try it again after the seconds returned, at least so many; None where it
        is set aside instead (trial.is_set_aside)."""
        with self._store.transaction():
            record = self.after_failure(job.event.id)
            began = trial.watched_since(record)
            if trial.is_set_aside(record, self._limits.taken_since(began), self._limits.failed_since(began, job.call.call_id)):
                self._set_aside(job.event.id, f"{why} ({record.blamed} tries failed while other requests were accepted)")
                return None
            return self._try_later(job, record, why, jitter, at_least)

    def refused(self, job: Job, why: str, jitter: float) -> float | None:
        """Movidesk refused the event: try it again after the seconds returned; None where it is set aside, as a refusal that is
        meant for this event (trial.is_believed)."""
        with self._store.transaction():
            now = self._store.steady()
            record = (self.get(job.event.id) or Trial(now, now, 0, now))._replace(failed=now)
            if trial.is_believed(record, job.event.attempts, self._limits.last_taken()):
                self._set_aside(job.event.id, why)
                return None
            return self._try_later(job, record, why, jitter)

    def _try_later(self, job: Job, record: Trial, why: str, jitter: float, at_least: float = 0.0) -> float:
        self._set(job.event.id, record)
        seconds = max(at_least, trial.until_retry(job.event.attempts, record, jitter))
        self.retry_at(job.event.id, record.failed + seconds, why)
        return seconds

    # -- questions of waiting callers -------------------------------------------------------------------------------

    def question(self, call: Call) -> tuple[int, Trial | None, Trial]:
        """The number of the caller's `received` event, its trial, and its trial if this request fails too.

        The number is 0 if the call has no such event.
        """
        number = self._store.value("SELECT id FROM events WHERE call = :call AND kind = 'received' ORDER BY id LIMIT 1",
                                   call=call.id) or 0
        return number, self.get(number), self.after_failure(number)

    def question_refused(self, call: Call, why: str) -> bool:
        """Movidesk refused a waiting caller's question; then it has also failed (`question_failed`). True where its arrival
        is set aside now, as a refusal that is meant for it (trial.is_believed); else it waits, and the caller asks again."""
        with self._store.transaction():
            number, before, after = self.question(call)
            if not self._store.execute("UPDATE events SET attempts = attempts + 1, note = :why"
                                       " WHERE id = :event AND status = 'pending'", why=why, event=number).rowcount:
                return False
            believed = trial.is_believed(before or after, self._refusals(number), self._limits.last_taken())
            if believed:
                self._set_aside(number, why)
            return believed

    def _refusals(self, arrival: int) -> int:
        """How often Movidesk has refused the arrival of a caller who asks by it; 0 where it took it once."""
        return self._store.value("SELECT attempts FROM events WHERE id = :event AND status != 'delivered'", event=arrival) or 0

    def question_failed(self, call: Call, seconds: float, alone: bool, refused: bool = False) -> bool:
        """A waiting caller's request failed, not by a 429. If trial.stands_aside says so, the callers behind it ask first for so
        many seconds. Returns True when that begins. alone: see there. refused: Movidesk rejected it."""
        with self._store.transaction():
            number, before, record = self.question(call)
            if not number:
                return False
            refusals = self._refusals(number)
            if refused and not refusals:  # Movidesk took the arrival once: its trial counts the rejections that follow
                record = trial.after_failure(before, record.failed, record.failed)
            self._set(number, record)
            if trial.stands_aside(record, alone, refusals):
                begins = not self._store.value("SELECT aside_until FROM calls WHERE id = :call", call=call.id)
                self._store.execute("UPDATE calls SET aside_until = :until WHERE id = :call",
                                    until=self._store.steady() + seconds, call=call.id)
                return begins
            if not (alone or refused or refusals):  # an outage: all have their places
                self._store.execute("UPDATE calls SET aside_until = 0 WHERE ended IS NULL AND aside_until > 0 AND NOT EXISTS"
                                    " (SELECT 1 FROM events JOIN trials ON trials.event = events.id WHERE call = calls.id"
                                    " AND blamed >= :tries)", tries=trial.ASIDE_TRIES)
            return False

    # -- probes -----------------------------------------------------------------------------------------------------

    def take_probe(self, job: Job, limit: int) -> Job | None:
        """The next event of the call whose `job` has just failed, with the request claimed for it and leased to the caller;
        None where there is none, it is held or not due, or no request is free."""
        with self._store.transaction():
            now = self._store.steady()
            later = [event for event in self._calls.events(job.call) if event.status == PENDING and event.id > job.event.id]
            if not later or later[0].due > now:
                return None
            alone = self._pool is None or self._pool.is_alone()
            demand = self._demands.demand(now, limit)
            klass = rate_limit.event_class(later[0].kind, demand.anybody, bool(job.call.extension))
            if self._pool is None or alone:
                claim = self._limits.claim(limit, klass, demand, own=self._pool.member if self._pool else None)
                return self.lease(Job(later[0], job.call, claim.request_id)) if claim.request_id else None
            told = self._pool.report()
        answer = self._pool.ask(told, self.question_for([Wish(job, klass)]), limit)
        with self._store.transaction():
            if answer is None or self._pool.is_alone():
                return None
            self._pool.take_in(answer, told)
            return self.lease_granted(Job(later[0], job.call), self._pool.add_grant(answer)) if answer["granted"] else None

    def probe_refused(self, job: Job, probe: Job, seconds: float, why: str) -> None:
        """Movidesk refused the probe that was sent for `job`, so it answers: try `job` at once, and the probe again later."""
        with self._store.transaction():
            record, now = self.get(job.event.id), self._store.steady()
            if record:
                self._set(job.event.id, trial.after_refused_probe(record))
            if self.get(probe.event.id) is None:
                self._set(probe.event.id, Trial(now, now, 0, now))
            self._limits.answered()
            self._store.execute("UPDATE events SET due = 0 WHERE id = :event AND status = 'pending'", event=job.event.id)
            self.retry_at(probe.event.id, now + seconds, why)

    # -- within a transaction ---------------------------------------------------------------------------------------

    def question_for(self, wishes: list[Wish]) -> dict[str, object]:
        """What Redis is asked for such events (fleet/decide.lua)."""
        return {"events": [[wish.klass, wish.aged, wish.places] for wish in wishes],
                "ring": round(1000 * rate_limit.earliest_pickup(self._demands.rings()))}

    def lease_granted(self, job: Job, request_id: int) -> Job | None:
        """`lease`, with the request that Redis granted; None if somebody else took the event while Redis was asked."""
        due = self._store.value("SELECT due FROM events WHERE id = :event AND status = 'pending'", event=job.event.id)
        if due is None or due > self._store.steady():
            return None
        return self.lease(job._replace(request_id=request_id))

    def lease(self, job: Job) -> Job:
        """The event belongs to whoever sends it now, for LEASE seconds; returns the job with this try counted."""
        # Its link goes out as it is: the file that it names is not converted any more.
        note = "" if job.event.note.startswith((CONVERTS, CONVERTING)) else job.event.note
        self._store.execute("UPDATE events SET due = :lease_end, leased = :lease_end, attempts = attempts + 1, note = :note"
                            " WHERE id = :event",
                            lease_end=self._store.steady() + LEASE, note=note, event=job.event.id)
        return job._replace(event=job.event._replace(attempts=job.event.attempts + 1))

    def retry_at(self, event_id: int, due: float, why: str) -> None:
        """Try the event again at `due` (steady time)."""
        self._store.execute("UPDATE events SET due = :due, note = :why WHERE id = :event", due=due, why=why, event=event_id)

    def settle(self, job: Job, status: str, note: str) -> None:
        """The event is not sent again: it is DELIVERED or REFUSED."""
        self._store.execute("UPDATE events SET status = :status, note = :note, settled = :now WHERE id = :event",
                            status=status, note=note, now=self._store.clock(), event=job.event.id)
        self._forget(job.event.id)

    def pass_over(self, job: Job) -> None:
        """Set aside what comes before an event of the same call that Movidesk has taken: it must not come after it."""
        for event_id, note in self._store.rows(lambda *row: row, "SELECT id, note FROM events INDEXED BY events_call"
                                               " WHERE call = :call AND status = 'pending' AND id < :event",
                                               call=job.call.id, event=job.event.id):
            self._set_aside(event_id, f"{note} ({job.event.kind} of the same call was taken)")

    def _set_aside(self, event_id: int, note: str) -> None:
        self._store.execute("UPDATE events SET status = :refused, note = :note, settled = :now"
                            " WHERE id = :event AND status = 'pending'",
                            refused=REFUSED, note=note, now=self._store.clock(), event=event_id)
        self._forget(event_id)

    def _set(self, event_id: int, record: Trial) -> None:
        self._store.execute("REPLACE INTO trials (event, began, failed, blamed, since)"
                            " VALUES (:event, :began, :failed, :blamed, :since)", event=event_id, **record._asdict())

    def _forget(self, event_id: int) -> None:
        self._store.execute("DELETE FROM trials WHERE event = :event", event=event_id)
