"""The channel that takes over a call in an attended transfer: who it is, what it is given, and what the journal makes of it."""
from __future__ import annotations

import os
import time

import pytest
from hypothesis import given
from hypothesis import settings as limits
from hypothesis import strategies as st

from movidesk import config
from movidesk.agi import runner, successor
from movidesk.config import load
from movidesk.context import Context
from movidesk.journal import Journal, emergency, standby
from movidesk.rules import call_states
from support.journals import kinds
from support.peer import Peer

WAITER, CUSTOMER, AGENT = "PJSIP/5254-00000002", "PJSIP/trunk-00000001", "PJSIP/5252-00000003"
CALL = "pbx1-1700000000.2"
CAME = round(time.time(), 3)
HERS = {"MOVIDESK_HANDLER": "1700000000.2", "MOVIDESK_CHANNEL": "1700000000.2", "MOVIDESK_ARRIVED": f"{CAME:.3f}",
        "MOVIDESK_QUEUE": "77", "CHANNEL(name)": WAITER, "ASTSPOOLDIR": "/var/spool/asterisk"}


def functions(channels: dict[str, dict[str, str]]) -> dict[str, str]:
    """CHANNELS() and IMPORT() of an Asterisk with these channels."""
    found = {f"IMPORT({name},{variable})": value for name, variables in channels.items()
             for variable, value in variables.items()}
    return {"CHANNELS()": " ".join(channels), **found}


def who(uniqueid: str, number: str = "4733990777", **variables: str) -> dict[str, str]:
    return {"UNIQUEID": uniqueid, "CALLERID(num)": number, **variables}


TOOK_HER_PLACE = functions({WAITER: who("1700000000.2", **HERS), AGENT: who("1700000000.3", MOVIDESK_HANDLER="1700000000.2"),
                            CUSTOMER: who("1700000000.1", **HERS)})


@pytest.fixture
def console(tmp_path):
    """A console that writes down what it is told; `told()` is that. Its answer is in the file `answer`."""
    script = tmp_path / "console"
    script.write_text(f'#!/bin/sh\necho "$1" >> {tmp_path}/told\ncat {tmp_path}/answer 2>/dev/null; exit 0\n')
    script.chmod(0o755)
    return script


@pytest.fixture
def settings(write_config, console):
    return write_config(pbx={"asterisk": str(console)}, recordings={"link": "https://pbx.example.com/rec/{file}"})


def told(console) -> list[str]:
    path = console.parent / "told"
    return path.read_text().splitlines() if path.exists() else []


def run(settings, verb, *arguments, uniqueid="1700000000.2", **variables):
    peer = Peer(uniqueid, "5254", variables={**HERS, **variables})
    with peer.channel(*arguments) as channel:
        runner.run(verb, channel, Context(config.load(settings)), list(arguments))
    assert peer["MOVIDESK_RESULT"] == "ok", peer.console
    return peer


@pytest.fixture
def journal(settings):
    book = Journal(config.load(settings)["journal", "path"])
    yield book
    book.close()


# -- the verb ----------------------------------------------------------------------------------------------------------

def test_the_channel_that_took_her_place_gets_the_handler_and_the_call(settings, console, journal):
    journal.calls.arrive("pbx1", "1700000000.2", "77", "5254", arrived=CAME)
    run(settings, "moved", **TOOK_HER_PLACE)
    call = journal.calls.find(CALL)
    assert (call.state, call.channel, call.uniqueid, call.number) == ("received", "1700000000.1", "1700000000.2", "4733990777")
    assert told(console) == [
        f'dialplan set chanvar {CUSTOMER} SHARED(MOVIDESK_CHANNEL) "1700000000.1"',
        f'dialplan set chanvar {CUSTOMER} MOVIDESK_CHANNEL "1700000000.1"',
        f'dialplan set chanvar {CUSTOMER} CHANNEL(hangup_handler_push) "movidesk-hangup,s,1"']


