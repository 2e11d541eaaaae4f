"""The verbs against a scripted Asterisk, a real journal and, where they ask Movidesk, the simulator over HTTP."""
from __future__ import annotations

import os
import socket
import threading
import time
from contextlib import closing, suppress

import pytest

from movidesk import config
from movidesk.agi import runner, variables, verbs
from movidesk.agi.channel import ChannelGone
from movidesk.config import options
from movidesk.context import UNUSABLE_EXTENSION, Context
from movidesk.journal import Journal
from movidesk.journal.call_store import CallStore
from movidesk.rules.trial import TOKEN_RETRY
from movidesk_sim.faults import Fault
from movidesk_sim.model import EXAMPLE_TOKEN
from support import peer as asterisk
from support.peer import Peer

QUEUE = "77"
CALLER = "1700000000.1"
CALL = "pbx1-" + CALLER


def run(settings: str, verb: str, *arguments: str, **about) -> Peer:
    """One verb as a process of its own would run it: with a fresh Context. Returns the peer, after the last answer."""
    peer = Peer(**about)
    with peer.channel(*arguments) as channel:
        result = runner.run(verb, channel, Context(config.load(settings)), channel.arguments)
    assert peer.sets[-1] == (variables.RESULT, result)
    return peer


class Book:
    """The journal, as the tests look at it."""

    def __init__(self, path):
        self.journal = Journal(str(path))

    def call(self, call_id: str = CALL):
        return self.journal.calls.find(call_id)

    def kinds(self, call_id: str = CALL) -> list[str]:
        call = self.call(call_id)
        return [event.kind for event in self.journal.calls.events(call)] if call else []

    def last(self, call_id: str = CALL):
        return self.journal.calls.events(self.call(call_id))[-1]


LINKS = {"link": "https://pbx.example.com/rec/{file}"}


@pytest.fixture
def online(write_config, simulator) -> str:
    """A configuration with which the simulator is asked."""
    return write_config(movidesk={"url": simulator.url}, recordings=LINKS)


@pytest.fixture
def settings(write_config) -> str:
    """A configuration for events, which need no Movidesk: nothing answers."""
    return write_config(recordings=LINKS)


@pytest.fixture
def book(tmp_path):
    found = Book(tmp_path / "journal.db")
    yield found
    found.journal.close()


def asked(simulator) -> list[dict]:
    return [request for request in simulator.model.log if request["endpoint"] == "asterisk_receivedCall"]


# -- received --------------------------------------------------------------------------------------------------------

def test_received_sets_the_extension(online, simulator, book):
    peer = run(online, "received", QUEUE, callerid="+55 (47) 3399-0777")
    assert (peer[variables.EXT], peer[variables.CODE]) == ("5252", "")
    assert (peer[variables.POSITION], peer[variables.RESULT]) == ("1", "ok")
    assert int(peer[variables.WAIT]) >= 1
    assert ("__" + variables.ID, CALL) in peer.sets
    request, = asked(simulator)
    assert (request["params"]["id"], request["params"]["clientNumber"]) == (CALL, "+554733990777")
    assert book.call().state == "offered"
    assert not any(line for line in peer.console if "failed" in line)


@pytest.mark.parametrize("presentation, number", [
    ("prohib_not_screened", "anonymous"), ("", "anonymous"), ("allowed_not_screened", "4733990777")])
def test_a_number_that_the_trunk_delivers_but_the_caller_withholds(settings, book, presentation, number):
    """agi_callingpres also tells that only the name is withheld."""
    peer = Peer(variables={"CALLERID(num-pres)": presentation}, environment={"agi_callingpres": "32"})
    with peer.channel(QUEUE) as channel:
        runner.run("received", channel, Context(config.load(settings)), [QUEUE])
    assert book.call().number == number


@pytest.mark.parametrize("value, priority", [("", 0), ("0", 0), ("7", 7), ("9", 9), ("10", 0), ("-1", 0), ("vip", 0), ("5 ", 0),
                                             ("\u0665", 0)])
