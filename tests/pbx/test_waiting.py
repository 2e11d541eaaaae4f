"""The line on a real Asterisk, with Movidesk's true limit of ten requests a minute."""
from __future__ import annotations

import json
import time
from contextlib import ExitStack

import pytest

from movidesk_rehearsal.phones import Agent, Caller, answers
from movidesk_rehearsal.rehearsal import QUEUE, Rehearsal, wait_for

NUMBERS = [f"47330000{number:02d}" for number in range(1, 7)]
# The example of dialplan/README.md.
VIP = """
[from-trunk](+)
exten => vip,1,Set(MOVIDESK_PRIORITY=${IF(${DB_EXISTS(vip/${FILTER(0-9+,${CALLERID(num)})})}?2:0)})
 same => n,Goto(movidesk-queue,77,1)
"""


@pytest.fixture
def limited(tree, tmp_path):
    with Rehearsal(tree, tmp_path, agents=["5252"], limit=10, more=VIP,
                   variables={"MOVIDESK_MAX_WAIT": "600", "MOVIDESK_ANNOUNCE": "0"}) as rehearsal:
        yield rehearsal


def waiting(rehearsal) -> list[str]:
    """The numbers of those who wait, in order of arrival, as `movidesk calls` shows them."""
    calls = map(json.loads, rehearsal.cli("calls", "--json", "--state", "waiting").stdout.splitlines())
    return [call["number"] for call in calls]


def served(rehearsal) -> list[str]:
    """The numbers of those whose transfer Movidesk heard, in order."""
    return [rehearsal.model.tickets[entry["params"]["id"]].number for entry in list(rehearsal.model.log)
            if entry["endpoint"] == "asterisk_transferedCall" and entry["status"] == 200]


def test_six_callers_are_served_in_order_within_the_limit(limited):
    """A caller in the middle hangs up and the service is restarted meanwhile: nobody behind notices, the order stands."""
    agent = limited.model.agents["5252"]
    agent.telephony = False  # code 3: nobody is free yet
    callers = []
    try:
        for number in NUMBERS:
            callers.append(Caller(limited.pbx, str(QUEUE), number).start())
            wait_for(f"{number} is in line", lambda: len(waiting(limited)) == len(callers), instead=limited.service_log)
        assert waiting(limited) == NUMBERS
        callers[2].hang_up()
        wait_for("the third has left", lambda: len(waiting(limited)) == 5, instead=limited.service_log)
        limited.stop_service()
        limited.start_service()
        stayed = NUMBERS[:2] + NUMBERS[3:]
        assert waiting(limited) == stayed
        agent.telephony = True
        with Agent(limited.pbx, "5252", answers(hang_up_after=0.5)):
            wait_for("all five are served", lambda: len(served(limited)) == 5, 200, lambda: served(limited))
            assert served(limited) == stayed
            wait_for("every call is complete", lambda: sum(t.complete for t in limited.tickets()) == 6, 150,
                     lambda: [ticket.to_json() for ticket in limited.tickets()])
    finally:
        for caller in callers:
            caller.close()
    assert [entry for entry in list(limited.model.log) if entry["status"] == 429] == []
    assert limited.model.problems == []
    states = {ticket.number: ticket.state for ticket in limited.tickets()}
    assert states == {**dict.fromkeys(stayed, "completed"), NUMBERS[2]: "canceled"}


def test_at_a_raised_limit_a_free_agent_gets_the_next_within_a_second(tree, tmp_path):
    """Five callers and one agent, who hangs up after a second; each who waits looks every fraction of a second."""
    with Rehearsal(tree, tmp_path, agents=["5252"], limit=300, variables={"MOVIDESK_ANNOUNCE": "0"}) as rehearsal:
        with Agent(rehearsal.pbx, "5252", answers(hang_up_after=1.0)):
            callers = [Caller(rehearsal.pbx, str(QUEUE), number).start() for number in NUMBERS[:5]]
            try:
                rehearsal.wait_for_tickets(5, 40)
            finally:
                for caller in callers:
                    caller.close()
        log = [entry for entry in list(rehearsal.model.log) if entry["status"] == 200]
        free = [entry["time"] for entry in log if entry["endpoint"] == "asterisk_completedCall"]
        offers = [entry["time"] for entry in log if entry["answer"] == '"5252"']
        assert len(free) == len(offers) == 5
        assert all(next(at for at in offers if at > since) - since < 1.0 for since in free[:4]), (free, offers)
        assert "WaitExten(\"" in rehearsal.pbx.log() and ', "0.8")' in rehearsal.pbx.log()
    assert rehearsal.model.problems == []


