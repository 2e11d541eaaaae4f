"""What the offered agent's phone does, on a real Asterisk: it is in another call, it is off, it comes back."""
from __future__ import annotations

import re
from contextlib import closing

import pytest

from movidesk.journal import Journal
from movidesk_rehearsal.phones import DECLINES, RINGS, answers
from movidesk_rehearsal.rehearsal import wait_for
from office import ANSWERED

ASKED_TWICE = ["receivedCall"] + ANSWERED


def own_call(office, extension):
    """The agent calls a colleague, and they talk."""
    office.agent("5254", answers())
    call = office.call("5254", extension)
    call.wait_answered()
    return call


def passed_over(office) -> list[str]:
    """Why phones were not rung, as the console said it: `5252 UNAVAILABLE`, in order."""
    return [" ".join(found) for found in re.findall(
        r"^.*\] [^\"]*Movidesk queue 77: (\w+) is not rung for \S+: its phone is (\w+)", office.console(), re.MULTILINE)]


def test_an_agent_in_a_call_of_its_own_is_not_rung_but_replaced_at_once(office):
    agent = office.agent("5252", answers(after=9.0))
    office.agent("5253", answers())
    own = own_call(office, "5252")
    caller = office.call()
    caller.wait_answered(5)
    assert agent.events("invited") == [] and passed_over(office) == ["5252 INUSE"]
    for call in (own, caller):
        call.hang_up()
    assert office.ticket(caller, "completed", ASKED_TWICE).agent == "5253"


def test_an_agent_whose_phone_rings_for_somebody_else_is_not_rung(service_office):
    office = service_office
    agent = office.agent("5252", RINGS)
    office.agent("5253", answers())
    other = office.call("5252", "5254")
    agent.wait_ringing()
    caller = office.call()
    caller.wait_answered(5)
    assert len(agent.events("invited")) == 1 and passed_over(office) == ["5252 RINGING"]
    for call in (other, caller):
        call.hang_up()
    assert office.ticket(caller, "completed", ASKED_TWICE).agent == "5253"


def test_the_check_can_be_turned_off(service_office):
    office = service_office
    office.set(MOVIDESK_CHECK_PHONE="no")
    office.agent("5252", answers())
    own = own_call(office, "5252")
    caller = office.call()
    caller.wait_answered(5)
    for call in (own, caller):
        call.hang_up()
    assert office.ticket(caller, "completed", ANSWERED).agent == "5252"
    assert passed_over(office) == []


def test_the_music_goes_on_while_the_caller_waits_or_a_phone_is_skipped(service_office):
    office = service_office
    office.model.agents["5253"].online = False
    office.all_in_calls()
    own = own_call(office, "5252")
    office.agent("5252", answers())
    caller = office.call()
    office.wait_asked(2)
    del office.model.in_call["5252"]
    wait_for("5252 is passed over", lambda: passed_over(office), instead=office.console)
    office.wait_music(caller)
    assert passed_over(office)[0] == "5252 INUSE"
    assert "Stopped music on hold" not in office.console()
    for call in (own, caller):
        call.hang_up()
    assert office.tickets(caller)[0].state == "canceled"


HINTS = {"MOVIDESK_HINTS": "hints", "MOVIDESK_DIAL_PREFIX": "Local/", "MOVIDESK_DIAL_SUFFIX": "@from-internal/n"}


def set_state(office, extension, state):
    office.pbx.cli(f"devstate change Custom:{extension} {state}")


@pytest.mark.parametrize("state", ["INUSE", "BUSY", "ONHOLD", "RINGING", "RINGINUSE", "UNAVAILABLE"])
def test_a_hint_says_that_the_phone_is_not_to_be_rung(service_office, state):
    """As FreePBX and Issabel have it: Local/ is dialled, and the hint knows the phone and do not disturb."""
    office = service_office
    office.set(**HINTS)
    agent = office.agent("5252", answers())
    office.agent("5253", answers())
    set_state(office, "5252", state)
    caller = office.call()
    caller.wait_answered(5)
    assert agent.events("invited") == [] and passed_over(office) == ["5252 " + state]
    caller.hang_up()
    assert office.ticket(caller, "completed", ASKED_TWICE).agent == "5253"


def test_a_hint_says_that_the_phone_is_free(service_office):
    office = service_office
    office.set(**HINTS)
    office.agent("5252", answers())
    set_state(office, "5252", "NOT_INUSE")
    caller = office.call()
    caller.wait_answered(5)
    caller.hang_up()
    assert office.ticket(caller, "completed", ANSWERED).agent == "5252"


def test_an_extension_without_a_hint_is_rung(service_office):
    office = service_office
    office.set(**{**HINTS, "MOVIDESK_HINTS": "from-internal"})
    office.agent("5252", answers())
    caller = office.call()
    caller.wait_answered(5)
    caller.hang_up()
    assert office.ticket(caller, "completed", ANSWERED).agent == "5252"