def test_a_callers_priority_is_a_digit(settings, book, value, priority):
    peer = run(settings, "received", QUEUE, variables={variables.PRIORITY: value})
    assert (book.call().priority, book.call().state) == (priority, "received")
    said = [line for line in peer.console if "MOVIDESK_PRIORITY" in line]
    assert said == ([] if priority or value in ("", "0") else
                    [f"movidesk: {CALL}: MOVIDESK_PRIORITY = {value} is no whole number from 0 to 9: 0 is used"])
    again = run(settings, "received", QUEUE, variables={variables.PRIORITY: value, variables.ID: CALL})
    assert not [line for line in again.console if "MOVIDESK_PRIORITY" in line], "once per visit"


def test_a_caller_keeps_its_priority_in_the_next_queue(settings, book):
    """An agent has transferred it: the channel still has the variable."""
    run(settings, "received", QUEUE, variables={variables.PRIORITY: "3"})
    run(settings, "received", "78", variables={variables.PRIORITY: "3", variables.ID: CALL})
    assert [(call.queue, call.priority, call.state) for call in book.journal.overview.last_calls(2)] == [
        ("78", 3, "received"), (QUEUE, 3, "lost")]


@pytest.mark.parametrize("body, code", [('"0"', "0"), ("1", "1"), ("2 nobody is online", "2"), ('"3"', "3"), ('"4"', "4")])
def test_received_sets_the_code(online, simulator, body, code):
    simulator.faults.rules.append(Fault(body=body))
    peer = run(online, "received", QUEUE)
    assert (peer[variables.EXT], peer[variables.CODE], peer[variables.RESULT]) == ("", code, "ok")
    assert 1 <= int(peer[variables.WAIT]) <= 60


@pytest.mark.parametrize("body, kept", [('"52521234567 Ana"', "52521234567"), ('"x5"', "x5"), ("<html>Welcome</html>", None),
                                        ('"5252&PJSIP/00900@trunk"', None), ("[5252]", None), ("", None), ('"5252"', None)])
def test_a_rejected_extension_is_kept_for_the_alarm(online, simulator, book, body, kept):
    simulator.faults.rules.append(Fault(body=body))
    run(online, "received", QUEUE)
    note = book.journal.notes.get(UNUSABLE_EXTENSION)
    assert (note and note[0]) == kept


def test_an_agent_of_a_rejected_extension_is_kept_for_the_alarm(online, book):
    peer = run(online, "start_transferred", QUEUE, "PJSIP/52521234567-00000001")
    assert peer[variables.RESULT] == "error" and "does not match extension_pattern" in peer.logged[0][1]
    assert book.journal.notes.get(UNUSABLE_EXTENSION)[0] == "PJSIP/52521234567-00000001"


@pytest.mark.parametrize("scene, code", [
    ({"holidays": ["2000-01-01"]}, ""), ({"opens": "00:00", "closes": "00:00"}, "1"), ({"agents": []}, "2")])
def test_received_at_a_group_that_is_closed(online, simulator, scene, code):
    simulator.model.add_group(78, **{"agents": ["5252"], **scene})
    assert run(online, "received", "78")[variables.CODE] == code


