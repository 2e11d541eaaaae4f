"""What may go wrong around a call on a real Asterisk: Movidesk, the service, the configuration, the caller's number."""
from __future__ import annotations

import os
import re
import time
from urllib.parse import unquote

import pytest

from movidesk_rehearsal.phones import RINGS, Agent, Caller, answers
from movidesk_rehearsal.rehearsal import Rehearsal, wait_for
from office import ANSWERED, ASKED_TWICE, DIALPLAN, LOST

PROMPT = 1.0  # seconds; a channel that waited for any of these faults would be held for longer


# Movidesk fails

@pytest.mark.parametrize("fault, heard, at_least", [
    (dict(status=500), "completedCall 500", 1.0),
    (dict(cut="before"), "completedCall 0", 1.0),
    (dict(cut="after"), "completedCall", 1.0),
    (dict(status=429, retry_after="3"), "completedCall 429", 3.0),
], ids=["500", "cut before", "cut after", "429"])
def test_completed_arrives_in_the_end(service_office, fault, heard, at_least):
    office = service_office
    office.fault("completedCall", **fault)
    agent = office.agent("5252", answers())
    caller = office.call()
    caller.wait_answered()
    hung_up = time.time()
    agent.hang_up()
    assert caller.wait().ended_at - hung_up < PROMPT
    ticket = office.ticket(caller, "completed", ANSWERED[:2] + [heard, "completedCall"])
    assert office.model.duplicates == (fault.get("cut") == "after")
    entries = [entry["time"] for entry in office.model.log if entry["params"]["id"] == ticket.id]
    assert entries[-1] - entries[-2] >= at_least
    assert ticket.dates["completedDate"] <= time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(hung_up + PROMPT))


def test_an_event_that_is_never_accepted_does_not_block_its_call(service_office):
    """Nothing else goes on: the end of the call itself shows that Movidesk takes requests."""
    office = service_office
    office.fault("transferedCall", cut="after", count=1000)
    office.agent("5252", answers())
    caller = office.call()
    caller.wait_answered()
    hung_up = time.time()
    caller.hang_up()
    caller.wait()
    wait_for("completedCall", lambda: "completedCall" in office.heard(), 180, office.heard)
    assert time.time() - hung_up < 180
    ticket, = office.rehearsal.tickets()
    assert (ticket.state, ticket.agent) == ("completed", "5252") and "5252" not in office.model.in_call
    wait_for("the event is set aside", lambda: office._totals()["refused"] == 1)
    shown = office.rehearsal.cli("outbox").stdout
    assert ticket.id in shown and "completed of the same call was taken" in shown
    status = office.rehearsal.cli("status")
    assert status.returncode == 1 and f"first: transferred of {ticket.id} (the connection was cut" in status.stdout
    told = office.heard(ticket.id)
    assert told[-1] == "completedCall", "it does not come after the end"
    office.rehearsal.cli("outbox", "--dismiss", "all")


def test_a_slow_answer_holds_nobody(service_office):
    office = service_office
    office.fault("completedCall", delay=4.0)
    agent = office.agent("5252", answers())
    caller = office.call()
    caller.wait_answered()
    hung_up = time.time()
    agent.hang_up()
    assert caller.wait().ended_at - hung_up < PROMPT
    office.pbx.wait_idle(PROMPT)
    ticket = office.ticket(caller, "completed", ANSWERED)
    assert office.heard_at("completedCall", ticket.id)[0] - hung_up >= 4.0


def test_the_answer_is_not_held_by_a_slow_transferred(service_office):
    office = service_office
    office.fault("transferedCall", delay=4.0)
    agent = office.agent("5252", RINGS)
    caller = office.call()
    agent.wait_ringing()
    agent.answer()
    assert caller.wait_answered(PROMPT).at - agent.wait_event("answered").at < PROMPT
    caller.hang_up()
    office.ticket(caller, "completed", ANSWERED)


def test_without_the_service_a_refused_event_waits_for_the_next_delivery(scripts_office):
    office = scripts_office
    office.fault("completedCall", status=500)
    office.agent("5252", answers())
    caller = office.call()
    caller.wait_answered()
    caller.hang_up()
    office.pbx.wait_idle()
    assert office.rehearsal.cli("deliver", "--once").returncode == 1
    wait_for("the next delivery", lambda: office.rehearsal.cli("deliver", "--once").returncode == 0
             and "completedCall" in office.heard(), instead=office.heard)
    office.ticket(caller, "completed", ANSWERED[:2] + ["completedCall 500", "completedCall"])


