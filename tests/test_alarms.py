"""Alarms: each begins with its cause, is said once an hour, and ends with its cause."""
from __future__ import annotations

import logging
import os
import re
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import pytest

from movidesk import alarms, messages
from movidesk.config import load
from movidesk.context import UNUSABLE_EXTENSION, Context
from movidesk.delivery.api import Delivered, Rejected, Retry
from movidesk.housekeeping import Housekeeping
from movidesk.journal import JournalError, emergency, standby
from movidesk.journal.recovery import set_aside
from movidesk.pbx import heartbeat, liveness, sweep

OTHER = "00000000-1111-2222-3333-444444444444"


@pytest.fixture
def context(write_config, clock):
    return Context(load(write_config()), clock)


def names(context) -> list[str]:
    return [alarm.name for alarm in alarms.standing(context)]


def text(context) -> str:
    alarm, = alarms.standing(context)
    return alarm.text


def pending(context, uniqueid="1.1"):
    """An event that is due."""
    call = context.journal.calls.arrive("pbx1", uniqueid, "77", "4733990001")
    context.journal.calls.hang_up(call.call_id)
    return call


def test_nothing_stands_where_all_is_well(context):
    context.apply_outcome(Delivered("5252"))
    assert names(context) == []


def test_a_configuration_with_problems(write_config, clock):
    context = Context(load(write_config(line={"colour": "red"})), clock)
    assert names(context) == ["config"] and "[line] colour: unknown key" in text(context)


def test_a_refused_token_stands_until_it_is_taken_or_another_one_is_there(context, write_config, clock):
    context.apply_outcome(Retry(None, "HTTP 401: no", 401))
    since = alarms.local(clock())
    clock.advance(10_000)
    context.apply_outcome(Retry(None, "HTTP 403: no", 403))
    assert text(context) == f"Movidesk refuses the token since {since} (HTTP 401: no); put a valid one into {context.config.path}"
    context.apply_outcome(Delivered("5252"))
    assert names(context) == []
    context.apply_outcome(Retry(None, "HTTP 401: no", 401))
    assert names(Context(load(write_config(movidesk={"token": OTHER})), clock)) == []


@pytest.mark.parametrize("trouble", [Retry(None, "no answer within 5 s", None), Retry(None, "HTTP 503", 503)])
@pytest.mark.parametrize("answer", [Delivered(""), Rejected("HTTP 400", 400), Retry(1.0, "HTTP 429", 429)])
def test_movidesk_away_ends_with_any_answer(context, clock, trouble, answer):
    since = alarms.local(clock())
    context.apply_outcome(trouble)
    assert names(context) == []
    clock.advance(alarms.AWAY_AFTER)
    context.apply_outcome(Retry(None, "another reason", None))
    assert text(context).startswith(f"Movidesk does not answer since {since} ({trouble.why}): events are kept")
    context.apply_outcome(answer)
    assert names(context) == []


@pytest.mark.parametrize("status, words", [
    (302, "Movidesk accepts no request since %s (HTTP 302): events are kept, callers wait, or go to MOVIDESK_FALLBACK "
          "if it is set; the address leads elsewhere"),
    (411, "Movidesk accepts no request since %s (HTTP 411): events are kept, callers wait, or go to MOVIDESK_FALLBACK "
          "if it is set; a proxy removes"),
    (408, "Movidesk accepts no request since %s (HTTP 408): events are kept, callers wait, or go to MOVIDESK_FALLBACK "
          "if it is set; a proxy may"),
    (425, "Movidesk accepts no request since %s (HTTP 425): "),
    (500, "Movidesk does not answer since %s (HTTP 500): events are kept, callers wait, or go to MOVIDESK_FALLBACK "
          "if it is set; see movidesk check"),
])
def test_an_outage_names_its_status_its_beginning_and_what_to_look_at(context, clock, status, words):
    since = alarms.local(clock())
    for _ in range(2):
        context.apply_outcome(Retry(None, f"HTTP {status}", status))
        clock.advance(alarms.AWAY_AFTER)
    assert text(context).startswith(words % since)
    context.apply_outcome(Delivered(""))
    assert names(context) == []


def test_an_outage_of_which_only_one_request_knows_says_so(context, clock):
    context.apply_outcome(Retry(None, "HTTP 500", 500), name="completed of pbx1-1.1")
    clock.advance(alarms.AWAY_AFTER)
    assert "(HTTP 500); only completed of pbx1-1.1 was sent: " in text(context)
    context.apply_outcome(Retry(None, "HTTP 500", 500), name="received of pbx1-1.2")
    assert "only" not in text(context)