@pytest.mark.parametrize("fault, said", [
    (Fault(status=500), "HTTP 500"),
    (Fault(status=401, body="bad key"), "HTTP 401: bad key"),
    (Fault(status=403), "HTTP 403"),
    (Fault(status=429, retry_after="7"), "HTTP 429"),
    (Fault(status=404), "HTTP 404"),
    (Fault(status=302), "HTTP 302"),
    (Fault(cut="before"), "cut"),
    (Fault(cut="after"), "cut"),
    (Fault(delay=1.0), "no answer within 0.2 s"),
    (Fault(body='"5252&PJSIP/00900@trunk"'), "5252&PJSIP"),
    (Fault(body="<html>Welcome</html>"), "<html>Welcome"),
    (Fault(body=""), "answered ''"),
    (Fault(body="[5252]"), "[5252]"),
    (Fault(body='"5252,1,gU(evil)"'), "gU(evil)"),
    (Fault(body="7"), "'7'"),
], ids=str)
def test_received_when_movidesk_cannot_be_asked(write_config, simulator, fault, said):
    settings = write_config(movidesk={"url": simulator.url, "timeout": "0.2"})
    simulator.faults.rules.append(fault)
    peer = run(settings, "received", QUEUE)
    assert (peer[variables.EXT], peer[variables.CODE], peer[variables.RESULT]) == ("", "E", "ok")
    assert int(peer[variables.WAIT]) >= (TOKEN_RETRY if fault.status in (401, 403) else 1) and int(peer[variables.WAIT]) <= 60
    assert [line for line in peer.console if CALL in line and said in line]
    assert EXAMPLE_TOKEN not in "".join(peer.console) and "token=" not in "".join(peer.console)


def test_a_token_that_comes_back_is_not_shown(online, simulator, book):
    simulator.faults.rules.append(Fault(status=500, body=f"no account has the key {EXAMPLE_TOKEN}"))
    peer = run(online, "received", QUEUE)
    assert f"movidesk: {CALL}: receivedCall: HTTP 500: no account has the key ***" in peer.console


def test_received_when_nothing_answers(write_config):
    peer = run(write_config(), "received", QUEUE)
    assert (peer[variables.CODE], peer[variables.RESULT]) == ("E", "ok")
    assert f"movidesk: {CALL}: receivedCall: the connection was refused or cut" in peer.console


def test_an_unresolved_name_holds_one_caller_for_three_timeouts(write_config, monkeypatch):
    settings = write_config(movidesk={"url": "https://movidesk.example/public/v1", "timeout": "0.2"})
    let_go, asked_for = threading.Event(), []

    def resolve(*args, **kwargs):
        asked_for.append(args[0])
        let_go.wait(10)
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    begun = time.monotonic()
    first = run(settings, "received", QUEUE)
    assert 0.6 <= time.monotonic() - begun < 2
    assert (first[variables.CODE], first[variables.RESULT]) == ("E", "ok")
    assert first.console[-1].endswith("(does DNS work?)")
    let_go.set()
    assert asked_for == ["movidesk.example"]


def test_received_in_a_pause_that_movidesk_asked_for(online, simulator):
    simulator.faults.rules.append(Fault(status=429, retry_after="40"))
    first, second = (run(online, "received", QUEUE) for _ in range(2))
    assert 35 < int(first[variables.WAIT]) <= 60
    assert second[variables.CODE] in ("4", "E") and 1 <= int(second[variables.WAIT]) <= 60
    assert len(asked(simulator)) == 1


def test_received_with_a_refused_token_is_not_sent_again(online, simulator):
    simulator.model.token = "00000000-0000-0000-0000-000000000000"
    first, second = (run(online, "received", QUEUE) for _ in range(2))
    assert (first[variables.CODE], second[variables.CODE]) == ("E", "E")
    assert len(asked(simulator)) == 1
    assert len([line for peer in (first, second) for line in peer.console
                if "refuses the token since" in line and online in line]) == 1


def test_received_keeps_to_the_limit(write_config, simulator):
    settings = write_config(movidesk={"url": simulator.url, "requests_per_minute": "1"})
    assert run(settings, "received", QUEUE)[variables.EXT] == "5252"
    second = run(settings, "received", QUEUE, uniqueid="1700000000.2")
    assert (second[variables.EXT], second[variables.RESULT]) == ("", "ok") and second[variables.CODE] in ("4", "E")
    assert 1 <= int(second[variables.WAIT]) <= 60
    assert len(asked(simulator)) == 1


def test_the_next_agent_is_offered_when_the_first_did_not_answer(online):
    assert [run(online, "received", QUEUE)[variables.EXT] for _ in range(2)] == ["5252", "5253"]


