"""Transfers on a real Asterisk: into a queue, out of it, attended, parked. Each call keeps its id and has one correct ending."""
from __future__ import annotations

import re
import socket
import time

import pytest

from movidesk.journal import Journal
from movidesk_rehearsal.asterisk import free_port
from movidesk_rehearsal.phones import RINGS, answers
from movidesk_rehearsal.rehearsal import Rehearsal, wait_for
from office import (
    ANSWERED,
    CANCELED,
    CLOSED,
    DIALPLAN,
    LOST,
    RECORDINGS,
    SETTINGS,
    VARIABLES,
    Office,
    close,
    loudest,
    no_python,
    shorten_prompts,
    sound,
)

TALKED = ["startTransferedCall", "completedCall"]
LEFT = ["startCanceledCall"]
LOUD = 1000  # a sample of a voice; silence and noise stay below
ASKED_TWICE = ["receivedCall"] + ANSWERED

# Customers call `desk`, where the receptionist 5254 answers; she calls 77, 78, `watched` or `sales` as an agent does.
SCENES = """
[from-trunk](+)
exten => desk,1,Dial(PJSIP/5254,20)
exten => other,1,Dial(PJSIP/5255,20)
exten => 602,1,Gosub(movidesk-watch,s,1(77))
 same => n,Dial(PJSIP/5252,20,tgU(movidesk-answered))
exten => looped,1,Gosub(movidesk-watch,s,1(77))
 same => n,Dial(PJSIP/5253,1,U(movidesk-answered))
 same => n,Goto(1)

[lasting]
exten => _X.,1,Dial(PJSIP/${EXTEN},20)
exten => h,1,System(sleep 0.6)

[from-internal](+)
include => parkedcalls
exten => 602,1,Gosub(movidesk-watch,s,1(78))
 same => n,Dial(PJSIP/5255,20,U(movidesk-answered))
exten => 78,1,Answer()
 same => n,Set(CHANNEL(language)=quick)
 same => n,Goto(movidesk-queue,78,1)
exten => up,1,Answer()
 same => n,Goto(movidesk-queue,77,1)
exten => quick,1,Set(CHANNEL(language)=quick)
 same => n,Goto(movidesk-queue,77,1)
exten => watched,1,Answer()
 same => n,Gosub(movidesk-watch,s,1(78))
 same => n,Dial(PJSIP/5253,20,U(movidesk-answered))
exten => sales,1,Answer()
 same => n,Gosub(movidesk-watch,s,1(78))
 same => n,Queue(sales)
 same => n,Hangup()
exten => box,1,Answer()
 same => n,VoiceMail(100@default,s)
exten => 5299,1,MixMonitor(consultation.wav,b)
 same => n,Dial(PJSIP/5253,20)
exten => local,1,Answer()
 same => n,Set(MOVIDESK_DIAL_PREFIX=Local/)
 same => n,Set(MOVIDESK_DIAL_SUFFIX=@from-internal)
 same => n,Goto(movidesk-queue,77,1)
"""
QUEUES = """
[general]
[sales]
strategy = linear
timeout = 5
retry = 1
membergosub = movidesk-answered
member => PJSIP/5253
"""
VOICEMAIL = "[general]\nformat = wav\nminsecs = 1\n[default]\n100 => 1234,Messages\n"
FEATURES = "[general]\natxferthreeway = *3\n[featuremap]\natxfer => *2\n"
MANAGER = "[general]\nenabled = yes\nport = %d\nbindaddr = 127.0.0.1\n[keys]\nsecret = keys\nwrite = call\n"
PARKING = "[default]\nparkext => 800\nparkpos => 801-809\ncontext => parkedcalls\nparkingtime = 60\n"


def rehearse(tree, folder, **options):
    rehearsal = Rehearsal(tree, folder, settings=SETTINGS, variables=VARIABLES, more=DIALPLAN + SCENES, **options)
    for name, text in (("queues.conf", QUEUES), ("voicemail.conf", VOICEMAIL), ("res_parking.conf", PARKING),
                       ("features.conf", FEATURES), ("manager.conf", MANAGER % free_port(1))):
        rehearsal.pbx.write(name, text)
    modules = rehearsal.pbx.etc_dir / "modules.conf"
    modules.write_text(modules.read_text() + "load = res_parking.so\n")
    rehearsal.write_config({**SETTINGS, "recordings": [f"folder = {rehearsal.pbx.spool_dir}/monitor"]})
    with rehearsal:
        shorten_prompts(rehearsal)
        yield rehearsal


