"""The caller, or the agent, hangs up at every stage of the dialplan: always one complete ticket."""
from __future__ import annotations

import time

import pytest

from movidesk_rehearsal.phones import RINGS, answers
from movidesk_rehearsal.rehearsal import wait_for
from office import ANSWERED, CANCELED, CLOSED, LOST, close, recording, sound


def while_movidesk_is_asked(office):
    office.agent("5252", RINGS)
    office.fault("receivedCall", delay=1.0)
    caller = office.call()
    wait_for("Movidesk is asked", lambda: not office.simulator.faults.rules)
    assert office.heard() == []
    caller.hang_up()
    return caller, "canceled", CANCELED


def in_the_music(office):
    office.all_in_calls()
    caller = office.call()
    office.wait_music(caller)
    caller.hang_up()
    return caller, "canceled", CANCELED


def while_it_rings(office):
    agent = office.agent("5252", RINGS)
    caller = office.call()
    agent.wait_ringing()
    caller.hang_up()
    return caller, "canceled", CANCELED


def while_it_rings_after_music(office):
    office.all_in_calls()
    agent = office.agent("5252", RINGS)
    caller = office.call()
    office.wait_music(caller)
    office.model.in_call.clear()
    agent.wait_ringing()
    caller.hang_up()
    return caller, "canceled", ["receivedCall"] + CANCELED


def in_talk(office):
    office.agent("5252", answers())
    caller = office.call()
    caller.wait_answered()
    caller.hang_up()
    return caller, "completed", ANSWERED


def in_talk_by_the_agent(office):
    agent = office.agent("5252", answers())
    caller = office.call()
    caller.wait_answered()
    agent.hang_up()
    return caller, "completed", ANSWERED


def by_the_agent_as_soon_as_it_answered(office):
    office.agent("5252", answers(hang_up_after=0.001))
    return office.call(), "completed", ANSWERED


def in_the_prompt(office):
    close(office, CLOSED)
    caller = office.call()
    office.wait_stage(caller, "Playback", "vm-intro")
    caller.hang_up()
    return caller, "lost", LOST


def in_the_message(office):
    close(office, CLOSED)
    caller = office.call("quick")
    office.speak(caller)
    caller.hang_up()
    return caller, "lost", LOST


def right_after_the_message(office):
    close(office, CLOSED)
    caller = office.call("quick")
    office.speak(caller)
    caller.press("#")
    office.wait_stage(caller, "Playback", "vm-msgsaved")
    caller.hang_up()
    return caller, "lost", LOST


MOMENTS = [while_movidesk_is_asked, in_the_music, while_it_rings, while_it_rings_after_music, in_talk,
           in_talk_by_the_agent, by_the_agent_as_soon_as_it_answered, in_the_prompt, in_the_message,
           right_after_the_message]


@pytest.mark.parametrize("moment", MOMENTS, ids=lambda moment: moment.__name__)
def test_hangup(office, moment):
    caller, state, heard = moment(office)
    ticket = office.ticket(caller, state, heard)
    if moment in (in_the_message, right_after_the_message):
        seconds, peak = sound(recording(office, ticket.links[0]))
        assert seconds >= 0.5 and peak > 1000
    else:
        assert ticket.links == []


@pytest.mark.parametrize("after", [0, 0.005, 0.01, 0.02, 0.04, 0.08])
def test_hangup_in_the_very_moment_of_the_answer(office, after):
    """Whoever is first: the caller's CANCEL and the agent's 200 cross each other in every way."""
    agent = office.agent("5252", RINGS)
    caller = office.call()
    agent.wait_ringing()
    agent.answer()
    time.sleep(after)  # the offset is what is tested
    caller.hang_up()
    ticket, = office.tickets(caller)
    assert (ticket.state, office.heard(ticket.id)) in [("canceled", CANCELED), ("completed", ANSWERED)]


def test_hangup_while_the_script_starts(scripts_office):
    """SIGHUP reaches a script that has not read its environment yet: it must not die of it."""
    scripts_office.agent("5252", RINGS)
    caller = scripts_office.call()
    wait_for("the script starts", lambda: "Launched AGI Script" in scripts_office.console()
             or "agi-bin/movidesk/received" in scripts_office.console())
    caller.hang_up()
    scripts_office.ticket(caller, "canceled", CANCELED)
