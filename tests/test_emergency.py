"""What becomes of an event when the journal cannot take it: kept in a file, taken in when the journal is back."""
from __future__ import annotations

import os
import resource
import sqlite3
import subprocess
import sys

import pytest

from movidesk import emergency, verbs
from movidesk.config import load
from movidesk.journal import Journal
from peer import Peer


@pytest.fixture
def desk(write_config):
    return verbs.Desk(load(write_config()))


@pytest.fixture(autouse=True)
def one_place(monkeypatch):
    """Only the file beside the journal, not the one in /var/tmp that a real service here may use."""
    monkeypatch.setattr(emergency, "paths", lambda journal: [journal + ".emergency"])


def run(desk, verb, *arguments, **peer):
    peer = Peer("17.1", "4733990777", **peer)
    with peer.channel(*arguments) as channel:
        verbs.run(verb, channel, desk, list(arguments))
    return peer


def lock(path):
    """Another process holds the journal's write lock."""
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    return other


def kinds(journal, call_id="pbx1-17.1"):
    call = journal.find(call_id)
    return [event.kind for event in journal.events(call)] if call else []


def test_events_of_a_locked_journal_are_kept_and_taken_in_in_order(desk, monkeypatch):
    monkeypatch.setattr("movidesk.journal.store.BUSY_TIMEOUT", 0.05)
    path = desk.journal.path
    desk._journal = None
    other = lock(path)
    for verb, arguments in (("received", ["77"]), ("transferred", ["5252"]), ("hangup", [])):
        peer = run(desk, verb, *arguments)
        assert peer["MOVIDESK_RESULT"] == "error"
        assert any("is kept in %s.emergency" % path in line for line in peer.console), peer.console
    other.close()
    journal = Journal(path)
    assert emergency.take_in(journal, "pbx1") == (3, [])
    assert kinds(journal) == ["received", "transferred", "completed"]
    assert emergency.take_in(journal, "pbx1") == (0, [])


def test_taking_in_twice_after_a_crash_records_nothing_twice(desk):
    event = {"kind": "received", "at": 1_700_000_000.0, "uniqueid": "17.1", "queue": "77", "number": "1",
             "call_id": "pbx1-17.1", "extension": "", "link": ""}
    path = emergency.save(desk.journal.path, event)
    emergency.save(desk.journal.path, {**event, "kind": "canceled", "at": 1_700_000_009.0})
    lines = open(path, "rb").read()
    emergency.take_in(desk.journal, "pbx1")
    open(path, "wb").write(lines)
    emergency.take_in(desk.journal, "pbx1")
    assert kinds(desk.journal) == ["received", "canceled"]
    assert desk.journal.find("pbx1-17.1").arrived == 1_700_000_000.0
    assert [event.at for event in desk.journal.events(desk.journal.find("pbx1-17.1"))] == [1_700_000_000.0, 1_700_000_009.0]


def test_an_arrival_that_was_recorded_before_the_trouble_begins_no_second_call(desk):
    """The journal fails between the arrival and the question; by the time the line is taken in, the call has ended."""
    call = desk.journal.arrive("pbx1", "17.1", "77", "1", arrived=1_700_000_000.0)
    emergency.save(desk.journal.path, {"kind": "received", "at": 1_700_000_000.5, "uniqueid": "17.1", "queue": "77",
                                       "number": "1", "call_id": call.call_id, "extension": "", "link": ""})
    desk.journal.hang_up(call.call_id)
    assert emergency.take_in(desk.journal, "pbx1") == (1, [])
    assert [found.call_id for found in desk.journal.last_calls(5)] == [call.call_id]


def test_a_wrong_token_puts_nothing_into_the_emergency_file(write_config):
    desk = verbs.Desk(load(write_config(movidesk={"token": "no-guid"})))
    assert run(desk, "received", "77")["MOVIDESK_CODE"] == "E"
    assert kinds(desk.journal) == ["received"] and not os.path.exists(desk.journal.path + ".emergency")


@pytest.mark.parametrize("line", [b"nonsense\n", b"{}\n", b'{"kind": "canceled", "at": "soon", "call_id": "x"}\n',
                                  b"[1]\n", b"\xff\xfe\n", b'{"kind": "canceled", "at": 1e300, "call_id": "x"}\n'])
def test_a_line_that_makes_no_sense_is_shown_and_the_others_are_taken(desk, line):
    good = {"kind": "canceled", "at": 1_700_000_000.0, "uniqueid": "17.2", "queue": "77", "number": "1",
            "call_id": "pbx1-17.2", "extension": "", "link": ""}
    path = emergency.save(desk.journal.path, good)
    with open(path, "ab") as file:
        file.write(line)
    emergency.save(desk.journal.path, {**good, "uniqueid": "17.3", "call_id": "pbx1-17.3"})
    taken, nonsense = emergency.take_in(desk.journal, "pbx1")
    assert taken == 2 and len(nonsense) == 1 and path in nonsense[0]


def test_a_damaged_journal_is_kept_and_a_fresh_one_begun(desk, tmp_path, capsys):
    path = desk.journal.path
    desk.journal.close()
    desk._journal = None
    with open(path, "wb") as file:
        file.write(b"this is no database, " * 500)
    for suffix in ("-wal", "-shm"):
        if os.path.exists(path + suffix):
            os.unlink(path + suffix)
    assert run(desk, "canceled")["MOVIDESK_RESULT"] == "ok"
    kept = [name for name in os.listdir(tmp_path) if "damaged" in name]
    assert len(kept) == 1 and kept[0] in capsys.readouterr().err
    assert kinds(Journal(path)) == ["canceled"]


def test_a_full_disk_loses_nothing(desk, tmp_path):
    """The journal's file cannot grow (a limit on file sizes stands for the full disk); the small emergency file can."""
    desk.journal
    size = max(os.path.getsize(tmp_path / name) for name in os.listdir(tmp_path))
    program = ("import sys; sys.path[:0] = sys.argv[1].split(':'); from movidesk import verbs; sys.argv = ['x'];"
               "verbs.main('canceled')")
    done = subprocess.run([sys.executable, "-c", program, ":".join(p for p in sys.path if p)],
                          input=b"agi_uniqueid: 17.9\n\n" + b"200 result=0\n" * 20, capture_output=True, check=False,
                          env={**os.environ, "MOVIDESK_CONFIG": desk.config.path},
                          preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size // 2, size // 2)))
    assert b"is kept in" in done.stdout or b"canceled" in done.stdout, done
    desk._journal = None
    emergency.take_in(desk.journal, "pbx1")
    assert kinds(desk.journal, "pbx1-17.9") == ["canceled"]


def test_a_link_in_the_emergency_files_place_is_not_followed(desk, tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("untouched")
    os.symlink(victim, desk.journal.path + ".emergency")
    with pytest.raises(OSError):
        emergency.save(desk.journal.path, {"kind": "canceled"})
    assert victim.read_text() == "untouched"