@pytest.fixture(scope="module")
def served(tree, tmp_path_factory):
    yield from rehearse(tree, tmp_path_factory.mktemp("service"))


@pytest.fixture(scope="module")
def scripted(tree, tmp_path_factory):
    yield from rehearse(tree, tmp_path_factory.mktemp("scripts"), service=False)


class TransferOffice(Office):
    """An office with the agent 5255 in queue 78."""

    def __init__(self, rehearsal) -> None:
        super().__init__(rehearsal)
        self.model.add_group(78, ["5255"])

    def configure(self, settings) -> None:
        super().configure({"recordings": [f"folder = {self.monitor}"], **settings})

    def wait_handed_over(self, customer) -> None:
        """Wait until the customer's channel has the hangup handler."""
        wait_for(f"{customer} has the handler", lambda: self._has_handler(customer), instead=self.console)

    def _has_handler(self, customer) -> bool:
        names = [fields[0] for fields in self._channels() if fields[7:8] == [customer.number]]
        return any("movidesk-hangup,s,1" in self.pbx.cli("core show hanguphandlers " + name) for name in names)

    def speak_into_box(self) -> None:
        """Wait until half a second of a message in the voicemail box is recorded."""
        drafts = self.pbx.spool_dir / "voicemail/default"
        wait_for("a message is spoken", lambda: any(p.stat().st_size > 8044 for p in drafts.glob("*/tmp/*.wav")),
                 instead=self.console)

    def press(self, agent, keys: str) -> None:
        """The agent presses keys in its call, and Asterisk takes them for DTMF of its phone."""
        channel, = [fields[0] for fields in self._channels() if fields[0].startswith(f"PJSIP/{agent.extension}-")]
        port = int(re.search(r"port = (\d+)", (self.pbx.etc_dir / "manager.conf").read_text())[1])
        with socket.create_connection(("127.0.0.1", port), 10) as manager:
            manager.sendall(b"Action: Login\r\nUsername: keys\r\nSecret: keys\r\nEvents: off\r\n\r\n")
            for key in keys:
                manager.sendall(b"Action: PlayDTMF\r\nChannel: %s\r\nDigit: %s\r\nDuration: 80\r\nReceive: true\r\n\r\n" % (
                    channel.encode(), key.encode()))
                time.sleep(0.15)  # the length of a key and the pause after it
            manager.sendall(b"Action: Logoff\r\n\r\n")
            answers_ = b"".join(iter(lambda: manager.recv(65536), b""))
        assert answers_.count(b"Response: Success") == len(keys) + 1, answers_

    def consult(self, agent, to: str, colleague) -> None:
        """The agent calls a colleague in the middle of a call, by DTMF, and the two talk; the customer hears music."""
        self.press(agent, "*2")
        wait_for("the agent is asked for a number", lambda: "pbx-transfer" in self.console(), instead=self.console)
        self.press(agent, to)
        colleague.wait_event("answered")
        wait_for("the two talk", lambda: self.is_bridged(agent) and self.is_bridged(colleague), instead=self.console)

    def is_bridged(self, agent) -> bool:
        return any(fields[12] for fields in self._channels() if fields[0].startswith(f"PJSIP/{agent.extension}-"))

    def open_calls(self) -> list:
        """The calls that the journal would still end at a hangup."""
        journal = Journal(str(self.rehearsal.journal_path))
        try:
            return journal.overview.unended()
        finally:
            journal.close()


@pytest.fixture(params=["served", "scripted"])
def office(request):
    with TransferOffice(request.getfixturevalue(request.param)) as office:
        yield office


@pytest.fixture
def service_office(served):
    with TransferOffice(served) as office:
        yield office


PROMPT = 3.0  # seconds; the sweep, which looks once a minute, would be later


@pytest.fixture
def script_office(scripted):
    with TransferOffice(scripted) as office:
        yield office


def talk(office, seconds: float = 0.5) -> None:
    """Wait until so much of a talk is recorded, and something can be heard in it."""
    wait_for("a talk is recorded", lambda: any(is_talk(path.read_bytes()[44:], seconds) for path in office.monitor.glob("*.wav")),
             instead=office.console)


def is_talk(recorded: bytes, seconds: float) -> bool:
    """Whether so much was recorded, in samples of 16 bits, 8,000 a second, and not only silence."""
    return len(recorded) >= 16000 * seconds and loudest(recorded) > LOUD


def recording(office, ticket):
    """The file that the ticket links."""
    link, = ticket.links
    assert link.startswith(RECORDINGS)
    return office.monitor / link[len(RECORDINGS):]


