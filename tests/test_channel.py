"""agi.Channel against a scripted Asterisk: values, the environment, and every way in which a channel ends."""
from __future__ import annotations

import io
import subprocess
import sys
import threading

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from movidesk.agi.channel import Channel, ChannelGone, ProtocolError
from support import peer as asterisk
from support.peer import Before, Peer, words

ENVIRONMENT = b"agi_uniqueid: 1700000000.1\nagi_callerid: 4733990777\n"


def channel_of(received: bytes) -> Channel:
    """A channel whose peer has sent these bytes, and then closed."""
    return Channel(io.BytesIO(received), io.BytesIO())


# -- values --------------------------------------------------------------------------------------------------------

def as_it_should_arrive(text: str) -> str:
    return " ".join(text.splitlines()).replace("\0", "")


@given(st.text())
@example('he said "hi"')
@example("back\\slash\\")
@example("\\\"")
@example("a,b${EPOCH}&c;d|e")
@example("one\ntwo\r\nthree\x85four\u2028five")
@example("")
@example(" ")
def test_any_text_arrives_with_line_breaks_made_spaces(text):
    channel = channel_of(b"\n" + b"200 result=1\n")
    channel.set("MOVIDESK_X", text)
    sent = channel.stdout.getvalue()
    assert sent.count(b"\n") == 1 and sent.endswith(b"\n") and b"\r" not in sent
    assert words(sent[:-1]) == [b"SET", b"VARIABLE", b"MOVIDESK_X", as_it_should_arrive(text).encode("utf-8", "replace")]


def test_bytes_that_are_no_utf8_come_back_as_they_were():
    peer = Peer(callerid="J\udce5n", variables={"NAME": "J\udce5n"})
    with peer.channel() as channel:
        assert channel.env["agi_callerid"] == "J\udce5n"
        channel.set("COPY", channel.get("NAME"))
    assert peer["COPY"] == "J\udce5n"


@pytest.mark.parametrize("value", ["plain", "", "(in brackets)", "a) (b", "x" * 1023, "result=1 (x)", "one\ntwo",
                                   "(\n)", "511 no"])
def test_get_returns_the_value(value):
    with Peer(variables={"X": value, "Y": "next"}).channel() as channel:
        assert channel.get("X") == value
        assert channel.get("Y") == "next"


def test_a_value_that_asterisk_cut_does_not_shift_the_answers():
    with Peer(variables={"Y": "next"}, faults={1: b"200 result=1 (" + b"x" * 1008 + b"\n"}).channel() as channel:
        assert set(channel.get("X")) == {"x"}
        assert channel.get("Y") == "next"


def test_what_is_not_set_is_empty():
    with Peer().channel() as channel:
        assert channel.get("X") == ""


def test_a_line_break_in_a_command_is_refused_before_it_is_sent():
    peer = Peer()
    with peer.channel() as channel, pytest.raises(ValueError, match="line break"):
        channel.get("X\nSET VARIABLE Y 1")
    assert peer.commands == []


# -- the environment -----------------------------------------------------------------------------------------------

def test_the_environment_is_read():
    with Peer(uniqueid="pbx-1.2").channel("77", "", "last") as channel:
        assert channel.uniqueid == "pbx-1.2"
        assert channel.env["agi_context"] == "movidesk-verb" and channel.env["agi_accountcode"] == ""
        assert channel.arguments == ["77", "", "last"]


def test_a_value_may_hold_colons():
    assert channel_of(b"agi_request: agi://127.0.0.1:4573/lost\n\n").env["agi_request"] == "agi://127.0.0.1:4573/lost"


def test_the_first_value_of_a_name_holds():
    """A caller's number with %0A in it is a line of its own, and comes after the true ones."""
    channel = channel_of(ENVIRONMENT + b"agi_dnid: 77\nagi_uniqueid: forged\nagi_arg_1: forged\n\n")
    assert channel.uniqueid == "1700000000.1"


