"""What becomes of an event when the journal cannot take it: kept in a file, taken in when the journal is back."""
from __future__ import annotations

import fcntl
import json
import multiprocessing
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from movidesk.agi import runner
from movidesk.config import load
from movidesk.context import Context
from movidesk.journal import Journal, emergency
from support.journals import event_of, kinds, lock
from support.peer import Peer

CALL = "pbx1-17.1"


@pytest.fixture
def context(write_config):
    return Context(load(write_config()))


@pytest.fixture(autouse=True)
def one_place(monkeypatch):
    """Only the file beside the journal, not the one in /var/tmp that a real service here may use."""
    monkeypatch.setattr(emergency, "paths", lambda config: [config["journal", "path"] + ".emergency"])


def run(context, verb, *arguments, **peer):
    peer = Peer("17.1", "4733990777", **peer)
    with peer.channel(*arguments) as channel:
        runner.run(verb, channel, context, list(arguments))
    return peer


def test_events_of_a_locked_journal_are_kept_and_taken_in_in_order(context, monkeypatch):
    monkeypatch.setattr("movidesk.journal.store.BUSY_TIMEOUT", 0.05)
    path = context.journal.path
    context._journal = None
    other = lock(path)
    for verb, arguments in (("received", ["77"]), ("transferred", ["5252"]), ("hangup", [])):
        peer = run(context, verb, *arguments)
        assert peer["MOVIDESK_RESULT"] == "error"
        assert any(f"is kept in {path}.emergency" in line for line in peer.console), peer.console
    other.close()
    journal = Journal(path)
    assert emergency.take_in(journal, context.config) == (3, [])
    assert kinds(journal, CALL) == ["received", "transferred", "completed"]
    assert emergency.take_in(journal, context.config) == (0, [])


def test_taking_in_twice_after_a_crash_records_nothing_twice(context):
    event = {"kind": "received", "at": 1_700_000_000.0, "uniqueid": "17.1", "queue": "77", "number": "1",
             "call_id": "pbx1-17.1", "extension": "", "link": ""}
    path = emergency.save(context.config, event)
    emergency.save(context.config, {**event, "kind": "canceled", "at": 1_700_000_009.0})
    lines = Path(path).read_bytes()
    emergency.take_in(context.journal, context.config)
    Path(path).write_bytes(lines)
    emergency.take_in(context.journal, context.config)
    assert kinds(context.journal, CALL) == ["received", "canceled"]
    assert context.journal.calls.find(CALL).arrived == 1_700_000_000.0
    calls = context.journal.calls
    assert [event.at for event in calls.events(calls.find(CALL))] == [1_700_000_000.0, 1_700_000_009.0]


def test_an_arrival_recorded_before_the_trouble_begins_no_second_call(context):
    """The journal fails between the arrival and the question; by the time the line is taken in, the call has ended."""
    call = context.journal.calls.arrive("pbx1", "17.1", "77", "1", arrived=1_700_000_000.0)
    emergency.save(context.config, {"kind": "received", "at": 1_700_000_000.5, "uniqueid": "17.1", "queue": "77",
                                       "number": "1", "call_id": call.call_id, "extension": "", "link": ""})
    context.journal.calls.hang_up(call.call_id)
    assert emergency.take_in(context.journal, context.config) == (1, [])
    assert [found.call_id for found in context.journal.overview.last_calls(5)] == [call.call_id]


def came(at: str, **more) -> dict:
    """The variables of a channel that the dialplan led into queue 77 at this time."""
    return {"variables": {"MOVIDESK_QUEUE": "77", "MOVIDESK_ARRIVED": at, **more}}


def away(context, monkeypatch, verb, *arguments, **peer):
    """Run a verb while the journal is locked by somebody else."""
    monkeypatch.setattr("movidesk.journal.store.BUSY_TIMEOUT", 0.05)
    path = context.journal.path
    context._journal = None
    other = lock(path)
    peer = run(context, verb, *arguments, **peer)
    other.close()
    context._journal = None
    return peer


