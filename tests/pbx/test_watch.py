"""No queue control on a real Asterisk: its own Queue() or Dial() decides, and Movidesk hears exactly what the document asks."""
from __future__ import annotations

import pytest

from movidesk_rehearsal.phones import DECLINES, RINGS, answers
from movidesk_rehearsal.rehearsal import Rehearsal
from office import Office

WATCHED = """
[from-trunk](+)
exten => 600,1,Gosub(movidesk-watch,s,1(77))
 same => n,Answer()
 same => n,Queue(sales,t)
 same => n,Hangup()
exten => 601,1,Gosub(movidesk-watch,s,1(77))
 same => n,Queue(sales,t,,,3)
 same => n,Hangup()
exten => 602,1,Gosub(movidesk-watch,s,1(77))
 same => n,Dial(PJSIP/5252&PJSIP/5253,20,tgU(movidesk-answered))
 same => n,Hangup()

[from-queue]
exten => _5XXX,1,Dial(PJSIP/${EXTEN},20,t)
"""
# The second member has the shape that FreePBX generates.
QUEUES = """
[general]
[sales]
strategy = linear
timeout = 2
retry = 1
membergosub = movidesk-answered
member => PJSIP/5252
member => Local/5253@from-queue/n,0,Bia,PJSIP/5253
"""
TALKED = ["startTransferedCall", "completedCall"]
LEFT = ["startCanceledCall"]


@pytest.fixture(scope="module")
def watched(tree, tmp_path_factory):
    rehearsal = Rehearsal(tree, tmp_path_factory.mktemp("watch"), more=WATCHED)
    rehearsal.pbx.write("queues.conf", QUEUES)
    with rehearsal:
        yield rehearsal


@pytest.fixture
def office(watched):
    with Office(watched) as office:
        yield office


def test_queue_answered(office):
    office.agent("5252")
    caller = office.call("600")
    office.wait_heard("startTransferedCall")
    caller.hang_up()
    ticket = office.ticket(caller, "completed", TALKED)
    assert (ticket.agent, ticket.queue, ticket.queue_control) == ("5252", 77, False)
    completed = [entry for entry in office.model.log if entry["endpoint"] == "asterisk_completedCall"]
    assert [(entry["method"], entry["params"]["link"]) for entry in completed] == [("GET", "")]


def test_queue_abandoned(office):
    agent = office.agent("5252", RINGS)
    caller = office.call("600")
    agent.wait_ringing()
    caller.hang_up()
    ticket = office.ticket(caller, "canceled", LEFT)
    assert set(ticket.dates) == {"callDate", "canceledDate"}


def test_queue_timeout(office):
    office.agent("5252", RINGS)
    office.ticket(office.call("601"), "canceled", LEFT)


def test_a_phone_refuses_and_the_next_answers(office):
    office.agent("5252", DECLINES)
    office.agent("5253")  # a member of the form Local/5253@from-queue/n
    caller = office.call("600")
    office.wait_heard("startTransferedCall")
    caller.hang_up()
    assert office.ticket(caller, "completed", TALKED).agent == "5253"


def test_a_ring_group_is_one_call_whoever_answers(office):
    office.agent("5252", RINGS)
    office.agent("5253", answers(after=0.3))
    caller = office.call("602")
    office.wait_heard("startTransferedCall")
    caller.hang_up()
    assert office.ticket(caller, "completed", TALKED).agent == "5253"


@pytest.mark.parametrize("to", ["600", "602"])
def test_a_blind_transfer_ends_the_call_once_when_the_caller_does(office, to):
    first = office.agent("5252", answers())
    second = office.agent("5254", answers())
    caller = office.call(to)
    office.wait_heard("startTransferedCall")
    first.transfer("5254")
    second.wait_event("answered")
    assert office.heard() == ["startTransferedCall"]
    caller.hang_up()
    assert office.ticket(caller, "completed", TALKED).agent == "5252"


def test_an_attended_transfer_ends_the_call_once_when_the_caller_does(office):
    first = office.agent("5252", answers())
    office.agent("5254", answers())
    caller = office.call("602")
    office.wait_heard("startTransferedCall")
    consultation = office.call("5254", number="5252")
    consultation.wait_answered()
    first.transfer_attended(consultation)
    assert consultation.wait().hung_up_by == "pbx"
    first.wait_event("referred")
    assert not caller.ended
    assert office.heard() == ["startTransferedCall"]
    caller.hang_up()
    assert office.ticket(caller, "completed", TALKED).agent == "5252"


def test_who_was_never_watched_is_not_told(office):
    """An internal call to a member's phone passes through movidesk-answered's guard."""
    office.agent("5253")
    caller = office.call("5253", number="5252")
    caller.wait_answered()
    caller.hang_up()
    caller.wait()
    office.settle()
    assert office.heard() == []
