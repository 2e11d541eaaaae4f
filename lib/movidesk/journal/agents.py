"""What is known of agents (movidesk.rules.waiting_line holds the rules): which extensions a queue has, who has a caller,
whose phone refuses."""

from __future__ import annotations

from movidesk.journal.limits import Limits
from movidesk.journal.store import Call
from movidesk.rules import call_states, waiting_line

#: Condition: an agent (members.extension) has a caller, in any queue, as Movidesk sees it; so also while Movidesk has not yet
#: been told that the call is over.
_HAS_CALLER = """
    (EXISTS (SELECT 1 FROM calls INDEXED BY calls_agents WHERE calls.extension = members.extension
             AND ended IS NULL AND state IN ('offered', 'transferred') AND extension != '')
     OR EXISTS (SELECT 1 FROM events INDEXED BY events_freeing WHERE events.extension = members.extension
                AND status = 'pending' AND kind IN ('completed', 'canceled', 'lost') AND extension != ''))"""
_REFUSAL = "SELECT extension, reason, since, at, times, call FROM refusals"


class Agents(Limits):
    """The extensions that Movidesk has named, and what became of it."""

    def refusals(self) -> list[waiting_line.Refusal]:
        """The phones that did not take the last call that they were offered, in order."""
        return self._rows(waiting_line.Refusal, _REFUSAL + " ORDER BY extension")

    def _refusal(self, extension: str) -> waiting_line.Refusal | None:
        return self._row(waiting_line.Refusal, _REFUSAL + " WHERE extension = ?", extension)

    def _named(self, queue: str, extension: str) -> None:
        """Movidesk has named this extension for this queue."""
        now = self.steady()
        self._db.execute("REPLACE INTO members VALUES (?, ?, ?)", (queue, extension, now))
        self._db.execute("DELETE FROM members WHERE queue = ? AND named < ? AND NOT " + _HAS_CALLER,
                         (queue, now - waiting_line.MEMBER_LASTS))

    def _taken(self, queue: str) -> int:
        """How many agents of this queue have a caller."""
        return self._row(int, "SELECT count(*) FROM members WHERE queue = ? AND " + _HAS_CALLER, queue)

    def _others(self, queue: str, now: float) -> int:
        """How many agents of this queue have neither a caller nor a refusal that holds."""
        free = self._rows(str, "SELECT extension FROM members WHERE queue = ? AND NOT " + _HAS_CALLER, queue)
        return sum(not waiting_line.holds(self._refusal(extension), now) for extension in free)

    def _refused(self, call: Call, reason: str, now: float) -> bool:
        """Note that the phone which was offered this call did not take it; True where it was known to refuse."""
        last = self._refusal(call.extension)
        again = last is not None and (last.reason in waiting_line.ENGAGED) == (reason in waiting_line.ENGAGED)
        since, times = (last.since, last.times + 1) if again else (self.clock(), 1)
        self._db.execute("REPLACE INTO refusals VALUES (?, ?, ?, ?, ?, ?)", (call.extension, reason, since, now, times, call.id))
        return waiting_line.holds(last, now)

    def _took_a_call(self, extension: str) -> None:
        """The phone works: its refusals are forgotten, and that is news for its queues."""
        if self._db.execute("DELETE FROM refusals WHERE extension = ?", (extension,)).rowcount:
            self._is_news(extension)

    def _freed(self, call: Call, kind: str) -> None:
        """Movidesk has heard that a call which had an agent is over: news for all queues that have this agent, unless its phone
        would only refuse again."""
        if kind == call_states.COMPLETED:
            self._db.execute("DELETE FROM refusals WHERE extension = ?", (call.extension,))
        if not waiting_line.holds(self._refusal(call.extension), self.steady()):
            self._is_news(call.extension, call.queue)

    def _is_news(self, extension: str, queue: str = "") -> None:
        self._db.execute("UPDATE queues SET news = 1 WHERE name = ?"
                         " OR name IN (SELECT queue FROM members WHERE extension = ?)", (queue, extension))
