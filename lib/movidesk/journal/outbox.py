"""The events that Movidesk is to be told: handing them out, settling them, and those that wait for a file's conversion."""

from __future__ import annotations

from movidesk.journal.agents import Agents
from movidesk.journal.demands import Demands
from movidesk.journal.limits import Limits
from movidesk.journal.next_events import NextEvents
from movidesk.journal.records import (
    CONVERTING,
    CONVERTS,
    DELIVERED,
    DISMISSED,
    HELD_NOTE,
    JOB,
    REFUSED,
    SCREEN,
    Job,
    job_from,
)
from movidesk.journal.store import Store
from movidesk.journal.trials import Trials, Wish
from movidesk.rules import call_states, rate_limit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from movidesk.journal.pool import Pool

#: Seconds after which the delivery asks again, at most, in a fleet: other PBXs change what may go.
LOOK_AGAIN = 2.0


class Outbox:
    """The events of all calls. Only a call's oldest unsettled event is ever handed out, but for probes (Trials)."""

    def __init__(self, store: Store, limits: Limits, agents: Agents, demands: Demands, next_events: NextEvents, trials: Trials,
                 pool: Pool | None):
        self._store, self._limits, self._agents, self._pool = store, limits, agents, pool
        self._demands, self._next_events, self._trials = demands, next_events, trials

    # -- delivery ---------------------------------------------------------------------------------------------------

    def take(self, limit: int) -> tuple[Job | None, float | None]:
        """The next event to send, with the request claimed for it and the event leased to the caller.

        Returns (job, 0), or (None, seconds until another try makes sense), or (None, None) where nothing is pending.
        An arrival is left to its caller, who asks, until the call has ended. Then it is sent late: when nobody waits in its
        queue, or all agents of the queue are busy, so that Movidesk assigns none to a call that has ended.
        """
        with self._store.transaction():
            if self._pool is None or self._pool.is_alone():
                return self._take_here(limit)
            wishes = self._wishes(self._demands.demand(self._store.steady(), limit))
            if not wishes:
                return None, self._next_events.seconds_until_due(self._store.steady())
            told = self._pool.report()
        question = self._trials.question_for(wishes)
        answer = self._pool.ask(told, question, limit)
        with self._store.transaction():
            if self._pool.is_alone():
                return self._take_here(limit)
            if answer is None:
                return None, LOOK_AGAIN
            self._pool.take_in(answer, told)
            if answer["granted"]:
                return self._trials.lease_granted(wishes[answer["granted"] - 1].job, self._pool.add_grant(answer)), 0.0
            return None, min(LOOK_AGAIN, *(self._pool.wait(answer, wish.klass, wish.aged, wish.places) for wish in wishes))

    def _take_here(self, limit: int) -> tuple[Job | None, float | None]:
        """`take`, as the journal decides it."""
        demand = self._demands.demand(self._store.steady(), limit)
        waits = []
        for job, klass, aged, places in self._wishes(demand):
            claim = self._limits.claim(limit, klass, demand, aged, places, self._pool.member if self._pool else None)
            if claim.request_id:
                return self._trials.lease(job._replace(request_id=claim.request_id)), 0.0
            waits.append(claim.wait)
        return None, min(waits) if waits else self._next_events.seconds_until_due(self._store.steady())

    def _wishes(self, demand: rate_limit.Demand) -> list[Wish]:
        """The events that may go, with what each needs, the most urgent first."""
        found = []
        for job in self._next_events.candidates(self._store.steady()):
            klass = rate_limit.event_class(job.event.kind, demand.anybody, bool(job.call.extension))
            places = 2 if job.event.kind == call_states.RECEIVED else 1  # its ending follows at once
            found.append(Wish(job, klass, klass == rate_limit.SLACK and bool(demand.aged), places))
        return found

    def delivered(self, job: Job, note: str, offered: str = "") -> None:
        """Movidesk took the event. Where it ends a call that had an agent, that agent is free, and its queues may ask.

        Where it was a probe (Trials.take_probe), the event that failed before it is set aside.
        offered: the agent whom Movidesk gave to an arrival that was told late; the call's ending frees that one.
        """
        with self._store.transaction():
            self._limits.answered()
            self._trials.settle(job, DELIVERED, note)
            self._trials.pass_over(job)
            if offered:
                self._store.execute("UPDATE calls SET extension = :offered WHERE id = :call", offered=offered, call=job.call.id)
                self._store.execute("UPDATE events SET extension = :offered WHERE call = :call AND status = 'pending'"
                                    " AND kind IN ('canceled', 'lost')", offered=offered, call=job.call.id)
            if job.event.kind in call_states.ENDED and job.call.extension:
                self._agents.freed(job.call, job.event.kind)
            if job.event.kind in (call_states.TRANSFERRED, call_states.START_TRANSFERRED):
                now = self._store.clock()
                self._store.execute("UPDATE calls SET shown = :now WHERE id = :call", now=now, call=job.call.id)
                picked_up = self._store.value("SELECT picked_up FROM calls WHERE id = :call", call=job.call.id)
                self._store.observe(SCREEN, seconds=0.0 if picked_up is None else max(0.0, now - picked_up))
            if job.event.kind == call_states.TRANSFERRED:
                self._demands.learn_ring(job.call)

    def rejected(self, job: Job, why: str) -> None:
        """Set the event aside, visible and replayable; the later ones of its call go on."""
        with self._store.transaction():
            self._trials.settle(job, REFUSED, why)

    def retry(self, job: Job, seconds: float, why: str) -> None:
        """Try the event again after so many seconds."""
        with self._store.transaction():
            self._trials.retry_at(job.event.id, self._store.steady() + seconds, why)

    # -- what admins do ---------------------------------------------------------------------------------------------

    def jobs(self, status: str, count: int = 1000) -> list[Job]:
        """The events that are PENDING or REFUSED, oldest first."""
        index = {"pending": "events_pending", "refused": "events_refused"}[status]
        return self._store.rows(job_from, f"SELECT {JOB} FROM events INDEXED BY {index} JOIN calls ON calls.id = events.call"
                                          f" WHERE status = '{status}' ORDER BY events.id LIMIT :count", count=count)

    def retry_now(self) -> int:
        """Make every event due that waits for its next try; returns how many. Those that are being sent now, and those that wait
        for a message or a conversion, stay as they are."""
        with self._store.transaction():
            return self._store.execute("UPDATE events SET due = 0 WHERE id IN (SELECT event FROM next_events WHERE due > :now)"
                                       f" AND due != leased AND NOT ({HELD_NOTE})", now=self._store.steady()).rowcount

    def replay(self, event_id: int) -> bool:
        """Send a refused event once more; False where there is no such event."""
        with self._store.transaction():
            self._store.execute("DELETE FROM trials WHERE event = :event", event=event_id)
            return self._store.execute("UPDATE events SET status = 'pending', due = 0, settled = NULL"
                                       " WHERE id = :event AND status = 'refused'", event=event_id).rowcount == 1

    def dismiss(self, event_id: int) -> bool:
        """Give up a refused event: it is never sent, and no alarm stands for it; False where there is no such event."""
        with self._store.transaction():
            return self._store.execute("UPDATE events SET status = :dismissed WHERE id = :event AND status = 'refused'",
                                       dismissed=DISMISSED, event=event_id).rowcount == 1

    def prune(self, keep_days: float, batch: int = 100) -> int:
        """Forget calls that ended more than keep_days ago and owe nothing; returns how many, at most `batch`."""
        with self._store.transaction():
            return self._store.execute("""
                DELETE FROM calls WHERE id IN (
                    SELECT id FROM calls WHERE ended < :long_ago AND NOT EXISTS (
                        SELECT 1 FROM events WHERE events.call = calls.id AND events.status IN ('pending', 'refused'))
                    ORDER BY ended LIMIT :batch)""", long_ago=self._store.clock() - keep_days * 86400, batch=batch).rowcount

    # -- what waits for the conversion of a file --------------------------------------------------------------------

    def conversions(self) -> list[tuple[Job, str]]:
        """The events that wait for the conversion of a file, with its name, but those whose file somebody converts now."""
        now, found = self._store.steady(), []
        for job in self._store.rows(job_from, f"""
                SELECT {JOB} FROM events INDEXED BY events_held JOIN calls ON calls.id = events.call
                WHERE status = 'pending' AND {HELD_NOTE}"""):
            for note in CONVERTS, CONVERTING:
                if job.event.note.startswith(note) and (note == CONVERTS or job.event.due <= now):
                    found.append((job, job.event.note[len(note):]))
        return found

    def claim_conversion(self, job: Job, name: str, seconds: float) -> Job | None:
        """Claim such an event for so many seconds, in which its file may be converted and it is not delivered; None if it was
        delivered, or another process converts the file."""
        claimed = job._replace(event=job.event._replace(due=self._store.steady() + seconds, note=CONVERTING + name))
        return claimed if self._replace(job, claimed) else None

    def end_conversion(self, job: Job, link: str) -> bool:
        """Deliver such an event now, with this link; job: from `claim_conversion`. False where its old link may be out."""
        return self._replace(job, job._replace(event=job.event._replace(due=0, note="", link=link)))

    def _replace(self, job: Job, wanted: Job) -> bool:
        """Change a waiting event, where it still is as it was read."""
        new = wanted.event
        with self._store.transaction():
            return self._store.execute("UPDATE events SET due = :due, note = :note, link = :link"
                                       " WHERE id = :event AND status = 'pending' AND due = :old_due AND note = :old_note",
                                       due=new.due, note=new.note, link=new.link, event=new.id,
                                       old_due=job.event.due, old_note=job.event.note).rowcount == 1
