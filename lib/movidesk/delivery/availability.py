"""Sends requests to Movidesk, and derives from each outcome what holds for all: pauses, outages, an invalid token.

One failed request is not an outage. Until another one fails as well, other requests are sent; they show the cause
(movidesk.rules.trial).
"""

from __future__ import annotations

import time

from movidesk import NamedTuple
from movidesk.config import Config, load
from movidesk.journal.records import REQUEST
from movidesk.rules import rate_limit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Optional, Protocol

    from movidesk.delivery.api import Client, Outcome, Rejected, Retry
    from movidesk.journal.standby import Owner
    from movidesk.rules.trial import Trial

    Failures = Optional[Callable[[], Trial]]  # see RequestSender.send

    class Needed(Owner, Protocol):
        """What RequestSender needs of a movidesk.context.Context."""

        @property
        def client(self) -> Client: ...

        def wake(self) -> None: ...

        def tell_fleet(self) -> None: ...
else:
    Needed = object

BACKOFF_AFTER = 60     # seconds; the intervals between tries grow if an outage lasts longer
TRY_TOKEN_AGAIN = 900  # seconds until an invalid token is tried again; a new token is tried at once
#: Notes in the journal: the token (its mark) that was rejected, and the reason; why Movidesk accepts no request; the token that
#: it last accepted. The first two also have the time of the first failure and the failed request (Notes.record_failure).
TOKEN_REJECTED, AWAY, TOKEN_ACCEPTED = "token_refused", "away", "token_taken"
#: Timers that all processes share: the last try of an invalid token, and the last try during an outage.
TOKEN_TRIED, AWAY_TRIED = "token_tried", "away_tried"


class Exchange(NamedTuple):
    """A request that was sent."""

    result: Outcome  # see api.Client.send
    sent: float      # when it was sent, steady time
    seconds: float   # how long it took


def request_name(event: str, call_id: str) -> str:
    """A name for a request; an event that is sent again has the same name."""
    return f"{event} of {call_id}"


#: What a request came to, for the counters (records.REQUEST).
RESULTS = ACCEPTED, REJECTED, THROTTLED, UNAUTHORIZED, FAILED, UNANSWERED = (
    "accepted", "rejected", "throttled", "unauthorized", "failed", "unanswered")


def result_name(result: Outcome) -> str:
    """Which of RESULTS this outcome is."""
    from movidesk.delivery.api import Delivered, Rejected

    if isinstance(result, Delivered):
        return ACCEPTED
    if isinstance(result, Rejected):
        return REJECTED
    if result.status is None:
        return UNANSWERED
    return {429: THROTTLED, 401: UNAUTHORIZED, 403: UNAUTHORIZED}.get(result.status, FAILED)


