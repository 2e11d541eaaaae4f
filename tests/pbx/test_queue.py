"""Calls through movidesk-queue on a real Asterisk: each ends as one complete ticket, told in the documents' order."""
from __future__ import annotations

import re
import time
from datetime import datetime, timezone

import pytest

from movidesk_rehearsal.phones import BUSY, DECLINES, RINGS, answers
from office import (
    ANSWERED,
    ASKED_TWICE,
    CANCELED,
    CLOSED,
    HOLIDAY,
    LOST,
    NOBODY_ONLINE,
    RECORDINGS,
    close,
    recording,
    sound,
)
from support.prometheus import samples


def test_answered(office):
    office.agent("5252", answers())
    caller = office.call()
    caller.wait_answered()
    caller.hang_up()
    ticket = office.ticket(caller, "completed", ANSWERED)
    assert (ticket.agent, ticket.links) == ("5252", [])
    assert re.fullmatch(r"pbx1-\d+\.\d+", ticket.id)
    assert set(ticket.dates) == {"callDate", "transferDate", "completedDate"}
    for text in ticket.dates.values():
        at = datetime.strptime(text, "%Y-%m-%dT%H:%M:%S").replace(tzinfo=timezone.utc).timestamp()
        assert abs(at - time.time()) < 60


def test_the_metrics_have_each_call_once(office):
    """Also where scripts record it, and cron delivers it."""
    def shown() -> dict[tuple, float]:
        return samples(office.rehearsal.cli("metrics").stdout)

    before = shown()
    office.agent("5252", answers(hang_up_after=1.0))
    talked = office.call()
    talked.wait_answered()
    office.tickets(talked)
    office.all_in_calls()
    left = office.call()
    office.wait_music(left)
    left.hang_up()
    office.tickets(left)
    now = shown()
    more = {key: now[key] - before.get(key, 0.0) for key in now}
    assert {key[1]: more[key] for key in more if key[0] == "movidesk_calls_ended_total" and key[2:] == ("control", "77")} == {
        "completed": 1, "canceled": 1, "lost": 0, "closed": 0}
    assert more["movidesk_call_wait_seconds_count", "77", "answered"] == more["movidesk_call_wait_seconds_count", "77",
                                                                               "canceled"] == 1
    assert more["movidesk_screen_delay_seconds_count",] == more["movidesk_call_talk_seconds_count", "77"] == 1
    assert 0.5 < more["movidesk_call_talk_seconds_sum", "77"] < 40
    assert more["movidesk_api_requests_total", "transferred", "accepted"] == 1
    assert more["movidesk_api_requests_total", "received", "accepted"] == office.heard().count("receivedCall")
    assert more["movidesk_api_request_duration_seconds_count", "received"] == office.heard().count("receivedCall")
    assert now["movidesk_calls_open",] == now["movidesk_line_callers", "77"] == 0 == now["movidesk_outbox_events", "pending"]


def test_waits_on_4_then_answered(office):
    office.all_in_calls()
    agent = office.agent("5252", answers())
    caller = office.call()
    caller.wait_answered()  # by the music
    office.wait_asked()
    assert agent.events() == []
    office.model.in_call.clear()
    agent.wait_event("answered", 20)
    caller.hang_up()
    assert office.ticket(caller, "completed", ASKED_TWICE).agent == "5252"


@pytest.mark.parametrize("refusal", [BUSY, DECLINES, RINGS, None], ids=["busy", "declines", "no answer", "unregistered"])
def test_the_offered_agent_does_not_take_it_and_the_next_one_does(office, refusal):
    office.set(MOVIDESK_RING="1")
    if refusal:
        office.agent("5252", refusal)
    office.agent("5253", answers())
    caller = office.call()
    caller.wait_answered()
    caller.hang_up()
    assert office.ticket(caller, "completed", ASKED_TWICE).agent == "5253"


def test_the_only_agent_is_not_dialled_again_at_once(service_office):
    office = service_office
    office.model.agents["5253"].online = False
    agent = office.agent("5252", BUSY)
    caller = office.call()
    office.wait_asked(2)
    office.wait_music(caller)
    assert len(agent.events("invited")) == 1
    caller.hang_up()
    office.ticket(caller, "canceled", ["receivedCall"] + CANCELED)


@pytest.mark.parametrize("code", [HOLIDAY, CLOSED, NOBODY_ONLINE])
def test_nobody_will_answer_and_the_caller_leaves_a_message(office, code):
    close(office, code)
    caller = office.call("quick")
    office.speak(caller)
    caller.press("#")
    assert caller.wait().hung_up_by == "pbx"
    ticket = office.ticket(caller, "lost", LOST)
    assert ticket.links == [RECORDINGS + ticket.id + "-message.wav"]
    seconds, peak = sound(recording(office, ticket.links[0]))
    assert seconds >= 0.5 and peak > 1000


def test_a_message_without_sound_is_no_link(service_office):
    close(service_office, CLOSED)
    caller = service_office.call("quick", audio=False)
    service_office.wait_stage(caller, "Record")
    caller.hang_up()
    assert service_office.ticket(caller, "lost", LOST).links == []


