"""The journal's record of an event's failed tries."""
from __future__ import annotations

from movidesk.journal import Journal, store
from support.clocks import Clock
from support.journals import LIMIT


def test_failed_tries_of_an_earlier_boot_are_forgotten(tmp_path, monkeypatch):
    """Their times are those of another steady clock."""
    boots = iter(["one", "two"])
    monkeypatch.setattr(store, "_boot_id", lambda: next(boots))
    path, clock = str(tmp_path / "journal.db"), Clock()
    before = Journal(path, clock, steady=lambda: 5_000_000.0)
    before.calls.record("pbx-1", "lost")
    job, _ = before.outbox.take(LIMIT)
    assert before.trials.failed(job, "HTTP 500", 0.5) == 2 and before.trials.get(job.event.id).failed == 5_000_000.0
    before.close()
    after = Journal(path, clock, steady=lambda: 100.0)
    assert after.trials.get(job.event.id) is None and after.trials.after_failure(job.event.id) == (100.0, 100.0, 0, 100.0)
    after.close()
