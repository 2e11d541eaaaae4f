"""What all processes must know besides the calls: notes, which keep when a trouble began, and timers."""

from __future__ import annotations

from movidesk.journal.store import Store

BY, SEVERAL = "_by", "*"  # the note NAME_by says which request failed (record_failure)


class Notes:
    """Named notes and timers of a journal."""

    def __init__(self, store: Store):
        self._store = store

    def get(self, name: str) -> tuple[str, float] | None:
        """A named note and when it was written (epoch seconds), or None."""
        return self._store.note(name)

    def set(self, name: str, value: str) -> None:
        """Write a note."""
        with self._store.transaction():
            self._store.set_note(name, value)

    def amend(self, name: str, value: str) -> None:
        """Write a note; one that stands keeps the time at which it began."""
        with self._store.transaction():
            self._insert(name, value)
            self._store.execute("UPDATE notes SET value = :value WHERE name = :name", name=name, value=value)

    def set_once(self, name: str, value: str) -> None:
        """Write a note, unless it stands already: it keeps the time at which it began."""
        if self.get(name) is None:
            with self._store.transaction():
                self._insert(name, value)

    def remove(self, name: str) -> None:
        """Remove a note, if it stands."""
        if self.get(name) is not None:
            with self._store.transaction():
                self._store.remove_note(name)

    def record_failure(self, name: str, value: str, by: str) -> None:
        """Begin a note about failed requests, and keep which one failed: `by`, or SEVERAL if another has failed since."""
        known = self.get(name + BY)
        if self.get(name) and known and known[0] in (by, SEVERAL):
            return
        with self._store.transaction():
            only = (self.get(name + BY) or ("",))[0] if self.get(name) else by
            self._insert(name, value)
            self._store.set_note(name + BY, by if only == by else SEVERAL)

    def failed_alone(self, name: str) -> str:
        """The only request that has failed since this note of failures began; '' where several have, or it does not stand."""
        by = self.get(name + BY) if self.get(name) else None
        return by[0] if by and by[0] != SEVERAL else ""

    def time_left(self, timer: str, seconds: float) -> float:
        """Seconds until acquire_timer may be True again for this timer; 0.0 if it may be now."""
        started = self.get(timer)
        passed = self._store.steady() - float(started[0]) if started else seconds
        return seconds - passed if 0.0 <= passed < seconds else 0.0  # negative: another boot's clock

    def acquire_timer(self, timer: str, seconds: float) -> bool:
        """True at most once per `seconds`, for one of all processes."""
        if self.time_left(timer, seconds):
            return False
        with self._store.transaction():
            if self.time_left(timer, seconds):
                return False
            self._store.set_note(timer, repr(self._store.steady()))
            return True

    def start_timer(self, timer: str) -> None:
        """Start a timer anew, as acquire_timer does when it is True."""
        self.set(timer, repr(self._store.steady()))

    def _insert(self, name: str, value: str) -> None:
        self._store.execute("INSERT OR IGNORE INTO notes (name, value, at) VALUES (:name, :value, :at)",
                            name=name, value=value, at=self._store.clock())
