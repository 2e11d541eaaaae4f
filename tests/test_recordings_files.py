"""Files of recordings and messages: retention, names of our own, voicemail boxes."""
from __future__ import annotations

import os
import re
from urllib.parse import urlsplit

import pytest

from movidesk.agi import runner
from movidesk.context import Context
from movidesk.journal import Journal
from movidesk.made_calls import dialler
from movidesk.recordings import files
from movidesk.rules import call_states
from support.peer import Peer
from support.recordings import SOUND

DAY = 86400
OURS = ["pbx1-1700000000.1.wav", "pbx1-1700000000.1-2.wav", "pbx1-1700000000.1-message.wav", "pbx1-1700000000.1.mp3",
        "pbx1-asterisk7-1700000000.12.opus", "pbx1-1700000000.0a1b2c3d4e5f.wav", "pbx1-1700000000.012345678901.mp3",
        "pbx1-1700000000.1-3-message.gsm", "pbx1-1700000000.1-message.wav.part", ".pbx1-1700000000.1-2.mp3",
        ".pbx1-1700000000.0a1b2c3d4e5f.opus", "movidesk-1700000000.1.wav", "movidesk-asterisk7-1700000000.1-message.wav"]
FOREIGN = ["1700000000.1.wav", "pbx2-1700000000.1.wav", "pbx1-1700000000.1.txt", "pbx1-notes.wav", "q-77-pbx1.wav",
           "pbx1-1700000000.0a1b2c3d4e5.wav", "pbx1-1700000000.0a1b2c3d4e5f6.wav", "pbx1-1700000000.abc.wav", "pbx1-1.wav",
           "pbx1-1700000000.0A1B2C3D4E5F.wav", "..pbx1-1700000000.1.mp3", "pbx1-1700000000.1.wav.bak",
           "out-pbx1-1700000000.1.wav"]


def test_retention_deletes_only_what_is_old_and_ours(configured, clock, monitor):
    for name in OURS + FOREIGN + ["pbx1-1700000009.9.wav"]:
        (monitor / name).write_bytes(b"x")
        age = 2 * DAY if name.endswith("9.9.wav") else 4 * DAY
        os.utime(monitor / name, (clock() - age,) * 2)
    (monitor / "pbx1-1700000008.8.wav").symlink_to(monitor / FOREIGN[0])
    assert sorted(files.delete_old(configured(keep_days=3), clock())) == sorted(OURS)
    assert {path.name for path in monitor.iterdir()} == {*FOREIGN, "pbx1-1700000009.9.wav", "pbx1-1700000008.8.wav"}
    assert files.delete_old(configured(keep_days=0), clock() + 1000 * DAY) == []


def test_a_file_that_cannot_be_deleted_keeps_no_other(configured, clock, monitor, monkeypatch):
    """Somebody has deleted one already; another is on a disk that is mounted read-only."""
    for name in OURS:
        (monitor / name).write_bytes(b"x")
        os.utime(monitor / name, (clock() - 4 * DAY,) * 2)
    troubles = {OURS[0]: FileNotFoundError(2, "gone"), OURS[3]: PermissionError(1, "not permitted")}
    unlink = os.unlink

    def delete(path):
        if os.path.basename(path) in troubles:
            raise troubles[os.path.basename(path)]
        unlink(path)

    monkeypatch.setattr(files.os, "unlink", delete)
    with pytest.raises(PermissionError):
        files.delete_old(configured(keep_days=3), clock())
    assert {path.name for path in monitor.iterdir()} == set(troubles)


def test_the_names_of_calls_are_ours(configured, clock):
    """Of each sort, as the product itself gives them."""
    ours = files.own_names(configured())
    for uniqueid in ("1700000000.1", "pbx1-1700000000.1", "pbx7-1700000000.1", "Head Office-1700000000.1",
                     "a_b.c-1700000000.327"):
        journal = Journal(":memory:", clock)
        first = journal.calls.arrive("pbx1", uniqueid, "77", "1")
        watched = journal.calls.arrive("pbx1", uniqueid, "77", "1", call_states.WATCH)
        third = journal.calls.arrive("pbx1", uniqueid, "78", "1")
        assert third.call_id.endswith("-3")
        for call in (first, watched, third):
            name = re.sub("[^0-9A-Za-z_.-]", "", call.call_id)  # FILTER() in movidesk-file
            assert all(ours.fullmatch(name + ending) for ending in (".wav", "-message.wav", ".mp3", ".opus")), name
    call = journal.calls.dial("pbx1", dialler._channel_id(), "5252", "1")
    assert ours.fullmatch(call.call_id + ".wav") and ours.fullmatch(call.call_id + ".mp3")


@pytest.mark.parametrize("ending, named", [(".wav", ".wav"), (".WAV", ".wav"), (".gsm", ".gsm")])
def test_a_message_of_a_box_gets_a_name_of_its_own(tmp_path, monitor, ending, named):
    for name in "msg0000.txt", "msg0000" + ending:
        (tmp_path / name).write_bytes(SOUND)
    path = files.own_message(str(tmp_path / "msg0000"), str(monitor), "pbx1-1.1")
    assert path == str(monitor / ("pbx1-1.1-message" + named))
    (tmp_path / ("msg0000" + ending)).write_bytes(b"what the next caller said")
    assert files.own_message(str(tmp_path / "msg0000"), str(monitor), "pbx1-1.1") == path
    assert (monitor / os.path.basename(path)).read_bytes() == SOUND


def test_a_whole_file_is_a_recording_of_the_pbxs_own(tmp_path, monitor):
    (tmp_path / "talk.wav").write_bytes(SOUND)
    assert files.own_message(str(tmp_path / "talk.wav"), str(monitor), "pbx1-1.1") == str(tmp_path / "talk.wav")
    assert not (monitor / "pbx1-1.1-message.wav").exists()


def test_no_message_in_the_box(tmp_path, monitor):
    assert files.own_message(str(tmp_path / "msg0000"), str(monitor), "pbx1-1.1") == ""


@pytest.mark.parametrize("said, linked", [(SOUND, "/rec/pbx1-1700000000.1-message.wav"), (b"", "")], ids=["a message", "none"])
def test_a_hangup_links_the_boxs_message(publisher, tmp_path, monitor, said, linked):
    if said:
        (tmp_path / "msg0000.wav").write_bytes(said)
    for verb, *arguments in ("received", "77"), ("lost",), ("hangup", str(tmp_path / "msg0000")):
        peer = Peer(variables={"MOVIDESK_ENDING": "message"})
        with peer.channel(*arguments) as channel:
            assert runner.run(verb, channel, publisher, channel.arguments) == "ok"
    lost = publisher.journal.calls.events(publisher.journal.calls.find("pbx1-1700000000.1"))[-1]
    assert (lost.kind, urlsplit(lost.link).path, lost.note) == ("lost", linked, "")


def test_a_message_that_cannot_be_copied_costs_the_call_only_its_link(configured, clock, tmp_path):
    (tmp_path / "msg0000.wav").write_bytes(SOUND)
    publisher = Context(configured(folder=str(tmp_path / "msg0000.wav")), clock)
    for verb, *arguments in ("received", "77"), ("hangup", str(tmp_path / "msg0000")):
        peer = Peer()
        with peer.channel(*arguments) as channel:
            assert runner.run(verb, channel, publisher, channel.arguments) == "ok"
    assert "its message stays in the voicemail box" in "".join(peer.console)