def busy(office, *extensions: str) -> None:
    """These agents talk to somebody, as Movidesk knows."""
    office.model.in_call.update((extension, "somebody") for extension in extensions)


def by_age(tickets):
    return sorted(tickets, key=lambda ticket: ticket.dates["callDate"] + ticket.id)


# -- a caller is transferred into another queue ----------------------------------------------------------------------

def test_into_a_queue_where_nobody_is_free_and_the_caller_hangs_up(office):
    office.set(MOVIDESK_RECORD="yes")
    busy(office, "5255")
    agent = office.agent("5252", answers(), audio=True)
    caller = office.call()
    talk(office)
    agent.transfer("78")
    office.wait_music(caller)
    office.wait_heard("completedCall")
    path = recording(office, office.rehearsal.tickets()[0])
    whole = path.stat().st_size
    assert sound(path)[1] > LOUD
    caller.hang_up()
    first, second = sorted(office.tickets(caller), key=lambda ticket: ticket.id)
    assert (first.state, first.agent, office.heard(first.id)) == ("completed", "5252", ANSWERED)
    assert (second.id, second.state, second.agent, second.queue) == (first.id + "-2", "canceled", "", 78)
    assert office.heard(second.id)[-1] == "canceledCall" and "transferedCall" not in office.heard(second.id)
    assert second.links == [] and path.stat().st_size == whole


