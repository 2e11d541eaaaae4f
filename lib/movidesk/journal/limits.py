"""The request limit as the journal applies it (movidesk.rules.rate_limit holds the rules): the window, and pauses after a 429."""

from __future__ import annotations

from movidesk.journal.outcomes import TAKEN, Outcomes
from movidesk.journal.store import Claim
from movidesk.rules import rate_limit
from movidesk.rules.rate_limit import WINDOW

#: Why nothing may be sent, by the word that the note `closed_cause` keeps.
PAUSES = {
    "429": "Movidesk asked for a pause (429)",
    "cut": "Movidesk cut a connection while the limit was nearly used up, which may stand for a 429",
}


class Limits(Outcomes):
    """Which requests were sent lately, and until when none may be."""

    def _claim(self, limit: int, klass: int, demand: rate_limit.Demand, aged: bool = False, places: int = 1) -> Claim:
        now = self.steady()
        pause = self.paused()
        if pause:
            return Claim(0, pause, self.pause_reason(), True)
        limit = self.rate(limit)
        self._db.execute("DELETE FROM requests WHERE at < ?", (now - 10 * WINDOW,))
        used, oldest = self._db.execute("SELECT count(*), min(at) FROM requests WHERE at > ?", (now - WINDOW,)).fetchone()
        if not rate_limit.may_go(klass, limit - used, demand, limit, aged, places):
            return Claim(0, max(0.05, (oldest or now) + WINDOW - now), f"{used} requests were sent in the last minute")
        number = self._db.execute("INSERT INTO requests (at, class) VALUES (?, ?)", (now, klass)).lastrowid
        return Claim(number, 0.0, "")

    def requests_in_window(self) -> int:
        return self._row(int, "SELECT count(*) FROM requests WHERE at > ?", self.steady() - WINDOW)

    def took_long(self, request: int) -> None:
        """A request's answer was slow: nobody knows when Movidesk counted it, so it counts from now."""
        with self._writing():
            self._db.execute("UPDATE requests SET at = ? WHERE rowid = ?", (self.steady(), request))

    # -- pauses -----------------------------------------------------------------------------------------------------

    def close_window(self, seconds: float, sent: float | None = None, limit: int = 0) -> bool:
        """Movidesk answered 429 to a request that left at `sent` (steady time; None: just now): send nothing for so many
        seconds, longer after repeated strikes (budget.strikes_after, budget.pause_after).

        limit: the limit in force. Where we had not used it up, other programs use the account, and our own rate is lowered
        (`rate`); True where that begins.
        """
        with self._writing():
            until, before = self._closed()
            now = self.steady()
            strikes = rate_limit.strikes_after(before, until, now if sent is None else sent)
            self._close(max(until, now + rate_limit.pause_after(seconds, strikes)), strikes, "429")
            used, rate = self.requests_in_window(), self.rate(limit)
            if strikes == before or used >= limit:
                return False
            self._set_note("lowered", f"{rate_limit.lowered(rate, used)} {limit} {now!r}")
            return rate == limit

    def rate(self, limit: int) -> int:
        """The requests a minute that we allow ourselves: the limit in force, or less for a while after 429s that were not our
        fault (budget.lowered, budget.recovered)."""
        lowered = self.note("lowered")
        if lowered is None:
            return limit
        rate, of, at = lowered[0].split()
        if int(of) != limit:  # another limit is in force: nothing is known of it
            return limit
        return rate_limit.recovered(limit, int(rate), self.steady() - float(at))

    def suspect_429(self, limit: int, seconds: float) -> bool:
        """A connection was cut: where that may stand for a 429 (budget.is_suspect), send nothing for so many seconds.

        It is no strike: an ordinary cut must not lengthen the next pause. True where it may, also if a pause stands already.
        After such a pause Movidesk must take something before another cut is suspected: else it is an outage.
        """
        with self._writing():
            until, strikes = self._closed()
            now = self.steady()
            if until > now:
                return True  # it left before the pause began: one of the same burst
            stands = until > 0 and self._cause() == "cut"  # nothing was taken since
            if stands or not rate_limit.is_suspect(self.requests_in_window(), limit):
                return False
            self._close(now + seconds, strikes, "cut")
            return True

    def _close(self, until: float, strikes: int, cause: str) -> None:
        self._set_note("closed", f"{until!r} {strikes}")  # the service of the version before reads these two words, no third
        self._set_note("closed_cause", cause)

    def paused(self) -> float:
        """Seconds that are left of a pause; 0.0 where there is none."""
        return max(0.0, self._closed()[0] - self.steady())

    def pause_reason(self) -> str:
        """Why the last pause began."""
        return PAUSES[self._cause()]

    def _cause(self) -> str:
        cause = self.note("closed_cause")
        return cause[0] if cause else "429"

    def _closed(self) -> tuple[float, int]:
        """Until when (steady time) nothing may be sent, and the 429s in a row; 0 and 0 where Movidesk answered since."""
        closed = self.note("closed")
        until, strikes = closed[0].split() if closed else (0, 0)
        return float(until), int(strikes)

    def _answered(self) -> None:
        """Movidesk took a request: that ends the row of 429s, unless it was under way when the last of them came."""
        self._set_note("taken", repr(self.steady()))
        self._note_outcome("", TAKEN)
        if 0 < self._closed()[0] <= self.steady():
            self._db.execute("DELETE FROM notes WHERE name = 'closed'")
