r"""Sends the journal's events to Movidesk: in order per call, several calls at a time, until each is settled.

    pending --delivered--> settled
       |  \--retry-------> pending, due later (backoff with jitter, or what Retry-After says)
       \-----rejected----> refused, after a few tries: visible and replayable, the call's later events go on

A 400 or 404 is a rejection after a few tries, any other failure after some more, if Movidesk accepts other requests meanwhile
(movidesk.rules.trial).

Delivery is at least once: an event is leased while it is sent. If its sender dies, the lease ends and it is sent again.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from movidesk import sleep
from movidesk.delivery import api
from movidesk.delivery.availability import Exchange, RequestSender, request_name
from movidesk.journal import LEASE, PENDING, Job, JournalError, standby, standby_folder, wakeup
from movidesk.rules import call_states, trial

log = logging.getLogger("movidesk.delivery.worker")

WORKERS = 8            # simultaneous requests
IDLE = 5.0             # seconds until the journal is read again if no process pulls the trigger
STANDBY_SECONDS = 5.0  # `deliver_standby` begins no further event after this time: meanwhile no process can return to the journal


def event_name(job: Job) -> str:
    """The name of an event's endpoint: a completed call without queue control has a different one."""
    if job.event.kind == call_states.COMPLETED and job.call.mode == call_states.WATCH:
        return "start_completed"
    return job.event.kind


