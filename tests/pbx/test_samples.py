"""The PBXs of dialplan/samples/, each as it is but for addresses and ports: real calls, and the tickets that come of them."""
from __future__ import annotations

import re
import time
from contextlib import ExitStack, contextmanager

import pytest

from dialplan_map import DialplanMap, unknown
from movidesk_rehearsal.phones import BUSY, RINGS, answers
from movidesk_rehearsal.rehearsal import Rehearsal, wait_for
from office import ANSWERED, ASKED_TWICE, CANCELED, CLOSED, LOST, RECORDINGS, SETTINGS, Office, close, recording, sound

DID, SECOND_DID, DIRECT_DID = "4733990777", "4733990778", "4733990779"
TALKED, LEFT = ["startTransferedCall", "completedCall"], ["startCanceledCall"]
# Where calls come in besides the phones and the trunk: by an admin's dialplan, queues.conf, `movidesk serve`, MOVIDESK_FALLBACK.
PRODUCT = {"movidesk-queue", "movidesk-watch", "movidesk-answered", "movidesk-outbound", "movidesk-monitor"}
ENTRIES = {"from-trunk", "from-internal", "agents-all", "from-queue", *PRODUCT}
PROMPTS = {name + ".gsm" for name in ("vm-intro", "vm-msgsaved", "vm-theperson", "vm-isunavail", "queue-youarenext")}
SAMPLES = ["queue-control", "by-hand", "own-queue", "freepbx"]

# What FreePBX generates, as far as calls and the sample's files touch it: inbound routes, queue and extensions.
FREEPBX = """
[globals]
DIAL_OPTIONS = Tt
#include globals_custom.conf

[from-trunk]
exten => 4733990777,1,Goto(movidesk-queue,77,1)
exten => 4733990778,1,Goto(queue-400-with-movidesk,s,1)
exten => 4733990779,1,Goto(from-did-direct,5252,1)

[from-did-direct]
include => ext-local

[from-internal]
include => from-internal-custom
include => ext-queues
include => ext-local

[from-queue]
exten => _52XX,1,Goto(ext-local,${EXTEN},1)

[ext-queues]
exten => 400,1,Answer()
 same => n,Set(__NODEST=${EXTEN})
 same => n,Queue(400,t,,,${QMAXWAIT},${QAGI},${QGOSUB})
 same => n,Hangup()

[ext-local]
exten => 5252,1,Dial(PJSIP/5252,15,${DIAL_OPTIONS})
exten => 5252,hint,PJSIP/5252
exten => 5253,1,Dial(PJSIP/5253,15,${DIAL_OPTIONS})
exten => 5253,hint,PJSIP/5253

#include extensions_custom.conf
"""
FREEPBX_QUEUES = """
[general]
[400]
strategy=linear
timeout=15
retry=5
member=Local/5252@from-queue/n,0,Ana,hint:5252@ext-local
member=Local/5253@from-queue/n,0,Bia,hint:5253@ext-local
#include queues_post_custom.conf
"""


@pytest.fixture(scope="module")
def started():
    """The samples that run already, by name: each starts once, when it is first needed."""
    with ExitStack() as stack:
        yield {}, stack


@pytest.fixture
def running(request, started, tree, tmp_path_factory):
    """The sample that the test is for."""
    samples, stack = started
    name = request.param
    if name not in samples:
        rehearsal = Rehearsal(tree, tmp_path_factory.mktemp(name), sample=name, extensions=FREEPBX, settings=SETTINGS)
        if name == "freepbx":
            rehearsal.pbx.write("queues.conf", FREEPBX_QUEUES)
        shorten_prompts(rehearsal.pbx)
        samples[name] = stack.enter_context(rehearsal)
        rehearsal.at_start = rehearsal.pbx.log()
    return samples[name]


def shorten_prompts(pbx) -> None:
    """A short beep for those prompts that callers hear in these tests."""
    sounds = pbx.folder / "data" / "sounds" / "en"
    full = sounds.resolve()
    sounds.unlink()
    sounds.mkdir()
    for sound_file in full.iterdir():
        short = sound_file.name in PROMPTS
        (sounds / sound_file.name).symlink_to(full / "beep.gsm" if short else sound_file)


