"""What people and the sweep look at: open calls, the line, the last calls, totals. Nothing here changes the journal."""

from __future__ import annotations

from movidesk.journal.records import CALL, HELD, HELD_NOTE, LINE_ORDER, WAITS, Call
from movidesk.journal.store import Store


class Overview:
    """The calls of a journal, seen from outside."""

    def __init__(self, store: Store):
        self._store = store

    def open_calls(self) -> list[Call]:
        """The calls that have not ended, in order of arrival."""
        return self._store.rows(Call, f"SELECT {CALL} FROM calls INDEXED BY calls_open WHERE ended IS NULL ORDER BY id")

    def unended(self) -> list[Call]:
        """The calls that a hangup would still move: those without an ending, and those whose ending waits for a message."""
        return self._store.rows(Call, f"""
            SELECT {CALL} FROM calls INDEXED BY calls_open WHERE ended IS NULL
            UNION
            SELECT {CALL} FROM events INDEXED BY events_held JOIN calls ON calls.id = events.call
            WHERE status = 'pending' AND {HELD_NOTE} AND note = :held""", held=HELD)

    def waiting(self) -> list[Call]:
        """Who stands in line now, of all queues; those of one queue in their order."""
        return self._store.rows(Call, f"SELECT {CALL} FROM calls INDEXED BY calls_open WHERE {WAITS} ORDER BY {LINE_ORDER}",
                                now=self._store.steady())

    def last_calls(self, count: int) -> list[Call]:
        """The calls that came last, the last one first."""
        return self._store.rows(Call, f"SELECT {CALL} FROM calls ORDER BY id DESC LIMIT :count", count=count)

    def oldest_owed(self, otherwise: float) -> float:
        """When the oldest event happened that is to be sent (epoch seconds). Events that wait for a message or a conversion do
        not count, nor the arrivals of callers who ask."""
        at = self._store.value(f"""
            SELECT at FROM events INDEXED BY events_pending JOIN calls ON calls.id = events.call
            WHERE status = 'pending' AND NOT ({HELD_NOTE}) AND NOT (kind = 'received' AND ended IS NULL)
            ORDER BY events.id LIMIT 1""")
        return otherwise if at is None else float(at)

    def totals(self) -> dict[str, int]:
        """How many calls are open, and how many events are pending and refused."""
        return {
            "open": self._store.count("SELECT count(*) FROM calls WHERE ended IS NULL"),
            "pending": self._store.count("SELECT count(*) FROM events WHERE status = 'pending'"),
            "refused": self._store.count("SELECT count(*) FROM events WHERE status = 'refused'"),
        }
