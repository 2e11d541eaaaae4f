"""The rig itself: a real Asterisk between SIPp phones."""
import os
import socket
import time
from contextlib import closing

import pytest
import requests

from movidesk_rehearsal import demo, sipp_phone
from movidesk_rehearsal.asterisk import PrivateAsterisk, free_port
from movidesk_rehearsal.asterisk_config import PHONES
from movidesk_rehearsal.phones import BUSY, DECLINES, RINGS, Agent, Caller, PhoneFailed, answers, rejects
from movidesk_rehearsal.timeline import timeline
from office import DEFAULT_AGID

DIALPLAN = """
[from-trunk]
exten => 100,1,Dial(PJSIP/5252,10,g)
 same => n,Hangup(${HANGUPCAUSE})
exten => 101,1,Dial(PJSIP/5252,1,g)
 same => n,Verbose(0,status of 101: ${DIALSTATUS})
 same => n,Hangup(19)
exten => 102,1,Answer()
 same => n,Read(KEY,,1,,1,5)
 same => n,Verbose(0,pressed in 102: ${KEY})
 same => n,Hangup()
exten => 103,1,Answer()
 same => n,Record(${SPOOL}/message.wav,0,30,k)

[from-internal]
exten => _525X,1,Dial(PJSIP/${EXTEN},10)
"""


@pytest.fixture(scope="module")
def make_pbx(tree, tmp_path_factory):
    return lambda: PrivateAsterisk(tree, tmp_path_factory.mktemp("rig"))


@pytest.fixture(scope="module")
def rig(make_pbx):
    pbx = make_pbx()
    pbx.write("extensions.conf", f"[globals]\nSPOOL={pbx.spool_dir}\n{DIALPLAN}")
    with pbx:
        yield pbx


@pytest.fixture(autouse=True)
def quiet(rig):
    yield
    rig.wait_idle()


def test_agent_answers_and_hangs_up(rig):
    with Agent(rig, "5252", answers(0.2, hang_up_after=0.4)) as agent, Caller(rig) as caller:
        result = caller.wait()
        assert (result.status, result.answered, result.hung_up_by) == (200, True, "pbx")
        assert 0.3 < result.ended_at - result.answered_at < 2
        assert agent.wait_event("ended").detail == "agent"
        assert agent.wait_event("invited").detail == "sip:4733990777"


def test_caller_hangs_up_after_the_answer(rig):
    with Agent(rig, "5252", answers()) as agent, Caller(rig) as caller:
        caller.wait_answered()
        caller.hang_up()
        assert caller.wait().hung_up_by == "caller"
        assert agent.wait_event("ended").detail == "pbx"


def test_caller_cancels_in_time(rig):
    with Agent(rig, "5252", RINGS) as agent, Caller(rig, hang_up_after=0.5) as caller:
        result = caller.wait()
        assert (result.status, result.answered, result.hung_up_by) == (487, False, "caller")
        assert 0.4 < result.ended_at - result.started_at < 2
        agent.wait_event("cancelled")


def test_agent_answers_by_hand(rig):
    with Agent(rig, "5252", RINGS) as agent, Caller(rig) as caller:
        agent.wait_ringing()
        agent.answer()
        caller.wait_answered()
        agent.hang_up()
        assert caller.wait().hung_up_by == "pbx"


# Asterisk tells the caller of the cause it was told: 603 comes out as 21, rejected, which SIP calls 403.
@pytest.mark.parametrize("behaviour, status", [(BUSY, 486), (DECLINES, 403), (rejects(404), 404), (rejects(503), 503)])
def test_agent_rejects(rig, behaviour, status):
    with Agent(rig, "5252", behaviour), Caller(rig) as caller:
        result = caller.wait()
        assert (result.status, result.answered, result.hung_up_by) == (status, False, None)


def test_nobody_answers_in_time(rig):
    with Agent(rig, "5252", RINGS) as agent, Caller(rig, "101") as caller:
        assert caller.wait().status == 480
        agent.wait_event("cancelled")
    assert "status of 101: NOANSWER" in rig.log()


def test_agent_that_left_is_not_there(rig):
    with Agent(rig, "5252"):
        assert "5252@127.0.0.1" in rig.cli("pjsip show contacts")
    assert "5252@127.0.0.1" not in rig.cli("pjsip show contacts")


def test_agent_becomes_another(rig):
    with Agent(rig, "5252", BUSY) as agent:
        agent.become(answers(hang_up_after=0.1))
        with Caller(rig) as caller:
            assert caller.wait().answered


def test_key_reaches_the_dialplan(rig):
    with Caller(rig, "102", press=("#", 0.1), number="+554733990777", name="Ana") as first:
        assert first.wait().status == 200
    with Caller(rig, "102", press=("7", 0.1)) as second:
        second.wait()
    assert "pressed in 102: 7" in rig.log()


