"""`movidesk calls`: what it shows of calls, which calls it finds, and its forms."""
from __future__ import annotations

import csv
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from datetime import datetime

import pytest

from movidesk.call_facts import OUTCOMES
from movidesk.cli import parameters
from movidesk.journal import Job
from movidesk.journal.call_search import CallSearch
from movidesk.rules import call_states

GOOD, TROUBLE, MISUSE = 0, 1, 2
NOON = 1525186800.0  # 2018-05-01 15:00 UTC, 12:00 in Sao Paulo


@pytest.fixture(autouse=True)
def sao_paulo(monkeypatch):
    monkeypatch.setenv("TZ", "America/Sao_Paulo")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.fixture
def office(book):
    """A completed call with a recording, a canceled one that rang at an agent, one that waits, and a made call that failed."""
    done = book.calls.arrive("pbx1", "1.1", "77", "4733990001", arrived=NOON)
    book.scheduler.answered(done, "5252", "", '"5252"')
    book.calls.record(done.call_id, "transferred", "5252", at=NOON + 12)
    book.calls.hang_up(done.call_id, link="https://pbx.example.com/rec/1.1.wav", at=NOON + 232)
    canceled = book.calls.arrive("pbx1", "1.2", "78", "4733990002", arrived=NOON + 3600)
    book.scheduler.answered(canceled, "5253", "", '"5253"')
    book.calls.record(canceled.call_id, "canceled", at=NOON + 3660)
    book.outbox.rejected(Job(book.calls.events(canceled)[1], canceled), "HTTP 400: no such id")
    book.calls.arrive("pbx1", "1.3", "77", "anonymous")
    failed = book.calls.dial("pbx1", "1.4", "5252", "4733990009")
    book.calls.dial_failed(failed.call_id, "the agent's phone did not answer")
    return book


def cells(out):
    return [re.split(r"  +", line) for line in out.splitlines()]


# -- the table ---------------------------------------------------------------------------------------------------------

def test_a_table_of_calls(movidesk, office):
    status, out, err = movidesk("calls", "-n", "4")
    heading, done, _, _, canceled, why, waiting, made, why_not = cells(out)
    assert (status, err) == (GOOD, "")
    assert heading == ["id", "arrived", "queue", "number", "agent", "waited", "talked", "outcome", "rec", "call"]
    assert done == ["1", "05-01 12:00", "77", "4733990001", "5252", "0:12", "3:40", "completed", "yes", "pbx1-1.1"]
    assert canceled[:3] == ["2", "05-01 13:00", "78"] and canceled[3:] == ["4733990002", "1:00", "canceled", "pbx1-1.2"]
    assert why == ["", "Movidesk refused canceled (HTTP 400: no such id)"]
    assert waiting[2:] == ["77", "anonymous", "0:00", "waiting", "pbx1-1.3"]
    assert made[2:] == ["4733990009", "5252", "ended", "pbx1-1.4"]
    assert why_not == ["", "not connected: the agent's phone did not answer"]


def test_what_movidesk_has_not_received_stands_below_the_call(movidesk, office):
    assert "  transferred is not sent yet\n  completed is not sent yet\n" in movidesk("calls")[1]
    assert "received is not sent yet" not in movidesk("calls", "--state", "waiting")[1]  # its caller asks


def test_an_agent_is_shown_while_the_phone_rings(movidesk, book):
    book.scheduler.answered(book.calls.arrive("pbx1", "1.1", "77", "4733990001"), "5252", "", "5252")
    assert cells(movidesk("calls")[1])[1][4:7] == ["5252", "0:00", "ringing"]


