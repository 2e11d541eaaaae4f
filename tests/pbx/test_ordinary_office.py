"""What ordinary offices do on a real Asterisk, and what admins mistype: each caller still is one complete ticket."""
from __future__ import annotations

import pytest

from movidesk_rehearsal.phones import DECLINES, RINGS, answers
from movidesk_rehearsal.rehearsal import Rehearsal, wait_for
from office import ANSWERED, CANCELED, DIALPLAN, SETTINGS, VARIABLES, Office

MORE = """
[from-trunk](+)
exten => zeros,1,Goto(movidesk-queue,077,1)
exten => inherited,1,Set(__MOVIDESK_RING=1)
 same => n,Set(__MOVIDESK_MESSAGE=no)
 same => n,Set(__MOVIDESK_MAX_WAIT=1)
 same => n,Goto(movidesk-queue,77,1)
exten => watched-then-queue,1,Gosub(movidesk-watch,s,1(77))
 same => n,Goto(movidesk-queue,77,1)
exten => watched-twice,1,Gosub(movidesk-watch,s,1(77))
 same => n,Dial(PJSIP/5254,1,U(movidesk-answered))
 same => n,Gosub(movidesk-watch,s,1(77))
 same => n,Dial(PJSIP/5253,20,U(movidesk-answered))
exten => withheld,1,Set(CALLERID(num-pres)=prohib_not_screened)
 same => n,Goto(movidesk-queue,77,1)
exten => ivr,1,Answer()
 same => n,Wait(0.5)
 same => n,Goto(movidesk-queue,77,1)

[own]
exten => s,1,Return()

[ext-local]
exten => _5XXX,1,Dial(PJSIP/${EXTEN},20)
 same => n,Goto(followme,${EXTEN},1)
[followme]
exten => _5XXX,1,Dial(PJSIP/5254,20)
"""


@pytest.fixture(scope="module")
def ordinary(tree, tmp_path_factory):
    with Rehearsal(tree, tmp_path_factory.mktemp("ordinary"), settings=SETTINGS, more=DIALPLAN + MORE,
                   variables={**VARIABLES, "MOVIDESK_MESSAGE": "no"}) as rehearsal:
        yield rehearsal


@pytest.fixture
def office(ordinary):
    with Office(ordinary) as office:
        yield office


def test_an_agents_phone_dies_in_the_talk(office):
    agent = office.agent("5252")
    caller = office.call()
    caller.wait_answered()
    agent.cut_off()
    agent.register(expires=0)  # as if qualify had found it dead: the tests share Asterisk
    caller.hang_up()
    assert office.ticket(caller, "completed", ANSWERED).agent == "5252"


def test_two_callers_in_the_same_moment_talk_to_two_agents(office):
    office.agent("5252"), office.agent("5253")
    callers = [office.call(), office.call()]
    office.wait_heard("transferedCall", 2)  # one of them may be answered by the music first
    for caller in callers:
        caller.hang_up()
    tickets = [ticket for caller in callers for ticket in office.tickets(caller)]
    assert sorted((ticket.state, ticket.agent) for ticket in tickets) == [("completed", "5252"), ("completed", "5253")]


@pytest.mark.parametrize("keys", ["5", "*#", "1234", "A"])
def test_a_caller_who_waits_presses_keys(office, keys):
    office.all_in_calls()
    caller = office.call("ivr")
    office.wait_music(caller)
    for key in keys:
        caller.press(key)
    office.agent("5252")
    office.model.in_call.clear()
    wait_for("the transfer", lambda: "transferedCall" in office.heard(), instead=office.console)
    caller.hang_up()
    assert [ticket.state for ticket in office.tickets(caller)] == ["completed"]


@pytest.mark.parametrize("options", ["g", "tT,", '"tT"', "m(default)g", "t,http://crm.example.com/", "tU(own)"])
def test_dial_options(office, options):
    office.set(MOVIDESK_DIAL_OPTIONS=options)
    office.agent("5252", answers(0.1, hang_up_after=0.3))
    assert office.ticket(office.call(), "completed", ANSWERED).agent == "5252"


def test_a_queue_with_leading_zeros_is_the_queue(office):
    office.agent("5252")
    caller = office.call("zeros")
    caller.wait_answered()
    caller.hang_up()
    assert office.ticket(caller, "completed", ANSWERED).queue == 77


def test_settings_of_the_channel_with_inheritance(office):
    office.agent("5252", RINGS)
    caller = office.call("inherited")
    result = caller.wait()
    assert result.hung_up_by != "caller" and result.ended_at - result.started_at < 6
    assert [ticket.state for ticket in office.tickets(caller)] == ["lost"]


@pytest.mark.parametrize("number, shown", [
    ("anonymous", "anonymous"), ("joao", "anonymous"), ("4" * 40, "4" * 40), ("+554733990777", "+554733990777"),
    ("5547%23", "5547")])
def test_numbers_as_they_come(office, number, shown):
    office.agent("5252")
    caller = office.call(number=number)
    caller.wait_answered()
    caller.hang_up()
    caller.wait()
    office.settle()
    assert [(ticket.number, ticket.state) for ticket in office.rehearsal.tickets()] == [(shown, "completed")]