@pytest.mark.parametrize("prefix, suffix", [
    ("Local/", "@from-internal/n"), ("Local/", "@from-internal"), ("PJSIP/5255&PJSIP/", ""), ("PJSIP/", "&PJSIP/5255")],
    ids=["Local/n", "Local", "two devices", "another device"])
def test_what_is_dialled_may_be_more_than_one_phone(service_office, prefix, suffix):
    """The agent's phone takes the call, though 5255 is off."""
    office = service_office
    office.set(MOVIDESK_DIAL_PREFIX=prefix, MOVIDESK_DIAL_SUFFIX=suffix)
    office.agent("5252", answers())
    caller = office.call()
    caller.wait_answered(5)
    caller.hang_up()
    assert office.ticket(caller, "completed", ANSWERED).agent == "5252"


def test_an_agent_who_has_just_hung_up_is_rung_at_once(service_office):
    """Asterisk's states lag behind: the phone is offered within milliseconds of the end of its call."""
    office = service_office
    office.model.agents["5253"].online = False
    agent = office.agent("5252", answers(hang_up_after=0.1))
    callers = [office.call() for _ in range(6)]
    for count in range(1, 7):
        agent.wait_event("answered", 20, count)
    office.settle()
    assert passed_over(office) == []
    assert [office.tickets(caller)[0].agent for caller in callers] == ["5252"] * 6


def test_a_state_that_lags_behind_is_looked_at_again(service_office):
    """5252 is INUSE for another tenth of a second."""
    office = service_office
    office.set(**HINTS)
    office.agent("5252", answers())
    caller = office.call("lagging")
    caller.wait_answered(5)
    caller.hang_up()
    assert office.ticket(caller, "completed", ANSWERED).agent == "5252"


@pytest.mark.parametrize("behaviour, reason", [(DECLINES, "DECLINED"), (None, "UNAVAILABLE")], ids=["declines", "off"])
def test_an_agent_who_declines_has_no_dead_phone(service_office, behaviour, reason):
    office = service_office
    if behaviour:
        office.agent("5252", behaviour)
    office.agent("5253", answers())
    caller = office.call()
    caller.wait_answered()
    with closing(Journal(str(office.rehearsal.journal_path))) as journal:
        assert [(refusal.extension, refusal.reason) for refusal in journal.agents.refusals()] == [("5252", reason)]
    caller.hang_up()
    office.ticket(caller, "completed", ASKED_TWICE)


def test_an_alarm_names_the_phones_that_are_off_until_they_take_a_call(service_office):
    office = service_office
    caller = office.call()
    office.wait_music(caller)
    wait_for("an alarm names both", lambda: status(office).count("(UNAVAILABLE, ") == 2, instead=lambda: status(office))
    agent = office.agent("5253", answers())
    agent.wait_event("answered")
    assert "5252 (UNAVAILABLE" in status(office) and "5253 (" not in status(office)
    caller.hang_up()
    ticket, = office.tickets(caller)
    assert (ticket.state, ticket.agent) == ("completed", "5253")
    assert not [line for line in office.console().splitlines() if "5253 did not take" in line]


def status(office) -> str:
    return office.rehearsal.cli("status").stdout


@pytest.mark.parametrize("hints", [False, True], ids=["devices", "hints"])
def test_while_all_known_phones_are_busy_no_request_is_spent(office, hints):
    """The first call makes the agent known. While it makes a call of its own, the next caller asks at first only; when its phone
    is free, it is rung."""
    office.configure({"line": ["ask_every = 1", "ask_at_least_every = 600"]})
    office.model.agents["5253"].online = False
    office.set(**HINTS if hints else {})
    office.agent("5252", answers())
    first = office.call()
    first.wait_answered(5)
    first.hang_up()
    office.ticket(first, "completed", ANSWERED)
    own = None if hints else own_call(office, "5252")
    if hints:
        set_state(office, "5252", "INUSE")
    office.agent("5252", answers())
    caller = office.call()
    office.wait_music(caller)
    looks = office.console().count("/received")
    wait_for("it has looked again", lambda: office.console().count("/received") >= looks + 3, instead=office.console)
    asked = office.heard().count("receivedCall")
    assert asked <= 3, "at first, and once more after the phone refused; then Movidesk would only name the same phone"
    set_state(office, "5252", "NOT_INUSE") if hints else own.hang_up()
    office.wait_heard("transferedCall", 2)
    caller.hang_up()
    ticket, = office.tickets(caller)
    assert (ticket.state, ticket.agent) == ("completed", "5252")
    assert office.heard().count("receivedCall") == asked + 1, "asked at the moment at which the phone was free, and not before"
