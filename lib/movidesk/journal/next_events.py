"""Which event goes next: the table `next_events`, which triggers keep (movidesk.journal.schema)."""

from __future__ import annotations

from collections.abc import Iterator

from movidesk.journal.records import JOB, Job, job_from
from movidesk.journal.store import Store
from movidesk.rules import rate_limit

#: What a call's next event is (next_events.sort): it opens an agent's screen, frees an agent, or nobody waits for it; late is the
#: arrival of a call that has ended.
SCREEN, FREEING, OTHER, LATE = range(4)
#: A count of events that want a request ends here: more than so many places are never kept free.
_ENOUGH = 1000

_URGENT = f"""
    SELECT {JOB} FROM next_events JOIN events ON events.id = next_events.event JOIN calls ON calls.id = next_events.call
    WHERE next_events.call = (SELECT call FROM next_events WHERE due = 0 AND sort < 2 ORDER BY sort, queue, place LIMIT 1)"""

#: `firsts` is the first event that may go of each sort, and of each queue's late arrivals: one look at an index for each. Of
#: these that of the oldest call goes, but no late arrival while a caller in its queue waits, here or at another PBX of the fleet,
#: whose agent it could be given.
#: `place` is the number of the call for these sorts (the view owed_events).
_OTHER = f"""
    WITH RECURSIVE chain (call) AS (
        SELECT (SELECT call FROM next_events WHERE due = 0 ORDER BY sort, queue, place LIMIT 1)
        UNION ALL
        SELECT coalesce((SELECT call FROM next_events WHERE due = 0 AND sort = this.sort AND queue > this.queue
                         ORDER BY queue, place LIMIT 1),
                        (SELECT call FROM next_events WHERE due = 0 AND sort > this.sort
                         ORDER BY sort, queue, place LIMIT 1))
        FROM chain JOIN next_events AS this ON this.call = chain.call),
    firsts AS (SELECT next_events.* FROM chain JOIN next_events ON next_events.call = chain.call)
    SELECT {JOB} FROM next_events JOIN events ON events.id = next_events.event JOIN calls ON calls.id = next_events.call
    WHERE next_events.call = (
        SELECT min(place) FROM firsts LEFT JOIN queues ON queues.name = firsts.queue
        WHERE sort >= 2 AND NOT (sort = 3 AND coalesce(news, 1) = 1 AND (
            EXISTS (SELECT 1 FROM elsewhere WHERE kind = 'line' AND elsewhere.name = firsts.queue)
            OR EXISTS (SELECT 1 FROM calls AS live WHERE live.ended IS NULL AND live.queue = firsts.queue
                       AND live.state IN ('received', 'waiting') AND live.seen_until > :now))))"""


class NextEvents:
    """Of each call the event that is to be sent next, in the order in which they are sent."""

    def __init__(self, store: Store):
        self._store = store

    def wake(self, now: float) -> None:
        """Let the events go whose retry, lease or hold has ended. Within a transaction."""
        self._store.execute("UPDATE next_events SET due = 0 WHERE due > 0 AND due <= :now", now=now)

    def ready(self, sort: int, limit: int) -> int:
        """How many events of this sort may go; no more are counted than could go."""
        return self._store.count("SELECT count(*) FROM (SELECT 1 FROM next_events WHERE due = 0 AND sort = :sort LIMIT :most)",
                                 sort=sort, most=min(limit, _ENOUGH))

    def candidates(self, now: float) -> Iterator[Job]:
        """The most urgent event that may go, and the first for which nobody waits, each with its call."""
        for found in (self._urgent, lambda: self._other(now)):
            job = found()
            if job:
                yield job

    def _urgent(self) -> Job | None:
        """The event that goes first of those that somebody waits for: a screen before an agent's end."""
        return self._store.row(job_from, _URGENT)

    def _other(self, now: float) -> Job | None:
        """The event that goes first of those that nobody waits for: that of the oldest call.

        One call is told to its end before the next: Movidesk may keep an agent for it until then.
        """
        return self._store.row(job_from, _OTHER, now=now)

    def aged(self, now: float) -> int:
        """1 if an event that nobody waits for is older than rate_limit.SLACK_AGES_AFTER, and none had its place lately; else
        0."""
        last = self._store.value("SELECT max(at) FROM requests WHERE class = :slack", slack=rate_limit.SLACK)
        if last is not None and now - last < rate_limit.SLACK_AGES_AFTER:
            return 0
        job = self._other(now)
        return int(job is not None and self._store.clock() - job.event.at >= rate_limit.SLACK_AGES_AFTER)

    def seconds_until_due(self, now: float) -> float | None:
        """Seconds until the next event that waits for its time is due; None where none does."""
        later = self._store.value("SELECT min(due) FROM next_events WHERE due > 0")
        return None if later is None else later - now

    def is_something_due(self) -> bool:
        """Whether an event could be sent but for the window of requests (or, an arrival, but for those who wait)."""
        return bool(self._store.value("SELECT EXISTS (SELECT 1 FROM next_events WHERE due = 0)"))

    def unsent_since(self, seconds: float) -> float:
        """Since when (epoch seconds) an event of the oldest call is due, if no request has left for so many seconds; else 0.0."""
        now = self._store.steady()
        if self._store.value("SELECT count(*) FROM requests WHERE at > :begin", begin=now - seconds):
            return 0.0
        # Only read, without `wake`: this is asked, too, where the file cannot be written.
        at = self._store.value("SELECT events.at FROM next_events CROSS JOIN events ON events.id = next_events.event"
                               " WHERE next_events.due <= :now ORDER BY next_events.call LIMIT 1", now=now)
        return at if at is not None and self._store.clock() - at >= seconds else 0.0
