"""Housekeeping: the same for the service, for `movidesk deliver`, and for `movidesk deliver --once` as cron runs it."""
from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from movidesk.config import load
from movidesk.context import Context
from movidesk.delivery import worker
from movidesk.delivery.worker import Delivery
from movidesk.housekeeping import Housekeeping, at_work
from movidesk.journal import Journal, JournalError, emergency, standby
from movidesk.pbx import heartbeat, sweep
from movidesk.recordings import conversion
from movidesk.rules import call_states
from movidesk.service import Service
from support.journals import event_of
from support.recordings import talk
from support.waits import until

ROOT = Path(__file__).parent.parent
DAY = 86400
#: What cron gives: nothing else of the environment, and no /usr/sbin.
CRON = {"PATH": "/usr/bin:/bin", "HOME": "/root", "SHELL": "/bin/sh", "LOGNAME": "root"}
OLD = "pbx1-1700000000.9.wav"


@pytest.fixture
def neglected(write_config, simulator, tmp_path):
    """A configuration whose journal waits for all kinds of housekeeping; Asterisk's console is a program in /usr/sbin."""
    folder = tmp_path / "monitor"
    folder.mkdir()
    (tmp_path / "console").write_text("#!/bin/sh\nexit 0\n")  # no channel is alive
    (tmp_path / "console").chmod(0o755)
    settings = load(write_config(
        movidesk={"url": simulator.url}, journal={"path": str(tmp_path / "journal.db"), "keep_days": "1"},
        pbx={"name": "pbx1", "asterisk": f"runuser -u {_me()} -- {tmp_path / 'console'}"},
        recordings={"link": "https://pbx.example.com/{file}", "folder": str(folder), "keep_days": "1", "convert": "mp3"}))
    book = Journal(settings["journal", "path"])
    old = book.calls.arrive("pbx1", "1.1", "77", "47", arrived=time.time() - 2 * DAY)
    book.scheduler.answered(old, "", "1", "1")
    book.calls.record(old.call_id, "lost", at=time.time() - 2 * DAY)
    while (job := book.outbox.take(1000)[0]) is not None:
        book.outbox.delivered(job, "")
    died = book.calls.arrive("pbx1", "1.2", "77", "47")
    book.scheduler.answered(died, "", "4", "4")
    talked = book.calls.arrive("pbx1", "1700000000.3", "77", "47")
    Context(settings).client.send("received", queue="77", number="47", id=talked.call_id, arrived=talked.arrived)
    book.scheduler.answered(talked, "5252", "", "5252")
    book.calls.record(talked.call_id, "transferred", extension="5252")
    talk(folder, "pbx1-1700000000.3.wav")
    book.calls.hang_up(talked.call_id, "https://pbx.example.com/pbx1-1700000000.3.wav", converts="pbx1-1700000000.3.wav")
    talk(folder, OLD)
    os.utime(folder / OLD, (time.time() - 2 * DAY,) * 2)
    keep(settings, 5)
    yield settings
    book.close()


def keep(settings, number: int) -> None:
    """An event of a caller who has just hung up goes to the emergency file."""
    now = time.time()
    emergency.save(settings, {**event_of(number, call_states.CANCELED), "at": now, "arrived": now - 1})


def _me() -> str:
    import pwd

    return pwd.getpwuid(os.geteuid()).pw_name


def is_kept_in_order(settings, book: Journal) -> bool:
    """Whether all of it is done. `transferred` comes once a request is left for it: nothing else is looked at here."""
    folder = Path(settings["recordings", "folder"])
    return (emergency.waiting(settings) == [] and book.calls.find("pbx1-17.5").state == "canceled"       # taken in
            and book.calls.find("pbx1-1.2").state == "canceled"                                           # swept
            and book.calls.find("pbx1-1.1") is None and not (folder / OLD).exists()                       # pruned
            and book.outbox.conversions() == [] and [path.suffix for path in folder.iterdir()] == [".mp3"])  # converted


@pytest.fixture
def tools(tmp_path, monkeypatch):
    """Something like lame, where the machine has none."""
    if not shutil.which("lame"):
        (tmp_path / "lame").write_text("#!/bin/sh\nexec cp \"$4\" \"$5\"\n")
        (tmp_path / "lame").chmod(0o755)
        for environment in (os.environ, CRON):
            monkeypatch.setitem(environment, "PATH", f"{environment['PATH']}:{tmp_path}")


def once(settings, **environment):
    return subprocess.run([sys.executable, "-m", "movidesk.cli", "--config", settings.path, "deliver", "--once"],
                          env={**CRON, **environment}, capture_output=True, text=True, timeout=60)


def test_deliver_once_as_cron_runs_it_does_all_the_housekeeping(neglected, simulator, tools, tmp_path):
    done = once(neglected, TMPDIR=str(tmp_path))
    book = Journal(neglected["journal", "path"])
    assert is_kept_in_order(neglected, book), done.stderr
    again = once(neglected, TMPDIR=str(tmp_path))
    told = [event for event in book.calls.events(book.calls.find("pbx1-1700000000.3"))]
    assert [(event.kind, event.status) for event in told] == [
        (kind, "delivered") for kind in ("received", "transferred", "completed", "link")], again.stderr
    assert told[-1].link == "https://pbx.example.com/pbx1-1700000000.3.mp3"
    assert book.notes.get("not_told") is None
    book.close()