def test_one_refusal_of_a_token_that_works_is_an_alarm_after_a_minute(context, clock):
    context.apply_outcome(Delivered(""))
    context.apply_outcome(Retry(None, "HTTP 403", 403), name="completed of pbx1-1.1")
    assert names(context) == []
    clock.advance(alarms.AWAY_AFTER)
    assert text(context).startswith("Movidesk refuses completed of pbx1-1.1 since")
    context.apply_outcome(Retry(None, "HTTP 403", 403), name="completed of pbx1-1.2")
    assert text(context).startswith("Movidesk refuses the token since")


def test_a_clock_set_back_hides_no_alarm(context, clock):
    context.apply_outcome(Retry(None, "HTTP 503", 503))
    clock.now -= 3600
    assert names(context) == ["away"]


def test_a_long_pause_stands_also_when_movidesk_has_just_gone_away(context):
    context.apply_outcome(Retry(3600.0, "HTTP 429", 429))
    context.apply_outcome(Retry(None, "no answer within 5 s", None))
    assert names(context) == ["pause"]


def test_a_long_pause(context, clock):
    context.apply_outcome(Retry(30.0, "HTTP 429", 429))
    assert names(context) == []
    context.apply_outcome(Retry(3600.0, "HTTP 429", 429))
    assert names(context) == ["pause"] and "requests_per_minute" in text(context)
    clock.advance(context.journal.limits.pause_left())
    assert names(context) == []


def test_nobody_sends(context, clock):
    since = alarms.local(clock())
    pending(context)
    clock.advance(alarms.IDLE_AFTER)
    assert text(context) == f"events wait since {since} and no process sends them; is movidesk serve running?"
    assert context.journal.outbox.take(10)[0]
    assert names(context) == []