def test_whom_the_agent_talks_to_gets_all_that_belongs_to_the_call(settings, console, journal):
    journal.calls.arrive("pbx1", "1700000000.2", "77", "5254", arrived=CAME)
    variables = {"MOVIDESK_ID": CALL, "MOVIDESK_ANSWERED_BY": "5252", "MOVIDESK_RECORDING": "/rec/a.wav"}
    run(settings, "moved", CUSTOMER, **functions({CUSTOMER: who("1700000000.1")}), **variables)
    assert kinds(journal, CALL) == ["received", "transferred"]
    given_ = [line.split(" ", 4)[3:] for line in told(console) if line.startswith("dialplan")]
    assert [CUSTOMER, f'__MOVIDESK_ID "{CALL}"'] in given_ and [CUSTOMER, 'MOVIDESK_ANSWERED_BY "5252"'] in given_
    assert given_[-1] == [CUSTOMER, 'CHANNEL(hangup_handler_push) "movidesk-hangup,s,1"']
    assert told(console)[-1] == f'mixmonitor start {CUSTOMER} "/rec/a.wav,ab"'


@pytest.mark.parametrize("there", [{}, TOOK_HER_PLACE], ids=["nobody", "gone since"])
def test_where_nobody_goes_on_the_call_ends(settings, console, journal, there):
    (console.parent / "answer").write_text(f"Channel '{CUSTOMER}' not found\n")
    journal.calls.arrive("pbx1", "1700000000.2", "77", "5254", arrived=CAME)
    run(settings, "moved", **there)
    assert kinds(journal, CALL) == ["received", "canceled"]


def test_a_console_that_does_not_answer_is_said_and_the_call_goes_on(write_config, journal):
    journal.calls.arrive("pbx1", "1700000000.2", "77", "5254", arrived=CAME)
    peer = run(write_config(pbx={"asterisk": "/nowhere/asterisk -rx"}), "moved", **TOOK_HER_PLACE)
    assert any("up to a minute late" in line and "/nowhere/asterisk" in line for line in peer.console)
    assert (journal.calls.find(CALL).channel, kinds(journal, CALL)) == ("1700000000.1", ["received"])


def test_a_variable_with_a_quote_never_reaches_the_console(settings, console, journal):
    journal.calls.arrive("pbx1", "1700000000.2", "77", "5254", arrived=CAME)
    peer = run(settings, "moved", CUSTOMER, **functions({CUSTOMER: who("1700000000.1")}),
               MOVIDESK_RECORDING='/rec/a" "x')
    assert told(console) == [] and any("up to a minute late" in line for line in peer.console)


def test_the_customers_call_before_is_completed_with_its_recording(settings, console, journal, tmp_path):
    (tmp_path / "monitor").mkdir()
    (tmp_path / "monitor" / "pbx1-1700000000.1.wav").write_bytes(b"x" * 1000)
    (console.parent / "answer").write_text(
        "MixMonitor ID\tFile\t\t\n0x7\t/x/pbx1-1700000000.1\t\t\n0x8\t/x/pbx1-1700000000.2\t\t\n")
    journal.calls.arrive("pbx1", "1700000000.1", "77", "4733990777")
    journal.calls.record("pbx1-1700000000.1", call_states.TRANSFERRED, "5252")
    journal.calls.arrive("pbx1", "1700000000.2", "78", "5252", arrived=CAME)
    run(settings, "moved", **{**TOOK_HER_PLACE, "ASTSPOOLDIR": str(tmp_path)})
    first = journal.calls.find("pbx1-1700000000.1")
    assert (first.state, journal.calls.events(first)[-1].link) == ("completed", "https://pbx.example.com/rec/pbx1-1700000000.1.wav")
    assert kinds(journal, CALL) == ["received"]
    assert f"mixmonitor stop {CUSTOMER} 0x7" in told(console) and f"mixmonitor stop {CUSTOMER} 0x8" not in told(console)


def test_behind_a_local_channel_the_agents_phone_tells_whom_it_talks_to(settings, journal):
    journal.calls.arrive("pbx1", "1700000000.2", "77", "5254", arrived=CAME)
    journal.calls.record(CALL, call_states.TRANSFERRED, "5252")
    there = functions({AGENT: who("1700000000.3", MOVIDESK_HANDLER="1700000000.2", BRIDGEPEER=CUSTOMER),
                       CUSTOMER: who("1700000000.1")})
    run(settings, "moved", MOVIDESK_AGENT="Local/5252@from-internal-00000000;1", **there)
    assert (journal.calls.find(CALL).state, journal.calls.find(CALL).channel) == ("transferred", "1700000000.1")


def test_the_number_of_a_customer_who_withholds_it(settings, journal):
    journal.calls.arrive("pbx1", "1700000000.2", "77", "5254", arrived=CAME)
    customer = {**who("1700000000.1", **HERS), "CALLERID(num-pres)": "prohib_not_screened"}
    run(settings, "moved", **functions({CUSTOMER: customer}))
    assert journal.calls.find(CALL).number == "anonymous"


