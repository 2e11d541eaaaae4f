r"""Sends the journal's events to Movidesk: in order per call, several calls at a time, until each is settled.

    pending --delivered--> settled
       |  \--retry-------> pending, due later (backoff with jitter, or what Retry-After says)
       \-----rejected----> refused, after a few tries: visible and replayable, the call's later events go on

At least once: an event is leased while it is sent; where its sender dies, the lease ends and it is sent again.
"""

from __future__ import annotations

import logging
import random
import threading
from concurrent.futures import ThreadPoolExecutor

from movidesk import api, calls
from movidesk.journal import Job, JournalError

log = logging.getLogger("movidesk.delivery")

WORKERS = 4            # requests under way at once
IDLE = 5.0             # seconds between two looks at the journal when nobody pulls the trigger
FIRST_RETRY = 2.0      # seconds; doubles with each try
LONGEST_RETRY = 300.0  # seconds
REJECT_TRIES = 3       # a 400 or 404 is believed after so many


def backoff(attempts: int, jitter: float) -> float:
    """Seconds until the next try after so many; jitter in [0, 1) spreads them over 75 % to 125 %."""
    return min(LONGEST_RETRY, FIRST_RETRY * 2 ** min(attempts - 1, 20)) * (0.75 + jitter / 2)


def event_name(job: Job) -> str:
    """The endpoint of an event: a completed call is told differently without queue control."""
    if job.event.kind == calls.COMPLETED and job.call.mode == calls.WATCH:
        return "start_completed"
    return job.event.kind


class Delivery:
    """Delivers what a desk's journal holds. jitter: () -> [0, 1), passed in by tests."""

    def __init__(self, desk, jitter=random.random):
        self.desk = desk
        self._jitter = jitter
        self._limit = desk.config["movidesk", "requests_per_minute"]

    def take(self):
        """The next job and 0, or None and the seconds to wait (None: nothing is pending). See Journal.take."""
        silence = self.desk.silence() or self.desk.rest(LONGEST_RETRY)
        if silence:
            return None, silence
        return self.desk.journal.take(self._limit)

    def deliver(self, job: Job) -> bool:
        """Send one event and note what came of it; True where Movidesk took it."""
        event, call = job.event, job.call
        try:
            result = self.desk.send(job.request, event_name(job), queue=call.queue, number=call.number, id=call.call_id,
                                    extension=event.extension, link=event.link, arrived=call.arrived, at=event.at)
        except api.ParameterError as error:
            result = None
            self.desk.journal.rejected(job, str(error))
            log.error("%s: %s refused: %s", call.call_id, event.kind, error)
        if isinstance(result, api.Delivered):
            self.desk.journal.delivered(job, result.text, self._offered(job, result.text))
            log.info("%s: %s delivered", call.call_id, event.kind)
        elif isinstance(result, api.Rejected) and event.attempts >= REJECT_TRIES:
            self.desk.journal.rejected(job, result.why)
            log.error("%s: %s refused: %s (movidesk outbox shows it, and can send it again)",
                      call.call_id, event.kind, result.why)
        elif result is not None:
            self._try_again(job, result)
        return isinstance(result, api.Delivered)

    def _offered(self, job: Job, text: str) -> str:
        """The agent whom Movidesk gives to an arrival that is told when its call is over; '' for none."""
        if job.event.kind != calls.RECEIVED:
            return ""
        try:
            return api.parse_answer(text, self.desk.config["pbx", "extension_pattern"]).extension
        except api.NonsenseAnswer:
            return ""

    def _try_again(self, job: Job, result) -> None:
        seconds = backoff(job.event.attempts, self._jitter())
        if isinstance(result, api.Retry):
            seconds = max(seconds, result.after or 0.0)
        self.desk.journal.retry(job, seconds, result.why)
        log.warning("%s: %s not taken, again in %.0f s: %s", job.call.call_id, job.event.kind, seconds, result.why)

    def once(self) -> bool:
        """Send what is due and allowed now, each event once; True where Movidesk took all of it."""
        good = True
        while True:
            job, _ = self.take()
            if job is None:
                return good
            good = self.deliver(job) and good

    def run(self, trigger, stop: threading.Event) -> None:
        """Deliver until `stop` is set; `trigger` wakes the loop at once."""
        free = threading.Semaphore(WORKERS)

        def work(job: Job) -> None:
            try:
                self.deliver(job)
            except Exception:  # the edge of the loop: the event's lease runs out and it is tried again
                log.exception("%s: %s: delivery failed", job.call.call_id, job.event.kind)
            finally:
                free.release()
                trigger.pull()

        with ThreadPoolExecutor(WORKERS, "delivery") as pool:
            while not stop.is_set():
                wait = IDLE
                if free.acquire(blocking=False):
                    job, seconds = self._take_safely()
                    if job is not None:
                        pool.submit(work, job)
                        continue
                    free.release()
                    wait = IDLE if seconds is None else min(IDLE, seconds)
                trigger.wait(wait)

    def _take_safely(self):
        try:
            return self.take()
        except JournalError as error:
            log.error("%s", error)
            return None, None
        except Exception:  # the edge of the loop
            log.exception("delivery: looking for work failed")
            return None, None