def test_the_loop_and_the_service_do_it_too(neglected, tools, monkeypatch):
    """And go on: what comes to the emergency file later is taken in as well."""
    monkeypatch.setattr(sweep, "EVERY", 0.05)
    monkeypatch.setattr(conversion, "EVERY", 0.05)
    context, stop, woken = Context(neglected, wake=lambda: None), threading.Event(), []
    Housekeeping(context, lambda: woken.append(True), stop).start()
    try:
        until(lambda: is_kept_in_order(neglected, context.journal))
        keep(neglected, 6)
        until(lambda: context.journal.calls.find("pbx1-17.6"))
        assert woken
    finally:
        stop.set()


@pytest.mark.parametrize("command", ["serve", "deliver"])
def test_both_commands_start_it(neglected, command, tools):
    process = subprocess.Popen([sys.executable, "-m", "movidesk.cli", "--config", neglected.path, command],
                               env={**os.environ, **CRON}, stderr=subprocess.PIPE, text=True)
    book = Journal(neglected["journal", "path"])
    try:
        until(lambda: is_kept_in_order(neglected, book), 20)
        done = once(neglected)
        assert (done.returncode, done.stdout) == (0, "") and f"already delivers from {book.path}: nothing" in done.stderr
    finally:
        process.kill()
        process.communicate()
        book.close()
    assert "at work" not in once(neglected).stderr  # the lock ends with its process, however that ends


def test_two_at_once_do_not_both_work(neglected):
    with at_work(neglected["journal", "path"], once=True) as alone:
        assert alone
        done = once(neglected)
        assert done.returncode == 0 and done.stderr.count("\n") == 1 and emergency.waiting(neglected) != []
    assert emergency.waiting(neglected) != []


def test_a_service_that_starts_while_cron_delivers_waits_for_nothing(neglected, simulator):
    with at_work(neglected["journal", "path"], once=True):
        service = Service(neglected)
        service.housekeeping.start()
        try:
            until(lambda: emergency.waiting(neglected) == [])
        finally:
            service.stop()
            service.fastagi.server_close()


