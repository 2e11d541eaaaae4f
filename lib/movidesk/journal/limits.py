"""The request limit as the journal applies it (movidesk.rules.rate_limit holds the rules): the window of requests, the pauses
after a 429, and what requests came to lately, which tells an event's own failure from Movidesk's (movidesk.rules.trial)."""

from __future__ import annotations

from movidesk import NamedTuple
from movidesk.journal.records import Claim
from movidesk.journal.store import Store
from movidesk.rules import rate_limit
from movidesk.rules.rate_limit import WINDOW

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from movidesk.fleet.membership import Membership

#: Why nothing may be sent, by the word that the note `closed_cause` keeps.
PAUSES = {
    "429": "Movidesk asked for a pause (429)",
    "cut": "Movidesk cut a connection while the limit was nearly used up, which may stand for a 429",
}

#: Seconds after its claim by which a request of a fleet's PBX must have left: it counts as under way for longer
#: (movidesk.fleet.membership, hold).
SEND_WITHIN = 5.0
#: What a request came to: Movidesk took it, it failed, or its connection was cut. A 429 is none of them.
TAKEN, FAILED, CUT = "taken", "failed", "cut"
KEPT = 600.0  # seconds for which that is kept; longer than the longest pause between two tries


class Pause(NamedTuple):
    """A time in which nothing is sent."""

    left: float   # seconds
    strikes: int  # 429s in a row
    cause: str    # a key of PAUSES


