"""`movidesk status --nagios`: its line, performance data and exit status."""
from __future__ import annotations

import re
import time

import pytest

from movidesk import sleep
from movidesk.cli import nagios
from movidesk.journal import Job, JournalError

OK, WARNING, CRITICAL, UNKNOWN = range(4)


def read(movidesk, *options):
    """Status, word, text, and the performance data as name -> value."""
    status, out, err = movidesk("status", "--nagios", *options)
    word, text, performance = re.fullmatch(r"MOVIDESK (\w+): ([^|\n]+)(?: \| ([^|\n]+))?\n", out).groups()
    assert err == "" and word == nagios.WORDS[status]
    return status, text, dict(pair.split("=") for pair in performance.split()) if performance else {}


def test_all_is_well(movidesk, book):
    assert read(movidesk) == (OK, "0 waiting, 0 with agents, 0 in the outbox", {
        "waiting": "0;;;0", "longest": "0s;;;0", "open": "0;;;0", "with_agents": "0;;;0", "requests": "0;;;0", "outbox": "0;;;0",
        "outbox_age": "0s;;;0", "refused": "0;;;0"})


def wait_in_line(book, callers, seconds):
    for number in range(callers):
        call = book.calls.arrive("pbx1", f"1.{number}", "77", "4733990001", arrived=time.time() - seconds)
        book.scheduler.turn(call, 1000)


@pytest.mark.parametrize("options, status, text", [
    ([], OK, "3 waiting"), (["-w", "waiting=3"], OK, "3 waiting"), (["-w", "waiting=2"], WARNING, "waiting is 3, more than 2"),
    (["-w", "waiting=1", "-c", "waiting=2"], CRITICAL, "waiting is 3, more than 2"),
    (["-w", "waiting=1", "-c", "longest=200"], WARNING, "waiting is 3, more than 1"),
    (["--warning", "waiting=1,longest=60"], WARNING, "waiting is 3, more than 1; longest is 10[0-9]s, more than 60"),
    (["-w", "waiting=1", "--critical", "longest=60"], CRITICAL, "longest is 10[0-9]s, more than 60; waiting is 3, more than 1")])
def test_thresholds_of_the_waiting_line(movidesk, book, options, status, text):
    wait_in_line(book, 3, 100)
    found = read(movidesk, *options)
    assert found[0] == status and re.match(text, found[1])
    assert found[2]["waiting"].split(";")[0] == "3"


def test_thresholds_of_the_outbox(movidesk, book):
    """The arrival of a caller who asks does not count, nor what waits for a message."""
    wait_in_line(book, 1, 500)
    assert read(movidesk, "-w", "outbox_age=60")[0] == OK
    call = book.calls.arrive("pbx1", "2.1", "77", "4733990001", arrived=time.time() - 700)
    book.calls.record(call.call_id, "lost", at=time.time() - 650, held=True)
    status, text, numbers = read(movidesk, "-w", "outbox_age=60,outbox=2", "-c", "outbox_age=900")
    assert status == WARNING and text == "outbox is 3, more than 2; outbox_age is 700s, more than 60"
    assert (numbers["outbox_age"], numbers["outbox"]) == ("700s;60;900;0", "3;2;;0")


def test_an_alarm_that_calls_survive_is_a_warning(movidesk, book):
    call = book.calls.arrive("pbx1", "1.1", "77", "4733990001")
    book.outbox.rejected(Job(book.calls.events(call)[0], call), "HTTP 400: a | b")
    status, text, numbers = read(movidesk)
    assert status == WARNING and "set aside" in text and "a / b" in text and numbers["refused"] == "1;;;0"


def test_an_alarm_that_stops_reports_is_critical(movidesk, book):
    movidesk.configure(movidesk={"token": "x"})
    status, text, _ = read(movidesk)
    assert status == CRITICAL and "is not a GUID" in text


def test_a_journal_that_cannot_be_read(movidesk, tmp_path):
    movidesk.configure(journal={"path": str(tmp_path / "none" / "journal.db")})
    assert read(movidesk)[0] == CRITICAL


def test_a_configuration_that_is_not_there(movidesk, tmp_path):
    movidesk.path = str(tmp_path / "none.conf")
    status, text, _ = read(movidesk)
    assert status == UNKNOWN and "No such file" in text


@pytest.mark.parametrize("options", [["-w", "waiting"], ["-c", "callers=5"], ["-w", "waiting=many"], ["-t", "0"],
                                     ["--json"], ["-x"]])
def test_misuse_is_unknown_not_critical(movidesk, options):
    status, out, err = movidesk("status", "--nagios", *options)
    assert status == UNKNOWN and out.startswith("MOVIDESK UNKNOWN: ") and err == ""


def test_thresholds_belong_to_nagios(movidesk):
    assert movidesk("status", "-w", "waiting=5")[0] == 2


def test_a_slow_answer_is_unknown(movidesk, monkeypatch):
    monkeypatch.setattr(nagios.status, "read", lambda settings: sleep(20))
    assert read(movidesk, "-t", "0.2")[:2] == (UNKNOWN, "no answer within 0.2 s")


def test_an_error_is_one_line_without_a_bar(movidesk, monkeypatch):
    def fail(settings):
        raise JournalError("journal /x: a | b\nc; move it")

    monkeypatch.setattr(nagios.status, "read", fail)
    assert read(movidesk) == (CRITICAL, "journal /x: a / b?c; move it", {})


def test_it_is_in_english(movidesk, book, monkeypatch):
    monkeypatch.setenv("LANGUAGE", "pt")
    assert "waiting" in read(movidesk)[1]
    book.calls.record("pbx1-1.1", "canceled")
    book.outbox.rejected(book.outbox.take(1000)[0], "HTTP 400")
    assert "1 event is set aside" in read(movidesk)[1] and "1 event is set aside" in movidesk("status", "--json")[1]
    assert "1 evento foi deixado de lado" in movidesk("status")[1]
    assert "MOVIDESK UNKNOWN" in movidesk("status", "--nagios", "-w", "x")[1]