def test_a_priority_is_served_first_and_may_change_while_it_waits(limited):
    """The third is a VIP; the second gets a priority while it waits, from the console, as from the manager."""
    agent = limited.model.agents["5252"]
    agent.telephony = False
    callers = []
    try:
        limited.pbx.cli(f"database put vip {NUMBERS[2]} yes")
        for number in NUMBERS[:3]:
            callers.append(Caller(limited.pbx, "vip", number).start())
            wait_for(f"{number} is in line", lambda: len(waiting(limited)) == len(callers), instead=limited.service_log)
        wait_for("the third is a VIP", lambda: "; 1 of priority 2" in limited.cli("status").stdout, instead=limited.service_log)
        second = next(line.split()[0] for line in limited.pbx.cli("core show channels concise").replace("!", " ").splitlines()
                      if NUMBERS[1] in line)
        limited.pbx.cli(f"dialplan set chanvar {second} MOVIDESK_PRIORITY 3")
        wait_for("the second has one, too", lambda: "; 1 of priority 3" in limited.cli("status").stdout)
        agent.telephony = True
        with Agent(limited.pbx, "5252", answers(hang_up_after=0.5)):
            wait_for("all are served", lambda: len(served(limited)) == 3, 200, lambda: served(limited))
        assert served(limited) == [NUMBERS[1], NUMBERS[2], NUMBERS[0]]
    finally:
        for caller in callers:
            caller.close()
    assert limited.model.problems == []


def test_at_a_raised_limit_two_callers_need_not_wait_for_one_answer(tree, tmp_path):
    """Movidesk takes half a second. Four agents have had calls and are free: then two callers ask at the same time."""
    agents = ["5252", "5253", "5254", "5255"]
    with Rehearsal(tree, tmp_path, agents=agents, variables={"MOVIDESK_ANNOUNCE": "0"}) as rehearsal, ExitStack() as phones:
        for agent in agents:
            phones.enter_context(Agent(rehearsal.pbx, agent, answers(hang_up_after=0.1)))
        for number in range(4):
            with Caller(rehearsal.pbx, str(QUEUE), NUMBERS[number]):
                rehearsal.wait_for_tickets(number + 1)
        rehearsal.model.switches.latency = 0.5
        for number in NUMBERS[4:]:
            phones.enter_context(Caller(rehearsal.pbx, str(QUEUE), number))
        rehearsal.wait_for_tickets(6)
    first, second = [entry["time"] for entry in rehearsal.model.log if entry["endpoint"] == "asterisk_receivedCall"][4:]
    assert second - first < 0.5, "the second was asked for before the first was answered"
    assert rehearsal.model.problems == []


def test_a_key_leads_to_a_message_and_the_place_is_said(service_office):
    office = service_office
    office.all_in_calls()
    office.set(MOVIDESK_EXIT_KEY="9", MOVIDESK_ANNOUNCE="30")
    caller = office.call("quick")
    office.wait_stage(caller, "WaitExten")
    assert "Playing 'queue-youarenext" in office.console()
    caller.press("9")
    office.wait_stage(caller, "Record")
    office.speak(caller)
    caller.hang_up()
    ticket = office.ticket(caller, "lost", ["receivedCall", "lostCall"])
    assert ticket.links[0].endswith("-message.wav")


def test_who_died_with_asterisk_gets_its_ending_from_the_sweep(tree, tmp_path):
    with Rehearsal(tree, tmp_path, agents=["5252", "5253"]) as rehearsal:
        with Agent(rehearsal.pbx, "5252", answers()), Caller(rehearsal.pbx, str(QUEUE)) as caller:
            wait_for("the agent talks", lambda: any(t.state == "transferred" for t in rehearsal.tickets()))
            rehearsal.pbx.restart(kill=True)
            caller.cut_off()
        rehearsal.stop_service()
        rehearsal.start_service()  # sweeps at its start
        ticket, = rehearsal.wait_for_tickets(1)
        assert ticket.state == "completed"
        assert rehearsal.requests() == ["receivedCall", "transferedCall", "completedCall"]


def test_two_phones_that_are_off_do_not_use_up_the_limit(tree, tmp_path):
    """5252 and 5253 are online in Movidesk, and no phone is on: a few questions, and Movidesk hears at once who hung up."""
    with Rehearsal(tree, tmp_path, agents=["5252", "5253"], limit=10, variables={"MOVIDESK_ANNOUNCE": "0"}) as rehearsal:
        for number, most in zip(NUMBERS, (3, 1)):  # the second caller's question is its registration
            asked = len(rehearsal.requests())
            with Caller(rehearsal.pbx, str(QUEUE), number) as caller:
                caller.wait_answered()  # by the music
                wait_for("it is asked for", lambda: len(rehearsal.requests()) > asked, instead=rehearsal.service_log)
                time.sleep(3)
                assert len(rehearsal.requests()) - asked <= most, rehearsal.service_log()
                caller.hang_up()
                wait_for("Movidesk hears that it hung up", lambda: rehearsal.requests()[-1] == "canceledCall", 2,
                         rehearsal.service_log)
                rehearsal.pbx.wait_idle()
    assert rehearsal.model.problems == [] and [entry for entry in rehearsal.model.log if entry["status"] == 429] == []