class Delivery:
    """Delivers the events of a context's journal. jitter: () -> [0, 1), passed in by tests."""

    def __init__(self, context: RequestSender, jitter: Callable[[], float] = random.random):
        self.context = context
        self._jitter = jitter
        self._stop = threading.Event()  # set: begin no further event

    def take(self) -> tuple[Job | None, float | None]:
        """Return the next job and 0, or None and the seconds to wait (None: no event is pending). See Outbox.take."""
        backoff = self.context.auth_backoff() or self.context.outage_backoff(trial.LONGEST_RETRY)
        if backoff:
            return None, backoff
        return self.context.journal.outbox.take(self.context.limit())

    def deliver(self, job: Job, probe_for: Job | None = None, refused: bool = False) -> bool:
        """Send one event and record its outcome. Returns True if Movidesk accepted it.

        probe_for: the event of the same call that has just failed, if this one is its probe (movidesk.rules.trial).
        refused: whether that event was rejected; then a rejection of this one does not show the cause.
        """
        event, call = job.event, job.call
        try:
            exchange = self.context.exchange(event_name(job), request=job.request_id, queue=call.queue, number=call.number,
                                             id=call.call_id, extension=event.extension, link=event.link, arrived=call.arrived,
                                             at=event.at)
        except api.ParameterError as error:
            self.context.journal.outbox.rejected(job, str(error))
            log.error("%s: %s set aside: %s (%s)", call.call_id, event.kind, error, call_states.masked(call.number))
            return False
        try:
            self._note(job, exchange, probe_for, refused)
            self.context.tell_fleet()
        except JournalError as error:
            if error.damaged or not isinstance(exchange.result, api.Delivered):
                raise
            self._note_in_standby(job, exchange, error)
        return isinstance(exchange.result, api.Delivered)

    def _note(self, job: Job, exchange: Exchange, probe_for: Job | None = None, refused: bool = False) -> None:
        """Record the outcome of an event that was sent; see deliver."""
        event, call, book = job.event, job.call, self.context.journal
        result = self.context.record_exchange(job.request_id, exchange, event_name(job), call.call_id,
                                            lambda: book.trials.after_failure(event.id))
        if isinstance(result, api.Delivered):
            book.outbox.delivered(job, result.text, self._offered(job, result.text))
            log.info("%s: %s delivered (%s)", call.call_id, event.kind, call_states.masked(call.number))
            if probe_for:
                self._say_set_aside(probe_for, f"Movidesk accepted {event.kind} but not this event")
        elif isinstance(result, api.Rejected):
            self._rejected(job, result.why, None if refused else probe_for)
        else:
            self._try_again(job, result)

    def _note_in_standby(self, job: Job, exchange: Exchange, error: JournalError) -> None:
        """Record in the standby that Movidesk accepted an event; otherwise the standby would send it again. If the standby does
        not have the call (it ended long ago, or the journal could not be read), add it. Raises the journal's error if there is
        no place for a standby."""
        try:
            with standby.use(self.context, str(error)) as other:
                if other.journal.calls.find(job.call.call_id) is None:
                    other.journal.calls.take_over([(job.call, [job.event])])
                call = other.journal.calls.find(job.call.call_id)
                same = [event for event in (other.journal.calls.events(call) if call else ())
                        if (event.kind, event.at, event.status) == (job.event.kind, job.event.at, PENDING)]
                if call is None or not same:
                    raise error
                Delivery(other)._note(Job(same[0], call), exchange)
        except OSError:
            raise error from None

    def _rejected(self, job: Job, why: str, probe_for: Job | None) -> None:
        before = self.context.journal.trials.get(job.event.id)
        if probe_for:
            wait = trial.backoff(job.event.attempts, self._jitter())
            self.context.journal.trials.probe_refused(probe_for, job, wait, why)
            return self._say_again(job, wait, why)
        seconds = self.context.journal.trials.refused(job, why, self._jitter())
        if seconds is None:
            self.context.abandoned(request_name(event_name(job), job.call.call_id))
            return self._say_set_aside(job, why)
        self._say_again(job, seconds, why)
        self._probe(job, before, refused=True)

    def _offered(self, job: Job, text: str) -> str:
        """The agent in Movidesk's answer to a `received` event that is sent after the call; '' for none."""
        if job.event.kind != call_states.RECEIVED:
            return ""
        try:
            return api.parse_answer(text, self.context.config["pbx", "extension_pattern"]).extension
        except api.NonsenseAnswer:
            return ""

    def _try_again(self, job: Job, result: api.Retry) -> None:
        book, at_least = self.context.journal, result.after or 0.0
        if result.status == 429:  # does not count as a failure: Movidesk did not process the event
            wait = max(at_least, trial.backoff(job.event.attempts, self._jitter()))
            book.outbox.retry(job, wait, result.why)
            return self._say_again(job, wait, result.why)
        if result.status in (401, 403):
            at_least = trial.TOKEN_RETRY
        before = book.trials.get(job.event.id)
        seconds = book.trials.failed(job, result.why, self._jitter(), at_least)
        if seconds is None:
            return self._say_set_aside(job, f"{result.why}, while other requests were accepted")
        self._say_again(job, seconds, result.why)
        self._probe(job, before)

    def _probe(self, job: Job, before: trial.Trial | None, refused: bool = False) -> None:
        """Send the call's next event as a probe, if no other request shows whether Movidesk accepts any.

        before: the event's trial before its last try; refused: see deliver.
        """
        book = self.context.journal
        after = book.trials.get(job.event.id)
        if self._stop.is_set() or after is None or not trial.may_probe(before, after):
            return
        others = book.limits.failed_since(trial.watched_since(after), but=job.call.call_id)
        if not others and self.context.is_only_failure(request_name(event_name(job), job.call.call_id)):
            probe = book.trials.take_probe(job, self.context.limit())
            if probe:
                self.deliver(probe, probe_for=job, refused=refused)

    def _say_again(self, job: Job, seconds: float, why: str) -> None:
        log.warning("%s: %s failed, next try in %.0f s: %s (%s)", job.call.call_id, job.event.kind, seconds, why,
                    call_states.masked(job.call.number))

    def _say_set_aside(self, job: Job, why: str) -> None:
        log.error("%s: %s set aside: %s (movidesk outbox shows it, and can send it again) (%s)",
                  job.call.call_id, job.event.kind, why, call_states.masked(job.call.number))

    def once(self, seconds: float = 0.0, within: float | None = None) -> bool:
        """Send the events that are due, and wait at most `seconds` for the request limit, because cron's minute is shorter than
        the limit's window. Returns True if Movidesk accepted all events that were sent.

        within: begin no further event after this many seconds; None: send all that are due, however long it takes.
        """
        begun = time.monotonic()
        good, end = True, begun + seconds
        self.context.tell_fleet()
        while True:
            if within is not None and time.monotonic() - begun >= within:
                log.info("%d events are left after %.0f s, for the next run",
                         self.context.journal.overview.totals()["pending"], within)
                return good
            job, wait = self.take()
            if job is not None:
                good = self.deliver(job) and good
            elif wait is None or time.monotonic() + wait > end or not self.context.journal.next_events.is_something_due():
                return good
            else:
                sleep(wait)

    def run(self, trigger: wakeup.Trigger, stop: threading.Event) -> None:
        """Deliver until `stop` is set; `trigger` wakes the loop at once.

        Then it waits for the current exchanges, at most three timeouts; TimeoutStopSec in the systemd unit allows that.
        """
        free = threading.Semaphore(WORKERS)

        def work(job: Job) -> None:
            try:
                self.deliver(job)
            except Exception:  # the outermost level: the event's lease ends, and it is sent again
                log.exception("%s: %s: delivery failed", job.call.call_id, job.event.kind)
            finally:
                free.release()
                trigger.pull()

        self._stop = stop
        with ThreadPoolExecutor(WORKERS, "delivery") as pool:
            while not stop.is_set():
                wait = IDLE
                if free.acquire(blocking=False):
                    job, seconds = self._take_safely()
                    if job is not None and self._start(pool, work, job):
                        continue
                    free.release()
                    wait = IDLE if job or seconds is None else min(IDLE, seconds)
                trigger.wait(wait)

    def _start(self, pool: ThreadPoolExecutor, work: Callable[[Job], None], job: Job) -> bool:
        """Run the work in a thread. Returns False if no thread can start; then the event's lease ends, and it is sent again."""
        taken = threading.Lock()

        def begin() -> None:
            if taken.acquire(blocking=False):
                work(job)

        try:
            pool.submit(begin)
            return True
        except RuntimeError as error:
            # The pool has queued it anyway; a running thread may take it.
            if not taken.acquire(blocking=False):
                return True
            log.error("%s: %s is sent again in %.0f s: %s (see ulimit -u, and TasksMax= of the service)",
                      job.call.call_id, job.event.kind, LEASE, error)
            return False

    def _take_safely(self) -> tuple[Job | None, float | None]:
        try:
            return self.take()
        except JournalError as error:
            log.error("%s", error)
            return None, None
        except Exception:  # the outermost level
            log.exception("delivery: looking for the next event failed")
            return None, None


def deliver_standby(context: RequestSender) -> None:
    """Send the standby's events that are due, within the limit. Raises JournalError, OSError."""
    if standby_folder.in_use(context.config):
        with standby.use(context, standby.reason(context.config)) as other:
            Delivery(other).once(within=STANDBY_SECONDS)