def test_what_stands_is_known_while_another_program_writes(context, clock):
    pending(context)
    clock.advance(alarms.IDLE_AFTER)
    with closing(sqlite3.connect(context.journal.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert names(context) == ["idle"]


def test_a_journal_that_cannot_be_read_hides_no_other_alarm(context, write_config, clock, monkeypatch):
    def fails(*_):
        raise JournalError("journal x: disk I/O error")

    kept = emergency.save(context.config, {"kind": "hangup", "at": 1_700_000_000.0, "call_id": "pbx1-1.1", "uniqueid": "1.1",
                                        "queue": "", "number": "", "extension": "", "link": ""})
    monkeypatch.setattr(context.journal.store, "note", fails)
    journal, other = alarms.standing(context)
    assert journal == alarms.of("journal", "journal x: disk I/O error") and kept in other.text
    with standby.use(context, "the disk is full"):
        assert names(context) == ["journal", "emergency"] and "the disk is full" in alarms.standing(context)[0].text


def test_a_caller_who_waits_is_no_unsent_event(context, clock):
    context.journal.calls.arrive("pbx1", "1.1", "77", "4733990001")
    clock.advance(alarms.IDLE_AFTER)
    assert names(context) == []


@pytest.mark.parametrize("end", ["replay", "dismiss"])
def test_refused_events(context, end):
    pending(context)
    job, _ = context.journal.outbox.take(10)
    context.journal.outbox.rejected(job, "HTTP 400: no such queue")
    assert text(context) == "1 event is set aside, the first: received of pbx1-1.1 (HTTP 400: no such queue); see movidesk outbox"
    assert getattr(context.journal.outbox, end)(job.event.id)
    assert names(context) == []


def test_events_in_the_emergency_file(context):
    kept = emergency.save(context.config, {"kind": "hangup", "at": 1_700_000_000.0, "call_id": "pbx1-1.1", "uniqueid": "1.1",
                                        "queue": "", "number": "", "extension": "", "link": ""})
    assert names(context) == ["emergency"] and kept in text(context)
    emergency.take_in(context.journal, context.config)
    assert names(context) == []


def test_a_damaged_journal_until_it_is_moved_away(context):
    path = Path(context.config["journal", "path"])
    path.write_bytes(b"no journal at all" * 100)
    kept, _ = set_aside(str(path))
    assert names(context) == ["damaged"] and kept in text(context)
    os.rename(kept, path.with_name("seen"))
    assert names(context) == []


def test_an_asterisk_that_says_nothing(context, clock, write_config, tmp_path):
    context.config = load(write_config(pbx={"asterisk": str(tmp_path / "missing")}))
    context.journal.calls.arrive("pbx1", "1.1", "77", "4733990001")
    sweep.recover(context)
    assert names(context) == [] and context.journal.overview.unended()
    clock.advance(alarms.NOT_TOLD_AFTER)
    sweep.recover(context)
    assert names(context) == ["asterisk"] and str(tmp_path / "missing") in text(context)
    context.config = load(write_config(pbx={"asterisk": "true"}))
    sweep.recover(context)
    assert names(context) == [] and not context.journal.overview.unended()


def refuse(context, uniqueid, extension, reason):
    """Movidesk offers the extension to a caller; its phone does not take the call, and Movidesk has nobody else."""
    call = context.journal.calls.arrive("pbx1", uniqueid, "77", "4733990001")
    context.journal.scheduler.answered(call, extension, "", "")
    call = context.journal.calls.find(call.call_id)
    context.journal.scheduler.turn(call, 1000, refusal=reason)
    context.journal.scheduler.answered(call, "", "4", "4")
    context.clock.advance(60)


@pytest.mark.parametrize("reason, times", [("UNAVAILABLE", 2), ("CHANUNAVAIL", 2), ("NOANSWER", 3), ("", 3)])
def test_a_phone_that_takes_no_calls(context, clock, reason, times):
    since = alarms.local(clock())
    for number in range(times):
        assert names(context) == []
        refuse(context, f"1.{number}", "5252", reason)
    assert names(context) == ["phones"]
    assert f"5252 ({reason or 'unknown reason'}, {times} times since {since})" in text(context)
    assert "registered" in text(context) and "go offline in Movidesk" in text(context)
    call = context.journal.calls.arrive("pbx1", "1.9", "77", "4733990001")
    context.journal.scheduler.answered(call, "5252", "", "")
    context.journal.calls.record(call.call_id, "transferred")
    assert names(context) == []


def test_an_agent_in_another_call_is_no_alarm(context):
    for number, reason in enumerate(["INUSE", "RINGING", "BUSY", "ONHOLD"] * 2):
        refuse(context, f"1.{number}", "5252", reason)
    assert names(context) == []


def test_a_phone_that_is_not_named_for_an_hour_is_no_alarm(context, clock):
    for number in range(2):
        refuse(context, f"1.{number}", "5252", "UNAVAILABLE")
    assert names(context) == ["phones"]
    clock.advance(alarms.REFUSAL_OLD - 60)
    assert names(context) == []


def test_the_console_hears_each_alarm_once_an_hour(context, clock):
    said = []
    context.apply_outcome(Retry(None, "HTTP 401: no", 401))
    for _ in range(3):
        alarms.say_on_console(context, said.append)
    assert len(said) == 1
    context.journal.notes.set_once("not_told", "it is down")
    clock.advance(alarms.NOT_TOLD_AFTER)
    alarms.say_on_console(context, said.append)
    assert len(said) == 2 and "it is down" in said[1]
    clock.advance(alarms.SAY_EVERY)
    alarms.say_on_console(context, said.append)
    assert len(said) == 4 and set(said[2:]) == set(said[:2])


def test_the_log_hears_of_begin_hour_and_end(clock, caplog):
    told = alarms.Log(logging.getLogger("movidesk.service"), clock)
    alarm = alarms.of("token", "refused", "put a valid one")
    for seconds in (0, 1, alarms.SAY_EVERY):
        clock.advance(seconds)
        told.look([alarm])
    told.look([])
    told.look([])
    assert [record.getMessage() for record in caplog.records] == [
        *["alarm token: refused; put a valid one"] * 2, "alarm over: token"]


def test_the_documentation_lists_every_alarm():
    folder = Path(__file__).parent.parent
    owners = [line.split()[0] for line in alarms.__doc__.split("  ends\n")[1].split("\n\n")[0].splitlines()]
    assert set(re.findall(r'\bof\(\s*"(\w+)"', Path(alarms.__file__).read_text(encoding="utf-8"))) == set(owners)
    assert list(alarms.NAMES) == owners
    for page, title in (("docs/operations.md", "## Alarms"), ("docs/pt-BR/operations.md", "## Alarmes")):
        text = (folder / page).read_text(encoding="utf-8").split(f"\n{title}\n")[1]
        section = text.split("|---|---|---|\n")[1].split("\n\n")[0]
        assert [row.split(" | ")[0].strip("| ") for row in section.splitlines()] == owners


def test_a_service_that_does_not_run(context, monkeypatch):
    """Else everything would look well until events have waited for ten minutes."""
    sign = liveness.delivery_path(context.config["journal", "path"])
    assert names(context) == []
    os.utime(sign, (time.time() - alarms.SERVICE_AFTER - 1,) * 2)
    assert text(context).startswith("movidesk serve has not run since 20") and "systemctl start movidesk" in text(context)
    Path(sign).unlink()
    assert text(context).startswith("movidesk serve has never run")
    housekeeping = Housekeeping(context)
    Path(sign).touch()
    os.utime(sign, (0, 0))
    housekeeping.recover()
    assert names(context) == [], "cron's deliver --once says that it delivers"


def test_the_service_itself_says_that_it_delivers(context):
    heartbeat.Heartbeat(context.config).beat()
    Path(liveness.delivery_path(context.config["journal", "path"])).unlink()
    assert names(context) == []


def test_a_disk_that_is_nearly_full(context, monkeypatch):
    disk = os.statvfs(context.config["journal", "path"].rpartition("/")[0])
    some = {name: getattr(disk, name) for name in ("f_frsize", "f_blocks", "f_bavail", "f_files", "f_favail")}

    def with_disk(**changes):
        monkeypatch.setattr(alarms.os, "statvfs", lambda _: SimpleNamespace(**{**some, **changes}))
        return names(context)

    assert with_disk(f_frsize=4096, f_blocks=10_000_000, f_bavail=10_000, f_favail=1) == ["disk"]
    assert text(context).startswith("only 41.0 MB and 1 files are free on the disk of ")
    assert with_disk(f_frsize=4096, f_blocks=256, f_bavail=200) == [], "a disk of 1 MB is not full from the start"
    assert with_disk(f_frsize=4096, f_blocks=256, f_bavail=4) == ["disk"]
    assert with_disk(f_frsize=4096, f_blocks=10_000_000, f_bavail=1_000_000, f_favail=0, f_files=100) == ["disk"]
    assert with_disk(f_frsize=4096, f_blocks=10_000_000, f_bavail=1_000_000, f_favail=0, f_files=0) == [], "Btrfs counts none"


def test_an_extension_that_the_pattern_rejects(context, clock, write_config):
    context.journal.notes.set(UNUSABLE_EXTENSION, "52521234567")
    assert text(context).startswith(f"'52521234567' was named as an extension at {alarms.local(clock())}, and does not "
                                    "match extension_pattern = [0-9]{2,10}: that agent gets no call")
    clock.advance(alarms.UNUSABLE_OLD)
    assert names(context) == []
    clock.advance(-1)
    assert names(context) == ["extension"]
    wider = load(write_config(pbx={"extension_pattern": "[0-9]{2,12}"}))
    assert [alarm.name for alarm in alarms.standing(Context(wider, clock, journal=context.journal))] == []


def test_a_phone_that_answered_and_has_no_extension(context, clock, write_config):
    """A mobile phone in a ring group: the name that answered is a channel's."""
    context.journal.notes.set(UNUSABLE_EXTENSION, "PJSIP/trunk-00000001")
    assert text(context).startswith(f"'PJSIP/trunk-00000001' answered a call at {alarms.local(clock())}, and [pbx] agent_channel "
                                    "finds no extension")
    fitting = load(write_config(pbx={"agent_channel": "PJSIP/trunk-([0-9]+)"}))
    assert [alarm.name for alarm in alarms.standing(Context(fitting, clock, journal=context.journal))] == []


@pytest.mark.parametrize("denied", ["journal.db", ""])
def test_a_journal_that_this_user_may_read_but_not_write(context, monkeypatch, denied):
    """SQLite may open it while another process has it open; no event could be recorded. denied: the file, or its folder."""
    path = context.journal.path
    assert names(context) == []
    monkeypatch.setattr(os, "access", lambda place, mode: place != os.path.join(os.path.dirname(path), denied).rstrip("/"))
    assert alarms.without_journal(context.config) == [alarms.of(
        "journal", f"{path}, or its folder, is not writable for this user", "give both to Asterisk's user")]


def test_alarms_are_in_the_language_of_the_admin(context, clock, monkeypatch):
    context.journal.notes.set("away", "HTTP 503: busy")
    clock.advance(61)
    english = text(context)
    monkeypatch.setenv("LANGUAGE", "pt_BR")
    messages.follow_locale()
    assert english.startswith("Movidesk does not answer since ") and text(context).startswith("o Movidesk não responde desde ")
    messages.use_english()
    assert text(context) == english
