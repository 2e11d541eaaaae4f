"""`movidesk report`: its periods, its figures as text, CSV and JSON, and whom to call back."""
from __future__ import annotations

import csv
import io
import json
import re
import subprocess
import sys
from datetime import date, datetime

import pytest

from movidesk.cli import parameters
from movidesk.cli.terminal import safe_cell
from movidesk.config import load
from movidesk.context import Context
from movidesk.journal import standby
from support.journals import arrive

GOOD, TROUBLE, MISUSE = 0, 1, 2
DAY = "2023-05-01"
KEPT = {"journal": {"keep_days": "36500"}}


@pytest.fixture(autouse=True)
def sao_paulo(machine_zone):
    machine_zone("America/Sao_Paulo")


@pytest.fixture
def office(movidesk, book):
    """An answered call, one that hung up, one that was lost while closed, one without a number, and a made call."""
    movidesk.configure(**KEPT)
    noon = datetime(2023, 5, 1, 12).timestamp()

    def arrive(number: str, caller: str, minutes: int, queue: str = "77"):
        return book.calls.arrive("pbx1", f"1.{number}", queue, caller, arrived=noon + 60 * minutes)

    done = arrive("1", "4733990001", 0)
    book.calls.record(done.call_id, "transferred", "5252", at=noon + 12)
    book.calls.hang_up(done.call_id, at=noon + 232)
    gone = arrive("2", "+554733990002", 61, "78")
    book.calls.record(gone.call_id, "canceled", at=noon + 3660 + 90)
    closed = arrive("3", "4733990003", 62)
    book.scheduler.answered(closed, "", "1", "1")
    book.calls.record(closed.call_id, "lost", at=noon + 3720 + 3)
    hidden = arrive("4", "anonymous", 63)
    book.calls.record(hidden.call_id, "canceled", at=noon + 3780 + 7)
    return book


def fields(out: str) -> dict[str, str]:
    """The facts that stand above the tables."""
    return dict(re.split(r"  +", line, maxsplit=1) for line in out.split("\n\n")[1].splitlines() if not line.startswith(" "))


def tables(out: str) -> dict[str, list[list[str]]]:
    parts = [part.rstrip().split("\n") for part in out.split("\n\n")[2:]]
    return {title: [re.split(r"  +", line) for line in lines] for title, *lines in parts}


# -- text --------------------------------------------------------------------------------------------------------------

def test_the_figures_of_a_day(movidesk, office):
    status, out, err = movidesk("report", "--day", DAY)
    assert (status, err) == (GOOD, "") and out.startswith("Calls of Mon 2023-05-01\n"
                                                          "The journal has no calls from before 2023-05-01 12:00")
    assert fields(out) == {
        "calls": "4: 1 answered, 2 abandoned, 1 lost (1 of them while closed)", "service level": "33 % answered within 20 s",
        "waited": "mean 0:36, median 0:12, at most 1:30 in 95 %", "talked": "mean 3:40, median 3:40, at most 3:40 in 95 %",
        "screen opened": "-", "to call back": "2 callers"}
    assert "for 1 answered call Movidesk has not taken the report: no screen opened" in out
    assert "not among them: 1 call without a number" in out
    found = tables(out)
    assert list(found) == ["By hour", "By queue", "By agent", "To call back"]
    assert found["By hour"][1:] == [
        ["12:00", "1", "1", "0", "0", "100 %", "0:12", "0:12", "0:12", "3:40", "3:40", "3:40", "-"],
        ["13:00", "3", "0", "2", "1", "0 %", "0:48", "0:48", "1:30", "-", "-", "-", "-"]]
    assert [row[:6] for row in found["By queue"][1:]] == [["77", "3", "1", "1", "1", "50 %"], ["78", "1", "0", "1", "0", "0 %"]]
    assert found["By agent"][1][:4] == ["5252", "1", "0", "0:12"]
    assert found["To call back"][1:] == [["4733990003", "2023-05-01 13:02", "77", "lost", "0:03", "1"],
                                         ["+554733990002", "2023-05-01 13:01", "78", "abandoned", "1:30", "1"]]


def test_queues_and_agents_have_their_names(movidesk, office):
    movidesk.configure(**KEPT, pbx={"queue_names": "77 Support", "agent_names": "5252 Ana Lima"})
    found = tables(movidesk("report", "--day", DAY)[1])
    assert [row[0] for row in found["By queue"][1:]] == ["77 Support", "78"] and found["By agent"][1][0] == "5252 Ana Lima"
    assert [row[2] for row in found["To call back"][1:]] == ["77 Support", "78"]
    assert "Support" not in movidesk("report", "--day", DAY, "--json")[1], "programs get numbers"


