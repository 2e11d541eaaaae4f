"""Conversion of recordings, and when their links are told."""
from __future__ import annotations

import os
from urllib.parse import urlsplit

import pytest

from movidesk.agi import runner
from movidesk.checks import files as checked
from movidesk.context import Context
from movidesk.journal import HOLD, PENDING
from movidesk.recordings import conversion, files
from movidesk.rules import call_states
from support.journals import deliver_now
from support.peer import Peer
from support.recordings import NAME, talk


def end_call(publisher, monitor, kinds=("received", "transferred", "hangup")) -> None:
    """A call whose recording is there at its end."""
    talk(monitor)
    for verb in kinds:
        peer = Peer(variables={"MOVIDESK_RECORDING": str(monitor / NAME)})
        with peer.channel(*{"received": ["77"]}.get(verb, [])) as channel:
            assert runner.run(verb, channel, publisher, channel.arguments) == "ok"


def told_links(publisher) -> list[tuple[str, str, float]]:
    call = publisher.journal.calls.find("pbx1-1700000000.1")
    return [(event.kind, urlsplit(event.link).path[5:], event.due) for event in publisher.journal.calls.events(call)
            if event.kind in (call_states.COMPLETED, call_states.LINK)]


@pytest.fixture
def converting(configured, clock, monitor):
    return Context(configured(convert="mp3"), clock, wake=lambda: None)


def test_the_end_is_told_at_once_and_the_link_when_its_file_is_converted(converting, monitor, clock, monkeypatch):
    monkeypatch.setitem(conversion.TOOLS, "mp3", ("cp IN OUT",))
    end_call(converting, monitor)
    assert told_links(converting) == [("completed", "", 0.0), ("link", NAME, clock() + HOLD)]
    assert conversion.work_off(converting) == 1
    assert told_links(converting) == [("completed", "", 0.0), ("link", NAME[:-4] + ".mp3", 0.0)]
    assert [path.name for path in monitor.iterdir()] == [NAME[:-4] + ".mp3"]
    assert conversion.work_off(converting) == 0


def test_after_a_crash_between_the_file_and_its_link(converting, monitor, monkeypatch):
    monkeypatch.setitem(conversion.TOOLS, "mp3", ("cp IN OUT",))
    end_call(converting, monitor)
    (monitor / NAME).rename(monitor / (NAME[:-4] + ".mp3"))
    conversion.work_off(converting)
    assert told_links(converting)[1][1:] == (NAME[:-4] + ".mp3", 0.0)


@pytest.mark.parametrize("tools, said", [(("no-such-tool IN OUT",), "install no-such-tool"), (("false IN OUT",), "exit status 1"),
                                         (("true IN OUT",), "No such file")])
def test_where_it_cannot_be_converted_the_link_names_the_file_as_it_is(converting, monitor, monkeypatch, caplog, tools, said):
    monkeypatch.setitem(conversion.TOOLS, "mp3", tools)
    end_call(converting, monitor)
    conversion.work_off(converting)
    assert told_links(converting) == [("completed", "", 0.0), ("link", NAME, 0.0)]
    assert said in caplog.text and (monitor / NAME).exists()


def test_an_event_whose_link_may_be_out_keeps_its_file(converting, monitor, clock, monkeypatch):
    """HOLD is over, and the delivery takes the event while its file is about to be converted."""
    monkeypatch.setitem(conversion.TOOLS, "mp3", ("cp IN OUT",))
    end_call(converting, monitor)
    assert [job.event.kind for job in deliver_now(converting.journal)] == ["received", "transferred", "completed"]
    waiting, = converting.journal.outbox.conversions()
    clock.advance(HOLD)
    taken, _ = converting.journal.outbox.take(1000)
    assert taken.event.kind == "link"
    assert converting.journal.outbox.claim_conversion(*waiting, conversion.CLAIM) is None and conversion.work_off(converting) == 0
    converting.journal.outbox.retry(taken, 0, "HTTP 500")
    assert conversion.work_off(converting) == 0 and (monitor / NAME).exists()


def test_while_a_file_is_converted_its_event_is_nobody_elses(converting, monitor, clock, monkeypatch):
    monkeypatch.setitem(conversion.TOOLS, "mp3", ("cp IN OUT",))
    end_call(converting, monitor)
    journal, (waiting,) = converting.journal, converting.journal.outbox.conversions()
    clock.advance(HOLD - 1)
    claimed = journal.outbox.claim_conversion(*waiting, conversion.CLAIM)
    assert claimed and journal.outbox.claim_conversion(*waiting, conversion.CLAIM) is None and journal.outbox.conversions() == []
    clock.advance(conversion.TIMEOUT)
    assert [job.event.kind for job in deliver_now(journal)] == ["received", "transferred", "completed"]
    assert journal.outbox.conversions() == []
    assert journal.outbox.end_conversion(claimed, "https://pbx.example.com/rec/new.mp3")
    assert [job.event.link for job in deliver_now(journal)] == ["https://pbx.example.com/rec/new.mp3"]