def lines(context, *events, path=None):
    """Emergency lines of channel 17.1, whose dialplan does not say when the caller came; path: another file than the first."""
    for kind, at, more in events:
        event = {"kind": kind, "at": at, "uniqueid": "17.1", "queue": "77", "number": "1", "call_id": "", "extension": "",
                 "link": "",
                 **more}
        if path is None:
            emergency.save(context.config, event)
        else:
            with open(path, "a") as file:
                file.write(json.dumps(event) + "\n")


@pytest.mark.parametrize("whose", ["", "17.1"], ids=["all", "one channel's"])
def test_lines_of_one_call_in_several_files_are_taken_in_in_order_of_time(context, whose, monkeypatch):
    """The folder was away first, and is back, but its journal cannot be written: the later lines are in the better place."""
    lines(context, ("received", 1_700_000_000.0, {}), ("transferred", 1_700_000_005.0, {"extension": "5252"}),
          path=context.config["journal", "path"] + ".emergency")
    monkeypatch.setattr(emergency, "paths", lambda config: [config["journal", "path"] + end for end in (".first", ".emergency")])
    lines(context, ("hangup", 1_700_000_009.0, {}))
    emergency.take_in(context.journal, context.config, whose)
    assert kinds(context.journal, CALL) == ["received", "transferred", "completed"]
    emergency.take_in(context.journal, context.config)
    assert len(context.journal.overview.last_calls(5)) == 1 and emergency.waiting(context.config) == []


def test_an_arrival_taken_in_after_its_calls_end_begins_no_second_call(context):
    lines(context, ("hangup", 1_700_000_009.0, {}))
    emergency.take_in(context.journal, context.config)
    lines(context, ("received", 1_700_000_000.0, {}))
    emergency.take_in(context.journal, context.config)
    assert [call.call_id for call in context.journal.overview.last_calls(5)] == [CALL]
    assert kinds(context.journal, CALL) == ["received", "canceled"]


def test_lines_of_a_first_visit_do_not_touch_the_second(context):
    """A channel's lines stay in the file until all are taken in: each of its verbs meets them again."""
    lines(context, ("received", 1_700_000_000.0, {}), ("hangup", 1_700_000_009.0, {}))
    emergency.take_in(context.journal, context.config, "17.1")
    second = context.journal.calls.arrive("pbx1", "17.1", "78", "1", arrived=1_700_000_010.0)
    for whose in "17.1", "":
        emergency.take_in(context.journal, context.config, whose)
        assert [(call.call_id, call.state) for call in context.journal.overview.last_calls(5)] == [
            (second.call_id, "received"), ("pbx1-17.1", "canceled")]


@pytest.mark.parametrize("jump", [0, 3600, -3600], ids=["", "the clock is set on", "the clock is set back"])
def test_an_arrival_in_the_file_and_a_call_that_went_on_are_one(write_config, monkeypatch, jump):
    """The first question finds no journal; the next does; the call ends before the file is taken in."""
    now = [time.time()]
    context = Context(load(write_config()), lambda: now[0])
    stamp = f"{now[0]:.3f}"
    away(context, monkeypatch, "received", "77", **came(stamp))
    now[0] += jump + 1
    known = run(context, "received", "77", **came(stamp))["MOVIDESK_ID"]
    assert context.journal.calls.find(known).arrived == float(stamp)
    run(context, "hangup", **came(stamp, MOVIDESK_ID=known))
    now[0] -= jump
    emergency.take_in(context.journal, context.config)
    assert [call.call_id for call in context.journal.overview.last_calls(5)] == [CALL]


def test_a_second_visit_that_only_the_file_has_is_a_call_of_its_own(context, monkeypatch):
    now = time.time()
    run(context, "received", "77", **came(f"{now:.3f}"))
    run(context, "lost", **came(f"{now:.3f}", MOVIDESK_ID="pbx1-17.1"))
    second = came(f"{now + 1:.3f}")
    away(context, monkeypatch, "received", "77", **second)
    away(context, monkeypatch, "hangup", **second)
    emergency.take_in(context.journal, context.config)
    assert [(call.call_id, call.state) for call in context.journal.overview.last_calls(5)] == [
        ("pbx1-17.1-2", "canceled"), ("pbx1-17.1", "lost")]