def test_into_a_queue_and_back_twice_with_a_recording_each(service_office):
    office = service_office
    office.set(MOVIDESK_RECORD="yes")
    phones = {extension: office.agent(extension, answers(), audio=True) for extension in ("5252", "5255")}
    caller = office.call()
    for count, (extension, to) in enumerate([("5252", "78"), ("5255", "77"), ("5252", "78"), ("5255", None)], 1):
        phones[extension].wait_event("answered", count=(count + 1) // 2)
        wait_for(f"talk {count} is recorded", lambda: sum(p.stat().st_size > 4000 for p in office.monitor.iterdir()) == count)
        if to:
            phones[extension].transfer(to)
    caller.hang_up()
    tickets = sorted(office.tickets(caller), key=lambda ticket: ticket.id)
    assert [(t.state, t.agent, t.queue) for t in tickets] == [
        ("completed", "5252", 77), ("completed", "5255", 78), ("completed", "5252", 77), ("completed", "5255", 78)]
    assert len({recording(office, ticket) for ticket in tickets}) == 4


@pytest.mark.parametrize("to", ["watched", "sales"])
def test_from_queue_control_into_a_watched_queue_and_back(office, to):
    office.set(MOVIDESK_RECORD="yes")
    busy(office, "5255")
    first_agent, second_agent = office.agent("5252", answers(), audio=True), office.agent("5253", RINGS, audio=True)
    caller = office.call()
    talk(office)
    first_agent.transfer(to)
    second_agent.wait_ringing()
    office.wait_heard("completedCall")
    second_agent.answer()
    office.wait_heard("startTransferedCall")
    wait_for("two recordings", lambda: sum(p.stat().st_size > 4000 for p in office.monitor.iterdir()) == 2)
    second_agent.transfer("78")
    office.wait_music(caller)
    office.wait_heard("completedCall", 2)
    caller.hang_up()
    first, second, third = sorted(office.tickets(caller), key=lambda ticket: ticket.id)
    assert [(t.state, t.agent, t.queue) for t in (first, second, third)] == [
        ("completed", "5252", 77), ("completed", "5253", 78), ("canceled", "", 78)]
    assert (office.heard(first.id), office.heard(second.id)) == (ANSWERED, TALKED)
    assert recording(office, first) != recording(office, second) and third.links == []


def test_from_a_watched_queue_into_another_that_nobody_answers(office):
    first_agent, second_agent = office.agent("5252", answers()), office.agent("5253", RINGS)
    caller = office.call("602")
    office.wait_heard("startTransferedCall")
    first_agent.transfer("watched")
    second_agent.wait_ringing()
    caller.hang_up()
    first, second = sorted(office.tickets(caller), key=lambda ticket: ticket.id)
    assert (first.state, first.agent, office.heard(first.id)) == ("completed", "5252", TALKED)
    assert (second.state, second.agent, office.heard(second.id)) == ("canceled", "", LEFT)


def test_into_a_voicemail_box_of_the_pbx_is_still_the_agents_call(service_office):
    office = service_office
    office.set(MOVIDESK_RECORD="yes")
    agent = office.agent("5252", answers(), audio=True)
    caller = office.call()
    talk(office)
    agent.transfer("box")
    office.wait_stage(caller, "VoiceMail")
    caller.hang_up()
    ticket = office.ticket(caller, "completed", ANSWERED)
    assert sound(recording(office, ticket))[1] > LOUD


def test_the_fallback_is_not_recorded_as_the_agents_talk(service_office):
    """5252 is offered and does not answer; then Movidesk fails, and the fallback puts the caller through to people."""
    office = service_office
    office.set(MOVIDESK_RECORD="yes", MOVIDESK_FALLBACK="people,s,1", MOVIDESK_RING="1")
    agent = office.agent("5252", RINGS)
    colleague = office.agent("5253", answers(), audio=True)
    caller = office.call()
    agent.wait_ringing()
    office.wait_asked()
    office.fault("receivedCall", status=500)
    office.wait_talk(caller, colleague)
    assert "/monitor/" not in office.pbx.cli("mixmonitor list " + office.pbx.channels()[0])
    caller.hang_up()
    ticket, = office.tickets(caller)
    assert (ticket.state, ticket.links) == ("lost", [])


def test_back_in_its_own_watched_queue_without_an_answer_is_the_same_call(service_office):
    office = service_office
    agent = office.agent("5253", RINGS)
    caller = office.call("looped")
    agent.wait_ringing(count=2)
    caller.hang_up()
    assert office.ticket(caller, "canceled", LEFT).agent == ""


# -- attended transfer into a queue ----------------------------------------------------------------------------------

class Reception:
    """A receptionist, 5254, who has a customer on the phone and calls `to` for her."""

    def __init__(self, office, to: str, desk: str = "desk", extension: str = "5254") -> None:
        self.office = office
        self.phone = office.agent(extension, answers(), audio=True)
        self.customer = office.call(desk)
        self.customer.wait_answered()
        self.phone.wait_event("answered")
        self.consultation = office.call(to, number=extension)

    def connect(self) -> None:
        """The customer takes the receptionist's place."""
        self.phone.transfer_attended(self.consultation)
        assert self.consultation.wait().hung_up_by == "pbx"
        assert not self.customer.ended

    def ticket(self, state: str, heard: list[str], number: str = "5254"):
        """The one ticket of it, which was told promptly."""
        self.customer.wait()
        # No sweep is needed for it.
        wait_for("the call has ended", lambda: not self.office.open_calls(), PROMPT, self.office.open_calls)
        self.office.settle()
        ticket, = self.office.rehearsal.tickets()
        assert self.office.heard(ticket.id) == heard
        assert (ticket.state, ticket.complete, ticket.number) == (state, True, number)
        return ticket


def test_the_customer_has_the_receptionists_place_in_line(office):
    busy(office, "5252", "5253")
    before = office.call()
    office.wait_music(before)
    desk = Reception(office, "77")
    office.wait_music(desk.consultation)
    office.wait_asked()
    after = office.call()
    office.wait_music(after)
    desk.connect()
    agents = office.agent("5252", answers()), office.agent("5253", answers())
    office.model.in_call.clear()
    for agent in agents:
        agent.wait_event("answered")
    waiting = office.rehearsal.cli("status").stdout
    assert "queue 77: 1 waiting" in waiting, waiting
    desk.customer.hang_up()
    before.hang_up()
    after.hang_up()
    assert [t.state for t in office.tickets(before)] == ["completed"]
    assert [t.state for t in office.tickets(after)] == ["canceled"]
    other, = [t for t in office.rehearsal.tickets() if t.number not in (before.number, after.number)]
    assert (other.state, office.heard(other.id)[-2:]) == ("completed", ["transferedCall", "completedCall"])


def test_connected_while_waiting_and_the_customer_hangs_up(office):
    office.all_in_calls()
    desk = Reception(office, "77")
    office.wait_music(desk.consultation)
    office.wait_heard("receivedCall")
    desk.connect()
    office.wait_asked(office.heard().count("receivedCall") + 1)
    office.wait_music(desk.customer)
    assert len(office.open_calls()) == 1
    desk.customer.hang_up()
    desk.ticket("canceled", office.heard()[:1] * office.heard().count("receivedCall") + ["canceledCall"])


def test_the_number_is_the_customers_where_movidesk_knows_none_yet(office):
    office.fault("receivedCall", status=500)
    desk = Reception(office, "77")
    office.wait_music(desk.consultation)
    desk.connect()
    office.agent("5252", answers())
    office.wait_heard("transferedCall")
    desk.customer.hang_up()
    desk.ticket("completed", ["receivedCall 500", *ANSWERED], desk.customer.number)


@pytest.mark.parametrize("answered", [True, False], ids=["answered", "abandoned"])
@pytest.mark.parametrize("to", ["up", "local"])
def test_connected_while_the_agents_phone_rings(office, to, answered):
    office.set(MOVIDESK_RECORD="yes")
    agent = office.agent("5252", RINGS, audio=True)
    desk = Reception(office, to)
    agent.wait_ringing()
    desk.connect()
    if answered:
        agent.answer()
        talk(office)
        desk.customer.hang_up()
        ticket = desk.ticket("completed", ANSWERED)
        assert sound(recording(office, ticket))[1] > LOUD
    else:
        desk.customer.hang_up()
        assert desk.ticket("canceled", CANCELED).links == []


@pytest.mark.parametrize("by", ["customer", "agent"])
@pytest.mark.parametrize("to", ["up", "local"])
def test_connected_in_the_talk(office, to, by):
    office.set(MOVIDESK_RECORD="yes")
    agent = office.agent("5252", answers(), audio=True)
    desk = Reception(office, to)
    talk(office)
    office.wait_heard("transferedCall")
    desk.connect()
    office.wait_handed_over(desk.customer)
    spoken = max(p.stat().st_size for p in office.monitor.iterdir())
    talk(office, spoken / 16000 + 0.5)
    assert "completedCall" not in office.heard()
    desk.customer.hang_up() if by == "customer" else agent.hang_up()
    ticket = desk.ticket("completed", ANSWERED)
    assert sound(recording(office, ticket))[0] > spoken / 16000


@pytest.mark.parametrize("again", ["78", "5255"])
def test_connected_in_the_talk_and_passed_on_by_the_agent(service_office, again):
    """The customer who came by an attended transfer is one like any other: also when the agent transfers the call blind."""
    office = service_office
    agent, other = office.agent("5252", answers(), audio=True), office.agent("5255", answers(), audio=True)
    desk = Reception(office, "77")
    office.wait_heard("transferedCall")
    desk.connect()
    office.wait_handed_over(desk.customer)
    agent.transfer(again)
    other.wait_event("answered")
    if again == "78":
        office.wait_heard("transferedCall", 2)
    desk.customer.hang_up()
    desk.customer.wait()
    office.settle()
    tickets = {ticket.queue: ticket for ticket in office.rehearsal.tickets()}
    assert (tickets[77].agent, office.heard(tickets[77].id)) == ("5252", ANSWERED)
    if again == "78":
        assert (tickets[78].agent, office.heard(tickets[78].id)) == ("5255", ANSWERED)
        assert tickets[78].number == desk.customer.number
    else:
        assert list(tickets) == [77]


@pytest.mark.parametrize("box", ["", "100@default"], ids=["record", "voicemail"])
def test_connected_while_a_message_is_left(office, box):
    office.set(MOVIDESK_VOICEMAIL=box)
    close(office, CLOSED)
    try:
        desk = Reception(office, "quick")
        office.wait_stage(desk.consultation, "VoiceMail" if box else "Record")
        desk.connect()
        office.wait_handed_over(desk.customer)
        office.speak(desk.customer) if not box else office.speak_into_box()
        desk.customer.hang_up()
        ticket = desk.ticket("lost", LOST)
        assert sound(recording(office, ticket))[0] >= 0.5
    finally:
        office.model.groups[77].closes = "24:00"


@pytest.mark.parametrize("after", [0, 0.01, 0.03, 0.1])
@pytest.mark.parametrize("stage", ["waiting", "ringing", "talking"])
def test_the_customer_hangs_up_as_soon_as_she_is_connected(service_office, stage, after):
    """Before, while and after her channel gets the handler."""
    office = service_office
    if stage == "waiting":
        office.all_in_calls()
    agent = office.agent("5252", answers() if stage == "talking" else RINGS)
    desk = Reception(office, "up")
    office.wait_heard("transferedCall") if stage == "talking" else office.wait_heard("receivedCall")
    if stage == "ringing":
        agent.wait_ringing()
    desk.phone.transfer_attended(desk.consultation)
    desk.consultation.wait()
    time.sleep(after)  # the offset is what is tested
    desk.customer.hang_up()
    desk.customer.wait()
    wait_for("the call has ended", lambda: not office.open_calls(), PROMPT, office.open_calls)
    office.settle()
    ticket, = office.rehearsal.tickets()
    assert ticket.state == ("completed" if stage == "talking" else "canceled")


def test_connected_twice_in_a_row(service_office):
    """5255, with a customer on the phone, is connected by the receptionist, and then connects the customer."""
    office = service_office
    office.all_in_calls()
    receptionist = office.agent("5254", answers(), audio=True)
    inner = Reception(office, "5254", desk="other", extension="5255")  # it calls the receptionist
    inner.consultation.wait_answered()
    receptionist.wait_event("answered")
    first = office.call("up", number="5254")
    office.wait_music(first)
    office.wait_heard("receivedCall")
    receptionist.transfer_attended(first)
    first.wait()
    office.wait_handed_over(inner.consultation)
    inner.connect()
    office.wait_handed_over(inner.customer)
    inner.customer.hang_up()
    questions = office.heard().count("receivedCall")
    ticket = inner.ticket("canceled", ["receivedCall"] * questions + ["canceledCall"])
    assert ticket.number == "5254"


# -- attended transfer from one queue to another -----------------------------------------------------------------------

@pytest.mark.parametrize("stage", ["waiting", "ringing", "talking"])
def test_an_agent_connects_the_caller_with_another_queue(office, stage):
    """5252 talks to a customer of queue 77, calls queue 78, and connects the two."""
    office.set(MOVIDESK_RECORD="yes")
    if stage == "waiting":
        busy(office, "5255")
    other = office.agent("5255", answers() if stage == "talking" else RINGS, audio=True)
    desk = Reception(office, "78", desk="77", extension="5252")
    talk(office)
    if stage == "waiting":
        office.wait_music(desk.consultation)
    elif stage == "ringing":
        other.wait_ringing()
    else:
        office.wait_heard("transferedCall", 2)
    desk.connect()
    office.wait_heard("completedCall")
    first, = [ticket for ticket in office.rehearsal.tickets() if ticket.queue == 77]
    assert (first.agent, office.heard(first.id)) == ("5252", ANSWERED)
    path = recording(office, first)
    whole = path.stat().st_size
    assert sound(path)[1] > LOUD
    if stage == "talking":
        wait_for("the second talk is recorded", lambda: any(
            p != path and p.stat().st_size > 16000 for p in office.monitor.iterdir()))
    desk.customer.hang_up()
    desk.customer.wait()
    office.settle()
    second, = [ticket for ticket in office.rehearsal.tickets() if ticket.queue == 78]
    assert path.stat().st_size == whole
    if stage == "talking":
        assert (second.state, second.agent, office.heard(second.id)) == ("completed", "5255", ANSWERED)
        assert sound(recording(office, second))[1] > LOUD
    else:
        assert (second.state, second.agent, second.links, office.heard(second.id)[-1]) == ("canceled", "", [], "canceledCall")


# -- an agent consults a colleague by DTMF, while the customer hears music ------------------------------------------------

@pytest.mark.parametrize("three", [False, True], ids=["two", "three in the talk"])
def test_the_customer_hangs_up_while_the_agent_talks_to_a_colleague(office, three):
    """The call is over then, and what the two say to each other is not recorded."""
    office.set(MOVIDESK_DIAL_OPTIONS="t", MOVIDESK_RECORD="yes")
    agent, colleague = office.agent("5252", answers(), audio=True), office.agent("5253", answers(), audio=True)
    caller = office.call()
    office.wait_talk(caller, agent)
    office.consult(agent, "5299", colleague)  # recorded, so that its Local channel stays
    if three:
        office.press(agent, "*3")
        wait_for("all three talk", lambda: any("3" in line.split()[1:3] for line in bridges(office)),
                 instead=lambda: bridges(office))
    caller.hang_up()
    office.wait_heard("completedCall")
    first, = office.rehearsal.tickets()
    whole = recording(office, first).stat().st_size
    assert "5252" in "".join(office.pbx.channels()) and "5253" in "".join(office.pbx.channels())
    colleague.hang_up()
    assert office.ticket(caller, "completed", ANSWERED).agent == "5252"
    assert recording(office, first).stat().st_size == whole


def bridges(office) -> list[str]:
    return office.pbx.cli("bridge show all").splitlines()


@pytest.mark.parametrize("to, heard", [("78", ANSWERED), ("602", TALKED)], ids=["control", "watched"])
@pytest.mark.parametrize("connects", [False, True], ids=["hung up", "connected"])
def test_the_agent_consults_another_queue(office, to, heard, connects):
    """5252 talks to a customer of queue 77 and to an agent of another queue: two calls, each with its own agent and ending."""
    # A recording would hold the Local channel in the call, and the first call's end back until the customer hangs up.
    office.set(MOVIDESK_DIAL_OPTIONS="t", MOVIDESK_RECORD="no" if connects else "yes")
    agent, other = office.agent("5252", answers(), audio=True), office.agent("5255", answers(), audio=True)
    caller = office.call()
    office.wait_talk(caller, agent)
    office.consult(agent, to, other)
    office.wait_heard(heard[-2], 2 if to == "78" else 1)
    agent.hang_up() if connects else caller.hang_up()
    office.wait_heard("completedCall")
    first, = [ticket for ticket in office.rehearsal.tickets() if ticket.state == "completed"]
    assert (first.agent, first.number, office.heard(first.id)) == ("5252", caller.number, ANSWERED)
    call, = office.open_calls()
    assert call.state == "transferred" and office.is_bridged(other)
    if connects:
        assert not caller.ended
        office.wait_handed_over(caller)
        caller.hang_up()
    else:
        other.hang_up()
    caller.wait()
    wait_for("the call has ended", lambda: not office.open_calls(), PROMPT, office.open_calls)
    office.settle()
    second, = [ticket for ticket in office.rehearsal.tickets() if ticket.id != first.id]
    assert (second.state, second.agent, office.heard(second.id)) == ("completed", "5255", heard)


def test_dial_itself_tells_who_answered_where_no_report_ran(service_office):
    """What stands for a report that was lost while another call's caller is the MASTER_CHANNEL(). The comma makes an address
    of U()."""
    office = service_office
    office.set(MOVIDESK_DIAL_SUFFIX=",20")
    agent = office.agent("5252", answers(), audio=True)
    caller = office.call()
    office.wait_talk(caller, agent)
    assert office.heard() == ["receivedCall"]
    caller.hang_up()
    assert office.ticket(caller, "completed", ANSWERED).agent == "5252"


def test_a_customer_of_an_agent_behind_a_lasting_local_channel_hangs_up(office):
    """FreePBX dials agents by Local/.../n, whose second half hangs up after the customer, later still where its dialplan has
    work."""
    office.set(MOVIDESK_DIAL_PREFIX="Local/", MOVIDESK_DIAL_SUFFIX="@lasting/n")
    busy(office, "5253")
    agent = office.agent("5252", answers(), audio=True)
    for count in range(1, 4):
        caller = office.call()
        caller.wait_answered()
        agent.wait_event("answered", count=count)
        office.wait_heard("transferedCall", count)
        caller.hang_up()
        wait_for("the call has ended", lambda: not office.open_calls(), PROMPT, office.open_calls)
        ticket, = office.tickets(caller)
        assert (ticket.state, ticket.agent, office.heard(ticket.id)) == ("completed", "5252", ANSWERED)
    assert "continues on" not in office.console()


def test_a_call_that_began_before_an_upgrade_ends_with_its_recording(office):
    """An older dialplan has set neither MOVIDESK_CHANNEL nor its copy in SHARED()."""
    office.set(MOVIDESK_RECORD="yes")
    agent = office.agent("5252", answers(), audio=True)
    caller = office.call()
    office.wait_talk(caller, agent)
    office.wait_heard("transferedCall")
    channel, = [fields[0] for fields in office._channels() if fields[7:8] == [caller.number]]
    for variable in ("SHARED(MOVIDESK_CHANNEL)", "MOVIDESK_CHANNEL"):
        office.pbx.cli(f'dialplan set chanvar {channel} {variable} ""')
    caller.hang_up()
    assert sound(recording(office, office.ticket(caller, "completed", ANSWERED)))[0] > 0


# -- the same without queue control --------------------------------------------------------------------------------------

@pytest.mark.parametrize("to", ["watched", "sales"])
@pytest.mark.parametrize("stage", ["ringing", "answered later", "talking"])
def test_connected_in_a_watched_queue(office, to, stage):
    agent = office.agent("5253", answers() if stage == "talking" else RINGS, audio=True)
    desk = Reception(office, to)
    office.wait_heard("startTransferedCall") if stage == "talking" else agent.wait_ringing()
    desk.connect()
    if stage == "answered later":
        agent.answer()
        office.wait_heard("startTransferedCall")
    elif stage == "talking":
        office.wait_handed_over(desk.customer)
    desk.customer.hang_up()
    if stage == "ringing":
        desk.ticket("canceled", LEFT, desk.customer.number)
    else:
        desk.ticket("completed", TALKED, "5254" if stage == "talking" else desk.customer.number)


# -- parking ---------------------------------------------------------------------------------------------------------

def test_parked_and_retrieved_is_one_call(office):
    office.set(MOVIDESK_RECORD="yes")
    agent = office.agent("5252", answers(), audio=True)
    caller = office.call()
    talk(office)
    agent.transfer("800")
    wait_for("the caller is parked", lambda: "801" in office.pbx.cli("parking show default"), instead=office.console)
    assert "completedCall" not in office.heard()
    colleague = office.call("801", number="5253")
    colleague.wait_answered()
    caller.hang_up()
    ticket = office.ticket(caller, "completed", ANSWERED)
    assert (ticket.agent, len(ticket.links)) == ("5252", 1)


def test_parked_and_the_caller_hangs_up(service_office):
    office = service_office
    agent = office.agent("5252", answers())
    caller = office.call()
    office.wait_heard("transferedCall")
    agent.transfer("800")
    wait_for("the caller is parked", lambda: "801" in office.pbx.cli("parking show default"), instead=office.console)
    caller.hang_up()
    office.ticket(caller, "completed", ANSWERED)


# -- other ways to Asterisk, and none --------------------------------------------------------------------------------

LEAST_RIGHTS = """[general]
enabled = yes
port = %d
bindaddr = 127.0.0.1
[movidesk]
secret = a-secret-of-the-tests
write = reporting,call
"""


@pytest.fixture
def managed(tree, tmp_path):
    """An office whose service reaches Asterisk by its manager, as a user with the rights that movidesk.conf names."""
    port = free_port(1)
    about = {"pbx": ["asterisk = ami"], "made_calls": [
        f"ami = 127.0.0.1:{port}", "ami_user = movidesk", "ami_secret = a-secret-of-the-tests"]}
    rehearsal = Rehearsal(tree, tmp_path, settings={**SETTINGS, **about}, variables=VARIABLES, more=DIALPLAN + SCENES)
    rehearsal.pbx.write("manager.conf", LEAST_RIGHTS % port)
    with rehearsal, TransferOffice(rehearsal) as office:
        yield office


@pytest.mark.parametrize("stage", ["waiting", "talking"])
def test_connected_where_the_service_has_but_the_manager(managed, stage):
    office = managed
    if stage == "waiting":
        office.all_in_calls()
    else:
        office.agent("5252", answers())
    desk = Reception(office, "up")
    office.wait_heard("receivedCall" if stage == "waiting" else "transferedCall")
    desk.connect()
    office.wait_handed_over(desk.customer)
    desk.customer.hang_up()
    if stage == "talking":
        desk.ticket("completed", ANSWERED)
    else:
        desk.ticket("canceled", ["receivedCall"] * office.heard().count("receivedCall") + ["canceledCall"])


def test_where_asterisk_cannot_be_told_the_next_look_brings_the_handler(service_office):
    """The console refuses: the console line says so, and the dialplan itself pushes the handler at its next turn."""
    office = service_office
    office.all_in_calls()
    desk = Reception(office, "up")
    office.wait_music(desk.consultation)
    office.wait_heard("receivedCall")
    restart(office, "asterisk = sh -c 'exit 7'")
    try:
        desk.connect()
        office.wait_handed_over(desk.customer)
        assert "may be reported up to a minute late" in office.console()
        assert len(office.open_calls()) == 1
        desk.customer.hang_up()
        wait_for("the call has ended", lambda: not office.open_calls(), PROMPT, office.open_calls)
    finally:
        restart(office)


def restart(office, *lines: str) -> None:
    """The service with these lines in [pbx]."""
    office.rehearsal.stop_service()
    office.configure({"pbx": lines})
    office.rehearsal.start_service()


@pytest.mark.parametrize("to", ["up", "watched"])
def test_connected_while_not_even_the_scripts_run(script_office, to):
    """What the dialplan keeps by itself is one call with one ending, too."""
    office = script_office
    agent = office.agent("5253", answers(), audio=True)
    with no_python(office):
        desk = Reception(office, to)
        if to == "watched":
            office.wait_talk(desk.consultation, agent)
        else:
            office.wait_music(desk.consultation)
        desk.connect()
        if to == "up":
            office.wait_handed_over(desk.customer)  # by the dialplan, at its next turn
            desk.customer.hang_up()
            desk.customer.wait()
            office.pbx.wait_idle()
    if to == "watched":
        assert office.rehearsal.cli("deliver", "--once").returncode == 0
        assert [call.state for call in office.open_calls()] == ["transferred"]  # the sweep sees the customer's channel
        desk.customer.hang_up()
    desk.customer.wait()
    office.settle()
    ticket, = office.rehearsal.tickets()
    assert ticket.state == ("completed" if to == "watched" else "canceled")