@pytest.mark.parametrize("form", [(), ("--html",)])
def test_a_report_says_that_the_calls_of_the_standby_are_missing(movidesk, office, form):
    context = Context(load(movidesk.path))
    said = "The journal cannot be written: the calls of this time are missing here"
    assert said not in movidesk("report", *form)[1]
    with standby.use(context, "the disk is full") as other:
        arrive(other.journal, "9.1")
    assert said in movidesk("report", *form)[1]
    assert standby.end(context)
    assert said not in movidesk("report", *form)[1]


@pytest.mark.parametrize("options", [(), ("--callers",)])
def test_programs_are_told_that_the_calls_of_the_standby_are_missing(movidesk, office, options):
    context = Context(load(movidesk.path))

    def incomplete(*period: str) -> bool:
        return json.loads(movidesk("report", "--json", *options, *period)[1])["incomplete"]

    assert incomplete() is False
    with standby.use(context, "the disk is full") as other:
        arrive(other.journal, "9.1")
    assert incomplete() is True
    assert incomplete("--from", "2999-01-01", "--to", "2999-01-01") is False, "the period has not begun"
    assert standby.end(context)
    assert incomplete() is False


def test_midnight_does_not_split_a_day(monkeypatch):
    moments = iter([datetime(2026, 3, 9, 23, 59, 59).timestamp(), datetime(2026, 3, 10).timestamp()])
    monkeypatch.setattr(parameters.time, "time", lambda: next(moments))
    assert parameters.a_day("today") == (date(2026, 3, 9), date(2026, 3, 9))


def test_without_options_the_report_is_of_today(movidesk, book):
    book.calls.arrive("pbx1", "1.1", "77", "4733990001")
    status, out, _ = movidesk("report")
    assert status == GOOD and date.today().isoformat() in out.splitlines()[0] and "Until now" in out
    assert fields(out)["calls"] == "1: 0 answered, 0 abandoned, 0 lost, 1 waits"


def test_a_report_of_several_days_has_a_row_for_each(movidesk, office):
    out = movidesk("report", "--from", "2023-05-01", "--to", "2023-05-03")[1]
    assert out.startswith("Calls from Mon 2023-05-01 to Wed 2023-05-03\n")
    assert [row[0] for row in tables(out)["By day"][1:]] == ["Mon 2023-05-01", "Tue 2023-05-02", "Wed 2023-05-03"]


def test_a_time_of_which_nothing_is_known_is_said(movidesk, office):
    out = movidesk("report", "--month", "2023-04")[1]
    assert "The journal has no calls of this time" in out and "By hour" not in out


def test_an_hour_that_came_twice_has_two_rows(movidesk, book, machine_zone):
    machine_zone("Europe/Lisbon")
    movidesk.configure(**KEPT)
    for number, hour in enumerate((1.5, 2.5, 2.6)):
        book.calls.arrive("pbx1", f"1.{number}", "77", "4733990001", arrived=datetime(2023, 10, 29).timestamp() + 3600 * hour)
    out = movidesk("report", "--day", "2023-10-29")[1]
    assert [row[:2] for row in tables(out)["By hour"][1:3]] == [["01:00", "1"], ["01:00*", "2"]]
    assert "* The clock was set back" in out


@pytest.mark.parametrize("columns", [80, 100, 120])
def test_the_tables_fit_the_terminal(movidesk, office, monkeypatch, columns):
    for language in ("en", "pt", "es"):
        monkeypatch.setenv("LANGUAGE", language)
        monkeypatch.setenv("COLUMNS", str(columns))
        out = movidesk("report", "--day", DAY)[1]
        assert max(map(len, out.split("\n\n", 1)[1].splitlines())) <= columns and "…" not in out


def test_the_time_of_the_service_level(movidesk, office):
    assert "33 % answered within 12 s" in movidesk("report", "--day", DAY, "--within", "12")[1]
    assert "0 % answered within 11 s" in movidesk("report", "--day", DAY, "--within", "11")[1]
    movidesk.configure(reports={"answer_within": "5"}, **KEPT)
    assert "0 % answered within 5 s" in movidesk("report", "--day", DAY)[1]


# -- for programs ------------------------------------------------------------------------------------------------------