@pytest.mark.parametrize("line", [b"hello\n", b"agi_forged\n", b"Host: 127.0.0.1\n", b"GET / HTTP/1.1\n", b"\xff\xfe\n"])
def test_a_line_that_is_no_environment_is_refused(line):
    with pytest.raises(ProtocolError, match="not a line of an AGI environment"):
        channel_of(ENVIRONMENT + line + b"\n")


def test_a_line_without_end_is_refused():
    reader = io.BytesIO(b"agi_callerid: " + b"9" * 10_000_000)
    with pytest.raises(ProtocolError, match="more than 65536 bytes"):
        Channel(reader, io.BytesIO())
    assert reader.tell() == 65536  # and is not read to wherever it goes


def test_an_environment_without_end_is_refused():
    with pytest.raises(ProtocolError, match="more than 256 lines"):
        channel_of(ENVIRONMENT * 1000)


@pytest.mark.parametrize("received", [b"", b"agi_uniq", ENVIRONMENT])
def test_the_end_in_the_environment(received):
    with pytest.raises(ChannelGone):
        channel_of(received)


def test_a_hangup_line_in_the_environment():
    channel = channel_of(asterisk.HANGUP + ENVIRONMENT + b"\n")
    assert channel.hung_up and channel.uniqueid == "1700000000.1"


# -- the end of a channel, and refusals ------------------------------------------------------------------------------

def test_a_hangup_ends_nothing():
    peer = Peer(variables={"X": "1"}, faults={2: Before(asterisk.HANGUP * 2)})
    with peer.channel() as channel:
        assert channel.get("X") == "1" and not channel.hung_up
        assert channel.get("X") == "1" and channel.hung_up
        channel.set("Y", "2")
    assert peer["Y"] == "2"


@pytest.mark.parametrize("fault", [asterisk.EOF, asterisk.DEAD])
def test_a_channel_that_is_gone(fault):
    with Peer(faults={2: fault}).channel() as channel:
        channel.set("X", 1)
        with pytest.raises(ChannelGone):
            channel.get("X")


def test_writing_to_a_peer_that_is_gone():
    with Peer(faults={1: asterisk.EOF}).channel() as channel:
        for _ in range(2):
            with pytest.raises(ChannelGone):
                channel.say("hello")


def test_a_peer_that_falls_silent():
    release = threading.Event()
    with Peer(faults={1: lambda: release.wait(asterisk.TIMEOUT)}).channel() as channel:
        channel.stdin.raw._sock.settimeout(0.05)
        with pytest.raises(ChannelGone, match="timed out"):
            channel.get("X")
        release.set()


@pytest.mark.parametrize("fault", [asterisk.USAGE, asterisk.UNKNOWN, asterisk.USAGE_LINES])
def test_a_refused_command_does_not_shift_the_answers(fault):
    with Peer(variables={"X": "1"}, faults={1: fault}).channel() as channel:
        with pytest.raises(ProtocolError, match="5[12]0"):
            channel.get("X")
        assert channel.get("X") == "1"


def test_a_failed_command_is_no_error():
    """`EXEC Wait` on a dead channel answers -1, and so may others; the channel goes on."""
    with Peer(variables={"X": "1"}, faults={1: asterisk.FAILED, 2: asterisk.FAILED}).channel() as channel:
        assert channel.get("X") == ""
        channel.set("X", "2")
        assert channel.get("X") == "1"


@pytest.mark.parametrize("answer", [b"\n", b"hello\n", b"200\n", b"200 nonsense\n", b"999 result=1\n", b"\xff\n"])
def test_an_answer_that_is_no_agi(answer):
    with Peer(faults={1: answer}).channel() as channel, pytest.raises(ProtocolError):
        channel.get("X")


# -- what pyst2 alone cannot do --------------------------------------------------------------------------------------

def test_off_the_main_thread():
    found = []

    def work():
        with Peer(variables={"X": "1"}).channel() as channel:
            found.append(channel.get("X"))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(asterisk.TIMEOUT)
    assert found == ["1"]