@pytest.mark.parametrize("ending, outcome", [("canceled", "canceled"), ("lost", "lost")])
def test_nobody_answered_although_movidesk_was_told_at_the_ring(movidesk, book, ending, outcome):
    """With report_transfer = ring Movidesk may only be told `completed` then; people are told what happened."""
    call = book.calls.arrive("pbx1", "1.1", "77", "4733990001")
    book.scheduler.answered(call, "5252", "", "5252", report=True)
    book.calls.record(call.call_id, ending)
    row, = [json.loads(line) for line in movidesk("calls", "--json")[1].splitlines()]
    assert (row["state"], row["outcome"]) == ("completed", outcome)
    assert (row["answered"], row["talked"], row["agent"]) == (None, None, "")
    for options in (("--unanswered",), ("--state", outcome)):
        assert "4733990001" in movidesk("calls", *options)[1]
    for options in (("--state", "completed"), ("--agent", "5252")):
        assert "4733990001" not in movidesk("calls", *options)[1]


def test_with_report_transfer_ring_a_call_is_answered_at_the_pick_up(movidesk, book):
    noon = datetime(2023, 5, 1, 12).timestamp()
    call = book.calls.arrive("pbx1", "1.1", "77", "4733990001", arrived=noon)
    book.scheduler.answered(call, "5252", "", "5252", report=True)  # Movidesk is told now, at the ring
    book.calls.record(call.call_id, "transferred", "5252", at=noon + 15)
    book.calls.hang_up(call.call_id, at=noon + 45)
    row, = [json.loads(line) for line in movidesk("calls", "--json")[1].splitlines()]
    assert (row["waited"], row["talked"]) == (15, 30) and row["answered"].startswith("2023-05-01T12:00:15")


def test_the_table_fits_80_columns(movidesk, office, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    for language in ("en", "pt", "es"):
        monkeypatch.setenv("LANGUAGE", language)
        out = movidesk("calls")[1]
        assert max(map(len, out.splitlines())) <= 80 and "4733990001" in out and "…" not in out


def test_as_many_calls_as_asked_for_the_newest_last(movidesk, book):
    for number in range(25):
        book.calls.arrive("pbx1", f"1.{number}", "77", "4733990777")
    assert len(cells(movidesk("calls")[1])) == 1 + 20
    assert [row[-1] for row in cells(movidesk("calls", "-n", "2")[1])[1:]] == ["pbx1-1.23", "pbx1-1.24"]
    assert len(cells(movidesk("calls", "-n", "all")[1])) == 1 + 25
    assert len(movidesk("calls", "--json")[1].splitlines()) == 25


def test_numbers_are_masked_if_the_configuration_says_so(movidesk, office):
    movidesk.configure(pbx={"mask_numbers": "yes"})
    for form in ((), ("--csv",), ("--json",), ("--id", "1")):
        out = movidesk("calls", *form)[1]
        assert "***0001" in out and "4733990001" not in out
    assert "***0001" in movidesk("calls", "--number", "4733990001")[1]


def test_every_state_has_an_outcome():
    first = {call_states.first_state(mode) for mode in (call_states.CONTROL, call_states.WATCH, call_states.MADE)}
    assert set(OUTCOMES) == first | call_states.ENDED | {call_states.WAITING, call_states.OFFERED, call_states.TRANSFERRED}


# -- which calls -------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("options, found", [
    (["--number", "(47) 3399-0001"], [1]), (["--number", "anonymous"], [3]), (["--agent", "5252"], [1, 4]),
    (["--agent", "5253"], []),
    (["--queue", "77"], [1, 3]), (["--state", "completed", "--state", "waiting"], [1, 3]), (["--unanswered"], [2]),
    (["--day", "2018-05-01"], [1, 2]), (["--since", "2018-05-01 12:30", "--until", "2018-05-02"], [2]),
    (["--until", "2018-05-01T12:30"], [1]), (["--day", "today"], [3, 4]), (["--since", "1h"], [3, 4]),
    (["--day", "2018-05-01", "--queue", "77", "--number", "01", "-n", "5"], [1]), (["--day", "yesterday"], [])])
def test_filters(movidesk, office, options, found):
    status, out, _ = movidesk("calls", "--json", *options)
    assert (status, [json.loads(line)["id"] for line in out.splitlines()]) == (GOOD, found)