def test_a_visit_whose_hangup_alone_reaches_the_journal_is_recorded_once(context):
    """Also where that hangup is run again, because its script was killed before it said ok."""
    now = time.time()
    run(context, "received", "77", **came(f"{now:.3f}"))
    run(context, "lost", **came(f"{now:.3f}", MOVIDESK_ID="pbx1-17.1"))
    for _ in range(2):
        run(context, "hangup", **came(f"{now + 1:.3f}", MOVIDESK_ANSWERED_BY="5252"))
    assert kinds(context.journal, "pbx1-17.1-2") == ["received", "transferred", "completed"]
    assert len(context.journal.overview.last_calls(5)) == 2


def test_a_caller_who_only_asks_again_is_no_event(context, monkeypatch):
    variables = came(f"{time.time():.3f}", MOVIDESK_ID="pbx1-17.1")
    peer = away(context, monkeypatch, "received", "77", **variables)
    assert peer["MOVIDESK_CODE"] == "E" and not os.path.exists(context.journal.path + ".emergency")


@pytest.mark.parametrize("stamp", ["", "soon", "1e9", "17000000000", "1.2.3", "1", "-5", "inf"])
def test_a_time_of_arrival_that_makes_no_sense_is_not_taken(context, stamp):
    before = time.time()
    run(context, "received", "77", **came(stamp))
    assert before <= context.journal.calls.find(CALL).arrived <= time.time()


@pytest.mark.parametrize("through_the_file", [False, True])
def test_an_empty_queue_is_recorded_as_it_is_given(context, monkeypatch, through_the_file):
    """Not as the queue that the channel was in before."""
    arguments = ("start_transferred", "", "5252")
    if through_the_file:
        away(context, monkeypatch, *arguments, variables={"MOVIDESK_QUEUE": "78"})
        emergency.take_in(context.journal, context.config)
    else:
        run(context, *arguments, variables={"MOVIDESK_QUEUE": "78"})
    call = context.journal.calls.find(CALL)
    assert (call.queue, call.extension, kinds(context.journal, CALL)) == ("", "5252", ["start_transferred"])


def test_a_hangup_in_the_file_brings_what_the_dialplan_saw(context, monkeypatch):
    """Neither the arrival nor the answer were recorded anywhere."""
    now = time.time()
    away(context, monkeypatch, "hangup", **came(f"{now:.3f}", MOVIDESK_ANSWERED_BY="5252"))
    emergency.take_in(context.journal, context.config)
    assert kinds(context.journal, CALL) == ["received", "transferred", "completed"]
    assert context.journal.calls.find(CALL).arrived == float(f"{now:.3f}")


@pytest.mark.parametrize("hangup_away", [False, True])
def test_a_message_that_is_left_while_the_journal_is_away_keeps_its_link(context, monkeypatch, hangup_away, tmp_path):
    context.config._values["recordings", "link"] = "https://pbx.example.com/rec/{file}"
    variables = came(f"{time.time():.3f}", MOVIDESK_ENDING="message", MOVIDESK_RECORDING="a-message.wav")
    run(context, "received", "77", **variables)
    away(context, monkeypatch, "lost", **variables)
    if hangup_away:
        away(context, monkeypatch, "hangup", **variables)
        emergency.take_in(context.journal, context.config)
    else:
        run(context, "hangup", **variables)
    assert [(event.kind, event.link) for event in context.journal.calls.events(context.journal.calls.find(CALL))] == [
        ("received", ""), ("lost", "https://pbx.example.com/rec/a-message.wav")]


def test_a_wrong_token_puts_nothing_into_the_emergency_file(write_config):
    context = Context(load(write_config(movidesk={"token": "no-guid"})))
    assert run(context, "received", "77")["MOVIDESK_CODE"] == "E"
    assert kinds(context.journal, CALL) == ["received"] and not os.path.exists(context.journal.path + ".emergency")


