"""The panel's reader: it reads only for viewers, tells each what has changed, in its language, and survives the journal."""
from __future__ import annotations

import json
import os
import threading
from contextlib import closing, contextmanager

import pytest

from movidesk.config import load
from movidesk.context import Context
from movidesk.journal import Journal, JournalError, standby
from movidesk.web.panel import board
from movidesk.web.panel.board import Board, TooManyViewers
from movidesk.web.panel.sections import Maker
from support.journals import arrive
from support.waits import until


class Counting(Maker):
    """Counts the looks. fails: what the next look raises."""

    looks, fails = 0, None

    def look(self, journal, now):
        self.looks += 1
        if self.fails:
            raise self.fails
        return super().look(journal, now)


class Window:
    """A viewer, as its browser sees it."""

    def __init__(self, viewer):
        self._viewer, self._messages, self.sections = viewer, iter(viewer), {}
        self.first = next(self._messages).decode()

    def hear(self) -> set[str]:
        """Take one message; the sections that it has."""
        kind, _, data = next(self._messages).decode().strip().partition("\ndata: ")
        assert kind == "event: news"
        self.last = json.loads(data)
        self.sections.update(self.last["sections"])
        return set(self.last["sections"])

    def hear_until(self, condition):
        """Take messages until the condition is true of the sections."""
        def heard():
            return condition(self.sections) or self.hear() and False
        until(heard, 30)

    def close(self):
        self._viewer.close()


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(board, "LOOK_EVERY", 0.02)
    monkeypatch.setattr(board, "BEAT", 0.5)


@pytest.fixture
def config(write_config):
    return load(write_config()).require()


@pytest.fixture
def journal(config):
    with closing(Journal(config["journal", "path"])) as book:
        yield book


@contextmanager
def running(config, **more):
    maker = Counting(config)
    shown = Board(config, maker, "v1", **more)
    shown.maker = maker
    shown.start()
    try:
        yield shown
    finally:
        shown.close()
        until(lambda: not [thread for thread in threading.enumerate() if thread.name == "panel"], 30)


@pytest.fixture
def shown(config, journal):
    with running(config) as found:
        yield found


def test_nothing_is_read_while_nobody_looks(shown, journal):
    assert not shown.maker.looks
    window = Window(shown.enter("en"))
    window.hear_until(lambda sections: "calls" in sections)
    window.close()

    def rests() -> bool:
        before = shown.maker.looks
        threading.Event().wait(0.2)
        return shown.maker.looks == before
    until(rests, 30)
    window = Window(shown.enter("en"))
    window.hear_until(lambda sections: "calls" in sections)


def test_a_viewer_gets_everything_then_only_what_changes(shown, journal):
    window = Window(shown.enter("en"))
    assert window.first == "retry: 1000\nevent: version\ndata: v1\n\n"
    assert until(window.hear, 30) == {"queues", "agents", "requests", "outbox", "today", "calls", "alarms", "broken"}
    assert window.last["now"] >= window.last["looked"] > 0 and window.last["offset"] % 900 == 0
    arrive(journal, mode="watch")
    heard = until(window.hear, 30)  # a beat may come before
    assert {"queues", "calls"} <= heard and not {"requests", "agents"} & heard
    assert window.sections["queues"][0]["waiting"] == 1


def test_a_silent_office_sends_a_beat(shown):
    window = Window(shown.enter("en"))
    window.hear_until(lambda sections: "calls" in sections)
    looks = shown.maker.looks
    until(lambda: window.hear() == set() and shown.maker.looks > looks, 30)
    assert window.last["looked"] > 0


def test_each_viewer_has_the_alarms_in_its_language(shown, journal):
    call = arrive(journal)
    journal.calls.record(call.call_id, "canceled")
    journal.outbox.rejected(journal.outbox.take(10)[0], "HTTP 400")
    said = {}
    for language in ("en", "pt", "es"):
        window = Window(shown.enter(language))
        window.hear_until(lambda sections: "alarms" in sections)
        said[language] = window.sections["alarms"][0]["text"]
    assert "is set aside" in said["en"] and "foi deixado de lado" in said["pt"] and len(set(said.values())) == 3


