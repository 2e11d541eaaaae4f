"""Recordings and messages on a real Asterisk: what a ticket links can be fetched, and is what was said."""
from __future__ import annotations

import io
import socket
import subprocess
import urllib.error
import urllib.request
import wave
from pathlib import Path

import pytest

from movidesk.recordings import conversion
from movidesk_rehearsal.asterisk import free_port
from movidesk_rehearsal.phones import answers
from movidesk_rehearsal.rehearsal import QUEUE, Rehearsal, wait_for
from office import ANSWERED, DIALPLAN, LOST, SETTINGS, VARIABLES, Office

VOICEMAIL = """\
[general]
format = wav
minsecs = 1
[default]
100 => 1234,Messages
200 => 1234,Only long messages,,,minsecs=60
"""


@pytest.fixture(scope="module")
def publishing(tree, tmp_path_factory):
    """A rehearsal whose service publishes the recordings, and which has voicemail boxes with short greetings."""
    rehearsal = Rehearsal(tree, tmp_path_factory.mktemp("recordings"), variables=VARIABLES, more=DIALPLAN)
    port = free_port(socket.SOCK_STREAM)
    rehearsal.recordings = [f"link = http://127.0.0.1:{port}/rec/{{file}}", f"publish = 127.0.0.1:{port}",
                            "secret = 0123456789abcdef", f"folder = {rehearsal.pbx.spool_dir}/monitor"]
    rehearsal.write_config({**SETTINGS, "recordings": rehearsal.recordings})
    rehearsal.pbx.write("voicemail.conf", VOICEMAIL)
    beep = (tree.data / "sounds" / "en" / "beep.gsm").read_bytes()
    with rehearsal:
        for folder, prompts in ((rehearsal.pbx.folder / "data/sounds/quick", ("vm-intro", "vm-msgsaved", "auth-thankyou")),
                                (rehearsal.pbx.spool_dir / "voicemail/default/100", ("unavail",)),
                                (rehearsal.pbx.spool_dir / "voicemail/default/200", ("unavail",))):
            folder.mkdir(parents=True)
            for prompt in prompts:
                (folder / (prompt + ".gsm")).write_bytes(beep)
        yield rehearsal


@pytest.fixture
def office(publishing):
    with Office(publishing) as office:
        yield office


@pytest.fixture
def lost_office(office):
    """One in which nobody will answer: callers leave messages."""
    office.model.groups[QUEUE].closes = "00:00"
    yield office
    office.model.groups[QUEUE].closes = "24:00"


@pytest.fixture
def box_office(lost_office):
    lost_office.set(MOVIDESK_VOICEMAIL="100@default")
    return lost_office


def fetch(link: str) -> bytes:
    with urllib.request.urlopen(link, timeout=10) as answer:
        return answer.read()


def seconds(sound: bytes) -> float:
    """How long a WAV lasts that is whole and not silent."""
    with wave.open(io.BytesIO(sound)) as file:
        frames = file.readframes(file.getnframes())
        assert len(frames) == 2 * file.getnframes() and any(byte not in (0, 255) for byte in frames)
        return file.getnframes() / file.getframerate()


def drafts(office: Office):
    """The messages that are being left in a box."""
    return (office.pbx.spool_dir / "voicemail/default").glob("*/tmp/*.wav")


def speak_into_box(office: Office, caller, spoken: float) -> None:
    """Wait until so much of a message is recorded."""
    wait_for(f"{caller} speaks", lambda: any(size(path) >= 44 + 16000 * spoken for path in drafts(office)),
             instead=office.console)


def size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


# -- talks -----------------------------------------------------------------------------------------------------------

def test_a_tickets_link_plays_the_talk(office):
    office.set(MOVIDESK_RECORD="yes")
    office.agent("5252", answers(hang_up_after=3.0))
    caller = office.call()
    talk = caller.wait()
    link, = office.ticket(caller, "completed", ANSWERED).links
    assert abs(seconds(fetch(link)) - (talk.ended_at - talk.answered_at)) < 1
    with pytest.raises(urllib.error.HTTPError, match="403"):
        fetch(link.replace("signature=", "signature=x"))