def test_a_percentage_is_rounded_down_and_exact(movidesk, book):
    movidesk.configure(**KEPT)
    noon = datetime(2023, 5, 1, 12).timestamp()
    for number in range(100):
        call = book.calls.arrive("pbx1", f"1.{number}", "77", f"47339901{number:02d}", arrived=noon + number)
        if number < 29:
            book.calls.record(call.call_id, "transferred", "5252", at=call.arrived + 1)
        book.calls.hang_up(call.call_id, at=call.arrived + 5)
    _, out, _ = movidesk("report", "--day", DAY)
    assert fields(out)["service level"] == "29 % answered within 20 s"


def test_csv(movidesk, office):
    status, out, _ = movidesk("report", "--day", DAY, "--csv")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert status == GOOD and [row["group"] for row in rows] == ["total"] + ["hour"] * 24 + ["day"] + ["queue"] * 2 + ["agent"]
    assert {name: rows[0][name] for name in ("calls", "answered", "lost", "abandoned", "closed", "service_level", "wait_mean",
                                             "wait_p95", "talk_median", "screen_mean", "unseen")} == {
        "calls": "4", "answered": "1", "lost": "1", "abandoned": "2", "closed": "1", "service_level": "0.3333",
        "wait_mean": "36.33", "wait_p95": "90.0", "talk_median": "220.0", "screen_mean": "", "unseen": "1"}


def test_json(movidesk, office):
    found = json.loads(movidesk("report", "--day", DAY, "--json")[1])
    assert (found["first"], found["last"], found["begin"], found["end"]) == (
        DAY, DAY, "2023-05-01T00:00:00-03:00", "2023-05-02T00:00:00-03:00")
    assert found["incomplete"] is False and found["since"] == "2023-05-01T12:00:00-03:00" and found["answer_within"] == 20
    assert found["total"]["wait"] == {"calls": 3, "mean": 36.33, "median": 12.0, "p95": 90.0}
    assert found["hours"][13]["hour"] == "13" and found["hours"][13]["abandoned"] == 2 and found["days"][0]["day"] == DAY
    assert found["call_back"] == {
        "callers": [{"number": "4733990003", "queue": "77", "outcome": "lost", "arrived": "2023-05-01T13:02:00-03:00",
                     "waited": 3.0, "calls": 1},
                    {"number": "+554733990002", "queue": "78", "outcome": "abandoned", "arrived": "2023-05-01T13:01:00-03:00",
                     "waited": 90.0, "calls": 1}],
        "answered_since": 0, "called_since": 0, "anonymous": 1}


@pytest.mark.parametrize("options", [(), ("--callers",)])
@pytest.mark.parametrize("day, callers", [(DAY, 2), ("2023-05-02", 0)])
def test_json_is_indented_however_many_callers_it_lists(movidesk, office, options, day, callers):
    out = movidesk("report", "--day", day, "--json", *options)[1]
    found = json.loads(out)
    assert out == json.dumps(found, indent=2) + "\n" and len((found if options else found["call_back"])["callers"]) == callers


def test_what_programs_read_is_english(movidesk, office, monkeypatch):
    monkeypatch.setenv("LANGUAGE", "pt")
    assert "chamadas" in movidesk("report", "--day", DAY)[1]
    for form in ("--csv", "--json"):
        assert "abandoned" in movidesk("report", "--day", DAY, "--callers", form)[1]


@pytest.mark.parametrize("text, cell", [
    ("=HYPERLINK(\"http://x\")", "'=HYPERLINK(\"http://x\")"), ("+1+cmd|' /C calc'!A0", "'+1+cmd|' /C calc'!A0"), ("-1", "'-1"),
    ("@SUM(1)", "'@SUM(1)"), ("\t=1", "?=1"), ("\r=1", "?=1"), ("+554733990001", "+554733990001"), ("5252", "5252"), ("", ""),
    (12, 12), (None, None)])
def test_a_spreadsheet_gets_no_formula(text, cell):
    assert safe_cell(text) == cell


def test_what_others_wrote_is_no_formula_in_a_csv(movidesk, office):
    office.store.connection.execute("UPDATE calls SET queue = '=1+1', number = '=2+2' || number, extension = '@x', code = '-1'")
    for command in (("report", "--day", DAY), ("report", "--day", DAY, "--callers"), ("calls",)):
        cells = [cell for row in csv.reader(io.StringIO(movidesk(*command, "--csv")[1])) for cell in row]
        assert [cell for cell in cells if cell[:1] in tuple("=@-")] == [] and any(cell.startswith("'=") for cell in cells)


