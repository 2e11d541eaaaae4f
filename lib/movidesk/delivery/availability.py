"""Requests to Movidesk, and what the outcome of one means for the others: pauses, outages, a refused token.

One failed request is not an outage: until another one fails too, the others are sent, and show whose failure it is
(movidesk.rules.trial).
"""

from __future__ import annotations

import time

from movidesk import NamedTuple
from movidesk.config import Config, load

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Optional, Protocol

    from movidesk.delivery.api import Client, Outcome, Rejected, Retry
    from movidesk.journal.standby import Owner
    from movidesk.rules.trial import Trial

    Failures = Optional[Callable[[], Trial]]  # see Sending.send

    class Needed(Owner, Protocol):
        """What Sending needs of a movidesk.context.Context."""

        @property
        def client(self) -> Client: ...
else:
    Needed = object

SLOW = 0.5             # seconds; an answer that took longer may have been counted by Movidesk at any moment of them
REST_AFTER = 60        # seconds; a Movidesk that has not answered for longer is tried less and less often
TRY_TOKEN_AGAIN = 900  # seconds; a refused token is tried this seldom, a new one at once
#: The journal's notes: which token (its mark) was refused, and with what words; why Movidesk takes nothing; which token it
#: last took. The first two keep when the trouble began and which request failed (Notes.record_failure).
TOKEN_REFUSED, AWAY, TOKEN_TAKEN = "token_refused", "away", "token_taken"
#: Timers that all processes share: when a refused token was last tried, and a Movidesk that takes nothing.
TOKEN_TRIED, AWAY_TRIED = "token_tried", "away_tried"


class Exchange(NamedTuple):
    """A request that was sent."""

    result: Outcome  # what it came to (api.Client.send)
    sent: float      # when it left, steady time
    seconds: float   # how long it took


def request_name(event: str, call_id: str) -> str:
    """Tells requests apart; an event that is sent again keeps its name."""
    return f"{event} of {call_id}"