def test_nothing_found(movidesk, office):
    assert movidesk("calls", "--queue", "99") == (GOOD, "no such calls\n", "")
    assert movidesk("calls", "--queue", "99", "--json") == (GOOD, "", "")
    assert len(movidesk("calls", "--queue", "99", "--csv")[1].splitlines()) == 1


@pytest.mark.parametrize("options, why", [
    (["--day", "31/01/2026"], "must be a day such as"), (["--day", "2026-02-30"], "must be a day such as"),
    (["--since", "soon"], "must be a time such as"), (["--number", "abc"], "must have digits"), (["-n", "0"], "must be a number"),
    (["--state", "gone"], "is not one of"), (["--unanswered", "--state", "lost"], "exclude each other"),
    (["--day", "today", "--since", "1h"], "excludes --since"), (["--id", "5", "--agents", "1"], "No such option")])
def test_misuse_of_filters(movidesk, options, why):
    status, out, err = movidesk("calls", *options)
    assert (status, out) == (MISUSE, "") and why in err


def test_a_day_has_the_hours_that_it_has():
    """The day on which clocks were put forward in Sao Paulo, at midnight; and a day of 24 hours."""
    begin, end = parameters.day("2018-11-04")
    assert end - begin == 23 * 3600
    begin, end = parameters.day("2018-05-01")
    assert begin == NOON - 12 * 3600 and end - begin == 24 * 3600


@pytest.mark.parametrize("text, begin, end", [
    ("2018-05-01", NOON - 43200, NOON + 43200), ("2018-05-01 12:00", NOON, NOON), ("2018-05-01T12:00:07", NOON + 7, NOON + 7)])
def test_moments(text, begin, end):
    assert parameters.moments(text) == (begin, end)


def test_moments_of_today():
    now = time.time()
    today = time.strftime("%Y-%m-%d")
    assert parameters.moments("08:30") == parameters.moments(today + " 08:30")
    assert parameters.moments(today) == parameters.day("today")
    assert now - 7201 <= parameters.moments("2h")[0] <= time.time() - 7200
    assert parameters.day("yesterday")[1] == parameters.day("today")[0]


# -- one call ----------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("name", ["1", "pbx1-1.1", "1.1"])
def test_everything_about_one_call(movidesk, office, name):
    office.outbox.delivered(office.outbox.take(1000)[0], "accepted")
    job = office.outbox.take(1000)[0]
    office.outbox.retry(job, 60, "HTTP 500: oops")
    status, out, _ = movidesk("calls", "--id", name)
    about, events = out.split("\n\n")
    assert status == GOOD and [line.split(None, 1) for line in about.splitlines()] == [
        ["call", "pbx1-1.1 (1)"], ["channel", "1.1"], ["kind", "queue control"], ["queue", "77"], ["number", "4733990001"],
        ["agent", "5252"], ["outcome", "completed"], ["arrived", "2018-05-01 12:00:00"], ["ended", "2018-05-01 12:03:52"],
        ["waited", "0:12"], ["talked", "3:40"], ["recording", "https://pbx.example.com/rec/1.1.wav"]]
    heading, received, answer, transferred, accepted, completed, why, link = cells(events)
    assert heading == ["at", "event", "agent", "Movidesk"]
    assert received[:2] == ["12:00:00", "received"] and received[-1].startswith("received at ")
    assert answer == ["", 'answer: "5252"']
    assert transferred[:3] == ["12:00:12", "transferred", "5252"] and accepted == ["", "answer: accepted"]
    assert completed[:2] == ["12:03:52", "completed"] and re.match(r"waits, again in (1:00|0:59), tries: 1", completed[-1])
    assert (why, link) == (["", "HTTP 500: oops"], ["", "https://pbx.example.com/rec/1.1.wav"])


def test_a_call_with_a_refused_event_is_trouble(movidesk, office):
    status, out, _ = movidesk("calls", "--id", "2")
    assert status == TROUBLE and "refused at " in out and "agent" not in out.split("\n\n")[0]
    assert json.loads(movidesk("calls", "--id", "2", "--json")[1])["events"][1]["note"] == "HTTP 400: no such id"