class Limits:
    """Which requests were sent lately, what they came to, and until when none may be sent."""

    def __init__(self, store: Store):
        self._store = store
        #: In a fleet: (requests of ours in the window, limit) -> what counts for `in_window`.
        self.in_fleet: Callable[[int, int], tuple[int, int]] | None = None

    def claim(self, limit: int, klass: int, demand: rate_limit.Demand, aged: bool = False, places: int = 1,
              own: Membership | None = None) -> Claim:
        """Claim a request of this class, if one is free (rate_limit.may_go). Within a transaction.

        own: this PBX of a fleet, which uses its own part of the limit. The request may be under way for its `hold` seconds, and
        counts from their end until `finished` says when it was over.
        """
        now = self._store.steady()
        pause = self.pause_left()
        if pause:
            return Claim(0, pause, self.pause_reason(), True)
        hold, rate = 0.0, self.rate(limit)
        if own is not None:
            hold, rate = own.hold, own.limit_alone(limit, rate)
        if rate < 1:
            return Claim(0, 1.0, "there are more PBXs than requests a minute: it is not the turn of this one")
        limit = rate
        self._store.execute("DELETE FROM requests WHERE at < :long_ago AND rowid < (SELECT max(rowid) FROM requests)",
                            long_ago=now - 10 * WINDOW)
        used, oldest = self._store.execute("SELECT count(*), min(at) FROM requests WHERE at > :begin",
                                           begin=now - WINDOW).fetchone()
        window = self._window(limit, used, now, demand)
        if not rate_limit.may_go(klass, window, demand, aged, places):
            wait = rate_limit.until_may_go(klass, window, demand, aged, places) or (oldest or now) + WINDOW - now
            return Claim(0, max(0.05, wait), f"{used} requests were sent in the last minute")
        number = self._store.insert("INSERT INTO requests (at, class, called) VALUES (:at, :klass, :called)", at=now + hold,
                                    klass=klass, called=now if hold else 0)
        return Claim(number, 0.0, "")

    def _window(self, limit: int, used: int, now: float, demand: rate_limit.Demand) -> rate_limit.Window:
        """What is left of the limit, and when more is, as far as the demand looks ahead."""
        if limit - used > len(demand.pickups) + demand.screens + 2:  # enough for all at once
            return rate_limit.Window(limit, limit - used)
        ahead = max((demand.ring, *demand.pickups))
        opens = self._store.rows(float, "SELECT at + :window - :now FROM requests WHERE at > :begin AND at <= :end ORDER BY at",
                                 window=WINDOW, now=now, begin=now - WINDOW, end=now - WINDOW + ahead)
        return rate_limit.Window(limit, limit - used, tuple(opens))

    def requests_in_window(self) -> int:
        """How many requests were sent in the last WINDOW seconds."""
        return self._store.count("SELECT count(*) FROM requests WHERE at > :begin", begin=self._store.steady() - WINDOW)

    def in_window(self, limit: int) -> tuple[int, int]:
        """How many requests were sent in the last WINDOW seconds, as far as we know, and how many we could have sent under this
        limit. In a fleet the requests of all PBXs count, or while this one is alone its part of the limit."""
        used = self.requests_in_window()
        return (used, limit) if self.in_fleet is None else self.in_fleet(used, limit)

    def count_from_now(self, request_id: int) -> None:
        """A request's answer was slow: nobody knows when Movidesk counted it, so it counts from now."""
        with self._store.transaction():
            self._store.execute("UPDATE requests SET at = :now WHERE rowid = :request_id",
                                now=self._store.steady(), request_id=request_id)

    def finished(self, request_id: int) -> None:
        """A request of a fleet's PBX is over: its answer came, or it was given up. Redis hears of it by the next report."""
        with self._store.transaction():
            now = self._store.steady()
            self._store.execute("UPDATE requests SET finished = :now,"
                                " at = CASE WHEN :now - called > :slow THEN :now ELSE called END"
                                " WHERE rowid = :request_id AND called > 0", now=now, slow=rate_limit.SLOW, request_id=request_id)

    def is_stale(self, request_id: int) -> bool:
        """Whether a request of a fleet's PBX was claimed so long ago that it must not be sent any more: SEND_WITHIN seconds.
        One that is not in the journal any more is older still."""
        called = self._store.value("SELECT called FROM requests WHERE rowid = :request_id", request_id=request_id)
        return called is None or bool(called and self._store.steady() - called > SEND_WITHIN)

    # -- pauses -----------------------------------------------------------------------------------------------------

    def close_window(self, seconds: float, sent: float | None = None, limit: int = 0) -> bool:
        """Movidesk answered 429 to a request that left at `sent` (steady time; None: just now): send nothing for so many
        seconds, longer after repeated strikes (rate_limit.strikes_after, rate_limit.pause_after).

        limit: the limit in force. Where we had not used it up, other programs use the account, and our own rate is lowered
        (`rate`); True where that begins.
        """
        with self._store.transaction():
            until, before = self._closed()
            now = self._store.steady()
            strikes = rate_limit.strikes_after(before, until, now if sent is None else sent)
            self._close(max(until, now + rate_limit.pause_after(seconds, strikes)), strikes, "429")
            (used, most), rate = self.in_window(limit), self.rate(limit)
            if strikes == before or used >= most:
                return False
            self._store.set_note("lowered", f"{rate_limit.lowered(rate, used)} {limit} {now!r}")
            return rate == limit

    def rate(self, limit: int) -> int:
        """The requests a minute that we allow ourselves: the limit in force, or less for a while after 429s that were not our
        fault (rate_limit.lowered, rate_limit.recovered)."""
        lowered = self._store.note("lowered")
        if lowered is None:
            return limit
        rate, of, at = lowered[0].split()
        if int(of) != limit:  # another limit is in force: nothing is known of it
            return limit
        return rate_limit.recovered(limit, int(rate), self._store.steady() - float(at))

    def suspect_429(self, limit: int, seconds: float) -> bool:
        """A connection was cut. If that may stand for a 429 (rate_limit.is_suspect), send nothing for so many seconds.

        It does not lengthen later pauses: it may be an ordinary cut. Returns True if a pause begins or is already in force.
        After such a pause Movidesk must accept a request before another cut is suspected; otherwise it is an outage.
        """
        with self._store.transaction():
            until, strikes = self._closed()
            now = self._store.steady()
            if until > now:
                return True  # it left before the pause began: one of the same burst
            stands = until > 0 and self._cause() == "cut"  # nothing was taken since
            if stands or not rate_limit.is_suspect(*self.in_window(limit)):
                return False
            self._close(now + seconds, strikes, "cut")
            return True

    def pause_left(self) -> float:
        """Seconds that are left of a pause; 0.0 where there is none."""
        return max(0.0, self._closed()[0] - self._store.steady())

    def pause(self) -> Pause:
        """The last pause, which may be over."""
        return Pause(self.pause_left(), self._closed()[1], self._cause())

    def take_pause(self, closed: Sequence[float | str], lowered: Sequence[float], same: float) -> None:
        """Keep the pause and the lowered rate that other PBXs of the fleet report: milliseconds that are left, strikes and cause;
        rate, limit and milliseconds since. Empty: there is none. Two times that differ by less than `same` seconds are one.
        Within a transaction."""
        now, (until, strikes) = self._store.steady(), self._closed()
        if not closed and 0 < until <= now:
            self._store.remove_note("closed")  # Movidesk has taken a request of somebody since
        if closed and (now + float(closed[0]) / 1000 > until + same or int(closed[1]) > strikes):
            self._close(max(until, now + float(closed[0]) / 1000), int(closed[1]), str(closed[2]))
        if lowered:
            rate, of, age = lowered
            known, at = self._store.note("lowered"), now - age / 1000
            if known is None or float(known[0].split()[2]) < at - same:
                self._store.set_note("lowered", f"{rate:g} {of:g} {at!r}")

    def pause_reason(self) -> str:
        """Why the last pause began."""
        return PAUSES[self._cause()]

    def _close(self, until: float, strikes: int, cause: str) -> None:
        # The service of the version before reads these two words, no third.
        self._store.set_note("closed", f"{until!r} {strikes}")
        self._store.set_note("closed_cause", cause)

    def _cause(self) -> str:
        cause = self._store.note("closed_cause")
        return cause[0] if cause else "429"

    def _closed(self) -> tuple[float, int]:
        """Until when (steady time) nothing may be sent, and the 429s in a row; 0 and 0 where Movidesk answered since."""
        closed = self._store.note("closed")
        until, strikes = closed[0].split() if closed else (0, 0)
        return float(until), int(strikes)

    # -- outcomes of requests ---------------------------------------------------------------------------------------

    def answered(self) -> None:
        """Movidesk took a request: that ends the row of 429s, unless it was under way when the last of them came. Within a
        transaction."""
        self._store.set_note("taken", repr(self._store.steady()))
        self._add_outcome("", TAKEN)
        if 0 < self._closed()[0] <= self._store.steady():
            self._store.remove_note("closed")

    def last_taken(self) -> float:
        """When Movidesk last took any request, in steady time; 0.0 if never."""
        taken = self._store.note("taken")
        return float(taken[0]) if taken else 0.0

    def add_outcome(self, call_id: str, outcome: str) -> None:
        """The outcome of a request of this call was FAILED or CUT; `answered` records TAKEN."""
        with self._store.transaction():
            self._add_outcome(call_id, outcome)

    def _add_outcome(self, call_id: str, outcome: str) -> None:
        now = self._store.steady()
        self._store.execute("DELETE FROM outcomes WHERE at < :long_ago", long_ago=now - KEPT)
        self._store.execute("INSERT INTO outcomes (at, call_id, outcome) VALUES (:at, :call_id, :outcome)",
                            at=now, call_id=call_id, outcome=outcome)

    def was_cut(self, call_id: str) -> bool:
        """Whether the connection of a request of this call was cut in the last KEPT seconds."""
        return bool(self._store.value("SELECT count(*) FROM outcomes WHERE at > :begin AND call_id = :call_id AND outcome = :cut",
                                      begin=self._store.steady() - KEPT, call_id=call_id, cut=CUT))

    def taken_since(self, began: float) -> int:
        """How many requests Movidesk took since then (steady time, at most KEPT seconds ago)."""
        return self._store.count("SELECT count(*) FROM outcomes WHERE at >= :began AND outcome = :taken",
                                 began=began, taken=TAKEN)

    def failed_since(self, began: float, but: str) -> int:
        """How many calls have a request that failed since then, besides this one."""
        return self._store.count("SELECT count(DISTINCT call_id) FROM outcomes"
                                 " WHERE at >= :began AND outcome = :failed AND call_id != :but",
                                 began=began, failed=FAILED, but=but)