def test_a_number_that_the_trunk_delivers_but_the_caller_withholds(office):
    office.agent("5252")
    caller = office.call("withheld")
    caller.wait_answered()
    caller.hang_up()
    caller.wait()
    office.settle()
    assert [(ticket.number, ticket.state) for ticket in office.rehearsal.tickets()] == [("anonymous", "completed")]


def test_a_caller_hears_ringing_while_movidesk_is_slow(office):
    office.fault("receivedCall", delay=1.0)
    agent = office.agent("5252")
    caller = office.call()
    caller.wait_answered()
    assert caller.events("ringing")[0].at < agent.events("invited")[0].at - 0.5
    caller.hang_up()
    office.ticket(caller, "completed", ANSWERED)


@pytest.mark.parametrize("who", ["caller", "agent"])
def test_an_agent_behind_a_local_channel_that_leaves_the_call(office, who):
    office.set(MOVIDESK_DIAL_PREFIX="Local/", MOVIDESK_DIAL_SUFFIX="@ext-local")
    agent = office.agent("5252", audio=True)
    caller = office.call()
    office.wait_talk(caller, agent)
    (caller if who == "caller" else agent).hang_up()
    office.ticket(caller, "completed", ANSWERED)
    assert "ERROR" not in office.console()


def test_a_local_agent_with_follow_me(office):
    office.set(MOVIDESK_DIAL_PREFIX="Local/", MOVIDESK_DIAL_SUFFIX="@ext-local/n")
    office.agent("5252", DECLINES)
    office.agent("5254")
    caller = office.call()
    caller.wait_answered()
    caller.hang_up()
    assert office.ticket(caller, "completed", ANSWERED).agent == "5252"


@pytest.mark.parametrize("command", ["dialplan reload", "core reload"])
def test_reloads_while_a_caller_waits_and_talks(office, command):
    office.all_in_calls()
    office.agent("5252")
    caller = office.call()
    office.wait_music(caller)
    office.pbx.cli(command)
    office.model.in_call.clear()
    wait_for("the transfer", lambda: "transferedCall" in office.heard(), instead=office.console)
    office.pbx.cli(command)
    assert not caller.ended
    caller.hang_up()
    assert [ticket.state for ticket in office.tickets(caller)] == ["completed"]


def test_watched_twice_is_one_call(office):
    """Two ring groups, one after the other, each with the watch before it."""
    office.agent("5253")
    caller = office.call("watched-twice")
    caller.wait_answered()
    caller.hang_up()
    assert office.ticket(caller, "completed", ["startTransferedCall", "completedCall"]).agent == "5253"


def test_watched_in_vain_and_then_into_a_movidesk_queue(office):
    office.agent("5252")
    caller = office.call("watched-then-queue")
    caller.wait_answered()
    caller.hang_up()
    assert sorted(ticket.state for ticket in office.tickets(caller)) == ["canceled", "completed"]


@pytest.mark.parametrize("name, value", [
    ("RING", "abc"), ("RING", "0"), ("RING", "-5"), ("RING", "20 s"), ("MAX_WAIT", "-1"), ("MAX_WAIT", "ten"), ("ANNOUNCE", "x"),
    ("PRIORITY", "10"), ("PRIORITY", "-1"), ("PRIORITY", "vip"),
    ("CHECK_PHONE", "sim"), ("FALLBACK", "nosuch,s,1"), ("FALLBACK", "people"), ("FALLBACK", "people,s,nolabel"),
    ("FALLBACK", "s")])
def test_a_setting_without_sense_has_its_default(office, name, value):
    office.set(**{"MOVIDESK_" + name: value})
    office.fault("receivedCall", status=500)
    caller = office.call()
    office.wait_music(caller)
    assert f"MOVIDESK_{name} = {value} is not valid" in office.console()
    caller.hang_up()
    assert [ticket.state for ticket in office.tickets(caller)] == ["canceled"]


def test_a_phone_that_rings_with_a_mistyped_time_is_given_up(office):
    office.set(MOVIDESK_RING="0")
    office.agent("5252", RINGS)
    caller = office.call()
    office.wait_stage(caller, "Dial", "PJSIP/5252,20,")
    caller.hang_up()
    assert [ticket.state for ticket in office.tickets(caller)] == ["canceled"]


def test_a_class_of_music_that_does_not_exist_is_silence(office):
    office.set(MOVIDESK_MOH="nosuch")
    office.all_in_calls()
    caller = office.call()
    office.wait_music(caller)
    caller.hang_up()
    office.ticket(caller, "canceled", CANCELED)


@pytest.mark.parametrize("value, links", [("Yes", 1), ("TRUE", 1), ("1", 1), ("on", 1), ("No", 0), ("sim", 0)])
def test_yes_and_no(office, value, links):
    office.set(MOVIDESK_RECORD=value)
    office.agent("5252", answers(hang_up_after=0.5), audio=True)
    assert len(office.ticket(office.call(), "completed", ANSWERED).links) == links
    assert ("MOVIDESK_RECORD = sim is not valid" in office.console()) == (value == "sim")