@pytest.mark.parametrize("code", [HOLIDAY, CLOSED, NOBODY_ONLINE])
def test_nobody_will_answer_and_no_message_is_wanted(office, code):
    office.set(MOVIDESK_MESSAGE="no")
    close(office, code)
    caller = office.call()
    result = caller.wait()
    assert not result.answered
    assert office.ticket(caller, "lost", LOST).links == []


def test_gives_up_at_max_wait(office):
    office.set(MOVIDESK_MAX_WAIT="2", MOVIDESK_MESSAGE="no")
    for agent in office.model.agents.values():
        agent.telephony = False  # code 3
    caller = office.call()
    result = caller.wait()
    assert result.hung_up_by == "pbx" and 1 < result.ended_at - result.started_at < 4
    ticket, = office.tickets(caller)
    questions, end = office.heard(ticket.id)[:-1], office.heard(ticket.id)[-1]
    assert set(questions) == {"receivedCall"} and (ticket.state, end) == ("lost", "lostCall")


def test_abandoned_while_waiting(office):
    office.all_in_calls()
    caller = office.call()
    office.wait_music(caller)
    caller.hang_up()
    office.ticket(caller, "canceled", CANCELED)


def test_abandoned_while_ringing(office):
    agent = office.agent("5252", RINGS)
    caller = office.call()
    agent.wait_ringing()
    caller.hang_up()
    ticket = office.ticket(caller, "canceled", CANCELED)
    assert set(ticket.dates) == {"callDate", "canceledDate"}
    agent.wait_event("cancelled")


def test_the_recording_is_complete_when_the_call_is_reported(office):
    office.set(MOVIDESK_RECORD="yes", MEASURED="")
    office.agent("5252", answers(hang_up_after=1.0))
    caller = office.call("measured")
    ticket = office.ticket(caller, "completed", ANSWERED)
    assert ticket.links == [RECORDINGS + ticket.id + ".wav"]
    path = recording(office, ticket.links[0])
    seconds, peak = sound(path)
    assert 0.5 < seconds < 3 and peak > 1000
    assert f"MEASURED={path.stat().st_size}\n" in office.pbx.cli("dialplan show globals").replace(" ", "")


def test_the_recording_survives_an_agent_who_does_not_answer(service_office):
    office = service_office
    office.set(MOVIDESK_RECORD="yes")
    office.agent("5252", BUSY)
    office.agent("5253", answers(hang_up_after=1.0))
    ticket = office.ticket(office.call(), "completed", ASKED_TWICE)
    seconds, peak = sound(recording(office, ticket.links[0]))
    assert 0.5 < seconds < 3 and peak > 1000


def test_the_recording_of_a_talk_that_never_was_is_no_link(service_office):
    """MixMonitor begins its file before the phone rings."""
    office = service_office
    office.set(MOVIDESK_RECORD="yes", MOVIDESK_MAX_WAIT="1", MOVIDESK_RING="1", MOVIDESK_MESSAGE="no")
    office.agent("5252", RINGS)
    assert office.ticket(office.call(), "lost", LOST).links == []


def test_back_in_the_queue_after_the_end_is_another_call(service_office):
    """Movidesk fails once; the fallback sends the caller back into the queue, on the same channel."""
    office = service_office
    office.set(MOVIDESK_FALLBACK="again,s,1")
    office.fault("receivedCall", status=500)
    office.agent("5252", answers())
    office.agent("5253", answers())
    caller = office.call()
    office.wait_heard("transferedCall")  # the music may answer first, until Movidesk is asked again
    caller.hang_up()
    first, second = sorted(office.tickets(caller), key=lambda ticket: ticket.id)
    assert second.id == first.id + "-2"
    assert (first.state, office.heard(first.id)) == ("lost", ["receivedCall 500"] + LOST)
    assert (second.state, office.heard(second.id)) == ("completed", ANSWERED)


def test_transferred_back_into_the_queue_is_another_call(office):
    first_agent, second_agent = office.agent("5252", answers()), office.agent("5253", answers())
    caller = office.call()
    caller.wait_answered()
    first_agent.transfer("77")
    second_agent.wait_event("answered")
    caller.hang_up()
    first, second = sorted(office.tickets(caller), key=lambda ticket: ticket.id)
    assert second.id == first.id + "-2"
    assert office.heard(first.id) == office.heard(second.id) == ANSWERED


def test_report_transfer_ring_tells_while_it_rings(scripts_office):
    office = scripts_office
    office.configure({"pbx": ["report_transfer = ring"]})
    agent = office.agent("5252", RINGS)
    caller = office.call()
    agent.wait_ringing()
    assert office.rehearsal.cli("deliver", "--once").returncode == 0
    assert office.heard() == ["receivedCall", "transferedCall"]
    agent.answer()
    caller.wait_answered()
    caller.hang_up()
    office.ticket(caller, "completed", ANSWERED)


def test_report_transfer_ring_and_the_caller_hangs_up_while_it_rings(scripts_office):
    """Movidesk takes no cancellation after a transfer: the call is completed."""
    office = scripts_office
    office.configure({"pbx": ["report_transfer = ring"]})
    agent = office.agent("5252", RINGS)
    caller = office.call()
    agent.wait_ringing()
    caller.hang_up()
    office.ticket(caller, "completed", ANSWERED)