class Sending(Needed):
    """The part of a Context that sends. Needs its config, journal, client and clock."""

    config: Config
    _client: Client | None

    def send(self, request: int, event: str, failures: Failures = None, **fields: object) -> Outcome:
        """Send one event with the request that was claimed for it; its outcome (api.Client.send), heeded by `heard`.

        failures: () -> the event's trial.Trial if this try failed too; None for a request that is not tried again.
        """
        return self.note_exchange(request, self.exchange(event, **fields), event, str(fields["id"]), failures)

    def exchange(self, event: str, **fields: object) -> Exchange:
        """Send one event, and note nothing of it."""
        begun, sent = time.monotonic(), self.journal.steady()
        return Exchange(self.client.send(event, **fields), sent, time.monotonic() - begun)

    def note_exchange(self, request: int, exchange: Exchange, event: str, call_id: str, failures: Failures = None) -> Outcome:
        """The rest of `send`; 0 as the request stands for one that this journal has not claimed."""
        if exchange.seconds > SLOW:
            self.journal.limits.count_from_now(request)
        return self.heard(exchange.result, exchange.sent, request_name(event, call_id), failures, call_id)

    def heard(self, result: Outcome, sent: float | None = None, name: str = "", failures: Failures = None,
              call_id: str = "") -> Outcome:
        """Keep what an outcome means for all requests: a pause after 429, silence after 401 and 403, an outage, their ends.

        sent: when the request left, in the journal's steady time; None: just now. name: tells requests apart; '' stands for
        any. failures: see send. call_id: of the request's call.

        Returns the outcome; that of a connection which was cut may be a 429.
        """
        from movidesk.delivery.api import RETRY_AFTER_DEFAULT, Delivered, Rejected
        from movidesk.journal.limits import FAILED

        if isinstance(result, Delivered):
            self.journal.notes.remove(AWAY)
            self._token_taken()
            return result
        if isinstance(result, Rejected):
            self._refused(result, name, failures)
            return result
        if result.cut and self._is_suspected_429(call_id):
            return result._replace(status=429, why=result.why + ", taken for a 429")
        if result.status == 429:
            self.journal.notes.remove(AWAY)
            self._paused(RETRY_AFTER_DEFAULT if result.after is None else result.after, sent)
            return result
        self.journal.limits.add_outcome(call_id, FAILED)
        if failures is None or not failures().blamed:  # else the failure is the event's own
            self._failed(result, name)
        return result

    def _refused(self, result: Rejected, name: str, failures: Failures) -> None:
        """A refusal ends an outage, for something answers; while nothing is taken it may itself be one (trial.is_believed)."""
        away = self.journal.notes.get(AWAY)
        if away and not away[0].startswith(f"HTTP {result.status}"):
            self.journal.notes.remove(AWAY)
        if failures is not None and not failures().blamed:
            self.journal.notes.record_failure(AWAY, result.why, name)
            self.journal.notes.acquire_timer(AWAY_TRIED, 0.0)

    def _failed(self, result: Retry, name: str) -> None:
        if result.status in (401, 403):
            self.journal.notes.remove(AWAY)
            self._token_refused(result.why, name)
        else:
            self.journal.notes.record_failure(AWAY, result.why, name)
            self.journal.notes.start_timer(AWAY_TRIED)

    def limit(self) -> int:
        """The requests a minute that Movidesk takes at this moment ([movidesk] requests_per_minute, night)."""
        from movidesk.config.nights import limit_at  # an event does without

        return limit_at(self.config, self.clock())

    def _paused(self, seconds: float, sent: float | None) -> None:
        from movidesk.delivery.api import log

        limit = self.limit()
        if self.journal.limits.close_window(seconds, sent, limit):
            log.warning("Movidesk answered 429 although we had sent only %d of %d requests in the last minute: other programs "
                        "use the account. We send at most %d a minute now, and raise that step by step",
                        self.journal.limits.requests_in_window(), limit, self.journal.limits.rate(limit))

    def _is_suspected_429(self, call_id: str) -> bool:
        """Whether a connection that was cut is taken for a 429: once for each call, never while Movidesk takes nothing."""
        from movidesk.delivery.api import RETRY_AFTER_DEFAULT, log
        from movidesk.journal.limits import CUT

        again = self.journal.limits.was_cut(call_id)
        self.journal.limits.add_outcome(call_id, CUT)
        if again or self.journal.notes.get(AWAY) or not self.journal.limits.suspect_429(self.limit(), RETRY_AFTER_DEFAULT):
            return False
        log.warning("%s: nothing is sent for %.0f s", self.journal.limits.pause_reason(), self.journal.limits.pause_left())
        return True

    def given_up(self, name: str) -> None:
        """This request is not sent again: where only it failed, nothing shows that Movidesk is away."""
        if self.journal.notes.failed_alone(AWAY) == name:
            self.journal.notes.remove(AWAY)

    def is_alone(self, name: str) -> bool:
        """Whether no other request than this one has failed since Movidesk last took any."""
        notes = self.journal.notes
        return all(notes.failed_alone(note) == name for note in (AWAY, TOKEN_REFUSED) if notes.get(note))

    # -- an outage --------------------------------------------------------------------------------------------------

    def rest(self, longest: float) -> float:
        """Seconds until a Movidesk that takes nothing is tried again: half the length of the outage after the last failure, at
        most `longest`. 0.0 in the first REST_AFTER seconds, and while only one request has failed."""
        away = self.journal.notes.get(AWAY)
        age = self.clock() - away[1] if away else 0.0
        if age < REST_AFTER or self.journal.notes.failed_alone(AWAY):
            return 0.0
        return self.journal.notes.time_left(AWAY_TRIED, min(longest, age / 2))

    # -- the token --------------------------------------------------------------------------------------------------

    def _token_taken(self) -> None:
        self.journal.notes.remove(TOKEN_REFUSED)
        taken = self.journal.notes.get(TOKEN_TAKEN)
        if taken is None or taken[0] != self._token_mark():
            self.journal.notes.set(TOKEN_TAKEN, self._token_mark())

    def _token_refused(self, why: str, name: str) -> None:
        """The note keeps the time of the first refusal; the timer TOKEN_TRIED that of the last try."""
        refused, taken = self.refusal(), self.journal.notes.get(TOKEN_TAKEN)
        if not refused:
            self.journal.notes.remove(TOKEN_REFUSED)  # another token's
        has_worked = taken is not None and taken[0] == self._token_mark()
        self.journal.notes.record_failure(TOKEN_REFUSED, f"{self._token_mark()} {why}", name if has_worked else "")
        self.journal.notes.start_timer(TOKEN_TRIED)

    def refusal(self) -> tuple[str, float] | None:
        """Why and since when (epoch seconds) Movidesk answers 401 or 403 with the configuration's token; None: it does not."""
        refused = self.journal.notes.get(TOKEN_REFUSED)
        mark, _, why = refused[0].partition(" ") if refused else ("", "", "")
        return (why, refused[1]) if refused and mark == self._token_mark() else None

    def refused_token(self) -> tuple[str, float] | None:
        """As `refusal`, where the token is to blame: Movidesk has never taken it, or refused two different requests."""
        return None if self.journal.notes.failed_alone(TOKEN_REFUSED) else self.refusal()

    def silence(self) -> float:
        """Seconds for which nothing may be sent because Movidesk refused this very token; 0.0 where it may."""
        if not self.refused_token():
            return 0.0
        self._look_for_a_new_token()
        if not self.refused_token():
            return 0.0
        return self.journal.notes.time_left(TOKEN_TRIED, TRY_TOKEN_AGAIN)

    def _look_for_a_new_token(self) -> None:
        """Take over a configuration that was mended meanwhile; one with problems changes nothing."""
        mended = load(self.config.path)
        if not mended.problems and mended["movidesk", "token"].reveal() != self.config["movidesk", "token"].reveal():
            self.config, self._client = mended, None

    def _token_mark(self) -> str:
        """Tells tokens apart without telling them."""
        from hashlib import sha256

        return sha256(self.config["movidesk", "token"].reveal().encode()).hexdigest()[:12]