@pytest.mark.parametrize("line", [b"nonsense\n", b"{}\n", b'{"kind": "canceled", "at": "soon", "call_id": "x"}\n',
                                  b"[1]\n", b"\xff\xfe\n", b'{"kind": "canceled", "at": 1e300, "call_id": "x"}\n'])
def test_a_line_that_makes_no_sense_is_shown_and_the_others_are_taken(context, line):
    good = {"kind": "canceled", "at": 1_700_000_000.0, "uniqueid": "17.2", "queue": "77", "number": "1",
            "call_id": "pbx1-17.2", "extension": "", "link": ""}
    path = emergency.save(context.config, good)
    with open(path, "ab") as file:
        file.write(line)
    emergency.save(context.config, {**good, "uniqueid": "17.3", "call_id": "pbx1-17.3"})
    taken, nonsense = emergency.take_in(context.journal, context.config)
    assert taken == 2 and len(nonsense) == 1 and path in nonsense[0]


def test_a_damaged_journal_is_kept_and_a_fresh_one_begun(context, tmp_path, capsys):
    path = context.journal.path
    context.journal.close()
    context._journal = None
    with open(path, "wb") as file:
        file.write(b"this is no database, " * 500)
    for suffix in ("-wal", "-shm"):
        if os.path.exists(path + suffix):
            os.unlink(path + suffix)
    assert run(context, "canceled")["MOVIDESK_RESULT"] == "ok"
    kept = [name for name in os.listdir(tmp_path) if "damaged" in name]
    assert len(kept) == 1 and kept[0] in capsys.readouterr().err
    assert kinds(Journal(path), CALL) == ["canceled"]