def test_an_ordinary_hangup_behind_a_local_channel_ends_the_call(settings, journal):
    journal.calls.arrive("pbx1", "1700000000.2", "77", "5254", arrived=CAME)
    journal.calls.record(CALL, call_states.TRANSFERRED, "5252")
    there = functions({AGENT: who("1700000000.3", MOVIDESK_HANDLER="1700000000.2", BRIDGEPEER=WAITER)})
    run(settings, "moved", MOVIDESK_AGENT="Local/5252@from-internal-00000000;1", **there)
    assert journal.calls.find(CALL).state == "completed"


LASTING = "Local/5252@from-agents-00000000"


@pytest.mark.parametrize("peers", [LASTING + ";2", CUSTOMER, CUSTOMER + "," + WAITER],
                         ids=["half of it", "a colleague", "three in a bridge"])
@pytest.mark.parametrize("arguments", [[], [CUSTOMER]], ids=["looked for", "named by the dialplan"])
def test_who_was_dialled_in_the_call_does_not_take_it_over(settings, console, journal, peers, arguments):
    """The dying half of a Local channel, and whom an agent consults: they inherited MOVIDESK_HANDLER, but no caller came on
    them."""
    journal.calls.arrive("pbx1", "1700000000.2", "77", "5254", arrived=CAME)
    journal.calls.record(CALL, call_states.TRANSFERRED, "5252")
    dialled = {"MOVIDESK_HANDLER": "1700000000.2"}
    there = functions({AGENT: who("1700000000.3", BRIDGEPEER=peers, **dialled), LASTING + ";2": who("1700000000.5", **dialled),
                       CUSTOMER: who("1700000000.6", **dialled)})
    run(settings, "moved", *arguments, MOVIDESK_AGENT=LASTING + ";1", **there)
    assert journal.calls.find(CALL).state == "completed" and told(console) == []


def test_the_next_question_comes_from_the_new_channel_and_keeps_the_call(write_config, simulator, console, journal):
    """Without the verb `moved`, as where no script could run: the dialplan's own variables are enough."""
    settings = write_config(movidesk={"url": simulator.url}, pbx={"asterisk": str(console)})
    call = journal.calls.arrive("pbx1", "1700000000.2", "77", "5254", arrived=CAME)
    run(settings, "received", "77", uniqueid="1700000000.1", UNIQUEID="1700000000.1")
    assert [found.id for found in journal.overview.open_calls()] == [call.id]
    assert journal.calls.find(CALL).channel == "1700000000.1"


def test_more_channels_than_asterisk_names_in_one_answer():
    names = [f"PJSIP/trunk-{number:08x}" for number in range(300)] + [f"Local/5252@x-{n:08x};{half}" for n in range(50)
                                                                      for half in (1, 2)]

    class Asterisk:
        def get(self, name):
            end = name[len("CHANNELS("):-1].rstrip("$")
            return " ".join(found for found in names if found.endswith(end))[:1023]

    assert sorted(successor._names(Asterisk())) == sorted(names)


# -- the journal is away -------------------------------------------------------------------------------------------------

def test_a_transfer_while_the_journal_is_away_is_one_call_with_one_ending(settings, console, journal, monkeypatch):
    monkeypatch.setattr(emergency, "paths", lambda config: [config["journal", "path"] + ".emergency"])
    path = load(settings)["journal", "path"]
    os.rename(path, path + ".away")
    os.mkdir(path)

    def away(verb, *arguments, **variables):
        peer = Peer(variables.pop("uniqueid", "1700000000.2"), "5254", variables={**HERS, **variables})
        with peer.channel(*arguments) as channel:
            runner.run(verb, channel, Context(config.load(settings)), list(arguments))
        assert peer["MOVIDESK_RESULT"] == "error"

    away("received", "77")
    away("moved", **TOOK_HER_PLACE)
    away("transferred", "5252", uniqueid="1700000000.3")
    os.rmdir(path)
    os.rename(path + ".away", path)
    context = Context(config.load(settings))
    assert told(console)[-1].endswith('CHANNEL(hangup_handler_push) "movidesk-hangup,s,1"')  # which needs no journal
    assert standby.end(context)
    assert emergency.take_in(context.journal, context.config) == (3, [])
    call = context.journal.calls.latest("1700000000.2")
    assert (call.state, call.channel, call.number) == ("transferred", "1700000000.1", "4733990777")
    run(settings, "hangup", uniqueid="1700000000.1", MOVIDESK_ANSWERED_BY="5252")
    assert [found.state for found in context.journal.overview.last_calls(5)] == ["completed"]


