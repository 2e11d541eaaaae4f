"""What reaches Asterisk's console and logs on a real Asterisk: alarms and failures as warnings and errors."""
from __future__ import annotations

import re
import sqlite3
from contextlib import closing

import pytest

from movidesk.journal import Job, Journal
from movidesk_rehearsal.phones import answers
from movidesk_rehearsal.rehearsal import wait_for
from office import ANSWERED


@pytest.fixture
def alarming(office):
    """forget(): an alarm stands, and nobody has said it in the last hour."""
    book = Journal(str(office.rehearsal.journal_path))
    call = book.calls.arrive("pbx1", "1.1", "78", "4733990001")
    book.calls.hang_up(call.call_id)
    for event in book.calls.events(call):
        book.outbox.rejected(Job(event, call), 'HTTP 400: "a, b" {c}')

    def forget():
        with closing(sqlite3.connect(book.path)) as file:
            file.execute("DELETE FROM notes WHERE name LIKE 'alarm%'")
            file.commit()

    yield forget
    for job in book.outbox.jobs("refused"):
        book.outbox.dismiss(job.event.id)
    book.close()


def warnings(office) -> list[str]:
    """The alarm's lines among the warnings, as a log without verbose lines has them."""
    return re.findall(r"WARNING\[.*(movidesk: 2 events are set aside.*)", office.console())


def test_an_alarm_is_a_warning_in_a_call_and_in_the_hangup_handler(office, alarming):
    alarming()
    office.agent("5252", answers())
    caller = office.call()
    caller.wait_answered()
    said, = warnings(office)
    assert 'received of pbx1-1.1 (HTTP 400: "a, b" {c}); see movidesk outbox' in said
    alarming()
    caller.hang_up()
    caller.wait()
    wait_for("the handler says it", lambda: len(warnings(office)) == 2, instead=office.console)
    office.wait_heard("completedCall")
    assert "set aside, the first: received of pbx1-1.1" not in "".join(
        line for line in office.rehearsal.service_log().splitlines() if "***" in line), "that is not about this caller"


def test_a_failing_verb_is_a_warning(office):
    caller = office.call("wrong")
    caller.wait()
    office.pbx.wait_idle()
    assert re.search(r"WARNING\[.*movidesk: received failed: the queue '' is no number of at most 10 digits", office.console())


def test_a_log_line_has_the_last_digits_of_the_callers_number(service_office):
    office = service_office
    office.agent("5252", answers())
    caller = office.call(number="4733998642")
    caller.wait_answered()
    caller.hang_up()
    ticket = office.ticket(caller, "completed", ANSWERED)
    lines = [line for line in office.rehearsal.service_log().splitlines() if ticket.id in line]
    assert len(lines) >= 5 and all(line.endswith("(***8642)") for line in lines), lines
    assert "4733998642" not in office.rehearsal.service_log()
