"""The `movidesk` command: what it prints, and its exit status."""

from __future__ import annotations

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing

import pytest

from movidesk import __version__, config, messages
from movidesk.context import Context
from movidesk.delivery.availability import TOKEN_REJECTED
from movidesk.journal import Job, JournalError, standby
from movidesk.journal.outbox import Outbox
from movidesk_sim.faults import Fault
from support.processes import as_nobody

GOOD, TROUBLE, MISUSE = 0, 1, 2


def arrive(book, uniqueid="1.1", queue="77", number="4733990777", **more):
    return book.calls.arrive("pbx1", uniqueid, queue, number, **more)


SET_ASIDE = "1 event is set aside, the first: received of pbx1-3.1 (HTTP 400: no such id); see movidesk outbox"


def refuse(book, uniqueid="1.1", why="HTTP 400: no such id"):
    """A call with a refused `received` and a pending `canceled`."""
    call = arrive(book, uniqueid)
    book.calls.hang_up(call.call_id)
    event = book.calls.events(call)[0]
    book.outbox.rejected(Job(event, call), why)
    return event.id


# -- misuse ------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("arguments", [(), ("nonsense",), ("status", "--xml"), ("calls", "-n", "0"),
                                       ("calls", "-n", "x"), ("outbox", "--replay"), ("deliver", "--twice")])
def test_misuse(movidesk, arguments):
    status, out, err = movidesk(*arguments)
    assert (status, out) == (MISUSE, "") and ("Usage: movidesk" in err or "Error: " in err)


def test_version_and_help(movidesk):
    assert movidesk("--version") == (GOOD, f"movidesk-agi {__version__}\n", "")
    status, out, _ = movidesk("--help")
    assert status == GOOD and "Exit status: 0 good, 1 trouble, 2 misuse" in out
    for command in ("serve", "deliver", "status", "calls", "outbox", "check", "simulate"):
        assert command in out
        assert movidesk(command, "--help")[0] == GOOD


@pytest.mark.parametrize("given", [("--config", "FILE"), ("--config=FILE",), ()])
def test_the_simulator_after_an_option_of_all_commands(movidesk, given):
    status, out, _ = movidesk.bare(*given, "simulate", "--help")
    assert status == GOOD and "--agents" in out


def test_the_installed_command(movidesk):
    command = os.path.join(os.path.dirname(sys.executable), "movidesk")
    done = subprocess.run([command, "outbox", "--replay", "x"], capture_output=True, text=True,
                          env={**os.environ, "MOVIDESK_CONFIG": movidesk.path})
    assert (done.returncode, done.stdout) == (MISUSE, "")
    assert done.stderr.splitlines()[-1] == (
        "Error: Invalid value for '--replay': must be an event's number or 'all', not 'x'")


# -- configuration and journal that do not serve -----------------------------------------------------------------------

@pytest.mark.parametrize("command", [("status",), ("calls",), ("outbox",), ("deliver", "--once"), ("serve",)])
def test_without_a_configuration(movidesk, tmp_path, command):
    movidesk.path = str(tmp_path / "none.conf")
    status, out, err = movidesk(*command)
    assert (status, out) == (TROUBLE, "")
    assert err == (f"movidesk: {movidesk.path}: No such file or directory; copy the commented sample etc/movidesk.conf there\n")


def test_a_configuration_that_may_not_be_read_is_not_to_be_overwritten(tmp_path, write_config):
    path = write_config()
    os.chmod(path, 0)
    problem, = as_nobody(lambda: config.load(path).all_problems())
    assert problem.startswith(f"{path}: Permission denied; run this command as root or as Asterisk's user")
    assert "copy" not in problem


@pytest.mark.parametrize("command", [("deliver", "--once"), ("serve",)])
def test_what_sends_needs_a_sound_configuration(movidesk, command):
    movidesk.configure(movidesk={"timeout": "soon"})
    status, out, err = movidesk(*command)
    assert (status, out) == (TROUBLE, "")
    assert err.startswith(f"movidesk: {movidesk.path}:") and "[movidesk] timeout: 'soon' is not a number" in err


