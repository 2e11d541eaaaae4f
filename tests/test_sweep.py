"""The sweep: what Asterisk does not know any more is ended, and nothing where Asterisk did not say."""
from __future__ import annotations

import logging

import pytest
from hypothesis import given, strategies as st

from movidesk import calls, sweep
from movidesk.config import load
from movidesk.desk import NOT_TOLD, Desk

GREETING = "Asterisk 22.10.1, Copyright (C) 1999 - 2025, Sangoma Technologies Corporation and others.\n"
LINE = "PJSIP/trunk-00000001!movidesk-line!77!4!Up!WaitExten!10!4733990001!!!3!12!!%s\n"


@pytest.fixture
def console(tmp_path):
    """console(*uniqueids): a command that prints what `asterisk -rx 'core show channels concise'` would."""
    def write(*uniqueids: str, status: int = 0) -> str:
        script = tmp_path / "console"
        text = GREETING + "".join(LINE % uniqueid for uniqueid in uniqueids)
        script.write_text("#!/bin/sh\ncat <<'END'\n%sEND\nexit %d\n" % (text, status))
        script.chmod(0o755)
        return str(script)
    return write


@pytest.fixture
def desk(write_config, clock):
    return Desk(load(write_config()), clock)


@pytest.fixture
def swept(desk, write_config):
    """swept(command): what each call became that the sweep with this console ended."""
    def run(command: str) -> dict[str, str]:
        before = {call.call_id for call in desk.journal.unended()}
        desk.config = load(write_config(pbx={"asterisk": command}))
        sweep.recover(desk)
        return {call_id: desk.journal.find(call_id).state for call_id in
                before - {call.call_id for call in desk.journal.unended()}}
    return run


def arrive(desk, uniqueid, mode=calls.CONTROL):
    return desk.journal.arrive("pbx1", uniqueid, "77", "4733990001", mode)


def talk(desk, uniqueid):
    call = arrive(desk, uniqueid)
    desk.journal.answered(call, "5252", "", "5252")
    desk.journal.record(call.call_id, calls.TRANSFERRED)
    return call


def test_each_call_whose_channel_is_gone_ends_as_its_state_says(desk, swept, console):
    arrive(desk, "1.1")
    talk(desk, "1.2")
    desk.journal.answered(arrive(desk, "1.3"), "", "2", "2")
    desk.journal.record(arrive(desk, "1.4").call_id, calls.LOST, held=True)
    arrive(desk, "1.5", calls.WATCH)
    for uniqueid in ("1.6", "1.7"):
        talk(desk, uniqueid)
    assert swept(console("1.6", "1.7")) == {
        "pbx1-1.1": calls.CANCELED, "pbx1-1.2": calls.COMPLETED, "pbx1-1.3": calls.LOST, "pbx1-1.4": calls.LOST,
        "pbx1-1.5": calls.START_CANCELED}
    assert swept(console("1.6", "1.7")) == {} and swept(console("1.7")) == {"pbx1-1.6": calls.COMPLETED}


@pytest.mark.parametrize("command, why", [
    ("/nowhere/asterisk -rx", "No such file"), ("sh -c 'exit 1'", "exit status 1"), ("'", "No closing quotation"),
    ("sh -c 'echo Unable to connect to remote asterisk >&2; exit 1'", "Unable to connect to remote asterisk")])
def test_an_asterisk_that_does_not_answer_ends_nothing(desk, swept, command, why):
    arrive(desk, "1.1")
    assert swept(command) == {}
    assert why in desk.journal.note(NOT_TOLD)[0]


def test_an_asterisk_that_hangs_ends_nothing(desk, swept, monkeypatch):
    monkeypatch.setattr("movidesk.console.PATIENCE", 0.2)
    arrive(desk, "1.1")
    assert swept("sh -c 'sleep 60'") == {} and "no answer within 0.2 s" in desk.journal.note(NOT_TOLD)[0]


def test_a_list_that_is_not_whole_ends_nothing(desk, swept, console):
    """The console failed after some lines: what is missing from them is not gone."""
    arrive(desk, "1.1")
    assert swept(console("1.2", status=1)) == {}


def test_where_no_call_is_open_asterisk_is_not_asked(swept, tmp_path):
    assert swept("sh -c 'touch %s/asked'" % tmp_path) == {} and not (tmp_path / "asked").exists()


# -- Asterisk begins anew ----------------------------------------------------------------------------------------------

def test_the_first_channel_of_an_asterisk_that_began_anew():
    watch = sweep.Restarts()
    told = [watch.seen(uniqueid) for uniqueid in
            ("pbx1-1700000000.7", "pbx1-1700000001.9", "pbx1-1700000000.8", "pbx1-1700000100.0", "pbx1-1700000100.1", "odd", "")]
    assert told == [False, False, False, True, False, False, False]


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2)), max_size=40), st.randoms())
def test_one_asterisk_never_seems_to_have_begun_anew(steps, draw):
    """Whatever the order in which its channels are seen: the epoch and the counter of one Asterisk never go back."""
    epoch = counter = 0
    channels = []
    for later, more in steps:
        epoch, counter = epoch + later, counter + more + 1
        channels.append("%d.%d" % (1_700_000_000 + epoch, counter))
    draw.shuffle(channels)
    watch = sweep.Restarts()
    assert not any(watch.seen(uniqueid) for uniqueid in channels)


def test_the_service_sweeps_at_once_when_asterisk_began_anew(desk, write_config, console, caplog):
    from movidesk.service import Service

    caplog.set_level(logging.WARNING)
    service = Service(load(write_config(pbx={"asterisk": console("1700000100.0")})))
    try:
        talk(desk, "1700000000.5")
        service._saw("1700000000.5")
        assert not service.housekeeping.sweep_now.is_set()
        service._saw("1700000100.0")
        assert service.housekeeping.sweep_now.is_set()
    finally:
        service.fastagi.server_close()


def test_a_call_that_is_transferred_while_asterisk_is_asked_goes_on(desk, monkeypatch):
    call = arrive(desk, "1.1")

    def channels(config):
        desk.journal.move(call.call_id, "1.2", "4733990002")
        return {"1.2"}

    monkeypatch.setattr(sweep, "live_channels", channels)
    assert sweep.sweep(desk.journal, desk.config) == 0
    assert desk.journal.find(call.call_id).ended is None


def test_a_call_that_begins_on_the_channel_that_took_the_place_of_another_is_alive_with_it(desk, swept, console):
    first = arrive(desk, "1.1")
    desk.journal.move(first.call_id, "1.2", "4733990002")
    desk.journal.hang_up(first.call_id)
    second = desk.journal.arrive("pbx1", "1.1", "77", "4733990002", channel="1.2")
    assert (second.call_id, second.channel) == ("pbx1-1.1-2", "1.2")
    assert swept(console("1.2")) == {}
    assert swept(console("1.3")) == {second.call_id: "canceled"}