class RequestSender(Needed):
    """The part of a Context that sends requests. Needs its config, journal, client and clock."""

    config: Config
    _client: Client | None

    def send(self, request: int, event: str, failures: Failures = None, **fields: object) -> Outcome:
        """Send one event with the request that was claimed for it. Returns its outcome (api.Client.send) after `apply_outcome`.

        failures: () -> the event's trial.Trial if this try fails as well; None for a request that is not repeated.
        """
        return self.record_exchange(request, self.exchange(event, request, **fields), event, str(fields["id"]), failures)

    def exchange(self, event: str, request: int = 0, **fields: object) -> Exchange:
        """Send one event, without recording the outcome. request: as `send` has it; one that has become too old is not sent."""
        fields = self._with_number_in_form(fields)
        client = self.client  # the first one imports the HTTP library: no time passes between the look below and the request
        begun, sent = time.monotonic(), self.journal.steady()
        if request and self.journal.pool is not None and self.journal.limits.is_stale(request):
            from movidesk.delivery.api import Retry

            return Exchange(Retry(None, "not sent: this process was held up for too long", None, sent=False), sent, 0.0)
        return Exchange(client.send(event, **fields), sent, time.monotonic() - begun)

    def _with_number_in_form(self, fields: dict[str, object]) -> dict[str, object]:
        """The fields, with the caller's number in the form that [numbers] asks for."""
        if "number" not in fields or self.config["numbers", "form"] == "as_is" and not self.config["numbers", "anonymous"]:
            return fields
        from movidesk.delivery import numbers

        return {**fields, "number": numbers.convert(str(fields["number"]), self.config).number}

    def record_exchange(self, request: int, exchange: Exchange, event: str, call_id: str, failures: Failures = None) -> Outcome:
        """Record the outcome of `exchange`. request: 0 if it was not claimed in this journal."""
        if exchange.seconds > rate_limit.SLOW:
            self.journal.limits.count_from_now(request)
        if self.journal.pool is not None:
            self.journal.limits.finished(request)
        result = self.apply_outcome(exchange.result, exchange.sent, request_name(event, call_id), failures, call_id)
        self.journal.store.observe(REQUEST, f"{event} {result_name(result)}", seconds=exchange.seconds)
        return result

    def apply_outcome(self, result: Outcome, sent: float | None = None, name: str = "", failures: Failures = None,
                      call_id: str = "") -> Outcome:
        """Record what an outcome means for all requests: the begin or end of a pause (429), of a backoff (401, 403), of an
        outage.

        sent: when the request was sent, in the journal's steady time; None: just now. name: see request_name; '' means any.
        failures: see send. call_id: of the request's call.

        Returns the outcome; a cut connection may become a 429.
        """
        from movidesk.delivery.api import RETRY_AFTER_DEFAULT, Delivered, Rejected
        from movidesk.journal.limits import FAILED

        if isinstance(result, Delivered):
            self.journal.notes.remove(AWAY)
            self._token_accepted()
            return result
        if isinstance(result, Rejected):
            self._rejected(result, name, failures)
            return result
        if result.cut and self._is_suspected_429(call_id):
            return result._replace(status=429, why=result.why + ", treated as a 429")
        if result.status == 429:
            self.journal.notes.remove(AWAY)
            self._paused(RETRY_AFTER_DEFAULT if result.after is None else result.after, sent)
            return result
        self.journal.limits.add_outcome(call_id, FAILED)
        if failures is None or not failures().blamed:  # otherwise the event itself is the cause
            self._failed(result, name)
        return result

    def _rejected(self, result: Rejected, name: str, failures: Failures) -> None:
        """A rejection ends an outage, because Movidesk answers. But if no request is accepted it may itself be part of an outage
        (trial.is_believed)."""
        away = self.journal.notes.get(AWAY)
        if away and not away[0].startswith(f"HTTP {result.status}"):
            self.journal.notes.remove(AWAY)
        if failures is not None and not failures().blamed:
            self.journal.notes.record_failure(AWAY, result.why, name)
            self.journal.notes.start_timer(AWAY_TRIED)

    def _failed(self, result: Retry, name: str) -> None:
        if result.status in (401, 403):
            self.journal.notes.remove(AWAY)
            self._token_rejected(result.why, name)
        else:
            self.journal.notes.record_failure(AWAY, result.why, name)
            self.journal.notes.start_timer(AWAY_TRIED)

    def limit(self) -> int:
        """The current limit of requests a minute ([movidesk] requests_per_minute, night)."""
        from movidesk.config.nights import limit_at  # not needed to record an event

        return limit_at(self.config, self.clock())

    def _paused(self, seconds: float, sent: float | None) -> None:
        from movidesk.delivery.api import log

        limit = self.limit()
        if self.journal.limits.close_window(seconds, sent, limit):
            log.warning("Movidesk answered 429 although we had sent only %d of %d requests in the last minute: other programs "
                        "use the account. We now send at most %d a minute, and raise the rate step by step",
                        *self.journal.limits.in_window(limit), self.journal.limits.rate(limit))

    def _is_suspected_429(self, call_id: str) -> bool:
        """Whether a cut connection is treated as a 429: once for each call, and never during an outage."""
        from movidesk.delivery.api import RETRY_AFTER_DEFAULT, log
        from movidesk.journal.limits import CUT

        again = self.journal.limits.was_cut(call_id)
        self.journal.limits.add_outcome(call_id, CUT)
        if again or self.journal.notes.get(AWAY) or not self.journal.limits.suspect_429(self.limit(), RETRY_AFTER_DEFAULT):
            return False
        log.warning("%s: no request is sent for %.0f s", self.journal.limits.pause_reason(), self.journal.limits.pause_left())
        return True

    def abandoned(self, name: str) -> None:
        """This request is not sent again. If it was the only one that failed, there is no outage."""
        if self.journal.notes.failed_alone(AWAY) == name:
            self.journal.notes.remove(AWAY)

    def is_only_failure(self, name: str) -> bool:
        """Whether this is the only request that has failed since Movidesk last accepted one."""
        notes = self.journal.notes
        return all(notes.failed_alone(note) == name for note in (AWAY, TOKEN_REJECTED) if notes.get(note))

    def retry_now(self) -> int:
        """An admin has repaired something: try every waiting event at once, also in an outage and with an invalid token. Returns
        how many events had to wait. A pause that Movidesk asked for, and the limit, still hold."""
        for timer in AWAY_TRIED, TOKEN_TRIED:
            self.journal.notes.remove(timer)
        waited = self.journal.outbox.retry_now()
        self.wake()
        return waited

    # -- an outage --------------------------------------------------------------------------------------------------

    def outage_backoff(self, longest: float) -> float:
        """Seconds until the next try in an outage: half the length of the outage after the last failure, at most `longest`. 0.0
        in the first BACKOFF_AFTER seconds, and while only one request has failed.

        The fleet is told, so that callers of other PBXs do not wait for this one's meanwhile."""
        left = self._outage_left(longest)
        if self.journal.pool is not None:
            self.journal.pool.set_outage(left)
        return left

    def _outage_left(self, longest: float) -> float:
        away = self.journal.notes.get(AWAY)
        age = self.clock() - away[1] if away else 0.0
        if age < BACKOFF_AFTER or self.journal.notes.failed_alone(AWAY):
            return 0.0
        return self.journal.notes.time_left(AWAY_TRIED, min(longest, age / 2))

    # -- the token --------------------------------------------------------------------------------------------------

    def _token_accepted(self) -> None:
        self.journal.notes.remove(TOKEN_REJECTED)
        taken = self.journal.notes.get(TOKEN_ACCEPTED)
        if taken is None or taken[0] != self._token_mark():
            self.journal.notes.set(TOKEN_ACCEPTED, self._token_mark())

    def _token_rejected(self, why: str, name: str) -> None:
        """The note keeps the time of the first rejection, the timer TOKEN_TRIED that of the last try."""
        refused, taken = self.auth_failure(), self.journal.notes.get(TOKEN_ACCEPTED)
        if not refused:
            self.journal.notes.remove(TOKEN_REJECTED)  # it is about another token
        has_worked = taken is not None and taken[0] == self._token_mark()
        self.journal.notes.record_failure(TOKEN_REJECTED, f"{self._token_mark()} {why}", name if has_worked else "")
        self.journal.notes.start_timer(TOKEN_TRIED)

    def auth_failure(self) -> tuple[str, float] | None:
        """Why and since when (epoch seconds) Movidesk answers 401 or 403 to the configured token; None if it does not."""
        refused = self.journal.notes.get(TOKEN_REJECTED)
        mark, _, why = refused[0].partition(" ") if refused else ("", "", "")
        return (why, refused[1]) if refused and mark == self._token_mark() else None

    def token_accepted(self) -> float | None:
        """When Movidesk first accepted the configured token (epoch seconds); None if it has not, or not since another one."""
        accepted = self.journal.notes.get(TOKEN_ACCEPTED)
        return accepted[1] if accepted and accepted[0] == self._token_mark() else None

    def invalid_token(self) -> tuple[str, float] | None:
        """Like `auth_failure`, but only if the token is the cause: Movidesk has never accepted it, or rejected two different
        requests."""
        return None if self.journal.notes.failed_alone(TOKEN_REJECTED) else self.auth_failure()

    def auth_backoff(self) -> float:
        """Seconds until the invalid token is tried again, during which nothing is sent; 0.0 if requests may be sent."""
        if self.invalid_token():
            self._reload_token()
        invalid = self.invalid_token()
        left = self.journal.notes.time_left(TOKEN_TRIED, TRY_TOKEN_AGAIN) if invalid else 0.0
        if self.journal.pool is not None:
            self.journal.pool.set_silence(left, invalid[0] if invalid else "")
        return left

    def _reload_token(self) -> None:
        """Use the configuration file's new token, if there is one and the file has no problems."""
        mended = load(self.config.path)
        if not mended.problems and mended["movidesk", "token"].reveal() != self.config["movidesk", "token"].reveal():
            self.config, self._client = mended, None
            if self.journal.pool is not None:
                self.journal.pool.member.use_token(mended)

    def _token_mark(self) -> str:
        """A hash that identifies the token without revealing it."""
        from hashlib import sha256

        return sha256(self.config["movidesk", "token"].reveal().encode()).hexdigest()[:12]