@pytest.fixture
def office(running):
    with Office(running) as office:
        yield office


def on(*samples: str):
    """Run the test on these samples."""
    return pytest.mark.parametrize("running", samples, indirect=True)


def rings_for_a_second(office) -> None:
    office.set(**{"SUPPORT_RING" if by_hand(office) else "MOVIDESK_RING": "1"})


def by_hand(office) -> bool:
    return "by-hand" in str(office.rehearsal.folder)


def wait_line(office, caller) -> None:
    """Wait until the caller waits for an agent."""
    office.wait_stage(caller, "Wait" if by_hand(office) else "WaitExten")


def leave_message(office, caller) -> None:
    """Speak into the voicemail box, for longer than its minsecs."""
    office.wait_stage(caller, "VoiceMail")
    caller.press("#")  # past the greeting
    size = 44 + int(16000 * 1.5)
    wait_for(f"{caller} speaks", lambda: any(path.stat().st_size > size for path in box(office).glob("tmp/*.wav")),
             instead=office.console)


def box(office):
    return office.pbx.spool_dir / "voicemail" / "default" / "77"


# -- as Asterisk loads them --------------------------------------------------------------------------------------------

@on(*SAMPLES)
def test_loads_without_a_warning(running):
    lines = [line for line in running.at_start.splitlines() if re.search(r"\] (WARNING|ERROR)\[", line)]
    assert [line for line in lines if "was deprecated in Asterisk version" not in line] == []


@on(*SAMPLES)
def test_every_context_is_reached_and_every_line_leads_somewhere(running):
    dialplan = DialplanMap(running.pbx.cli("dialplan show"))
    assert dialplan.contexts >= {"from-trunk", "from-internal"} and len(list(dialplan.leads())) >= 20
    assert dialplan.nowhere() == []
    assert dialplan.contexts - dialplan.reached(ENTRIES) == set()
    assert dialplan.not_understood() == []
    assert dialplan.never_led_to(set()) == []


@on(*SAMPLES)
def test_every_application_and_function_is_there(running):
    """A misspelt one would be noticed only when a call comes to its line."""
    dialplan = DialplanMap(running.pbx.cli("dialplan show"))
    assert dialplan.applications() >= {"Dial", "Goto"}
    version = re.search(r"Asterisk (\d+)\.(\d+)", running.pbx.cli("core show version"))
    # movidesk-verb asks for the version before it reads this.
    later = {"GLOBAL_EXISTS"} if (int(version[1]), int(version[2])) < (21, 1) else set()
    assert set(unknown(running.pbx, dialplan)) - later == set()


# -- queue control, by movidesk-queue and by hand ----------------------------------------------------------------------

CONTROL = on("queue-control", "by-hand", "freepbx")


@CONTROL
def test_answered(office):
    office.agent("5252", answers(hang_up_after=0.2))
    caller = office.call(DID)
    assert caller.wait().hung_up_by == "pbx"
    assert office.ticket(caller, "completed", ANSWERED).agent == "5252"


@CONTROL
def test_busy_then_the_next_agent(office):
    office.agent("5252", BUSY)
    office.agent("5253")
    caller = office.call(DID)
    caller.wait_answered()
    caller.hang_up()
    assert office.ticket(caller, "completed", ASKED_TWICE).agent == "5253"


@on("queue-control", "by-hand")
def test_no_answer_then_the_next_agent(office):
    rings_for_a_second(office)
    first, second = office.agent("5252", RINGS), office.agent("5253")
    caller = office.call(DID)
    second.wait_event("answered")
    first.wait_event("cancelled")
    caller.hang_up()
    assert office.ticket(caller, "completed", ASKED_TWICE).agent == "5253"


@CONTROL
def test_abandoned_while_waiting(office):
    office.all_in_calls()
    caller = office.call(DID)
    wait_line(office, caller)
    caller.hang_up()
    office.ticket(caller, "canceled", CANCELED)


