"""The sweep: what Asterisk does not know any more is ended, and nothing where Asterisk did not say."""
from __future__ import annotations

import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from movidesk.config import load
from movidesk.context import NOT_TOLD, Context
from movidesk.pbx import sweep
from movidesk.rules import call_states

GREETING = "Asterisk 22.10.1, Copyright (C) 1999 - 2025, Sangoma Technologies Corporation and others.\n"
LINE = "PJSIP/trunk-00000001!movidesk-line!77!4!Up!WaitExten!10!4733990001!!!3!12!!%s\n"


@pytest.fixture
def console(tmp_path):
    """console(*uniqueids): a command that prints what `asterisk -rx 'core show channels concise'` would."""
    def write(*uniqueids: str, status: int = 0) -> str:
        script = tmp_path / "console"
        text = GREETING + "".join(LINE % uniqueid for uniqueid in uniqueids)
        script.write_text(f"#!/bin/sh\ncat <<'END'\n{text}END\nexit {status}\n")
        script.chmod(0o755)
        return str(script)
    return write


@pytest.fixture
def context(write_config, clock):
    return Context(load(write_config()), clock)


@pytest.fixture
def swept(context, write_config):
    """swept(command): what each call became that the sweep with this console ended."""
    def run(command: str) -> dict[str, str]:
        before = {call.call_id for call in context.journal.overview.unended()}
        context.config = load(write_config(pbx={"asterisk": command}))
        sweep.recover(context)
        return {call_id: context.journal.calls.find(call_id).state for call_id in
                before - {call.call_id for call in context.journal.overview.unended()}}
    return run


def arrive(context, uniqueid, mode=call_states.CONTROL):
    return context.journal.calls.arrive("pbx1", uniqueid, "77", "4733990001", mode)


def talk(context, uniqueid):
    call = arrive(context, uniqueid)
    context.journal.scheduler.answered(call, "5252", "", "5252")
    context.journal.calls.record(call.call_id, call_states.TRANSFERRED)
    return call


def test_each_call_whose_channel_is_gone_ends_as_its_state_says(context, swept, console):
    arrive(context, "1.1")
    talk(context, "1.2")
    context.journal.scheduler.answered(arrive(context, "1.3"), "", "2", "2")
    context.journal.calls.record(arrive(context, "1.4").call_id, call_states.LOST, held=True)
    arrive(context, "1.5", call_states.WATCH)
    for uniqueid in ("1.6", "1.7"):
        talk(context, uniqueid)
    assert swept(console("1.6", "1.7")) == {
        "pbx1-1.1": call_states.CANCELED, "pbx1-1.2": call_states.COMPLETED, "pbx1-1.3": call_states.LOST,
        "pbx1-1.4": call_states.LOST,
        "pbx1-1.5": call_states.START_CANCELED}
    assert swept(console("1.6", "1.7")) == {} and swept(console("1.7")) == {"pbx1-1.6": call_states.COMPLETED}


@pytest.mark.parametrize("command, why", [
    ("/nowhere/asterisk -rx", "No such file"), ("sh -c 'exit 1'", "exit status 1"), ("'", "No closing quotation"),
    ("sh -c 'echo Unable to connect to remote asterisk >&2; exit 1'", "Unable to connect to remote asterisk")])
def test_an_asterisk_that_does_not_answer_ends_nothing(context, swept, command, why):
    arrive(context, "1.1")
    assert swept(command) == {}
    assert why in context.journal.notes.get(NOT_TOLD)[0]


def test_an_asterisk_that_hangs_ends_nothing(context, swept, monkeypatch):
    monkeypatch.setattr("movidesk.pbx.console.TIMEOUT", 0.2)
    arrive(context, "1.1")
    assert swept("sh -c 'sleep 60'") == {} and "no answer within 0.2 s" in context.journal.notes.get(NOT_TOLD)[0]


def test_a_list_that_is_not_whole_ends_nothing(context, swept, console):
    """The console failed after some lines: what is missing from them is not gone."""
    arrive(context, "1.1")
    assert swept(console("1.2", status=1)) == {}


def test_where_no_call_is_open_asterisk_is_not_asked(swept, tmp_path):
    assert swept(f"sh -c 'touch {tmp_path}/asked'") == {} and not (tmp_path / "asked").exists()


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
        channels.append(f"{1_700_000_000 + epoch}.{counter}")
    draw.shuffle(channels)
    watch = sweep.Restarts()
    assert not any(watch.seen(uniqueid) for uniqueid in channels)


def test_the_service_sweeps_at_once_when_asterisk_began_anew(context, write_config, console, caplog):
    from movidesk.service import Service

    caplog.set_level(logging.WARNING)
    service = Service(load(write_config(pbx={"asterisk": console("1700000100.0")})))
    try:
        talk(context, "1700000000.5")
        service._saw("1700000000.5")
        assert not service.housekeeping.sweep_now.is_set()
        service._saw("1700000100.0")
        assert service.housekeeping.sweep_now.is_set()
    finally:
        service.fastagi.server_close()


def test_a_call_that_is_transferred_while_asterisk_is_asked_goes_on(context, monkeypatch):
    call = arrive(context, "1.1")

    def channels(config):
        context.journal.calls.move(call.call_id, "1.2", "4733990002")
        return {"1.2"}

    monkeypatch.setattr(sweep, "live_channels", channels)
    assert sweep.sweep(context.journal, context.config) == 0
    assert context.journal.calls.find(call.call_id).ended is None


def test_a_call_on_a_channel_that_took_the_place_of_another_is_alive(context, swept, console):
    first = arrive(context, "1.1")
    context.journal.calls.move(first.call_id, "1.2", "4733990002")
    context.journal.calls.hang_up(first.call_id)
    second = context.journal.calls.arrive("pbx1", "1.1", "77", "4733990002", channel="1.2")
    assert (second.call_id, second.channel) == ("pbx1-1.1-2", "1.2")
    assert swept(console("1.2")) == {}
    assert swept(console("1.3")) == {second.call_id: "canceled"}