def test_there_is_room_for_so_many_viewers_and_no_more(shown, monkeypatch):
    monkeypatch.setattr(board, "MAX_VIEWERS", 3)
    viewers = [shown.enter("en") for _ in range(3)]
    with pytest.raises(TooManyViewers):
        shown.enter("pt")
    viewers[0].close()
    viewers[0].close()  # the server may close it twice
    shown.enter("pt")
    with pytest.raises(TooManyViewers):
        shown.enter("pt")


def test_a_stream_ends_after_a_while(shown, monkeypatch):
    monkeypatch.setattr(board, "STREAM_SECONDS", 1.2)
    assert next(iter(list(shown.enter("en")))).startswith(b"retry: ")


def test_the_end_of_the_service_ends_the_streams(config, journal):
    with running(config) as shown:
        window = Window(shown.enter("en"))
        window.hear()
    assert list(window._messages) == []
    with pytest.raises(TooManyViewers):
        shown.enter("en")


def test_a_slow_viewer_gets_what_is_true_when_it_reads(shown, journal):
    window = Window(shown.enter("en"))
    window.hear_until(lambda sections: "calls" in sections)
    for number in range(3):
        arrive(journal, number, mode="watch")
        until(lambda number=number: f'"waiting":{number + 1}' in shown.since("en", 0)[1], 30)
    window.hear()
    assert window.sections["queues"][0]["waiting"] == 3


def test_a_failure_inside_is_no_end(shown, caplog):
    shown.maker.fails = ValueError("inside")
    window = Window(shown.enter("en"))
    until(lambda: "the panel could not read the journal" in caplog.text, 30)
    assert window.hear() == set() and window.last["looked"] == 0
    shown.maker.fails = None
    window.hear_until(lambda sections: "calls" in sections)


# -- the journal -------------------------------------------------------------------------------------------------------

def test_a_journal_that_is_not_there_is_not_made(config, journal):
    path = config["journal", "path"]
    journal.close()
    for suffix in ("", "-wal", "-shm"):
        if os.path.exists(path + suffix):
            os.unlink(path + suffix)
    with running(config) as shown:
        window = Window(shown.enter("pt"))
        window.hear_until(lambda sections: sections.get("broken"))
        broken = window.sections["broken"]
        assert "no journal yet" in broken
        assert [alarm["text"] for alarm in window.sections["alarms"] if alarm["text"].startswith(broken)]
        assert not os.path.exists(path)
        arrive(Journal(path), mode="watch")
        window.hear_until(lambda sections: sections.get("queues"))
        assert not window.sections["broken"]


def test_a_journal_that_cannot_be_read(shown):
    window = Window(shown.enter("en"))
    window.hear_until(lambda sections: "calls" in sections)
    shown.maker.fails = JournalError("journal j: disk I/O error")
    window.hear_until(lambda sections: sections["broken"])
    assert "disk I/O error" in str(window.sections["alarms"]) and "calls" in window.sections
    shown.maker.fails = None
    window.hear_until(lambda sections: not sections["broken"])


def test_a_journal_that_was_replaced_is_followed(shown, journal):
    window = Window(shown.enter("en"))
    arrive(journal, mode="watch")
    window.hear_until(lambda sections: sections.get("queues"))
    os.rename(journal.path, journal.path + ".damaged-1")
    for suffix in ("-wal", "-shm"):
        if os.path.exists(journal.path + suffix):
            os.unlink(journal.path + suffix)
    Journal(journal.path).close()
    window.hear_until(lambda sections: sections["queues"] == [])


def test_the_standby_is_looked_at_and_does_not_stay_for_it(shown, journal, config):
    window = Window(shown.enter("en"))
    window.hear_until(lambda sections: "calls" in sections)
    context = Context(config, journal=journal)
    with standby.use(context, "the disk is full") as other:
        arrive(other.journal, mode="watch")
        window.hear_until(lambda sections: sections["queues"])
        assert "the disk is full" in str(window.sections["alarms"])
    until(lambda: standby.end(context), 30)
    window.hear_until(lambda sections: "the disk is full" not in str(sections["alarms"]))
    assert window.sections["queues"][0]["waiting"] == 1