def test_the_only_phone_that_did_not_answer_is_not_dialled_again_at_once(online, simulator):
    simulator.model.add_group(78, ["5252"])
    assert run(online, "received", "78")[variables.EXT] == "5252"
    again = run(online, "received", "78")
    assert (again[variables.EXT], again[variables.CODE]) == ("", "4") and int(again[variables.WAIT]) >= 1
    assert len(asked(simulator)) == 2


def test_a_caller_is_not_offered_a_phone_again_that_has_just_refused_it(online, simulator, book):
    simulator.model.add_group(78, ["5252"])
    simulator.model.switches.reserve = False
    run(online, "received", "78")
    run(online, "received", "78", variables={variables.REFUSAL: "UNAVAILABLE"})
    assert [(refusal.extension, refusal.reason) for refusal in book.journal.agents.refusals()] == [("5252", "UNAVAILABLE")]
    assert book.call().state == "waiting" and book.call().code == "4"
    run(online, "canceled")
    assert run(online, "received", "78", uniqueid="1700000000.2")[variables.EXT] == "5252", "it may be on again"
    again = run(online, "received", "78", uniqueid="1700000000.2", variables={variables.REFUSAL: "UNAVAILABLE"})
    assert (again[variables.EXT], again[variables.CODE]) == ("", "4")
    assert len(asked(simulator)) == 3, "Movidesk is not asked again for a phone that is known to be off"


@pytest.mark.parametrize("reason", ["5252&x", "busy", "", "A" * 30, "BUSY LINE"])
def test_a_refusal_that_is_no_state_is_kept_without_its_reason(online, simulator, book, reason):
    run(online, "received", QUEUE)
    run(online, "received", QUEUE, variables={variables.REFUSAL: reason})
    assert [(refusal.extension, refusal.reason) for refusal in book.journal.agents.refusals()] == [("5252", "")]


def test_position_counts_those_who_came_before(online, simulator):
    simulator.faults.rules.append(Fault(body='"4"'))
    run(online, "received", QUEUE)
    assert run(online, "received", QUEUE, uniqueid="1700000000.2")[variables.POSITION] == "2"


@pytest.mark.parametrize("number, told", [
    ('47"33', "4733"), ("+5547\x07\x00\x1b[2J1", "+554721"), ("", "anonymous"), ("unknown", "anonymous"),
    ("9" * 10_000, "9" * 128), ("<sip:a@b>;--", "anonymous"), ("\udcff\udcfe12", "12"), ("a=b&c=d 5", "5")])
def test_callers_numbers(online, simulator, number, told):
    peer = run(online, "received", QUEUE, callerid=number)
    assert peer[variables.EXT] == "5252"
    assert asked(simulator)[0]["params"]["clientNumber"] == told


@pytest.mark.parametrize("queue", [(), ("",), ("abc",), ("7 7",), ("12345678901",), ("-1",), ("٧٧",), ("77;",)])
def test_a_queue_that_is_no_number(online, simulator, book, queue):
    peer = run(online, "received", *queue)
    assert (peer[variables.EXT], peer[variables.CODE], peer[variables.RESULT]) == ("", "E", "error")
    assert [line for line in peer.console if "received failed: the queue" in line]
    assert book.call() is None and not asked(simulator)


def test_systemname_is_not_repeated(online):
    assert run(online, "received", QUEUE, uniqueid="pbx1-1700000000.1")[variables.ID] == "pbx1-1700000000.1"


def test_a_channel_without_unique_id(online):
    peer = run(online, "received", QUEUE, uniqueid="")
    assert (peer[variables.CODE], peer[variables.RESULT]) == ("E", "error")
    assert "movidesk: received failed: the channel has no unique id" in peer.console