def test_a_long_conversion_does_not_keep_the_next_round_from_delivering(neglected, simulator):
    with open(neglected["journal", "path"] + ".convert", "w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        once(neglected)
    book = Journal(neglected["journal", "path"])
    assert len(book.outbox.conversions()) == 1 and simulator.model.tickets["pbx1-1700000000.3"].complete
    book.close()


def test_pruning_is_for_one_round_an_hour(neglected):
    context = Context(neglected)
    Housekeeping(context).once()
    talk(Path(neglected["recordings", "folder"]), OLD)
    os.utime(Path(neglected["recordings", "folder"]) / OLD, (time.time() - 2 * DAY,) * 2)
    Housekeeping(context).once()
    assert (Path(neglected["recordings", "folder"]) / OLD).exists()


def test_what_fails_keeps_nothing_else(neglected, monkeypatch, caplog):
    def fails(*_):
        raise OSError("no space left")

    monkeypatch.setattr("movidesk.recordings.files.delete_old", fails)
    monkeypatch.setattr(conversion, "tool", lambda ending: ["cp", "IN", "OUT"])
    monkeypatch.setitem(conversion.TOOLS, "mp3", ("cp IN OUT",))
    Housekeeping(Context(neglected)).once()
    assert "no space left" in caplog.text and Context(neglected).journal.outbox.conversions() == []


def test_recordings_that_cannot_be_deleted_keep_no_old_call(neglected, caplog):
    shutil.rmtree(neglected["recordings", "folder"])
    Housekeeping(Context(neglected)).once()
    assert Context(neglected).journal.calls.find("pbx1-1.1") is None and "deleting old recordings failed" in caplog.text


@pytest.mark.parametrize("rounds", ["once", "for good"])
def test_a_journal_that_takes_nothing_holds_up_no_event_of_the_standby(neglected, simulator, monkeypatch, rounds):
    """As on a full disk."""
    context = Context(neglected)
    with standby.use(context, "its disk is full") as other:
        call = other.journal.calls.arrive("pbx1", "1700000000.8", "77", "47")
        other.journal.calls.record(call.call_id, call_states.CANCELED)

    def fails(*_):
        raise JournalError("database or disk is full")

    monkeypatch.setattr(context.journal.store, "set_note", fails)
    if rounds == "once":
        with pytest.raises(JournalError, match="is full"):
            Housekeeping(context).recover()
    else:
        Housekeeping(context)._look_at_standby()
    assert call.call_id in simulator.model.tickets


def test_a_sweep_that_fails_hides_no_alarm(neglected, monkeypatch, caplog):
    def fails(_):
        raise JournalError("database or disk is full")

    monkeypatch.setattr(sweep, "recover", fails)
    context, stop = Context(neglected), threading.Event()
    housekeeping = Housekeeping(context, stop=stop)
    thread = threading.Thread(target=housekeeping._sweep_on)
    thread.start()
    try:
        until(lambda: "alarm emergency: " in caplog.text and "failed: database or disk is full" in caplog.text)
    finally:
        stop.set()
        housekeeping.sweep_now.set()
        thread.join()


def test_a_frozen_service_is_said(neglected, simulator):
    with at_work(neglected["journal", "path"], once=False):
        alive = heartbeat.Heartbeat(neglected)
        alive.beat()
        assert once(neglected).returncode == 0
        os.utime(alive.path, (time.time() - heartbeat.FROZEN - 5,) * 2)
        done = once(neglected)
    assert done.returncode == 1 and "has not responded for 1" in done.stderr and "systemctl restart movidesk" in done.stderr


def test_a_lock_file_that_cannot_be_made_is_tried_again(neglected, monkeypatch, caplog):
    monkeypatch.setattr("movidesk.housekeeping.HOLD_AGAIN", 0.05)
    path, stop = Path(neglected["journal", "path"] + ".deliver"), threading.Event()
    path.unlink()
    path.mkdir()
    housekeeping = Housekeeping(Context(neglected), stop=stop)
    thread = threading.Thread(target=housekeeping._hold_place)
    thread.start()
    try:
        until(lambda: "deliver --once" in caplog.text)
        path.rmdir()
        until(path.exists)
    finally:
        stop.set()
        thread.join()


def test_once_waits_for_places_in_the_window_but_not_for_retries(write_config, simulator, clock, monkeypatch):
    """The window is half a second longer than cron's minute: without this, every other round would find no place."""
    context = Context(load(write_config(movidesk={"url": simulator.url, "requests_per_minute": "4"})), clock, wake=lambda: None)
    waits = []

    def pause(seconds):
        waits.append(seconds)
        clock.advance(seconds)

    monkeypatch.setattr(worker.time, "monotonic", clock)
    monkeypatch.setattr(worker, "sleep", pause)
    for number in range(6):
        context.journal.calls.record(f"pbx1-{number}", call_states.START_CANCELED, queue="77", number="47")
    assert Delivery(context).once() and context.journal.overview.totals()["pending"] == 2
    clock.advance(60)
    assert Delivery(context).once(30.0) and context.journal.overview.totals()["pending"] == 0
    assert 0 < sum(waits) < 2
    simulator.close()
    context.journal.calls.record("pbx1-9", call_states.START_CANCELED, queue="77", number="47")
    clock.advance(600)
    del waits[:]
    assert not Delivery(context).once(30.0) and waits == []


def test_the_installed_command_finds_runuser_under_cron(tmp_path):
    """The command that make install writes; its folder belongs to somebody else, as Asterisk's does."""
    if os.geteuid() != 0:
        pytest.skip("needs root, as cron has it")
    state, venv = tmp_path / "state", tmp_path / "venv" / "bin"
    state.mkdir()
    os.chown(state, 65534, 65534)
    venv.mkdir(parents=True)
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_uid == os.geteuid():
            folder.chmod(folder.stat().st_mode | 0o011)
    (venv / "movidesk").write_text("#!/bin/sh\nid -u; echo $MOVIDESK_CONFIG; echo \"$@\"\n")
    (venv / "movidesk").chmod(0o755)
    made = subprocess.run(["make", "-s", "--eval", 'print-cli: ; @echo "$$CLI"', "print-cli", f"PREFIX={tmp_path}",
                           f"STATEDIR={state}", "ASTETCDIR=/etc/asterisk"], cwd=ROOT, stdout=subprocess.PIPE, text=True,
                          check=True)
    (tmp_path / "movidesk").write_text(made.stdout)
    done = subprocess.run(["/bin/sh", "-c", f"sh {tmp_path / 'movidesk'} deliver --once"], env=CRON, capture_output=True,
                          text=True)
    assert (done.stdout.split("\n")[:3], done.stderr) == (["65534", "/etc/asterisk/movidesk.conf", "deliver --once"], "")


def test_once_begins_nothing_when_its_time_is_up_and_says_what_is_left(write_config, simulator, clock, monkeypatch, caplog):
    context = Context(load(write_config(movidesk={"url": simulator.url})), clock, wake=lambda: None)
    monkeypatch.setattr(worker.time, "monotonic", clock)
    caplog.set_level("INFO")
    for number in range(5):
        context.journal.calls.record(f"pbx1-{number}", call_states.START_CANCELED, queue="77", number="47")
    slow = Delivery(context)
    deliver = slow.deliver
    slow.deliver = lambda job: [deliver(job), clock.advance(3)][0]
    assert slow.once(within=5.0) and context.journal.overview.totals()["pending"] == 3
    assert "3 events are left" in caplog.text
    assert slow.once() and context.journal.overview.totals()["pending"] == 0