def test_what_only_looks_names_the_trouble_and_goes_on(movidesk, book):
    movidesk.configure(movidesk={"token": "x"})
    status, out, _ = movidesk("status")
    assert status == TROUBLE and "[movidesk] token: 1 characters is not a GUID" in out and "nobody waits" in out
    assert movidesk("calls")[:2] == (GOOD, "no calls yet\n")


@pytest.mark.parametrize("command", ["status", "calls", "outbox"])
def test_a_journal_that_cannot_be_opened(movidesk, tmp_path, command):
    movidesk.configure(journal={"path": str(tmp_path / "none" / "journal.db")})
    status, out, err = movidesk(command)
    assert (status, out) == (TROUBLE, "")
    assert f"movidesk: journal {tmp_path}/none/journal.db: " in err and "does not exist: create it" in err


@pytest.mark.parametrize("lock", ["IMMEDIATE", "EXCLUSIVE"])
def test_the_status_while_the_standby_takes_the_place_of_a_locked_journal(movidesk, book, lock):
    """Another program may let others read the file meanwhile, or not."""
    arrive(book)
    book.close()
    if lock == "EXCLUSIVE":
        with closing(sqlite3.connect(book.path)) as file:
            file.execute("PRAGMA journal_mode = DELETE")
    with closing(sqlite3.connect(book.path, isolation_level=None)) as other:
        other.execute("BEGIN " + lock)
        with standby.use(Context(config.load(movidesk.path)), "another program holds its lock"):
            pass
        status, out, err = movidesk("status")
        assert status == TROUBLE and "replaces it" in out and "another program holds its lock" in out
        assert ("nobody waits" in out) == (lock == "IMMEDIATE") and not err
        assert any("replaces it" in text for text in json.loads(movidesk("status", "--json")[1])["trouble"])


# -- an empty journal --------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("command, out", [
    ("calls", "no calls yet\n"), ("outbox", "the outbox is empty: Movidesk has received all events\n")])
def test_an_empty_journal(movidesk, command, out):
    status, found, err = movidesk(command)
    assert (status, found) == (GOOD, out)
    assert "journal.db: no journal yet; the first call, or movidesk serve, creates" in err


def test_the_status_of_an_empty_journal(movidesk):
    status, out, _ = movidesk("status")
    assert status == GOOD and [line.split(None, 1) for line in out.splitlines()] == [
        ["line", "nobody waits"], ["calls", "0 open, 0 with agents"], ["requests", "0 of 1000 in the last minute"],
        ["outbox", "0 pending, 0 refused"]]


def test_the_outbox_is_not_empty_while_events_wait_in_a_file(movidesk, book, tmp_path):
    kept = tmp_path / "journal.db.emergency"
    kept.write_text("{}\n")
    status, out, _ = movidesk("outbox")
    assert status == TROUBLE and "has received all" not in out and f"more events wait in {kept} since " in out
    arrive(book)
    assert f"more events wait in {kept} since " in movidesk("outbox")[1].splitlines()[-1]


# -- status ------------------------------------------------------------------------------------------------------------