def test_a_queue_entered_again_after_the_end_gets_a_new_id(online, book):
    run(online, "received", QUEUE)
    run(online, "lost")
    assert [run(online, "received", QUEUE)[variables.ID] for _ in range(2)] == [CALL + "-2"] * 2
    run(online, "hangup", variables={variables.ID: CALL + "-2"})
    assert run(online, "received", QUEUE)[variables.ID] == CALL + "-3"
    assert [book.kinds(CALL + end)[-1] for end in ("", "-2")] == ["lost", "canceled"]


# -- report_transfer = ring --------------------------------------------------------------------------------------------

def test_ring_tells_the_transfer_while_the_phone_rings(write_config, simulator, book):
    settings = write_config(movidesk={"url": simulator.url}, pbx={"report_transfer": "ring"})
    run(settings, "received", QUEUE)
    assert book.kinds() == ["received", "transferred"] and book.last().extension == "5252"
    run(settings, "transferred", "5252")
    assert book.kinds() == ["received", "transferred"] and book.call().state == "transferred"
    run(settings, "hangup")
    assert book.kinds() == ["received", "transferred", "completed"]


# -- events ----------------------------------------------------------------------------------------------------------

def test_the_life_of_an_answered_call(settings, book):
    caller = run(settings, "received", QUEUE)
    agent = run(settings, "transferred", "5252", "", uniqueid="1700000000.9", variables={variables.ID: caller[variables.ID]})
    run(settings, "completed", "https://pbx.example.com/a.wav")
    assert book.kinds() == ["received", "transferred", "completed"]
    assert agent[variables.RESULT] == "ok" and book.call("pbx1-1700000000.9") is None
    assert book.last().link == "https://pbx.example.com/a.wav"


@pytest.mark.parametrize("before, verb, after", [
    ((), "lost", "lost"), ((), "canceled", "canceled"), ((), "hangup", "canceled"),
    ((("transferred", "5252"),), "hangup", "completed"), ((("transferred", "5252"),), "completed", "completed"),
    ((("lost",),), "hangup", "lost"), ((("lost",),), "canceled", "lost"), ((("canceled",),), "completed", "canceled")])
def test_one_ending(settings, book, before, verb, after):
    run(settings, "received", QUEUE)
    for step in before:
        run(settings, *step)
    assert run(settings, verb)[variables.RESULT] == "ok"
    assert run(settings, verb)[variables.RESULT] == "ok"
    endings = [kind for kind in book.kinds() if kind in ("completed", "lost", "canceled")]
    assert endings == [after] and book.call().state == after


@pytest.mark.parametrize("code", "012")
def test_a_hangup_after_a_code_that_closes_is_a_lost_call(online, simulator, book, code):
    simulator.faults.rules.append(Fault(body=code))
    run(online, "received", QUEUE)
    run(online, "hangup")
    assert book.kinds()[-1] == "lost"


def test_transferred_without_an_extension_names_the_one_that_was_offered(online, book):
    run(online, "received", QUEUE)
    run(online, "transferred")
    assert book.last().extension == "5252"


def test_calls_without_queue_control(settings, book):
    assert run(settings, "start_transferred", QUEUE, "5253")[variables.RESULT] == "ok"
    assert run(settings, "start_canceled", QUEUE, uniqueid="1700000000.2")[variables.RESULT] == "ok"
    assert book.kinds() == ["start_transferred"] and book.last().extension == "5253"
    assert book.kinds("pbx1-1700000000.2") == ["start_canceled"]
    assert {call.queue for call in book.journal.overview.last_calls(9)} == {QUEUE}


@pytest.mark.parametrize("verb, arguments, said", [
    ("transferred", ["5252&PJSIP/00900@trunk"], "extension '5252&PJSIP/00900@trunk' does not match"),
    ("transferred", ["5252,1,gU(evil)"], "does not match"),
    ("transferred", ["5252", "x"], "at most 1"),
    ("start_transferred", [QUEUE], "extension '' does not match"),
    ("completed", ["a", "b"], "at most 1"),
    ("canceled", ["a"], "at most 0"),
    ("link", [], "link: '' is no address"),
    ("nonsense", [], "no verb 'nonsense'; known: received, transferred"),
    ("../../etc/passwd", [], "no verb"),
    ("__init__", [], "no verb"),
])
def test_wrong_arguments_are_told_and_record_nothing(settings, book, verb, arguments, said):
    peer = run(settings, verb, *arguments)
    assert peer[variables.RESULT] == "error"
    assert [line for line in peer.console if "failed: " in line and said in line]
    assert book.journal.overview.last_calls(9) == []


