"""What all processes must know besides the calls: notes, which keep when a trouble began, and timers."""

from __future__ import annotations

from movidesk.journal.store import Store

BY, SEVERAL = "_by", "*"  # the note NAME_by says which request failed (note_failure)


class Notes(Store):
    """Named notes and timers of a journal."""

    def note_failure(self, name: str, value: str, by: str) -> None:
        """Begin a note about failed requests, and keep which one failed: `by`, or SEVERAL if another has failed since it
        began."""
        known = self.note(name + BY)
        if self.note(name) and known and known[0] in (by, SEVERAL):
            return
        with self._writing():
            known = (self._note(name + BY) or ("",))[0] if self._note(name) else by
            self._db.execute("INSERT OR IGNORE INTO notes (name, value, at) VALUES (?, ?, ?)", (name, value, self.clock()))
            self._set_note(name + BY, by if known == by else SEVERAL)

    def failed_alone(self, name: str) -> str:
        """The only request that has failed since this note of failures began; '' where several have, or it does not stand."""
        by = self.note(name + BY) if self.note(name) else None
        return by[0] if by and by[0] != SEVERAL else ""

    def begin_note(self, name: str, value: str) -> None:
        """Write a note, unless it stands already: it keeps the time at which it began."""
        if self.note(name) is None:
            with self._writing():
                self._db.execute("INSERT OR IGNORE INTO notes (name, value, at) VALUES (?, ?, ?)",
                                 (name, value, self.clock()))

    def end_note(self, name: str) -> None:
        if self.note(name) is not None:
            with self._writing():
                self._db.execute("DELETE FROM notes WHERE name = ?", (name,))

    def time_left(self, timer: str, seconds: float) -> float:
        """Seconds until is_time may be True again for this timer; 0.0 if it may be now."""
        started = self.note(timer)
        passed = self.steady() - float(started[0]) if started else seconds
        return seconds - passed if 0.0 <= passed < seconds else 0.0  # negative: another boot's clock

    def is_time(self, timer: str, seconds: float) -> bool:
        """True at most once per `seconds`, for one of all processes."""
        if self.time_left(timer, seconds):
            return False
        with self._writing():
            if self.time_left(timer, seconds):
                return False
            self._set_note(timer, repr(self.steady()))
            return True

    def start_timer(self, timer: str) -> None:
        """Start a timer anew, as is_time does when it is True."""
        self.set_note(timer, repr(self.steady()))