@CONTROL
def test_abandoned_while_ringing(office):
    agent = office.agent("5252", RINGS)
    caller = office.call(DID)
    agent.wait_ringing()
    caller.hang_up()
    agent.wait_event("cancelled")
    office.ticket(caller, "canceled", CANCELED)


@CONTROL
def test_closed_with_a_message(office):
    close(office, CLOSED)
    caller = office.call(DID)
    leave_message(office, caller) if by_hand(office) else office.speak(caller)
    caller.hang_up()
    ticket = office.ticket(caller, "lost", LOST)
    seconds, peak = sound(recording(office, ticket.links[0]))
    assert seconds >= 0.5 and peak > 1000


@CONTROL
def test_from_an_agents_phone(office):
    """The test extension, from a phone with its password."""
    office.agent("5252", answers(hang_up_after=0.1))
    caller = office.call("7700" if "freepbx" in str(office.rehearsal.folder) else "700", number="5253")
    assert office.ticket(caller, "completed", ANSWERED).agent == "5252"


@on("queue-control")
def test_the_message_in_the_sample_box(office):
    office.set(MOVIDESK_VOICEMAIL="77@default")
    close(office, CLOSED)
    caller = office.call(DID)
    leave_message(office, caller)
    caller.hang_up()
    ticket = office.ticket(caller, "lost", LOST)
    assert sound(recording(office, ticket.links[0]))[0] >= 1


@on("queue-control")
def test_the_sample_fallback(office):
    office.set(MOVIDESK_FALLBACK="agents-all,s,1")
    office.fault("receivedCall", status=500)
    office.agent("5253", answers(hang_up_after=0.1))
    caller = office.call(DID)
    assert caller.wait().answered
    office.ticket(caller, "lost", ["receivedCall 500"] + LOST)


# -- by hand: whatever may happen to those who copy it -----------------------------------------------------------------

HAND = on("by-hand")


@HAND
def test_by_hand_the_line_in_waiting_then_answered(office):
    office.all_in_calls()
    agent = office.agent("5252", answers(hang_up_after=0.1))
    caller = office.call(DID)
    wait_line(office, caller)
    office.model.in_call.clear()
    agent.wait_event("answered")
    assert office.ticket(caller, "completed", ASKED_TWICE).agent == "5252"


@HAND
def test_by_hand_the_talk_is_recorded(office):
    office.set(SUPPORT_RECORD="yes")
    office.agent("5252", BUSY, audio=True)
    office.agent("5253", answers(hang_up_after=1.0), audio=True)
    ticket = office.ticket(office.call(DID), "completed", ASKED_TWICE)
    seconds, peak = sound(recording(office, ticket.links[0]))
    assert 0.5 < seconds < 3 and peak > 1000


@HAND
def test_by_hand_given_up(office):
    office.set(SUPPORT_MAX_WAIT="1")
    office.all_in_calls()
    caller = office.call(DID)
    office.wait_stage(caller, "VoiceMail")
    caller.hang_up()
    ticket, = office.tickets(caller)
    assert (ticket.state, ticket.links, office.heard(ticket.id)[-1]) == ("lost", [], "lostCall")


@HAND
def test_by_hand_a_forged_caller_id(office):
    office.agent("5252", answers(hang_up_after=0.1))
    caller = office.call(DID, number="473%0A%0A200%20result=1")
    caller.wait()
    office.settle()
    ticket, = [ticket for ticket in office.rehearsal.tickets() if ticket.number == "4732001"]
    assert (ticket.state, office.heard(ticket.id)) == ("completed", ANSWERED)


@contextmanager
def without(path):
    """This file or folder is not there while the block runs."""
    away = path.rename(path.with_name(path.name + "-away"))
    try:
        yield
    finally:
        away.rename(path)


@HAND
def test_by_hand_without_the_scripts_the_caller_reaches_people(office):
    office.agent("5253")
    with without(office.pbx.agi_dir / "movidesk"):
        caller = office.call(DID)
        caller.wait_answered()
        caller.hang_up()
        caller.wait()
        office.pbx.wait_idle()
    assert "AGI(movidesk/received) did not run" in office.console()
    assert office.heard() == []