# -- links -----------------------------------------------------------------------------------------------------------

def recording(tmp_path, name: str, size: int = 1000) -> str:
    (tmp_path / name).write_bytes(b"\0" * size)
    return str(tmp_path / name)


@pytest.mark.parametrize("given, link", [
    ("talk 1&2.wav", "https://pbx.example.com/rec/talk%201%262.wav"),
    ("https://elsewhere.example.com/x?y=1", "https://elsewhere.example.com/x?y=1"),
    ("", ""),
])
def test_the_link_of_a_recording(settings, book, given, link):
    run(settings, "received", QUEUE)
    run(settings, "lost", given)
    assert book.last().link == link


@pytest.mark.parametrize("size, link", [(None, ""), (44, ""), (45, "https://pbx.example.com/rec/m.wav")])
def test_a_recording_without_sound_gets_no_link(settings, book, tmp_path, size, link):
    path = recording(tmp_path, "m.wav", size) if size else str(tmp_path / "m.wav")
    run(settings, "received", QUEUE)
    run(settings, "lost", path)
    assert book.last().link == link


def test_hangup_takes_the_recording_from_the_channel(settings, book, tmp_path):
    run(settings, "received", QUEUE)
    run(settings, "transferred", "5252")
    run(settings, "hangup", variables={variables.RECORDING: recording(tmp_path, "talk.wav")})
    assert book.last().link == "https://pbx.example.com/rec/talk.wav"


def test_the_links_template(write_config, book):
    settings = write_config(recordings={"link": "https://x.example.com/{queue}/{extension}/{id}/{file}"})
    run(settings, "received", QUEUE)
    run(settings, "transferred", "5252")
    run(settings, "completed", "a.wav")
    assert book.last().link == f"https://x.example.com/77/5252/{CALL}/a.wav"


def test_without_a_template_a_file_gets_no_link(write_config, book):
    settings = write_config()
    run(settings, "received", QUEUE)
    run(settings, "lost", "a.wav")
    assert (book.last().kind, book.last().link) == ("lost", "")


def test_a_link_after_the_end(settings, book):
    run(settings, "received", QUEUE)
    run(settings, "transferred", "5252")
    run(settings, "hangup")
    run(settings, "link", "late.wav")
    assert (book.last().kind, book.last().link) == ("link", "https://pbx.example.com/rec/late.wav")


# -- hangups in the middle -------------------------------------------------------------------------------------------

@pytest.mark.parametrize("fault", [asterisk.EOF, asterisk.DEAD], ids=["EOF", "511"])
@pytest.mark.parametrize("command", [1, 2, 3, 4])
@pytest.mark.parametrize("before, verb, kind", [
    ([], "received", "received"), ([], "lost", "lost"), ([], "canceled", "canceled"), ([], "hangup", "canceled"),
    ([], "transferred", "transferred"), (["transferred"], "completed", "completed"), (["transferred"], "hangup", "completed")])
def test_a_channel_that_ends_in_mid_verb_loses_no_event(settings, book, before, verb, kind, command, fault):
    for step in ["received", *before] if verb != "received" else []:
        run(settings, step, *([QUEUE] if step == "received" else []))
    with Peer(faults={command: fault}).channel(*([QUEUE] if verb == "received" else [])) as channel, suppress(ChannelGone):
        runner.run(verb, channel, Context(config.load(settings)), channel.arguments)
    assert kind in book.kinds()