# The service fails

@pytest.fixture
def killed_service(service_office):
    """kill(), and a service that runs again afterwards."""
    rehearsal = service_office.rehearsal
    yield lambda: rehearsal.stop_service(kill=True)
    if rehearsal.service_pid is None:
        rehearsal.start_service()


def test_the_service_killed_in_talk(service_office, killed_service):
    office = service_office
    office.agent("5252", answers())
    caller = office.call()
    caller.wait_answered()
    office.wait_told()  # what is just being sent is sent again only after a minute
    killed_service()
    caller.hang_up()
    ticket = office.ticket(caller, "completed", ANSWERED)  # by `deliver --once`: no service runs
    assert "movidesk/hangup" in office.console()
    assert ticket.agent == "5252"


def test_the_service_killed_while_it_asks(service_office, killed_service):
    """The script asks again, for the same call; the service's question still reaches Movidesk."""
    office = service_office
    office.model.agents["5253"].online = False
    agent = office.agent("5252", RINGS)
    office.fault("receivedCall", delay=1.0)
    caller = office.call()
    wait_for("Movidesk is asked", lambda: not office.simulator.faults.rules)
    killed_service()
    agent.wait_ringing()
    office.wait_asked(2)
    agent.answer()
    caller.wait_answered()
    caller.hang_up()
    office.ticket(caller, "completed", ASKED_TWICE)


def test_the_service_killed_while_it_rings_and_back_before_the_end(service_office, killed_service):
    office = service_office
    agent = office.agent("5252", RINGS)
    caller = office.call()
    agent.wait_ringing()
    killed_service()
    agent.answer()
    caller.wait_answered()
    office.rehearsal.start_service()
    caller.hang_up()
    office.ticket(caller, "completed", ANSWERED)


# The configuration is wrong; what becomes of the call then is in test_fail_open.py

DEFAULT_STATE = "/var/lib/movidesk"


def break_configuration(office, how):
    """Break the configuration; returns the words that the console must have for it."""
    path = office.rehearsal.config_path
    if how in ("missing", "malformed"):
        if os.path.exists(DEFAULT_STATE):
            pytest.skip(f"a real journal may be in {DEFAULT_STATE}")
        if how == "missing":
            path.unlink()
            return [str(path), "No such file", "etc/movidesk.conf"]
        path.write_text("[movidesk]\nurl https://api.movidesk.com\n")
        return [f"{path}:2", "key = value"]
    if how == "token":
        office.configure({"movidesk": ["token = no-guid"]})
        return [f"{path}:", "[movidesk] token", "is not a GUID"]
    office.configure({"journal": [f"path = {path}/journal.db"]})
    return [f"{path}/journal.db", "unable to open", f"folder {path} does not exist"]


@pytest.fixture
def broken(scripts_office, request):
    """The words that the console must have for the way to break the configuration that the test names."""
    yield break_configuration(scripts_office, request.param)
    for path in scripts_office.emergency_files():
        path.unlink(missing_ok=True)


def test_a_token_that_is_removed_during_a_call_breaks_no_script(scripts_office):
    """Movidesk had refused it. The scripts run, and must not be blamed."""
    office = scripts_office
    office.configure({"movidesk": ["token = 00000000-1111-2222-3333-444444444444"]})
    caller = office.call()
    caller.wait_answered()  # by the music
    wait_for("Movidesk refuses it", lambda: "receivedCall 401" in office.heard())
    office.configure({"movidesk": ["token ="]})
    caller.hang_up()
    caller.wait()
    office.pbx.wait_idle()
    console = office.console()
    assert "canceled" in console and "do not run" not in console and "AttributeError" not in console
    assert "Traceback" not in (office.pbx.folder / "log" / "console").read_text(errors="replace")
    assert "[movidesk] token is missing" in office.rehearsal.cli("status").stdout
    office.configure({})


@pytest.mark.parametrize("broken", ["missing", "malformed", "token"], indirect=True)
def test_with_a_broken_configuration_and_no_fallback_the_caller_waits(scripts_office, broken):
    office = scripts_office
    office.set(MOVIDESK_MAX_WAIT="2", MOVIDESK_MESSAGE="no")
    caller = office.call()
    caller.wait_answered()  # by the music
    assert caller.wait(10).hung_up_by == "pbx"
    office.pbx.wait_idle()