@HAND
def test_by_hand_transferred_could_not_run(office):
    """The hangup handler makes up for it."""
    office.agent("5252")
    with without(office.pbx.agi_dir / "movidesk" / "transferred"):
        caller = office.call(DID)
        caller.wait_answered()
        caller.hang_up()
        caller.wait()
        office.pbx.wait_idle()
    assert office.ticket(caller, "completed", ANSWERED).agent == "5252"


@HAND
def test_by_hand_transferred_back_into_the_queue_is_another_call(office):
    """The first call keeps its recording; the second is not taken for answered, though the first was."""
    office.set(SUPPORT_RECORD="yes")
    agent = office.agent("5252", audio=True)
    caller = office.call(DID)
    office.wait_talk(caller, agent)
    for each in office.model.agents.values():
        each.telephony = False  # code 3: the second time the caller waits
    agent.transfer("700")
    office.wait_stage(caller, "Wait")
    caller.hang_up()
    first, second = sorted(office.tickets(caller), key=lambda ticket: ticket.id)
    assert (second.id, first.state, second.state) == (first.id + "-2", "completed", "canceled")
    assert (first.links, second.links) == ([RECORDINGS + first.id + ".wav"], [])


@HAND
def test_by_hand_an_attended_transfer_into_the_line(office):
    """The agent calls the queue, waits there, and puts the customer in this place: the customer's call begins anew there."""
    agent = office.agent("5252", audio=True)
    caller = office.call(DID)
    office.wait_talk(caller, agent)
    for each in office.model.agents.values():
        each.telephony = False  # code 3
    consultation = office.call("700", number="5252")
    office.wait_stage(consultation, "Wait")
    agent.transfer_attended(consultation)
    assert consultation.wait().hung_up_by == "pbx"
    wait_for("the customer waits", lambda: [each.number for each in office.rehearsal.tickets()].count(caller.number) == 2,
             instead=lambda: [each.to_json() for each in office.rehearsal.tickets()])
    caller.hang_up()
    first, second = sorted(office.tickets(caller), key=lambda ticket: ticket.id)
    assert (second.id, first.state, second.state) == (first.id + "-2", "completed", "canceled")
    assert office.ticket(consultation, "canceled", CANCELED)


def while_movidesk_is_asked(office):
    office.fault("receivedCall", delay=1.0)
    caller = office.call(DID)
    wait_for("Movidesk is asked", lambda: not office.simulator.faults.rules)
    return caller, "canceled", CANCELED


def in_talk(office):
    office.agent("5252")
    caller = office.call(DID)
    caller.wait_answered()
    return caller, "completed", ANSWERED


def in_the_greeting(office):
    close(office, CLOSED)
    caller = office.call(DID)
    office.wait_stage(caller, "VoiceMail")
    return caller, "lost", LOST


def in_the_fallen_back_line(office):
    office.fault("receivedCall", status=500)
    caller = office.call(DID)
    wait_line(office, caller)
    return caller, "canceled", ["receivedCall 500"] + CANCELED


@HAND
@pytest.mark.parametrize("moment", [while_movidesk_is_asked, in_talk, in_the_greeting, in_the_fallen_back_line])
def test_by_hand_hangup(office, moment):
    caller, state, heard = moment(office)
    caller.hang_up()
    assert office.ticket(caller, state, heard).links == []


def has_handler(office, caller) -> bool:
    """Whether the dialplan came as far as the hangup handler; Asterisk's log tags all lines of a call alike."""
    tags = re.findall(rf"\[(C-\w+)\].*CALLERID\(num\)={caller.number}\b", office.console())
    return any(f"[{tag}]" in line and "hangup_handler_push" in line for tag in tags for line in office.console().splitlines())


