"""The journal's record of an event's failed tries."""
from __future__ import annotations

from movidesk.journal import Journal, store
from movidesk.rules import trial
from support.clocks import Clock
from support.journals import LIMIT, arrive


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


def test_a_rejected_question_of_a_call_that_was_told_is_no_outage(journal, clock):
    """It lets those behind it ask first after three rejections, and gives nobody its place back who does so already."""
    silent, closed = arrive(journal, 1), arrive(journal, 2, queue="78")
    assert not journal.trials.question_failed(silent, 300, alone=True)
    clock.now += trial.PROBE_AFTER
    assert journal.trials.question_failed(silent, 300, alone=True)
    journal.scheduler.answered(closed, "", "4", "4")
    begins = []
    for _ in range(4):
        clock.now += 10
        assert not journal.trials.question_refused(closed, "HTTP 404")
        begins.append(journal.trials.question_failed(closed, 30, alone=False, refused=True))
        assert journal.scheduler.aside_until(silent) > clock.now
    assert begins == [False, False, True, False]