def test_an_agents_channel_that_is_gone_begins_no_call(settings, book):
    run(settings, "received", QUEUE)
    with Peer(uniqueid="1700000000.9", faults={1: asterisk.EOF}).channel("5252") as channel, pytest.raises(ChannelGone):
        runner.run("transferred", channel, Context(config.load(settings)), channel.arguments)
    assert [call.call_id for call in book.journal.overview.last_calls(9)] == [CALL]


@pytest.mark.parametrize("fault", [asterisk.UNKNOWN, asterisk.USAGE, asterisk.USAGE_LINES, b"nonsense\n"])
def test_a_console_line_that_asterisk_refuses_fails_no_event(settings, book, fault):
    run(settings, "received", QUEUE)
    run(settings, "canceled", faults={2: fault})
    assert book.kinds()[-1] == "canceled"


# -- configuration ---------------------------------------------------------------------------------------------------

EVENTS = [("lost", "lost"), ("canceled", "canceled"), ("hangup", "canceled"), ("transferred", "transferred")]


@pytest.mark.parametrize("change", [
    {"movidesk": {"token": "no-guid"}}, {"movidesk": {"token": None}}, {"movidesk": {"url": "http://example.com"}},
    {"movidesk": {"timeout": "soon"}}, {"movidesk": {"colour": "red"}}, {"agid": {"listen": "here"}},
    {"recordings": {"link": "{nonsense}"}}], ids=str)
@pytest.mark.parametrize("verb, kind", EVENTS)
def test_what_is_wrong_elsewhere_in_the_configuration_stops_no_event(write_config, settings, book, change, verb, kind):
    run(settings, "received", QUEUE)
    assert run(write_config(**change), verb)[variables.RESULT] == "ok"
    assert kind in book.kinds()


@pytest.mark.parametrize("change, said", [
    ({"movidesk": {"token": "no-guid"}}, ["[movidesk] token", "is not a GUID"]),
    ({"movidesk": {"token": None}}, ["[movidesk] token is missing"]),
    ({"movidesk": {"url": "http://example.com"}}, ["[movidesk] url", "must be https"])], ids=str)
def test_received_without_a_sound_configuration(write_config, book, change, said):
    settings = write_config(**change)
    peer = run(settings, "received", QUEUE)
    assert (peer[variables.CODE], peer[variables.RESULT], peer[variables.ID]) == ("E", "error", CALL)
    line, = [line for line in peer.console if "received failed" in line]
    assert all(part in line for part in [settings, *said]) and "no-guid" not in line
    assert book.kinds() == ["received"]


@pytest.mark.parametrize("broken, said", [
    ("this is no setting\n", "not of the form 'key = value'"), ("[colours]\nred = 1\n", "unknown section [colours]")])
@pytest.mark.parametrize("verb, kind", EVENTS)
def test_a_malformed_file_stops_no_event(settings, book, broken, said, verb, kind):
    run(settings, "received", QUEUE)
    with open(settings, "a") as file:
        file.write(broken)
    peer = run(settings, verb)
    assert peer[variables.RESULT] == "ok" and kind in book.kinds()
    assert [line for line in peer.console if settings in line and said in line]


def test_a_missing_file_stops_no_event(write_config, tmp_path, monkeypatch):
    place = str(tmp_path / "default.db")
    monkeypatch.setitem(options.OPTIONS["journal"], "path", (options.OPTIONS["journal"]["path"][0], place))
    missing = str(tmp_path / "missing.conf")
    asked_of, told = run(missing, "received", QUEUE), run(missing, "hangup")
    assert (asked_of[variables.CODE], asked_of[variables.RESULT], told[variables.RESULT]) == ("E", "error", "ok")
    for peer in asked_of, told:
        assert [line for line in peer.console if missing + ": No such file or directory" in line]
    book = Journal(place)
    assert [event.kind for event in book.calls.events(book.calls.latest(CALLER))] == ["received", "canceled"]


