"""What people and the sweep look at: open calls, the line, the last calls, totals. Nothing here changes the journal."""

from __future__ import annotations

from movidesk import NamedTuple
from movidesk.journal.records import CALL, HELD, HELD_NOTE, LINE_ORDER, WAITS, Call, Rejection
from movidesk.journal.store import Store
from movidesk.rules import call_states


class Engaged(NamedTuple):
    """An open call that an agent has."""

    call: Call
    since: float  # epoch seconds: since when they talk, or the agent's phone rings; of a made call its beginning


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

    def engaged(self) -> list[Engaged]:
        """The open calls that an agent has, that ring an agent's phone, or that an agent began; the longest first."""
        began = f"({', '.join(repr(kind) for kind in (call_states.TRANSFERRED, call_states.START_TRANSFERRED))})"
        found = self._store.rows(lambda since, *row: Engaged(Call(*row), since), f"""
            SELECT CASE WHEN state = '{call_states.TRANSFERRED}'
                        THEN coalesce(picked_up, (SELECT min(at) FROM events WHERE events.call = calls.id AND kind IN {began}),
                                      arrived)
                        WHEN rings_since > 0 THEN round(:clock - :now + rings_since)
                        ELSE arrived END, {CALL}
            FROM calls INDEXED BY calls_open
            WHERE ended IS NULL AND (state IN ('{call_states.OFFERED}', '{call_states.TRANSFERRED}')
                                     OR mode = '{call_states.MADE}')""", clock=self._store.clock(), now=self._store.steady())
        return sorted(found, key=lambda engaged: engaged.since)

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

    def rejections(self) -> list[Rejection]:
        """The events that Movidesk rejected, pending or set aside, oldest first; the last 1000 of each."""
        found = []
        for status, index in (("pending", "events_pending"), ("refused", "events_refused")):
            found += self._store.rows(Rejection, f"""
                SELECT events.id, events.kind, events.note, calls.queue, calls.call_id, EXISTS (
                    SELECT 1 FROM events AS first WHERE first.call = events.call AND first.status = 'delivered'
                    AND first.kind IN ('received', 'start_transferred'))
                FROM events INDEXED BY {index} JOIN calls ON calls.id = events.call
                WHERE status = '{status}' AND note LIKE 'HTTP 4__%'
                    AND substr(note, 6, 3) NOT IN ('401', '403', '408', '411', '425', '429')
                ORDER BY events.id DESC LIMIT 1000""")
        return sorted(found)

    def accepts_calls_of(self, queue: str, since: int) -> bool:
        """Whether Movidesk accepted the beginning of a call of this queue, in an event after number `since`; of the last 5000
        calls."""
        return bool(self._store.value("""
            SELECT EXISTS (SELECT 1 FROM calls CROSS JOIN events ON events.call = calls.id
                WHERE calls.id > (SELECT max(id) FROM calls) - 5000 AND queue = :queue AND events.id > :since
                    AND kind IN ('received', 'start_transferred', 'start_canceled') AND status = 'delivered')""",
                                      queue=queue, since=since))

    def description(self) -> str:
        """The schema of the file, with its version, and how many rows each table has."""
        store = self._store
        size = store.value("PRAGMA page_count") * store.value("PRAGMA page_size")
        lines = [f"schema {store.value('PRAGMA user_version')}, {size} bytes"]
        for name in store.rows(str, "SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name"):
            lines.append(f"{name}: {store.count(f'SELECT count(*) FROM {name}')} rows")
        for status, count in store.rows(lambda *row: row, "SELECT status, count(*) FROM events GROUP BY status"):
            lines.append(f"events {status}: {count}")
        return "\n".join([*lines, *store.rows(str, "SELECT sql FROM sqlite_master WHERE sql IS NOT NULL"), ""])

    def totals(self) -> dict[str, int]:
        """How many calls are open, and how many events are pending and refused."""
        return {
            "open": self._store.count("SELECT count(*) FROM calls WHERE ended IS NULL"),
            "pending": self._store.count("SELECT count(*) FROM events WHERE status = 'pending'"),
            "refused": self._store.count("SELECT count(*) FROM events WHERE status = 'refused'"),
        }