def test_voice_is_recorded(rig):
    with Caller(rig, "103", hang_up_after=1.0) as caller:
        assert caller.wait().hung_up_by == "caller"
    rig.wait_idle()
    seconds = (rig.spool_dir / "message.wav").stat().st_size / 16000
    assert 0.5 < seconds < 1.5


def test_blind_transfer(rig):
    with Agent(rig, "5252", answers()) as first, Agent(rig, "5253", answers()) as second, Caller(rig) as caller:
        caller.wait_answered()
        first.transfer("5253")
        second.wait_event("answered")
        assert first.wait_event("referred") and not caller.ended
        second.hang_up()
        assert caller.wait().hung_up_by == "pbx"


def test_attended_transfer(rig):
    with Agent(rig, "5252", answers()) as first, Agent(rig, "5253", answers()) as second, Caller(rig) as caller:
        caller.wait_answered()
        with Caller(rig, "5253", number="5252") as consultation:
            consultation.wait_answered()
            first.transfer_attended(consultation)
            assert consultation.wait().hung_up_by == "pbx"
            first.wait_event("referred")
            assert not caller.ended
        caller.hang_up()
        second.wait_event("ended")


def test_two_at_once_and_a_crash(rig, make_pbx):
    with make_pbx() as other:
        assert other.sip_port != rig.sip_port
        with Agent(other, "5252", RINGS) as agent:
            started = time.monotonic()
            other.restart(kill=True)
            agent.register()
            assert time.monotonic() - started < 5
            assert "5252@127.0.0.1" in other.cli("pjsip show contacts")
    assert rig.running and not other.running


@pytest.mark.parametrize("choice, offset", [(1, 0), (2, 0), (2, 2)], ids=["SIP", "audio", "video"])
def test_a_phone_whose_port_was_taken_meanwhile_takes_others(rig, monkeypatch, choice, offset):
    """Another process binds the port after the phone has chosen it, and before SIPp binds it."""
    chosen = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        def choose(kind):
            chosen.append(free_port(kind) & ~1)
            if len(chosen) == choice:
                other.bind((PHONES, chosen[-1] + offset))
            return chosen[-1]

        monkeypatch.setattr(sipp_phone, "free_port", choose)
        with Agent(rig, "5252", answers()) as agent, Caller(rig) as caller:
            caller.wait_answered()
            agent.hang_up()
            assert caller.wait().status == 200
            assert agent.port == chosen[2] and caller.port == chosen[4]


def test_a_phone_without_a_free_port_says_so(rig, monkeypatch):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind((PHONES, 0))
        monkeypatch.setattr(sipp_phone, "free_port", lambda kind: other.getsockname()[1])
        with pytest.raises(PhoneFailed, match="agent 5252: SIPp did not start(?s:.)*Unable to bind"), Agent(rig, "5252"):
            pass


def test_caller_who_is_refused_at_once(rig):
    with Caller(rig, "999") as caller:
        assert (caller.wait().status, len(caller.events("sent"))) == (404, 1)


def test_caller_who_leaves_in_the_middle_says_goodbye(rig):
    with Agent(rig, "5252", answers()) as agent:
        with Caller(rig) as caller:
            caller.wait_answered()
        assert agent.wait_event("ended").detail == "pbx"


def test_without_its_service_a_rehearsal_talks_to_nobody_elses(scripts_office):
    scripts_office.all_in_calls()
    caller = scripts_office.call()
    scripts_office.wait_music(caller)
    caller.hang_up()
    caller.wait()
    assert "movidesk/received" in scripts_office.console() and DEFAULT_AGID not in scripts_office.console()


def test_the_demo_has_a_panel_and_nothing_for_check_to_mend(tree, tmp_path):
    """Who plays with it afterwards learns from check what is wrong: nothing may be."""
    with demo.prepare(tree, str(tmp_path)) as rehearsal, demo.Stage(rehearsal) as stage:
        with closing(Caller(rehearsal.pbx, demo.NUMBER, "4733990010")) as customer:
            demo.made_call(stage, customer)
            ticket, = rehearsal.wait_for_tickets(1)
            rehearsal.pbx.wait_idle()
            told = [(line.who, line.what) for line in timeline(rehearsal, customer, stage.agents.values())]
        assert told[0] == ("agent 5252", "clicks on 4733990010 in Movidesk")
        assert demo.summary(ticket) == f"ticket {ticket.id}: made, agent 5252, with its recording"
        assert "TROUBLE" not in rehearsal.cli("check").stdout
        assert os.stat(rehearsal.config_path).st_mode & 0o777 == 0o640
        assert "<title>" in requests.get(f"http://{rehearsal.panel}/", headers={"Accept-Language": "en"}, timeout=30).text