@pytest.mark.parametrize("broken", ["missing", "malformed", "token", "journal below a file"], indirect=True)
def test_the_service_refuses_a_broken_configuration_with_one_line(scripts_office, broken):
    run = scripts_office.rehearsal.cli("serve")
    assert run.returncode == 1
    line, = run.stderr.strip().splitlines()
    assert all(word in line for word in broken)


# Somebody means harm

@pytest.mark.parametrize("number, name", [
    ("4733990001%0Aagi_uniqueid%3A%206.6", ""),
    ("4733990002%0A%0A200%20result=1%20(5253)", ""),
    ("+4733990003", 'he said \\"hi\\" \\\\'),
    ("4733990004", "x%0Aagi_uniqueid: 6.6"),
], ids=["forged line", "forged answer", "quotes", "forged line in the name"])
def test_a_caller_cannot_forge_agi_lines(office, number, name):
    office.agent("5252", answers())
    caller = office.call(number=number, name=name)
    caller.wait_answered()
    caller.hang_up()
    caller.wait()
    office.settle()
    ticket, = office.rehearsal.tickets()
    assert ticket.number == re.sub("[^0-9+]", "", unquote(number))
    assert re.fullmatch(r"pbx1-\d{9,}\.\d+", ticket.id)
    assert office.heard(ticket.id) == office.heard() == ANSWERED
    assert not re.search("movidesk: .* failed", office.console())


def test_the_dialled_number_cannot_forge_agi_lines(office):
    office.agent("5252", answers())
    caller = office.call("77%0A%0A200%20result=1")
    caller.wait_answered()
    caller.hang_up()
    office.ticket(caller, "completed", ANSWERED)
    assert not re.search("movidesk: .* failed", office.console())


@pytest.mark.parametrize("pattern", ["[0-9]{2,10}", ".+"], ids=["as delivered", "a pattern that lets everything through"])
@pytest.mark.parametrize("answer", ["5252&PJSIP/5253", "5252,1,gU(evil)", "5252@trunk"])
def test_an_answer_that_is_no_extension_is_never_dialled(scripts_office, answer, pattern):
    office = scripts_office
    office.set(MOVIDESK_FALLBACK="reception,s,1")
    office.configure({"pbx": ["extension_pattern = " + pattern]})
    phones = [office.agent("5252", answers()), office.agent("5253", answers())]
    office.fault("receivedCall", body=f'"{answer}"')
    caller = office.call()
    office.wait_stage(caller, "Wait")
    caller.hang_up()
    office.ticket(caller, "lost", LOST)
    assert [phone.events() for phone in phones] == [[], []]
    assert "Dial(" not in office.console()
    said = "Movidesk answered" if pattern != ".+" else "that Movidesk named is not dialled"
    assert said in office.console() and answer in office.console()


# Movidesk refuses the token

def test_a_refused_token_is_on_the_console_and_a_new_one_needs_no_restart(tree, tmp_path):
    with Rehearsal(tree, tmp_path, variables={"MOVIDESK_FALLBACK": "reception,s,1"}, more=DIALPLAN) as rehearsal:
        token, rehearsal.model.token = rehearsal.model.token, "0a1b2c3d-0000-4000-8000-000000000000"
        with Agent(rehearsal.pbx, "5252", answers()):
            with Caller(rehearsal.pbx, "77") as refused:
                refused.wait_answered()  # by people
                console = rehearsal.pbx.log()
                assert "Movidesk refuses the token since" in console and str(rehearsal.config_path) in console
                assert token not in console
            asked = len(rehearsal.model.log)
            with Caller(rehearsal.pbx, "77", "4733990002") as silent:
                silent.wait_answered()
            assert len(rehearsal.model.log) == asked, "nothing is sent with a token that was refused"
            rehearsal.write_config({})  # with the new one
            with Caller(rehearsal.pbx, "77", "4733990003") as served:
                wait_for("the agent talks", lambda: any(t.state == "transferred" for t in rehearsal.tickets()))
                served.hang_up()
            tickets = {ticket.number: ticket.state for ticket in rehearsal.wait_for_tickets(3)}
            assert tickets == {refused.number: "lost", silent.number: "lost", served.number: "completed"}