def test_a_full_disk_loses_nothing(context, tmp_path):
    """The journal's file cannot grow (a limit on file sizes stands for the full disk); the small emergency file can."""
    assert context.journal
    size = max(os.path.getsize(tmp_path / name) for name in os.listdir(tmp_path))
    program = ("import sys; sys.path[:0] = sys.argv[1].split(':'); from movidesk.agi import runner; sys.argv = ['x'];"
               "runner.main('canceled')")
    done = subprocess.run([sys.executable, "-c", program, ":".join(p for p in sys.path if p)],
                          input=b"agi_uniqueid: 17.9\n\n" + b"200 result=0\n" * 20, capture_output=True, check=False,
                          env={**os.environ, "MOVIDESK_CONFIG": context.config.path},
                          preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size // 2, size // 2)))
    assert b"is kept in" in done.stdout or b"canceled" in done.stdout, done
    context._journal = None
    emergency.take_in(context.journal, context.config)
    assert kinds(context.journal, "pbx1-17.9") == ["canceled"]


def test_a_link_in_the_emergency_files_place_is_not_followed(context, tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("untouched")
    os.symlink(victim, context.journal.path + ".emergency")
    with pytest.raises(OSError):
        emergency.save(context.config, {"kind": "canceled"})
    assert victim.read_text() == "untouched"


@pytest.mark.parametrize("spoilt", [
    b"[" * 100_000, b'{"at": 1', b"\xff", b"5", b"null", b"", {"at": 10 ** 400}, {"at": None}, {"call_id": {}},
    {"call_id": 10 ** 30},
    {"uniqueid": None}, {"uniqueid": 5}, {"kind": []}, {"kind": "no_verb"}, {"call_id": "x" * 257}, {"number": "\ud800"}],
    ids=lambda spoilt: repr(spoilt)[:20])
def test_a_spoilt_line_keeps_nothing_back(context, spoilt):
    """It is told and gone; what stands after it is taken in."""
    event = {"kind": "transferred", "at": 1_700_000_000.0, "uniqueid": "17.2", "queue": "77", "number": "1",
             "call_id": "pbx1-17.2", "extension": "5252", "link": ""}
    line = spoilt if isinstance(spoilt, bytes) else json.dumps({**event, **spoilt}).encode()
    path = emergency.save(context.config, event)
    with open(path, "rb+") as file:
        good = file.read()
        file.seek(0)
        file.write(line + b"\n" + good)
    taken, nonsense = emergency.take_in(context.journal, context.config)
    assert (taken, len(nonsense), emergency.waiting(context.config)) == (1, 1, [])
    assert [call.call_id for call in context.journal.overview.last_calls(5)] == ["pbx1-17.2"]


def test_what_waits_of_a_call_is_recorded_before_its_next_event(context, monkeypatch):
    """The other calls' lines wait for the sweep, which records nothing twice."""
    for number in (1, 2):
        emergency.save(context.config, {"kind": "received", "at": 1_700_000_000.0 + number, "uniqueid": f"17.{number}",
                                     "queue": "77", "number": "1", "call_id": "", "extension": "", "link": ""})
    emergency.save(context.config, {"kind": "link", "at": 1_700_000_003.0, "uniqueid": "17.1", "queue": "", "number": "1",
                                 "call_id": "pbx1-17.1", "extension": "", "link": "https://pbx.example.com/a.wav"})
    run(context, "canceled")
    once = ["received", "link", "canceled"]
    assert kinds(context.journal, CALL) == once and kinds(context.journal, "pbx1-17.2") == []
    assert emergency.take_in(context.journal, context.config) == (3, [])
    assert kinds(context.journal, CALL) == once and kinds(context.journal, "pbx1-17.2") == ["received"]


def test_a_verb_does_not_wait_until_a_long_file_is_taken_in(context, monkeypatch):
    """Neither one that saves, nor one whose call has lines in that file."""
    for number in range(200):
        emergency.save(context.config, event_of(number, "received"))
    arrive, begun = context.journal.calls.arrive, threading.Event()

    def slowly(*args, **more):
        begun.set()
        time.sleep(0.01)
        return arrive(*args, **more)

    monkeypatch.setattr(context.journal.calls, "arrive", slowly)
    taker = threading.Thread(target=emergency.take_in, args=(context.journal, context.config))
    taker.start()
    assert begun.wait(5)
    took = []
    for number in (198, 199):
        begin = time.monotonic()
        emergency.save(context.config, event_of(number, "transferred", 1))
        emergency.take_in(context.journal, context.config, f"17.{number}")
        took.append(time.monotonic() - begin)
        assert kinds(context.journal, f"pbx1-17.{number}") == ["received", "transferred"]
    assert taker.is_alive() and max(took) < 1, took
    taker.join(20)
    emergency.take_in(context.journal, context.config)
    assert emergency.waiting(context.config) == [] and len(context.journal.overview.last_calls(300)) == 200
    assert kinds(context.journal, "pbx1-17.199") == ["received", "transferred"]


class Died(BaseException):
    """A process is killed at this moment."""


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from([None, *range(12)])), min_size=1, max_size=8))
def test_whatever_dies_while_it_takes_in_loses_and_repeats_nothing(steps):
    """Verbs save events of a few calls; between them somebody takes in, and dies at the n-th thing that it does."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(emergency, "BATCH", 2)
        patch.setattr(emergency, "PAUSE", 0)
        patch.setattr(emergency, "paths", lambda _: [folder + "/file"])
        journal, config = Journal(":memory:"), {("pbx", "name"): "pbx1"}
        config = type("Config", (dict,), {"agent": lambda self, text: text})(config)
        told = {}
        for number, dies_at in steps:
            for kind in ("received", "transferred", "hangup"):
                if len(told.setdefault(number, [])) < 3 and kind not in told[number]:
                    emergency.save(config, event_of(number, kind, len(told[number])))
                    told[number].append(kind)
                    break
            if dies_at is not None:
                left = [dies_at]

                def step(action):
                    def run(*args, **more):
                        left[0] -= 1
                        if left[0] < 0:
                            raise Died
                        return action(*args, **more)
                    return run

                with pytest.MonkeyPatch.context() as fatal:
                    for name in ("rename", "unlink"):
                        fatal.setattr(emergency.os, name, step(getattr(os, name)))
                    for name in ("arrive", "record", "hang_up"):
                        fatal.setattr(journal.calls, name, step(getattr(journal.calls, name)))
                    with suppress(Died):
                        emergency.take_in(journal, config)
        assert emergency.take_in(journal, config)[1] == [] and emergency.waiting(config) == []
        for number, verbs_ in told.items():
            assert kinds(journal, f"pbx1-17.{number}") == [
                {"hangup": "completed"}.get(verb, verb) for verb in verbs_]


def test_what_is_saved_while_its_file_is_removed_goes_to_the_next_file(context, monkeypatch):
    import fcntl

    flock, before = fcntl.flock, [lambda: emergency.take_in(context.journal, context.config)]

    def late(*args):
        if before:
            before.pop()()
        flock(*args)

    emergency.save(context.config, event_of(1, "received"))
    monkeypatch.setattr(fcntl, "flock", late)
    emergency.save(context.config, event_of(1, "transferred", 1))
    assert not before and kinds(context.journal, "pbx1-17.1") == ["received"]
    emergency.take_in(context.journal, context.config)
    assert kinds(context.journal, "pbx1-17.1") == ["received", "transferred"]


@pytest.mark.parametrize("says_when", [False, True])
def test_two_who_take_in_one_arrival_at_once_begin_one_call(context, monkeypatch, says_when):
    """The other is through, and the call over, when the first has seen that the journal does not have it."""
    lines(context, *((kind, at, {"arrived": 1_700_000_000.0} if says_when else {})
                     for kind, at in (("received", 1_700_000_000.0), ("hangup", 1_700_000_009.0))))
    is_here, others = emergency._is_here, [True]

    def late(*args):
        found = is_here(*args)
        if others:
            others.clear()
            emergency.take_in(Journal(context.journal.path), context.config)
        return found
    monkeypatch.setattr(emergency, "_is_here", late)
    emergency.take_in(context.journal, context.config, "17.1")
    assert not others and [call.state for call in context.journal.overview.last_calls(5)] == ["canceled"]


def test_many_save_while_several_take_in(context, tmp_path):
    """In processes, as scripts, service and `movidesk deliver` do: every event is recorded once, in its call's order."""
    fork = multiprocessing.get_context("fork")

    def saves(first):
        for number in range(first, first + 15):
            for place, kind in enumerate(("received", "transferred", "hangup")):
                emergency.save(context.config, event_of(number, kind, place))

    def takes_in():
        journal = Journal(context.config["journal", "path"])
        for _ in range(15):
            emergency.take_in(journal, context.config)
            emergency.take_in(journal, context.config, f"17.{os.getpid() % 45}")

    emergency.BATCH, batch = 3, emergency.BATCH
    try:
        Journal(context.config["journal", "path"]).close()
        processes = [fork.Process(target=saves, args=(first,)) for first in (0, 15, 30)]
        processes += [fork.Process(target=takes_in) for _ in range(3)]
        for process in processes:
            process.start()
        for process in processes:
            process.join(60)
        assert [process.exitcode for process in processes] == [0] * 6
    finally:
        emergency.BATCH = batch
    assert emergency.take_in(context.journal, context.config)[1] == [] and emergency.waiting(context.config) == []
    assert [kinds(context.journal, f"pbx1-17.{number}") for number in range(45)] == [
        ["received", "transferred", "completed"]] * 45
    assert len(context.journal.overview.last_calls(100)) == 45