@pytest.mark.parametrize("options", [("--follow",), ("-n", "5"), ("--queue", "77"), ("--state", "lost")])
def test_one_call_excludes_a_search(movidesk, options):
    assert movidesk("calls", "--id", "1", *options)[0] == MISUSE


def test_no_such_call(movidesk, office):
    assert movidesk("calls", "--id", "pbx1-9.9") == (TROUBLE, "", "Error: there is no call 'pbx1-9.9' in the journal\n")


# -- for programs ------------------------------------------------------------------------------------------------------

def test_csv(movidesk, office, monkeypatch):
    monkeypatch.setenv("LANGUAGE", "pt")
    found = list(csv.DictReader(io.StringIO(movidesk("calls", "--csv")[1])))
    assert [row["reported"] for row in found] == ["pending", "refused", "pending", ""]
    assert found[0] == {
        "id": "1", "call_id": "pbx1-1.1", "uniqueid": "1.1", "mode": "control", "queue": "77", "priority": "0",
        "number": "4733990001", "agent": "5252", "state": "completed", "outcome": "completed", "code": "",
        "arrived": "2018-05-01T12:00:00-03:00", "answered": "2018-05-01T12:00:12-03:00", "ended": "2018-05-01T12:03:52-03:00",
        "waited": "12", "talked": "220", "recording": "https://pbx.example.com/rec/1.1.wav", "reported": "pending"}


def test_json(movidesk, office):
    first, canceled, waiting, made = map(json.loads, movidesk("calls", "--json")[1].splitlines())
    assert [event["kind"] for event in first["events"]] == ["received", "transferred", "completed"]
    assert (canceled["agent"], canceled["waited"], canceled["talked"], canceled["reported"]) == ("", 60, None, "refused")
    assert (waiting["ended"], waiting["outcome"]) == (None, "waiting")
    assert (made["agent"], made["waited"], made["code"]) == ("5252", None, "the agent's phone did not answer")


def test_more_calls_than_are_read_at_once(movidesk, book, monkeypatch):
    from movidesk.cli import calls

    monkeypatch.setattr(calls, "PAGE", 3)
    for number in range(7):
        book.calls.arrive("pbx1", f"1.{number}", "77", "4733990777")
    rows = list(csv.DictReader(io.StringIO(movidesk("calls", "--csv")[1])))
    assert [row["id"] for row in rows] == [str(number) for number in range(1, 8)]


def test_what_happens_during_a_look_is_followed_too(movidesk, book, monkeypatch):
    from movidesk.cli import calls

    looks, changed = [], CallSearch.changed

    def look(search, wanted, since):
        found = changed(search, wanted, since)
        looks.append(found)
        if len(looks) == 1:
            book.calls.arrive("pbx1", "1.1", "77", "4733990777")
        if len(looks) == 3:
            raise KeyboardInterrupt
        return found

    monkeypatch.setattr(CallSearch, "changed", look)
    monkeypatch.setattr(calls, "sleep", lambda seconds: None)
    status, out, _ = movidesk("calls", "--follow", "--json")
    assert status == GOOD and [json.loads(line)["call_id"] for line in out.splitlines()] == ["pbx1-1.1"]


def test_calls_are_followed(movidesk, office):
    process = subprocess.Popen([sys.executable, "-m", "movidesk.cli", "--config", movidesk.path, "calls", "--follow", "--json",
                                "-n", "1"],
                               stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"})
    try:
        assert json.loads(process.stdout.readline())["id"] == 4
        call = office.calls.arrive("pbx1", "5.1", "77", "4733990777")
        assert json.loads(process.stdout.readline())["outcome"] == "waiting"
        office.calls.hang_up(call.call_id)
        assert json.loads(process.stdout.readline())["outcome"] == "canceled"
    finally:
        process.send_signal(signal.SIGINT)
    assert process.wait(20) == GOOD