# -- the journal's rules ---------------------------------------------------------------------------------------------------

def test_a_number_that_movidesk_was_told_stays(journal):
    call = journal.calls.arrive("pbx1", "1.1", "77", "5254")
    journal.scheduler.answered(call, "", "4", "4")
    journal.calls.move(call.call_id, "1.2", "4733990777")
    assert journal.calls.find(call.call_id).number == "5254"


def test_a_number_of_which_movidesk_may_have_heard_stays(journal):
    """The question left, and no answer came back."""
    call = journal.calls.arrive("pbx1", "1.1", "77", "5254")
    assert journal.scheduler.turn(call, 10).request_id
    journal.calls.move(call.call_id, "1.2", "4733990777")
    assert journal.calls.find(call.call_id).number == "5254"


def test_a_number_that_movidesk_did_not_take_is_replaced(journal):
    """Movidesk answered the question with an error."""
    call = journal.calls.arrive("pbx1", "1.1", "77", "5254")
    assert journal.scheduler.turn(call, 10).request_id
    journal.scheduler.unanswered(call, taken=False)
    journal.calls.move(call.call_id, "1.2", "4733990777")
    assert journal.calls.find(call.call_id).number == "4733990777"


def test_a_number_that_was_under_way_when_the_caller_changed_stays(journal):
    call = journal.calls.arrive("pbx1", "1.1", "77", "5254")
    journal.calls.move(call.call_id, "1.2", "4733990777")
    journal.scheduler.answered(call, "", "4", "4")
    assert journal.calls.find(call.call_id).number == "5254"


def test_who_comes_back_to_the_own_queue_without_an_answer_goes_on(journal):
    call = journal.calls.arrive("pbx1", "1.1", "77", "1")
    assert journal.calls.hang_up(call.call_id, left="control-77").kind is None
    assert journal.calls.hang_up(call.call_id, left="control-78").kind == "lost"


@limits(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.sampled_from(["arrive", "move", "answer", "leave", "hang up"]), st.integers(0, 2),
                          st.integers(0, 2))))
def test_moves_leave_each_channel_one_open_call_and_each_call_one_ending(tmp_path_factory, steps):
    journal = Journal(str(tmp_path_factory.mktemp("moves") / "journal.db"), clock=lambda: 1700000000.0)
    try:
        carried = [""] * 3  # the id of the call that each channel is on
        for what, one, other in steps:
            channel = f"1.{one}"
            if what == "arrive":
                carried[one] = journal.calls.arrive("pbx1", channel, str(77 + other), "1").call_id
            elif what == "move" and carried[one] and one != other and journal.calls.find(carried[one]).ended is None:
                for left in journal.calls.move(carried[one], f"1.{other}", "2"):
                    assert journal.calls.hang_up(left.call_id, left=call_states.MOVED).kind
                carried[other], carried[one] = carried[one], ""
            elif carried[one] and what == "answer":
                journal.calls.record(carried[one], call_states.TRANSFERRED, "5252")
            elif carried[one] and what in ("leave", "hang up"):
                journal.calls.hang_up(carried[one], left="control-99" if what == "leave" else "")
        on = [call.channel or call.uniqueid for call in journal.overview.open_calls()]
        assert len(on) == len(set(on))
        for call in journal.overview.last_calls(100):
            assert sum(event.kind in call_states.ENDED for event in journal.calls.events(call)) == (call.ended is not None)
    finally:
        journal.close()


def test_a_line_that_is_taken_in_twice_undoes_no_later_transfer(journal, write_config):
    call = journal.calls.arrive("pbx1", "1.1", "77", "5254", arrived=1.7e9)
    line = {"kind": "moved", "at": 1.7e9 + 5, "arrived": 1.7e9, "uniqueid": "1.1", "queue": "77", "call_id": call.call_id,
            "number": "4733990777", "extension": "", "link": "", "channel": "1.2", "leaving": "1.1", "left": "", "held": False}
    configuration = config.load(write_config())
    emergency.record(journal, configuration, line)
    assert journal.calls.find(call.call_id).channel == "1.2"
    journal.calls.move(call.call_id, "1.3", "4733990778")
    emergency.record(journal, configuration, line)
    assert journal.calls.find(call.call_id).channel == "1.3"