def test_nothing_goes_to_stderr(capfd):
    with Peer(variables={"X": "1"}, faults={4: asterisk.USAGE}).channel("77") as channel:
        channel.get("X")
        channel.set("Y", "2")
        channel.say("hello")
        with pytest.raises(ProtocolError):
            channel.get("X")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("filler", ["x", '"', "\\", "\U0001f600", "\udce5", "\ud800"])
def test_a_console_line_is_one_line_and_short(filler):
    peer = Peer()
    with peer.channel() as channel:
        channel.say('a "quoted"\nline ' + filler * 5000)
    assert len(peer.console) == 1 and len(peer.commands[0]) < 2048  # Asterisk 16 splits longer lines
    assert peer.console[0].startswith('movidesk: a "quoted" line ')


def test_a_value_that_asterisk_16_would_split_is_refused():
    peer = Peer()
    with peer.channel() as channel:
        with pytest.raises(ValueError, match="more than 2047 bytes"):
            channel.set("X", "x" * 1980 + '" Y" ' * 40)
        channel.set("X", "x" * 2000)
    assert peer.sets == [("X", "x" * 2000)]


@pytest.mark.parametrize("fault", [asterisk.USAGE_LINES, asterisk.UNKNOWN, b"nonsense\n"])
def test_a_console_line_that_is_refused_stops_nothing(fault):
    peer = Peer(faults={1: fault})
    with peer.channel() as channel:
        channel.say("hello")
        channel.set("X", "1")
    assert peer["X"] == "1"


#: The modules of ours that every script loads. Each more of them costs every event: add one only with a measurement
#: (bench/events.py).
LOADED = {
    "movidesk", "movidesk.context", "movidesk.agi", "movidesk.agi.caller", "movidesk.agi.channel", "movidesk.agi.runner",
    "movidesk.agi.variables", "movidesk.agi.verbs", "movidesk.config", "movidesk.config.loader",
    "movidesk.config.options", "movidesk.config.pattern", "movidesk.delivery", "movidesk.delivery.availability",
    "movidesk.journal", "movidesk.journal.agents", "movidesk.journal.call_store",
    "movidesk.journal.notes", "movidesk.journal.records", "movidesk.journal.standby_folder", "movidesk.journal.store",
    "movidesk.journal.waits", "movidesk.journal.wakeup", "movidesk.rules", "movidesk.rules.call_states",
    "movidesk.rules.rate_limit", "movidesk.rules.waiting_line"}


def loaded_by(code):
    """The modules that are loaded when the code has run as an installed script runs it."""
    # -I -S as those have it: what an editable installation's hooks load is not ours.
    path = f"import sys; sys.path[:0] = {[entry for entry in sys.path if entry]!r}\n"
    done = subprocess.run([sys.executable, "-IS", "-c", path + code + "\nprint(*sys.modules)"], capture_output=True, text=True,
                          timeout=20)
    assert done.stderr == ""
    return set(done.stdout.split())


def test_importing_the_verbs_is_cheap():
    loaded = loaded_by("import movidesk.agi.runner")
    assert loaded & {"requests", "urllib3", "pprint", "dataclasses", "ssl", "logging", "typing", "threading", "json"} == set()
    assert {module for module in loaded if module.split(".")[0] == "movidesk"} == LOADED


@pytest.mark.parametrize("package", ["rules", "config", "journal", "agi", "delivery", "recordings", "made_calls", "pbx"])
def test_importing_a_package_loads_only_the_parts_that_scripts_need(package):
    loaded = loaded_by(f"import movidesk.{package}")
    assert "typing" not in loaded
    assert {module for module in loaded if module.split(".")[0] == "movidesk"} <= LOADED | {f"movidesk.{package}"}


def test_pyst2_still_finds_the_true_modules():
    """The stand-ins that make its import cheap are gone afterwards."""
    code = "import movidesk.agi, pprint, six; pprint.pformat({}); six.moves; print('fine')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=20)
    assert (done.stdout, done.stderr) == ("fine\n", "")