@HAND
def test_by_hand_hangup_while_it_rings_and_at_the_answer(office):
    """Six callers, who hang up 80 ms after each other, around the moment at which the agent answers."""
    office.agent("5252", answers(after=0.3))
    office.agent("5253", answers(after=0.3))
    callers = [office.call(DID, hang_up_after=0.15 + 0.08 * number) for number in range(6)]
    for caller in callers:
        tickets = office.tickets(caller)
        if not tickets and not has_handler(office, caller):
            continue  # gone before the dialplan had begun
        ticket, = tickets
        heard = office.heard(ticket.id)
        assert (ticket.complete, heard[0]) == (True, "receivedCall")
        assert [call for call in heard if call != "receivedCall"] in (CANCELED[1:], ANSWERED[1:])


@HAND
@pytest.mark.parametrize("after", [0, 0.01, 0.03])
def test_by_hand_hangup_in_the_very_moment_of_the_answer(office, after):
    agent = office.agent("5252", RINGS)
    caller = office.call(DID)
    agent.wait_ringing()
    agent.answer()
    time.sleep(after)  # the offset is what is tested
    caller.hang_up()
    ticket, = office.tickets(caller)
    assert (ticket.state, office.heard(ticket.id)) in [("canceled", CANCELED), ("completed", ANSWERED)]


# -- no queue control: Queue(), a ring group, FreePBX's queue ----------------------------------------------------------

OWN = pytest.mark.parametrize("running, to", [("own-queue", DID), ("own-queue", SECOND_DID), ("freepbx", SECOND_DID)],
                              indirect=["running"], ids=["queue", "group", "freepbx"])


@OWN
def test_own_answered(office, to):
    office.agent("5252")
    caller = office.call(to)
    office.wait_heard("startTransferedCall")
    caller.hang_up()
    ticket = office.ticket(caller, "completed", TALKED)
    assert (ticket.agent, ticket.queue, ticket.queue_control) == ("5252", 77, False)


@OWN
def test_own_busy_then_the_other_agent(office, to):
    office.agent("5252", BUSY)
    office.agent("5253", answers(after=0.2, hang_up_after=0.5))
    caller = office.call(to)
    assert caller.wait().hung_up_by == "pbx"
    assert office.ticket(caller, "completed", TALKED).agent == "5253"


@OWN
def test_own_abandoned_while_ringing(office, to):
    agent = office.agent("5252", RINGS)
    caller = office.call(to)
    agent.wait_ringing()
    caller.hang_up()
    office.ticket(caller, "canceled", LEFT)


@OWN
def test_own_abandoned_with_no_phone_on(office, to):
    """In the queue the caller waits; the ring group has nobody to ring, and the caller comes to the box."""
    caller = office.call(to)
    if to == SECOND_DID and "own-queue" in str(office.rehearsal.folder):
        leave_message(office, caller)
    else:
        office.wait_stage(caller, "Queue")
    caller.hang_up()
    assert office.ticket(caller, "canceled", LEFT).links == []


# -- FreePBX -----------------------------------------------------------------------------------------------------------

@on("freepbx")
def test_freepbx_falls_back_to_its_own_queue(office):
    office.fault("receivedCall", status=500)
    office.agent("5252", answers(hang_up_after=0.2))
    caller = office.call(DID)
    assert caller.wait().answered
    office.ticket(caller, "lost", ["receivedCall 500"] + LOST)


@on("freepbx")
def test_freepbx_agents_by_its_own_rules(office):
    """The two lines of globals_custom.conf that are commented out."""
    office.set(MOVIDESK_DIAL_PREFIX="Local/", MOVIDESK_DIAL_SUFFIX="@from-internal/n")
    office.agent("5252", answers(hang_up_after=0.5))
    caller = office.call(DID)
    assert caller.wait().hung_up_by == "pbx"
    assert office.ticket(caller, "completed", ANSWERED).agent == "5252"


@on("freepbx")
def test_freepbx_a_call_straight_to_an_extension_is_not_told(office):
    office.agent("5252", answers(hang_up_after=0.2))
    caller = office.call(DIRECT_DID)
    assert caller.wait().answered
    office.settle()
    assert office.heard() == []