def test_the_status_of_a_busy_hour(movidesk, book):
    now = time.time()
    for number, queue in (("2", "77"), ("1", "77"), ("3", "78")):
        book.scheduler.turn(arrive(book, "1." + number, queue, arrived=now - 100 * int(number)), 1000)
    talking = arrive(book, "2.1")
    book.scheduler.answered(talking, "5252", "", "5252")
    book.calls.record(talking.call_id, "transferred")
    refuse(book, "3.1")
    status, out, _ = movidesk("status")
    assert status == TROUBLE and [line.split(None, 1) for line in out.splitlines()] == [
        ["trouble", SET_ASIDE], ["line", "queue 77: 2 waiting, the longest for 3:20"],
        ["line", "queue 78: 1 waiting, the longest for 5:00"], ["calls", "4 open, 1 with agents"],
        ["requests", "2 of 1000 in the last minute"], ["outbox", "5 pending, 1 refused"]]
    status, out, _ = movidesk("status", "--json")
    facts = json.loads(out)
    assert status == TROUBLE and facts["calls"] == {"open": 4, "with_agents": 1}
    assert [(line["queue"], line["waiting"], round(line["longest"], -1)) for line in facts["line"]] == [
        ("77", 2, 200), ("78", 1, 300)]
    assert facts["requests"] == {"used": 2, "limit": 1000, "night": False, "rate": 1000, "paused": 0.0, "why": ""}
    assert 0 <= facts["outbox"].pop("age") < 60 and facts["outbox"] == {"pending": 5, "refused": 1}
    assert facts["trouble"] == [SET_ASIDE] and facts["alarms"] == [{"name": "refused", "text": SET_ASIDE}]


def test_priorities_are_shown_where_they_are_used(movidesk, book):
    for number, priority in enumerate((0, 2, 9, 2)):
        book.scheduler.turn(arrive(book, f"1.{number}", priority=priority, arrived=time.time() - 60 * (5 - number)), 1000)
    assert "queue 77: 4 waiting, the longest for 5:00; 1 of priority 9; 2 of priority 2\n" in movidesk("status")[1]
    line, = json.loads(movidesk("status", "--json")[1])["line"]
    assert (line["priorities"], round(line["longest"], -1)) == ({"9": 1, "2": 2}, 300)
    out = movidesk("calls")[1]
    assert [line.split()[-2] for line in out.splitlines()] == ["priority", "waiting", "2", "9", "2"]


@pytest.mark.parametrize("answers", [True, False])
def test_the_expected_wait_of_the_next_caller_is_shown(movidesk, book, answers):
    for number in range(2):
        book.scheduler.turn(arrive(book, f"1.{number}"), 1000)
    with book.store.transaction() as db:
        db.execute("INSERT INTO speeds (queue, at, seconds, longest, rate) VALUES ('77', :now, 21, 600, 1000)", now=book.steady())
        if not answers:  # for two minutes
            db.set_note("away", "HTTP 500")
            db.execute("UPDATE notes SET at = :since WHERE name = 'away'", since=time.time() - 120)
    assert ("; the next caller will wait for about 1:03\n" in movidesk("status")[1]) == answers
    assert json.loads(movidesk("status", "--json")[1])["line"][0]["expected"] == (63 if answers else None)


def test_the_status_of_the_limit(movidesk, book, monkeypatch):
    for _ in range(2):
        book.scheduler.turn(arrive(book, f"1.{_}", f"7{_}"), 1000)
    assert book.limits.close_window(50, limit=1000)
    _, out, _ = movidesk("status")
    assert re.search(r"requests +2 of 500 in the last minute\n +lowered from 1000: other programs use the account, .*; "
                     r"the rate rises step by step\n +no request is sent for (50|49) s: "
                     r"Movidesk asked for a pause \(429\)\n", out)
    facts = json.loads(movidesk("status", "--json")[1])["requests"]
    assert 49 < facts.pop("paused") <= 50
    assert facts == {"used": 2, "limit": 1000, "rate": 500, "night": False, "why": "Movidesk asked for a pause (429)"}


def test_the_status_names_the_age_of_what_waits(movidesk, book):
    arrive(book, "1.1", arrived=time.time() - 500)  # it asks
    call = arrive(book, "1.2", arrived=time.time() - 400)
    book.calls.record(call.call_id, "canceled", at=time.time() - 100)
    assert re.search(r"outbox +3 pending, 0 refused, the oldest is 6:[34][0-9] old\n", movidesk("status")[1])


