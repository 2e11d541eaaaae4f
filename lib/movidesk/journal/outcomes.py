"""What requests came to lately, as the journal keeps it: it tells an event's own failure from Movidesk's
(movidesk.rules.trial)."""

from __future__ import annotations

from movidesk.journal.notes import Notes

#: What a request came to: Movidesk took it, it failed, or its connection was cut. A 429 is none of them.
TAKEN, FAILED, CUT = "taken", "failed", "cut"
KEPT = 600.0  # seconds; longer than the longest pause between two tries


class Outcomes(Notes):
    """Which requests were taken lately, and the requests of which calls failed."""

    def note_outcome(self, call_id: str, outcome: str) -> None:
        """A request of this call came to FAILED or CUT; TAKEN is noted by `answered` and `delivered`."""
        with self._writing():
            self._note_outcome(call_id, outcome)

    def _note_outcome(self, call_id: str, outcome: str) -> None:
        now = self.steady()
        self._db.execute("DELETE FROM outcomes WHERE at < ?", (now - KEPT,))
        self._db.execute("INSERT INTO outcomes (at, call_id, outcome) VALUES (?, ?, ?)", (now, call_id, outcome))

    def was_cut(self, call_id: str) -> bool:
        """Whether the connection of a request of this call was cut in the last KEPT seconds."""
        return bool(self._row(int, "SELECT count(*) FROM outcomes WHERE at > ? AND call_id = ? AND outcome = ?",
                              self.steady() - KEPT, call_id, CUT))

    def taken_since(self, began: float) -> int:
        """How many requests Movidesk took since then (steady time, at most KEPT seconds ago)."""
        return self._row(int, "SELECT count(*) FROM outcomes WHERE at >= ? AND outcome = ?", began, TAKEN)

    def failed_since(self, began: float, but: str) -> int:
        """How many calls have a request that failed since then, besides this one."""
        return self._row(int, "SELECT count(DISTINCT call_id) FROM outcomes WHERE at >= ? AND outcome = ? AND call_id != ?",
                         began, FAILED, but)