# -- whom to call back -------------------------------------------------------------------------------------------------

def numbers(out: str) -> list[str]:
    return [row["number"] for row in csv.DictReader(io.StringIO(out))]


def test_only_whom_to_call_back(movidesk, office):
    assert numbers(movidesk("report", "--day", DAY, "--callers", "--csv")[1]) == ["4733990003", "+554733990002"]
    out = movidesk("report", "--day", DAY, "--callers")[1]
    assert "To call back" in out and "By hour" not in out and "service level" not in out


def test_who_was_answered_or_called_since_is_left_out(movidesk, office):
    again = office.calls.arrive("pbx1", "2.1", "77", "04733990002")  # today
    office.calls.record(again.call_id, "transferred", "5252")
    office.calls.dial("pbx1", "2.2", "5253", "4733990003")
    out = movidesk("report", "--day", DAY)[1]
    assert fields(out)["to call back"] == "0 callers"
    assert "not among them: 1 called again and was answered, 1 was called by an agent, 1 call without a number" in out
    assert "nobody has to be called back" in movidesk("report", "--day", DAY, "--callers")[1]


def test_numbers_are_masked_if_asked(movidesk, office):
    for form in ((), ("--csv", "--callers"), ("--json",), ("--html",)):
        assert "***0002" not in movidesk("report", "--day", DAY, *form)[1]
        out = movidesk("report", "--day", DAY, "--mask", *form)[1]
        assert "***0002" in out and "4733990002" not in out
    movidesk.configure(pbx={"mask_numbers": "yes"}, **KEPT)
    assert "4733990002" not in movidesk("report", "--day", DAY)[1]


# -- periods -----------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("parse, text, first, last", [
    (parameters.a_day, "today", "2026-05-06", "2026-05-06"), (parameters.a_day, "yesterday", "2026-05-05", "2026-05-05"),
    (parameters.a_day, "2024-02-29", "2024-02-29", "2024-02-29"),
    (parameters.a_week, parameters.LAST, "2026-04-27", "2026-05-03"), (parameters.a_week, "today", "2026-05-04", "2026-05-10"),
    (parameters.a_week, "2026-01-01", "2025-12-29", "2026-01-04"),
    (parameters.a_month, parameters.LAST, "2026-04-01", "2026-04-30"), (parameters.a_month, "today", "2026-05-01", "2026-05-31"),
    (parameters.a_month, "2026-02", "2026-02-01", "2026-02-28"), (parameters.a_month, "2026-02-17", "2026-02-01", "2026-02-28")])
def test_a_period_by_its_name(monkeypatch, parse, text, first, last):
    monkeypatch.setattr(parameters.time, "time", lambda: datetime(2026, 5, 6, 23, 59).timestamp())
    assert parse(text) == (date.fromisoformat(first), date.fromisoformat(last))


@pytest.mark.parametrize("options, why", [
    (["--day", "31/01/2026"], "must be a day"), (["--day", "2026-02-30"], "must be a day"),
    (["--day", "0001-01-01"], "must be a day"), (["--day", "9999-12-31"], "must be a day"),
    (["--month", "9999-12"], "must be a day"), (["--week", "1969-12-31"], "must be a day"),
    (["--month", "2026-13"], "must be a day"), (["--week", "--month"], "exclude each other"),
    (["--day", "--from", DAY], "exclude each other"), (["--to", DAY], "--to needs --from"),
    (["--from", DAY, "--to", "2023-04-30"], "--to is before --from"), (["--within", "0"], "range"),
    (["--callers", "--html"], "exclude each other")])
def test_misuse(movidesk, options, why):
    status, out, err = movidesk("report", *options)
    assert (status, out) == (MISUSE, "") and why in err


# -- what it loads -----------------------------------------------------------------------------------------------------

def test_a_report_as_text_needs_no_package_for_charts(movidesk, office):
    code = ("import sys; sys.modules.update(pygal=None, jinja2=None); from movidesk import cli; "
            f"sys.exit(cli.main(['--config', {movidesk.path!r}, 'report', '--day', {DAY!r}, *sys.argv[1:]]))")

    def run(*options: str) -> subprocess.CompletedProcess:
        return subprocess.run([sys.executable, "-c", code, *options], capture_output=True, text=True, timeout=60)

    assert run().returncode == run("--csv").returncode == run("--json").returncode == GOOD
    done = run("--html")
    assert done.returncode == TROUBLE and "pip install 'movidesk-agi[reports]'" in done.stderr and done.stdout == ""