def test_a_long_text_goes_on_below_its_beginning(movidesk, book, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    refuse(book, why="HTTP 400: " + "a long reason " * 5)
    first, second, *_ = movidesk("status")[1].splitlines()
    assert first.startswith("trouble   1 event") and second.startswith(" " * 10) and max(len(first), len(second)) <= 60


def test_the_status_is_watched_until_an_interrupt(movidesk, book):
    process = subprocess.Popen([sys.executable, "-m", "movidesk.cli", "--config", movidesk.path, "status", "--watch", "0.3"],
                               stdout=subprocess.PIPE, text=True)
    seen = []
    try:
        for line in process.stdout:
            seen.append(line)
            if line.startswith("outbox") and len(seen) < 10:
                arrive(book)
            if "1 open" in line:
                break
    finally:
        process.send_signal(signal.SIGINT)
    assert process.wait(20) == GOOD and sum(line.startswith("outbox") for line in seen) >= 1


@pytest.mark.parametrize("options", [("--watch", "--json"), ("--watch", "0"), ("--watch", "soon"), ("--json", "--watch", "2")])
def test_misuse_of_watch(movidesk, options):
    assert movidesk("status", *options)[0] == MISUSE


def test_watching_every_two_seconds(movidesk, monkeypatch):
    """And a journal that cannot be read meanwhile ends nothing."""
    from movidesk.cli import status

    seconds = []

    def pause(length):
        seconds.append(length)
        monkeypatch.setattr(status, "read", fail)
        if len(seconds) == 2:
            raise KeyboardInterrupt

    def fail(settings):
        raise JournalError("it is locked")

    monkeypatch.setattr(status, "sleep", pause)
    code, out, _ = movidesk("status", "--watch")
    assert (code, seconds) == (GOOD, [2.0, 2.0]) and "nobody waits" in out and out.endswith("trouble  it is locked\n")


def test_the_status_at_night(movidesk, write_config):
    hour = int(time.strftime("%H", time.gmtime()))
    write_config(movidesk={"night": f"{(hour - 2) % 24:02d}:30-{(hour + 2) % 24:02d}:30", "time_zone": "UTC"})
    _, out, _ = movidesk("status")
    assert re.search(r"requests +0 in the last minute, no limit\n +the night limit applies \(night = "
                     rf"{(hour - 2) % 24:02d}:30-{(hour + 2) % 24:02d}:30, UTC\)\n", out)
    facts = json.loads(movidesk("status", "--json")[1])["requests"]
    assert (facts["limit"], facts["night"]) == (None, True)


def test_a_token_that_movidesk_refuses(movidesk, book, simulator):
    book.calls.hang_up(arrive(book).call_id)
    simulator.model.token = "00000000-0000-0000-0000-00000000cafe"
    assert movidesk("deliver", "--once")[0] == TROUBLE
    status, out, _ = movidesk("status")
    assert status == TROUBLE and "Movidesk refuses the token since" in out and "HTTP 401" in out
    assert f"put a valid one into {movidesk.path}" in out
    movidesk.configure(movidesk={"token": simulator.model.token})
    assert movidesk("status")[0] == GOOD


@pytest.mark.parametrize("settings", [{"token": None}, {"token": ""}, {"token": None, "token_file": "/dev/null"}])
def test_a_token_that_was_refused_and_then_removed(movidesk, book, simulator, settings):
    book.calls.hang_up(arrive(book).call_id)
    simulator.model.token = "00000000-0000-0000-0000-00000000cafe"
    assert movidesk("deliver", "--once")[0] == TROUBLE
    movidesk.configure(movidesk=settings)
    status, out, err = movidesk("status")
    assert (status, err) == (TROUBLE, "") and "[movidesk] token" in out


# -- calls and outbox --------------------------------------------------------------------------------------------------

def rows(out):
    return [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in out.splitlines()[1:]]


def test_the_outbox_shows_what_waits_or_was_refused_and_why(movidesk, book):
    refused = refuse(book)
    job, _ = book.outbox.take(1000)
    book.outbox.retry(job, 90, "HTTP 500: oops")
    status, out, _ = movidesk("outbox")
    first, why_first, second, why_second = rows(out)
    assert status == TROUBLE and [first[0], *first[2:]] == [str(refused), "pbx1-1.1", "received", "refused", "0"]
    assert second[2:4] == ["pbx1-1.1", "canceled"] and second[4] in ("again in 1:29", "again in 1:30") and second[5:] == ["1"]
    assert (why_first, why_second) == (["HTTP 400: no such id"], ["HTTP 500: oops"])


def test_what_only_waits_is_no_trouble(movidesk, book):
    arrive(book)
    assert movidesk("outbox")[0] == GOOD


def test_a_refused_event_is_replayed(movidesk, book):
    first, _ = refuse(book, "1.1"), refuse(book, "1.2")
    assert movidesk("outbox", "--replay", str(first)) == (GOOD, f"event {first} will be sent again\n", "")
    assert movidesk("outbox", "--replay", str(first)) == (
        TROUBLE, "", f"Error: no refused event has the number {first}\n")
    assert movidesk("outbox", "--replay", "all") == (GOOD, "1 event will be sent again\n", "")
    assert movidesk("outbox", "--replay", "all") == (GOOD, "0 events will be sent again\n", "")
    assert movidesk("outbox", "--replay", "first")[0] == MISUSE
    assert book.overview.totals()["refused"] == 0


def test_everything_that_waits_is_tried_now(movidesk, book):
    refuse(book)
    job, _ = book.outbox.take(1000)
    book.outbox.retry(job, 300, "HTTP 500: oops")
    assert movidesk("outbox", "--now") == (GOOD, "1 event is tried again now (1 pending)\n", "")
    assert book.outbox.take(1000)[0].event.id == job.event.id
    assert movidesk("outbox", "--now")[1].startswith("1 pending: due within a minute, or waiting for an earlier event")
    assert movidesk("outbox", "--now", "--replay", "all")[0] == MISUSE


def test_many_refused_events_are_settled_at_once(movidesk, book):
    for number in range(5):
        refuse(book, f"1.{number}")
    assert movidesk("outbox", "--dismiss", "all") == (GOOD, "5 events are dismissed\n", "")
    assert book.overview.totals()["refused"] == 0


@pytest.mark.parametrize("command", ["outbox"])
def test_a_table_fits_a_terminal_of_80_columns(movidesk, book, monkeypatch, command):
    monkeypatch.setenv("COLUMNS", "80")
    refuse(book, "1700000000.123", why="HTTP 400: " + "a long reason " * 10)
    out = movidesk(command)[1]
    assert max(map(len, out.splitlines())) <= 80 and "".join(out.split()).count("alongreason") > 5


def test_the_outbox_says_that_there_is_more(movidesk, book, monkeypatch):
    refuse(book)
    jobs = Outbox.jobs
    monkeypatch.setattr(Outbox, "jobs", lambda outbox, status: jobs(outbox, status, 1) if status == "refused" else [])
    assert movidesk("outbox")[1].endswith("\nand 1 more event\n")


def test_a_terminal_that_lacks_letters_gets_question_marks(movidesk, book):
    refuse(book, why="HTTP 400: não há")
    done = subprocess.run([sys.executable, "-m", "movidesk.cli", "--config", movidesk.path, "outbox"],
                          capture_output=True, text=True, env={**os.environ, "PYTHONIOENCODING": "ascii"})
    assert "HTTP 400: n?o h?" in done.stdout and done.stderr == ""


NASTY = "\x1b[31mred\x1b[0m \x07\r\n\x9b2J\u202eevil ação"


@pytest.mark.parametrize("command", [("calls",), ("outbox",), ("status",), ("status", "--json")])
def test_a_terminal_is_never_given_more_than_text(movidesk, book, command):
    for kind in ("completed", "start_transferred"):
        book.calls.record(kind + NASTY, kind, extension=NASTY, link=NASTY, number=NASTY, queue=NASTY, uniqueid=NASTY)
    book.outbox.rejected(book.outbox.take(1000)[0], NASTY)
    book.outbox.retry(book.outbox.take(1000)[0], 60, NASTY)
    book.scheduler.turn(arrive(book, "2.1", queue=NASTY, number=NASTY), 1000)
    book.notes.set(TOKEN_REJECTED, Context(config.load(movidesk.path))._token_mark() + " " + NASTY)
    status, out, err = movidesk(*command)
    assert status in (GOOD, TROUBLE) and (command != ("status", "--json") or json.loads(out))
    assert [c for c in out + err if not c.isprintable() and c != "\n"] == []
    assert command == ("status", "--json") or "ação" in out


@pytest.mark.parametrize("command", ["calls", "status", "--help"])
def test_a_reader_that_has_read_enough_is_no_trouble(movidesk, book, command):
    """As in `movidesk calls | head -1`; the pipe is closed before anything is written."""
    reader, writer = os.pipe()
    os.close(reader)
    arrive(book)
    done = subprocess.run([sys.executable, "-m", "movidesk.cli", "--config", movidesk.path, command], stdout=writer,
                          stderr=subprocess.PIPE, text=True)
    os.close(writer)
    assert done.stderr == ""


# -- deliver -----------------------------------------------------------------------------------------------------------

def test_deliver_once(movidesk, book, simulator):
    call = arrive(book)
    book.calls.hang_up(call.call_id)
    assert movidesk("deliver", "--once")[0] == GOOD
    ticket, = simulator.model.tickets.values()
    assert (ticket.id, ticket.state, ticket.complete) == ("pbx1-1.1", "canceled", True)
    assert movidesk("deliver", "--once")[0] == GOOD and len(simulator.model.log) == 2


def test_deliver_once_says_that_not_all_was_taken(movidesk, book, simulator):
    book.calls.hang_up(arrive(book).call_id)
    simulator.faults.rules.append(Fault(status=500))
    assert movidesk("deliver", "--once")[0] == TROUBLE
    assert book.overview.totals()["pending"] == 2


def test_deliver_goes_on_until_it_is_stopped(movidesk, book, simulator):
    process = subprocess.Popen([sys.executable, "-m", "movidesk.cli", "--config", movidesk.path, "deliver"],
                               stderr=subprocess.PIPE, text=True)
    try:
        book.calls.hang_up(arrive(book).call_id)
        seen = []
        for line in process.stderr:
            seen.append(line)
            if "canceled delivered" in line:
                break
        assert simulator.model.tickets["pbx1-1.1"].complete, seen
    finally:
        process.terminate()
        process.stderr.close()
        process.wait(10)


# -- root ----------------------------------------------------------------------------------------------------------------

def test_a_journal_that_root_begins_belongs_to_the_folders_owner(movidesk, tmp_path):
    if os.geteuid() != 0:
        pytest.skip("needs root, as an admin who looks before the first call has it")
    folder = tmp_path / "state"
    folder.mkdir()
    os.chown(folder, 65534, 65534)
    movidesk.configure(journal={"path": str(folder / "journal.db")})
    assert movidesk("calls")[0] == GOOD
    created = [entry.stat() for entry in folder.iterdir() if entry.suffix != ".deliver"]  # that one the fixture wrote
    assert {(about.st_uid, about.st_gid) for about in created} == {(65534, 65534)}


@pytest.mark.parametrize("command, text", [(("status",), "ninguém espera"), (("status", "--json"), "nobody waits"),
                                           (("deliver", "--once"), "nobody waits")])
def test_what_is_logged_or_read_by_programs_is_english(movidesk, monkeypatch, command, text):
    monkeypatch.setenv("LANGUAGE", "pt_BR")
    movidesk(*command)
    assert messages._("nobody waits") == text