@pytest.mark.parametrize("text, said", [
    ("path = /tmp/j.db\n[journal]\n", ":1: a setting before any [section]"),
    ("[journal]\npath = /tmp/j.db\npath = /tmp/k.db\n", ":3: [journal] path is set twice"),
    ("[journal]\npath = j.db\n", ":2: [journal] path: 'j.db' must be an absolute path"),
    ("[pbx]\nname = my pbx\n", ":2: [pbx] name: 'my pbx' must be"),
])
def test_if_the_journals_place_is_unknown_nothing_is_recorded_elsewhere(write_config, tmp_path, monkeypatch, text, said):
    place = tmp_path / "default.db"
    monkeypatch.setitem(options.OPTIONS["journal"], "path", (options.OPTIONS["journal"]["path"][0], str(place)))
    settings = tmp_path / "movidesk.conf"
    settings.write_text(text)
    for verb, *arguments in ("received", QUEUE), ("hangup",):
        peer = run(str(settings), verb, *arguments)
        assert peer[variables.RESULT] == "error" and peer.variables.get(variables.CODE, "E") == "E"
        assert [line for line in peer.console if str(settings) + said in line]
    assert not place.exists()


@pytest.mark.parametrize("place, said", [("missing/journal.db", "missing does not exist"), ("file/journal.db", "file"),
                                         ("folder", "unable to open")])
def test_a_journal_that_cannot_be_used(write_config, tmp_path, place, said):
    (tmp_path / "file").write_text("this is no database, but it is long enough to be looked at\n" * 100)
    (tmp_path / "folder").mkdir()
    settings = write_config(journal={"path": str(tmp_path / place)})
    for verb, *arguments in ("received", QUEUE), ("lost",), ("hangup",):
        peer = run(settings, verb, *arguments)
        assert peer[variables.RESULT] == "error" and peer.variables.get(variables.POSITION, "1") in ("1", 1)  # in the standby
        line, = [line for line in peer.console if "failed" in line]
        assert os.path.join(tmp_path, place) in line and said in line


def test_a_defect_of_ours_fails_no_call(settings, monkeypatch, capfd):
    monkeypatch.setattr(CallStore, "arrive", lambda *args, **more: 1 / 0)
    peer = run(settings, "received", QUEUE)
    assert (peer[variables.CODE], peer[variables.RESULT]) == ("E", "error")
    assert "movidesk: received failed: ZeroDivisionError: division by zero" in peer.console
    assert "Traceback" in capfd.readouterr().err


def test_what_a_defect_of_ours_kept_from_the_journal_is_recorded_later(settings, monkeypatch):
    arrive = CallStore.arrive
    monkeypatch.setattr(CallStore, "arrive", lambda *args, **more: 1 / 0)
    peer = run(settings, "received", QUEUE)
    assert "movidesk: received is kept in " in "".join(peer.console)
    monkeypatch.setattr(CallStore, "arrive", arrive)
    run(settings, "hangup")
    with closing(Journal(config.load(settings)["journal", "path"])) as journal:
        call, = journal.overview.last_calls(10)
        assert (call.state, [event.kind for event in journal.calls.events(call)]) == ("canceled", ["received", "canceled"])


@pytest.mark.parametrize("answer", [b"nonsense\n", asterisk.USAGE_LINES, asterisk.UNKNOWN])
@pytest.mark.parametrize("verb", verbs.VERBS)
def test_a_peer_that_is_no_asterisk_ends_a_verb_without_an_exception(settings, verb, answer):
    peer = Peer(faults={number: answer for number in range(1, 40)})
    arguments = asterisk.ARGUMENTS.get(verb, [])
    with peer.channel(*arguments) as channel:
        result = runner.run(verb, channel, Context(config.load(settings)), arguments)
    assert peer.commands[-1] == b'SET VARIABLE "MOVIDESK_RESULT" "%s"\n' % result.encode()


def test_a_call_id_that_movidesk_would_not_take_begins_no_call(settings, book):
    peer = run(settings, "canceled", variables={variables.ID: "x" * 257})
    assert peer[variables.RESULT] == "error" and book.journal.overview.last_calls(5) == []