@pytest.mark.parametrize("ending", ["mp3", "opus"])
def test_a_converted_talk(office, ending):
    try:
        conversion.tool(ending)
    except conversion.NotConverted as error:
        pytest.skip(str(error))
    rehearsal = office.rehearsal
    restart(rehearsal, f"convert = {ending}")
    try:
        office.set(MOVIDESK_RECORD="yes")
        office.agent("5252", answers(hang_up_after=1.0))
        ticket = office.ticket(office.call(), "completed", [*ANSWERED, "setMadeCallLink"])
        link, = ticket.links
        assert f"/{ticket.id}.{ending}?" in link and len(fetch(link)) > 500
        assert [path.name for path in office.monitor.iterdir()] == [f"{ticket.id}.{ending}"]
    finally:
        restart(rehearsal)


def restart(rehearsal: Rehearsal, *settings: str) -> None:
    rehearsal.stop_service()
    rehearsal.write_config({**SETTINGS, "recordings": [*rehearsal.recordings, *settings]})
    rehearsal.start_service()


# -- messages --------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("after", [False, True], ids=["during", "after"])
def test_a_recorded_message_and_the_caller_hangs_up(lost_office, after):
    office = lost_office
    caller = office.call("quick")
    office.speak(caller, 1.0)
    if after:
        caller.press("#")
        office.wait_stage(caller, "Playback", "vm-msgsaved")
    caller.hang_up()
    link, = office.ticket(caller, "lost", LOST).links
    assert 0.9 < seconds(fetch(link)) < 3


@pytest.mark.parametrize("after", [False, True], ids=["during", "after"])
def test_a_message_in_a_box_and_the_caller_hangs_up(box_office, after):
    office = box_office
    caller = office.call("quick")
    speak_into_box(office, caller, 2.0)
    if after:
        caller.press("#")
        wait_for("the message is in the box", lambda: not list(drafts(office)))
    caller.hang_up()
    ticket = office.ticket(caller, "lost", LOST)
    link, = ticket.links
    assert f"/{ticket.id}-message.wav?" in link
    assert 1 < seconds(fetch(link)) < 5


def test_each_message_of_a_box_has_its_link_also_when_the_box_is_emptied(box_office):
    office = box_office
    links = []
    for spoken in 1.5, 3.0:
        caller = office.call("quick")
        speak_into_box(office, caller, spoken)
        caller.hang_up()
        links += office.ticket(caller, "lost", LOST).links
        for path in (office.pbx.spool_dir / "voicemail/default/100/INBOX").iterdir():
            path.unlink()
    first, second = (seconds(fetch(link)) for link in links)
    assert first + 1 < second


def test_nothing_is_said_to_the_box(box_office):
    office = box_office
    caller = office.call("quick", audio=False)
    office.wait_stage(caller, "VoiceMail")
    caller.hang_up()
    assert office.ticket(caller, "lost", LOST).links == []


def test_a_message_too_short_for_the_box(lost_office):
    office = lost_office
    office.set(MOVIDESK_VOICEMAIL="200@default")
    caller = office.call("quick")
    speak_into_box(office, caller, 0.1)
    caller.hang_up()
    assert office.ticket(caller, "lost", LOST).links == []


def test_no_sound_is_no_link(lost_office):
    caller = lost_office.call("quick", audio=False)
    lost_office.wait_stage(caller, "Record")
    caller.hang_up()
    assert lost_office.ticket(caller, "lost", LOST).links == []


def test_no_such_box(lost_office):
    """The message is recorded all the same, and the console says why."""
    office = lost_office
    office.set(MOVIDESK_VOICEMAIL="999@default")
    caller = office.call("quick")
    office.speak(caller, 1.0)
    caller.hang_up()
    link, = office.ticket(caller, "lost", LOST).links
    assert seconds(fetch(link)) > 0.9
    assert "no voicemail box 999@default" in office.console()


# -- what the service looks like from outside ------------------------------------------------------------------------

def test_check_and_the_log(office):
    restart(office.rehearsal)
    done: subprocess.CompletedProcess = office.rehearsal.cli("check")
    assert "ok       recordings at 127.0.0.1:" in done.stdout
    assert "signature" not in office.rehearsal.service_log()
