"""Calls that continue on another channel than the one on which they began: attended transfers."""

from __future__ import annotations

from movidesk.journal.scheduling import Line
from movidesk.journal.store import ASKED, CALL, HELD, Call
from movidesk.rules import call_states


class Moves(Line):
    """Which channel carries which call. A channel carries one open call at most."""

    def find(self, call_id: str) -> Call | None:
        """The call with this id, or None."""
        return self._row(Call, f"SELECT {CALL} FROM calls WHERE call_id = ?", call_id)

    def move(self, call_id: str, channel: str, number: str, leaving: str = "") -> list[Call]:
        """The call continues on another channel, which took the place of its own: an attended transfer. Its id stays.

        number: that channel's caller. It becomes the call's number unless Movidesk may have heard the first one: it takes one
        number only for an id. leaving: the channel that the call leaves, where that is known; a call that is not on it has moved
        on already. Returns the open calls that the channel had before: they are over, and whoever calls this ends them
        (`hang_up`).
        """
        with self._writing():
            call = self.find(call_id)
            if call is None or call.state in call_states.ENDED and not self._is_held(call):
                return []
            if leaving not in ("", call.channel or call.uniqueid):
                return []
            others = [other for other in self._open_on(channel) if other.id != call.id]
            self._move(call, channel, number)
            return others

    def _move(self, call: Call, channel: str, number: str) -> None:
        self._db.execute("UPDATE calls SET channel = ? WHERE id = ?", (channel, call.id))
        self._db.execute("UPDATE calls SET number = ? WHERE id = ? AND NOT EXISTS (SELECT 1 FROM events WHERE call = calls.id"
                         " AND (attempts > 0 OR status != 'pending' OR note = ?))", (number, call.id, ASKED))

    def _open_on(self, channel: str) -> list[Call]:
        """The open calls that are on the channel with this unique id."""
        return self._rows(Call, f"SELECT {CALL} FROM calls INDEXED BY calls_open WHERE ended IS NULL"
                                " AND CASE channel WHEN '' THEN uniqueid ELSE channel END = ? ORDER BY id", channel)

    def _is_held(self, call: Call) -> bool:
        return self._db.execute("SELECT 1 FROM events WHERE call = ? AND note = ? AND status = 'pending'",
                                (call.id, HELD)).fetchone() is not None