def test_what_one_who_died_has_left_is_shown_and_taken_in_first(context):
    path = emergency.save(context.config, event_of(1, "received"))
    os.rename(path, path + ".taking")
    emergency.save(context.config, event_of(1, "transferred", 1))
    assert [name for name, _ in emergency.waiting(context.config)] == [path, path + ".taking"]
    emergency.take_in(context.journal, context.config, "17.1")
    assert kinds(context.journal, "pbx1-17.1") == ["received", "transferred"]
    emergency.take_in(context.journal, context.config)
    assert kinds(context.journal, "pbx1-17.1") == ["received", "transferred"] and emergency.waiting(context.config) == []


def test_where_the_file_cannot_be_renamed_it_is_taken_in_all_the_same(context):
    """Somebody else has a file of that name in /var/tmp."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to have a file of somebody else's")
    path = emergency.save(context.config, event_of(1, "received"))
    open(path + ".taking", "w").close()
    os.chown(path + ".taking", 65534, 65534)
    taken, nonsense = emergency.take_in(context.journal, context.config)
    assert (taken, nonsense) == (1, [f"{path}.taking belongs to somebody else and was left alone"])
    assert kinds(context.journal, "pbx1-17.1") == ["received"] and os.path.getsize(path) == 0


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo])
def test_what_is_no_file_is_left_alone_and_said(context, make):
    path = emergency.paths(context.config)[0]
    make(path)
    with pytest.raises(OSError):
        emergency.save(context.config, event_of(1, "received"))
    assert emergency.waiting(context.config) == []
    assert emergency.take_in(context.journal, context.config) == (0, [f"{path} is no file and was left alone: remove it"])
    assert os.path.exists(path)


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo])
def test_what_is_no_file_and_blocks_the_other_name_keeps_no_event(context, make):
    path = emergency.save(context.config, event_of(1, "received"))
    make(path + ".taking")
    taken, nonsense = emergency.take_in(context.journal, context.config)
    assert (taken, nonsense) == (1, [f"{path}.taking is no file and was left alone: remove it"])
    assert kinds(context.journal, "pbx1-17.1") == ["received"] and emergency.waiting(context.config) == []


def test_the_second_place_is_the_configurations(write_config, monkeypatch, tmp_path):
    """What was kept while the file could not be read is found when it can."""
    monkeypatch.undo()
    monkeypatch.setattr(emergency, "SHARED", str(tmp_path / "tmp"))
    os.mkdir(tmp_path / "tmp")
    path = write_config()
    whole = Path(path).read_text()
    with open(path, "w") as file:
        file.write("no settings\n")
    assert run(Context(load(path)), "canceled", variables={"MOVIDESK_ID": "pbx1-17.1"})["MOVIDESK_RESULT"] == "error"
    with open(path, "w") as file:
        file.write(whole)
    context = Context(load(path))
    assert emergency.take_in(context.journal, context.config) == (1, []) and kinds(context.journal, CALL) == ["canceled"]


@pytest.mark.parametrize("shared_can_be_written", [True, False])
def test_asterisk_and_the_service_may_have_different_temporary_folders(write_config, monkeypatch, tmp_path,
                                                                             shared_can_be_written):
    """What a script keeps in Asterisk's environment is found in the service's, where any place is known to both; else by
    scripts."""
    monkeypatch.undo()
    for name in "shared", "asterisk", "service":
        (tmp_path / name).mkdir()
    if not shared_can_be_written:
        (tmp_path / "shared").rmdir()
    monkeypatch.setattr(emergency, "SHARED", str(tmp_path / "shared"))
    path, event = write_config(journal={"path": str(tmp_path / "none" / "journal.db"), "standby": str(tmp_path)}), {
        "kind": "canceled", "at": 1_700_000_000.0, "uniqueid": "17.1", "queue": "77", "number": "1", "call_id": "pbx1-17.1",
        "extension": "", "link": ""}
    monkeypatch.setenv("TMPDIR", str(tmp_path / "asterisk"))
    emergency.save(load(path), event)
    monkeypatch.setenv("TMPDIR", str(tmp_path / "service"))
    (tmp_path / "none").mkdir()
    context = Context(load(path))
    assert emergency.take_in(context.journal, context.config) == (int(shared_can_be_written), [])
    monkeypatch.setenv("TMPDIR", str(tmp_path / "asterisk"))
    assert emergency.take_in(context.journal, context.config) == (int(not shared_can_be_written), [])


def test_a_process_frozen_with_the_lock_costs_a_verb_seconds_and_no_event(context, monkeypatch, tmp_path):
    monkeypatch.setattr("movidesk.file_lock.TIMEOUT", 0.1)
    beside, elsewhere = context.journal.path + ".emergency", str(tmp_path / "elsewhere")
    monkeypatch.setattr(emergency, "paths", lambda config: [beside, elsewhere])
    with open(beside, "ab") as frozen:
        fcntl.flock(frozen, fcntl.LOCK_EX)
        assert emergency.save(context.config, {"kind": "canceled"}) == elsewhere