@pytest.mark.parametrize("first", ["another converts it", "it is delivered"])
@pytest.mark.parametrize("dies_at", ["the tool", "its name", "the journal", "the old file"])
def test_whoever_dies_converting_leaves_a_link_that_plays(converting, monitor, clock, monkeypatch, dies_at, first):
    monkeypatch.setitem(conversion.TOOLS, "mp3", ("cp IN OUT",))
    end_call(converting, monitor)
    with monkeypatch.context() as fatal:
        def die(*_, **__):
            raise KeyboardInterrupt
        fatal.setattr(*{"the tool": (conversion.subprocess, "run"), "its name": (conversion.os, "replace"),
                        "the journal": (converting.journal.outbox, "end_conversion"),
                        "the old file": (conversion.os, "unlink")}[dies_at],
                      die)
        with pytest.raises(KeyboardInterrupt):
            conversion.work_off(converting)
    clock.advance(conversion.CLAIM)
    if first == "another converts it":
        conversion.work_off(converting)
    told = [job.event for job in deliver_now(converting.journal)]
    assert conversion.work_off(converting) == 0
    assert [event.kind for event in told] == ["received", "transferred", "completed", "link"]
    assert (monitor / os.path.basename(urlsplit(told[-1].link).path)).exists()
    assert all(files.own_names(converting.config).fullmatch(path.name) for path in monitor.iterdir())


def test_a_reboot_leaves_the_conversion_its_time(configured, clock, monitor, monkeypatch):
    monkeypatch.setitem(conversion.TOOLS, "mp3", ("cp IN OUT",))
    config = configured(convert="mp3")
    monkeypatch.setattr("movidesk.journal.store._boot_id", lambda: "one")
    before = Context(config, clock, wake=lambda: None)
    end_call(before, monitor)
    before.journal.outbox.claim_conversion(*before.journal.outbox.conversions()[0], conversion.CLAIM)
    before.journal.close()
    monkeypatch.setattr("movidesk.journal.store._boot_id", lambda: "two")
    after = Context(config, clock, wake=lambda: None)
    clock.advance(70)
    assert [job.event.kind for job in deliver_now(after.journal)] == ["received", "transferred", "completed"]
    assert conversion.work_off(after) == 1 and told_links(after)[1][1] == NAME[:-4] + ".mp3"


def test_no_file_is_begun_when_the_time_is_over(converting, monitor, monkeypatch):
    monkeypatch.setitem(conversion.TOOLS, "mp3", ("cp IN OUT",))
    end_call(converting, monitor)
    assert conversion.work_off(converting, 0) == 0 and len(converting.journal.outbox.conversions()) == 1


def test_check_names_the_missing_tool(configured, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    finding, = [finding for finding in checked.findings(configured(convert="opus")) if finding.subject == "recordings as .opus"]
    assert finding.text.startswith("no tool for .opus files: install opusenc or ffmpeg") and finding.state == "TROUBLE"


def test_a_message_that_is_converted_is_told_with_its_link(converting, monitor, monkeypatch):
    """Nobody waits for the end of such a call: one request is enough."""
    monkeypatch.setitem(conversion.TOOLS, "mp3", ("cp IN OUT",))
    talk(monitor)
    for verb in "received", "lost", "hangup":
        peer = Peer(variables={"MOVIDESK_RECORDING": str(monitor / NAME), "MOVIDESK_ENDING": "message"})
        with peer.channel(*{"received": ["77"]}.get(verb, [])) as channel:
            runner.run(verb, channel, converting, channel.arguments)
    conversion.work_off(converting)
    calls = converting.journal.calls
    lost, = [event for event in calls.events(calls.find("pbx1-1700000000.1")) if event.kind == "lost"]
    assert (urlsplit(lost.link).path, lost.due, lost.status) == ("/rec/pbx1-1700000000.1.mp3", 0.0, PENDING)


@pytest.mark.parametrize("ending", ["mp3", "opus"])
def test_the_machines_own_tool(monitor, ending):
    try:
        conversion.tool(ending)
    except conversion.NotConverted as error:
        pytest.skip(str(error))
    talk(monitor)
    path = conversion.convert(str(monitor / NAME), ending)
    assert os.path.getsize(path) > 100 and sorted(os.listdir(monitor)) == sorted([NAME, NAME[:-4] + "." + ending])
